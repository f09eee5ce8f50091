"""`regard evaluate` shows a table, writes three files, and says in one line what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.__main__ import app
from service.evaluation.tally import Evaluation

ROOT = Path(__file__).parents[3]


def regard(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "evaluate", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_shows_a_table_and_writes_page_figures_and_plot(
    repository: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "text"
    bundle = repository / "tiny-text" / "1"
    done = regard(bundle, data["text"], "--limit", "2", "--seed", "5", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no bar where nobody looks
    for words in ("tiny-text: 2 inputs of text.jsonl, seed 5", "rollout", "random", "uniform"):
        assert words in done.stdout
    found = Evaluation.model_validate_json((out / "maps.json").read_text())
    assert (found.figures.inputs, found.figures.seed, found.figures.data) == (2, 5, "text.jsonl")
    assert {path.name for path in out.iterdir()} == {"maps.json", "maps.md", "maps.svg"}


def test_a_plot_without_the_library_that_draws_it_is_refused_before_the_work(
    repository: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    bundle = str(repository / "tiny-text" / "1")
    refused = CliRunner().invoke(app, ["evaluate", bundle, str(data["text"]), "--out", str(tmp_path / "out")])
    assert refused.exit_code == 1
    assert "install Regard with its extra evaluate" in refused.output
    assert not (tmp_path / "out").exists()
    shown = CliRunner().invoke(app, ["evaluate", bundle, str(data["text"]), "--limit", "1"])
    assert shown.exit_code == 0, shown.output


def test_bad_input_is_told_in_one_line(repository: Path, data: dict[str, Path], tmp_path: Path) -> None:
    (data["image"] / "truth.jsonl").write_text('{"file": "1", "box": [4, 0, 2, 2]}')
    for arguments, words in (
        ([repository / "tiny-image" / "1", data["image"]], "truth.jsonl, line 1: box: "),
        ([tmp_path, data["text"]], "manifest.json cannot be read"),
        ([repository / "tiny-text" / "1", tmp_path / "none"], "neither a folder nor"),
    ):
        done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
        assert done.exit_code == 1
        assert words in done.output.splitlines()[-1]
        assert "Traceback" not in done.output
