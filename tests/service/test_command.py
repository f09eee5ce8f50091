"""`regard predict` as a process: no server, an answer on standard output, maps in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.command import read_payload
from service.errors import InvalidInput

ROOT = Path(__file__).parents[2]
FAMILIES = ["text", "image", "video"]


def regard(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path, picture: bytes, clip: bytes) -> dict[str, Path]:
    """One file of each family, under names that say nothing and print badly."""
    contents = {"text": b"fn main() {}\n", "image": picture, "video": clip}
    paths = {family: tmp_path / f"[bold]{family} {'long' * 30}" for family in contents}
    for family, path in paths.items():
        path.write_bytes(contents[family])
    return paths


def opens(path: Path) -> bool:
    """Whether a map's file is what its name says."""
    if path.suffix in (".png", ".webp"):
        with Image.open(path) as image:
            image.load()
            return image.format == path.suffix[1:].upper()
    if path.suffix == ".npy":
        return bool(np.isfinite(np.load(path, allow_pickle=False)).all())
    if path.suffix == ".json":
        return bool(json.loads(path.read_text())["name"] == path.stem)
    return path.read_text().lstrip().startswith("<")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_predicted_and_every_map_written(
    repository: Path, client: TestClient, files: dict[str, Path], tmp_path: Path, family: str
) -> None:
    folder = tmp_path / "new[" / "bold]"
    done = regard("predict", files[family], "--models", repository, "--maps", folder)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    answer = json.loads(done.stdout)
    described = client.get(f"/v1/models/tiny-{family}").json()
    wanted = {
        f"{one['name']}.{format}"
        for one in described["maps"]
        for format in set(one["formats"]) - set(one["token_formats"])
    }
    assert {path.name for path in folder.iterdir()} == wanted
    assert set(done.stderr.splitlines()) == {str(path) for path in folder.iterdir()}
    assert all(opens(path) for path in folder.iterdir())
    response = client.post(f"/v1/models/tiny-{family}/predict", content=files[family].read_bytes())
    (expected,), (found,) = response.json()["predictions"], answer["predictions"]
    assert answer["model"] == f"tiny-{family}"
    assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert [one["name"] for one in found["maps"]] == [one["name"] for one in described["maps"]]


def test_without_maps_only_the_answer_is_given(repository: Path, files: dict[str, Path]) -> None:
    done = regard("predict", files["text"], "--models", repository, "--model", "tiny-text")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["predictions"][0]["maps"] == []


def bad(tmp_path: Path, picture: bytes, case: str) -> tuple[Path, str]:
    """A file that cannot be predicted, and words of what is said."""
    content, words = {
        "truncated": (picture[:200], "damaged or cut off"),
        "empty": (b"", "empty"),
        "binary": (b"\x00\xff\xfe" * 100, "neither UTF-8 text nor a picture or clip"),
        "cut clip": (b"\x00\x00\x00\x18ftypisom" + bytes(12), "moov"),
    }[case]
    path = tmp_path / f"[red] {case} {'long' * 30}"
    path.write_bytes(content)
    return path, words


@pytest.mark.parametrize("case", ["truncated", "empty", "binary", "cut clip"])
def test_a_broken_file_is_told_in_one_line(
    repository: Path, tmp_path: Path, picture: bytes, case: str
) -> None:
    path, words = bad(tmp_path, picture, case)
    done = regard("predict", path, "--models", repository, "--maps", tmp_path / "maps")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path.name}: ")
    assert words in line
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--model", "nothing"], 1, "no model 'nothing'"),
        (["--model", "tiny-image"], 1, "takes a picture, not text"),
        (["--device", "gpu"], 2, "device"),
        (["--maps", "{file}"], 2, "maps"),
    ],
)
def test_a_wrong_argument_is_told(
    repository: Path, files: dict[str, Path], arguments: list[str], status: int, words: str
) -> None:
    given = [argument.format(file=files["text"]) for argument in arguments]
    done = regard("predict", files["text"], "--models", repository, *given)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_or_repository_is_told(
    repository: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    done = regard("predict", tmp_path / "nothing", "--models", repository)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    done = regard("predict", files["text"], "--models", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "holds no model" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_file_is_shows_in_its_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    assert read_payload(files["text"]).data == "fn main() {}\n"
    assert isinstance(read_payload(files["image"]).data, bytes)
    assert isinstance(read_payload(files["video"]).data, bytes)
    latin = tmp_path / "latin"
    latin.write_bytes("é".encode("latin-1"))
    with pytest.raises(InvalidInput):
        read_payload(latin)


def test_help_names_every_command() -> None:
    done = regard("--help")
    assert done.returncode == 0
    for command in ("serve", "predict", "export"):
        assert command in done.stdout
