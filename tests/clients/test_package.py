"""The distribution stands alone."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "clients" / "python"
LOADED = """
import importlib, pkgutil, sys, {first}
for found in pkgutil.walk_packages(regard_client.__path__, "regard_client.") if {walk} else ():
    importlib.import_module(found.name)
print(*sorted({{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)))
"""


def loaded(first: str, *, walk: bool) -> set[str]:
    """Packages that are loaded with these."""
    script = LOADED.format(first=first, walk=walk)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_it_needs_httpx_and_numpy_alone() -> None:
    needed = loaded("httpx, numpy", walk=False)
    assert loaded("regard_client, httpx, numpy", walk=True) - needed == {"regard_client"}
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert [one.partition(">")[0] for one in project["dependencies"]] == ["httpx", "numpy"]
    assert version("regard-client") == project["version"]


def test_its_modules_are_one_noun_each() -> None:
    for path in (PACKAGE / "regard_client").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 300
        assert path.stem not in {"util", "utils", "helper", "helpers", "common", "misc"}
