"""Every command that the README prints for asking a server works as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PRINTED = "http://127.0.0.1:8000"
TRUTH = json.loads((ROOT / "examples" / "truth.json").read_text())
EXPECTED = {"snippet.rs": "rust"} | {one["file"]: one["label"] for one in TRUTH}
BLOCKS = [block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "curl" in block]


SCRIPTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a newcomer stands in: the examples, and room for what the commands write."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_there_are_three_curl_examples() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_curl_examples_answer_and_their_pictures_open(block: str, folder: Path, server: str) -> None:
    before = set(folder.iterdir())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace(PRINTED, server)],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    written = set(folder.iterdir()) - before
    answers = [json.loads(file.read_text()) for file in written if file.suffix == ".json"]
    assert len(answers) == 1
    (example,) = re.findall(r"@examples/(\S+)", block)
    assert answers[0]["predictions"][0]["label"] == EXPECTED[example]
    drawings = [file for file in written if file.suffix != ".json"]
    assert drawings
    for file in drawings:
        if file.suffix == ".html":
            assert file.read_text().lower().startswith("<!doctype html")
        else:
            with Image.open(file) as picture:
                picture.load()


@pytest.mark.parametrize(("index", "printed"), [(0, "7 0."), (1, "[b'rust']")])
def test_clients_in_python_work_as_printed(index: int, printed: str, folder: Path, server: str) -> None:
    address = "127.0.0.1:8000"
    script = SCRIPTS[index]
    assert address in script
    done = subprocess.run(
        [sys.executable, "-c", script.replace(address, server.removeprefix("http://"))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(printed)


@pytest.mark.parametrize("name", ["code-language", "digit-in-clutter", "digit-motion"])
def test_figures_of_the_readme_are_those_of_the_cards(name: str, server: str) -> None:
    card = httpx.get(f"{server}/v1/models/{name}").json()["card"]
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
    accuracy = card["accuracy"]
    assert (
        f"{100 * accuracy['value']:.1f} % ({100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})"
        in row
    )
    shown = re.findall(r"`(\w+)`(?: of `([\w.]+)`)? (\d+) %", row)
    assert len(shown) >= 2
    for map_name, layer, percent in shown:
        scores = [one for one in card["maps"] if one["map"] == map_name and (one["layer"] or "") == layer]
        assert [f"{100 * one['pointing']['value']:.0f}" for one in scores] == [percent]


def test_pictures_of_the_readme_exist() -> None:
    pictures = re.findall(r'(?:src="|\]\()(docs/[^")]+)', README)
    assert len(pictures) >= 6
    for picture in pictures:
        assert (ROOT / picture).exists()
