"""`regard inspect` says of a checkpoint and of its bundle what they hold."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from export import inspection
from export.pack import checked, describe
from models.checkpoints.checkpoint import Checkpoint
from service import bundle
from service.bundle import Agreement, Description


def text(model: Description, sizes: dict[str, int]) -> str:
    """The tables on a wide terminal."""
    console = Console(width=200, file=io.StringIO())
    console.print(inspection.tables(model, sizes))
    return console.file.getvalue()


def row(shown: str, first: str) -> str:
    """The one line that begins with this cell."""
    (line,) = [line for line in shown.splitlines() if line.strip("│ ").split("│")[0].strip() == first]
    return line


@pytest.fixture
def packed(checkpoint: Checkpoint, repository: Path) -> Path:
    return repository / checkpoint.name / checkpoint.version


def test_a_checkpoint_shows_what_it_would_become(checkpoint: Checkpoint) -> None:
    shown = text(describe(checkpoint, *checked(checkpoint)), inspection.sizes_of_source(checkpoint))
    count = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert row(shown, "parameters").split("│")[2].strip() == f"{count:,}"
    assert checkpoint.family in row(shown, "family")
    assert "4 (softmax): left, right, up, down" in row(shown, "labels")
    for name, program in checkpoint.model.programs().items():
        cells = [cell.strip() for cell in row(shown, name).split("│")[1:-1]]
        heads = str(program.heads) if "head" in program.axes else ""
        assert cells == [name, ", ".join(program.axes), str(len(program.layers) or "all"), heads]
    assert "model.safetensors" in shown
    assert "float64" not in shown  # nothing was measured yet


def test_a_bundle_shows_its_parity_and_the_size_of_every_file(packed: Path) -> None:
    manifest = bundle.read(packed)
    shown = text(manifest, inspection.sizes_of_bundle(packed, manifest))
    for name in ("manifest.json", *manifest.files):
        kib = (packed / name).stat().st_size / 1024
        assert f"{name}, {f'{kib:,.1f} KiB' if kib < 1024 else f'{kib / 1024:,.1f} MiB'}" in shown
    logits = manifest.parity.outputs["logits"]
    assert f"{logits.exported:.1e} from float64 (torch fp32: {logits.torch_fp32:.1e})" in shown
    for name, deviation in manifest.parity.maps.items():
        assert row(shown, name).split("│")[-3].strip() == f"{deviation.exported:.1e}"
    assert f"{manifest.parity.attention_nodes} nodes" in row(shown, "fused attention")
    assert manifest.provenance.sha256 in shown


def test_a_lower_precision_says_how_near_it_is(repository: Path) -> None:
    folder = repository / "tiny-text" / "1"
    agreement = Agreement(
        against="tiny-text/1 fp32",
        data="texts",
        inputs=500,
        labels=0.996,
        logit_error=0.0123,
        largest_logit_error=0.2,
        maps={},
    )
    update = {"precision": "int8", "max_batch": 1, "agreement": agreement}
    manifest = bundle.read(folder).model_copy(update=update)
    shown = text(manifest, {})
    assert "int8, one input in a run" in row(shown, "precision")
    assert "same label 99.6%, logits 1.23% off, on 500 inputs (texts)" in shown


def test_names_cannot_style_the_terminal(repository: Path) -> None:
    manifest = bundle.read(repository / "tiny-text" / "1").model_copy(
        update={"labels": ("[red]a[/red]", "\x1b[2Jb")}
    )
    assert "[red]a[/red], \N{REPLACEMENT CHARACTER}[2Jb" in text(manifest, {})
