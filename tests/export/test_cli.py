"""`regard export` as a process: a bundle or one line that says why not, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from models.checkpoints import native
from models.text import TextConfig, TextTransformer

WAIT = 300  # seconds; a few on a machine that does nothing else


class Command:
    """What is unpickled as the call of a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", "export", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def refused(*arguments: object, **environment: str) -> str:
    """The line with which an export ends that is refused."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1, err
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("export refused: ")
    return line.removeprefix("export refused: ")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small text model, called text/1."""
    torch.manual_seed(0)
    config = TextConfig(
        vocabulary=30, labels=2, width=16, layers=1, heads=2, feedforward=16, positions=40, head="linear"
    )
    folder = tmp_path / "weights"
    spec = {"kind": "text", "max_tokens": 40}
    common = {"name": "text", "version": "1", "description": "", "labels": ["a", "b"], "card": None}
    native.save(folder, TextTransformer(config), preprocessing=spec, **common)
    Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(folder / "tokenizer.json"))
    return folder


def test_a_source_that_is_nowhere_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "repository"
    reason = refused(tmp_path / "gone", "--out", out)
    assert reason == f"{tmp_path / 'gone'}: no such folder or file, and no id of the hub (OWNER/NAME)"
    assert not out.parent.exists()


def test_a_model_of_the_hub_without_a_network_is_refused_in_one_line(tmp_path: Path) -> None:
    environment = {
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
    }
    reason = refused("acme/tiny", "--out", tmp_path / "repository", **environment)
    assert reason.startswith("acme/tiny: no such folder, and the hub did not give it (ConnectError: ")
    assert not (tmp_path / "repository").exists()


def test_a_command_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    document = {"state_dict": {"a": torch.ones(1)}, "args": Namespace(x=Command(tmp_path / "marker"))}
    torch.save(document, tmp_path / "model.pth.tar")
    reason = refused(tmp_path / "model.pth.tar", "--out", tmp_path / "repository")
    assert reason.startswith("model.pth.tar: holds posix.system; ")
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "repository").exists()


def test_what_a_checkpoint_says_does_not_reach_the_terminal_as_it_stands(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = checkpoint / "model.safetensors"
    save_file({**load_file(path), "\x1b[31m\nTraceback": torch.ones(1)}, path)
    reason = refused(checkpoint, "--out", tmp_path / "repository")
    assert reason == r"unused keys: \x1b[31m\nTraceback"


def test_weights_that_fail_verification_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "model.safetensors"
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    state["classifier.bias"][0] = torch.nan
    save_file(state, path)
    (tmp_path / "repository").mkdir()
    assert "not every value is finite" in refused(checkpoint, "--out", tmp_path / "repository")
    assert list((tmp_path / "repository").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_export_leaves_nothing(
    checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    repository = tmp_path / "repository"
    process = start(checkpoint, "--out", repository)
    end = time.monotonic() + WAIT
    while not any(repository.glob(".export-*/model.onnx")):  # the middle: the graph is written
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "export interrupted"
    assert "Traceback" not in err
    assert not repository.exists()


def test_a_bundle_s_place_is_all_that_is_printed(checkpoint: Path, tmp_path: Path) -> None:
    process = start(checkpoint, "--out", tmp_path / "repository")
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert out == f"{tmp_path / 'repository' / 'text' / '1'}\n"
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["text"]
    assert json.loads((Path(out.strip()) / "manifest.json").read_text())["labels"] == ["a", "b"]
