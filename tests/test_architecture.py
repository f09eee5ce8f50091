"""The rules of the house hold, and a breach of each import rule is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "models", "export")
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
MODELS, SERVICE, RUNTIME, EXPORT = CONTRACTS

BREACHES = [
    (MODELS, "models/attention.py", "import service.bundle"),
    (MODELS, "models/text.py", "from export import graph"),
    (MODELS, "models/cbam.py", "import onnxruntime"),
    (SERVICE, "service/bundle/manifest.py", "import torch"),
    (SERVICE, "service/errors.py", "from models.text import TextTransformer"),
    (SERVICE, "service/render/__init__.py", "import export"),
    (RUNTIME, "service/errors.py", "import onnxruntime"),
    (EXPORT, "export/pack.py", "import service.errors"),
]


def broken(tree: Path) -> set[str]:
    """Names of the contracts that import-linter finds broken in a tree."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=tree,
        env={"COLUMNS": "300", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = {name for name in CONTRACTS if f"{name} BROKEN" in done.stdout}
    kept = {name for name in CONTRACTS if f"{name} KEPT" in done.stdout}
    assert found | kept == set(CONTRACTS), done.stdout + done.stderr
    assert done.returncode == bool(found), done.stdout + done.stderr
    return found


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources that may be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in modules():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path


def test_every_contract_is_kept() -> None:
    assert broken(ROOT) == set()


def test_every_contract_is_tried() -> None:
    assert {contract for contract, _, _ in BREACHES} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "module", "line"), BREACHES)
def test_a_breach_is_noticed_even_inside_a_function(
    tree: Path, contract: str, module: str, line: str
) -> None:
    with (tree / module).open("a") as file:
        file.write(f"\n\ndef breach() -> None:\n    {line}\n")
    assert broken(tree) == {contract}


def test_the_service_runs_without_loading_torch_or_our_other_halves() -> None:
    script = """
import importlib, pkgutil, sys, service
for module in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(module.name)
print(*sorted({"torch", "onnx", "models", "export"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_function_lives_with_its_noun() -> None:
    names = {"util.py", "utils.py", "helper.py", "helpers.py", "common.py", "misc.py"}
    assert [path for path in modules() if path.name in names] == []


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in modules()}
    assert {path: length for path, length in lengths.items() if length > 300} == {}
