"""The code that the client's README prints works as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "clients" / "python" / "README.md").read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PRINTED = "http://127.0.0.1:8000"


def test_the_code_runs_in_the_order_of_the_page(server: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    assert len(SCRIPTS) == 3
    assert all(PRINTED in script for script in SCRIPTS)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(SCRIPTS).replace(PRINTED, server)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"\d 0\.\d+", lines[0])
    assert lines[1] == "('row', 'column') (12, 12) float32"
    assert lines[2].startswith("('layer', 'head', 'token') (")
    assert lines[-1].startswith("['rust', 'sql'] (")
    assert (tmp_path / "cam.png").read_bytes().startswith(b"\x89PNG")
