"""What a checkpoint or a bundle holds, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from models.checkpoints.checkpoint import Checkpoint
from service.bundle import MANIFEST, Description, Manifest, TextInput, VideoInput

FIRST_LABELS = 8
KIB, MIB = 1024, 1024**2


def tables(model: Description, sizes: dict[str, int]) -> Group:
    """A model, its maps, and its files of these sizes in bytes; with parity where it was measured."""
    facts = Table(show_header=False, title=_plain(f"{model.name}/{model.version}"), title_justify="left")
    facts.add_column()
    facts.add_column(overflow="fold")
    for what, value in _facts(model, sizes):
        facts.add_row(what, _plain(value))
    return Group(facts, _maps(model))


def sizes_of_bundle(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Bytes of every file of a bundle."""
    return {name: (folder / name).stat().st_size for name in (MANIFEST, *manifest.files)}


def sizes_of_source(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of the files that were read."""
    tokenizer = () if checkpoint.tokenizer is None else (checkpoint.tokenizer,)
    return {path.name: path.stat().st_size for path in (*checkpoint.weights, *tokenizer)}


def _facts(model: Description, sizes: dict[str, int]) -> Iterator[tuple[str, str]]:
    yield "family", model.family
    yield "architecture", model.architecture
    yield "parameters", f"{model.parameters:,}"
    yield "labels", _labels(model)
    yield "made from", _input(model)
    yield "inputs", ", ".join(f"{spec.name} {spec.dtype} {_axes(spec.axes)}" for spec in model.inputs)
    yield "outputs", ", ".join(f"{spec.name} {spec.dtype} {_axes(spec.axes)}" for spec in model.outputs)
    kinds = Counter(tap.kind for tap in model.taps)
    yield "taps", f"{len(model.taps)}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
    if isinstance(model, Manifest):
        yield from _measured(model)
    for name, size in sizes.items():
        yield "file", f"{name}, {f'{size / MIB:,.1f} MiB' if size >= MIB else f'{size / KIB:,.1f} KiB'}"


def _measured(manifest: Manifest) -> Iterator[tuple[str, str]]:
    parity, agreement = manifest.parity, manifest.agreement
    yield "precision", manifest.precision + (", one input in a run" if manifest.max_batch == 1 else "")
    if agreement is not None:
        same = "" if agreement.labels is None else f"same label {agreement.labels:.1%}, "
        yield (
            "beside fp32",
            f"{same}logits {agreement.logit_error:.2%} off, on {agreement.inputs} inputs ({agreement.data})",
        )
    fp32 = "" if manifest.precision == "fp32" else ", fp32 graph"
    yield "fused attention", f"{parity.attention_nodes} nodes"
    for name, deviation in {**parity.outputs, "taps": parity.taps}.items():
        yield (
            f"parity of {name}{fp32}",
            f"{deviation.exported:.1e} from float64 (torch fp32: {deviation.torch_fp32:.1e})",
        )
    yield "verified at", "; ".join(parity.shapes)
    yield "source", manifest.provenance.source
    yield "sha256", manifest.provenance.sha256


def _maps(model: Description) -> Table:
    out = Table("map", "axes", "layers", "heads", title="maps", title_justify="left")
    parity = {}
    if isinstance(model, Manifest):
        parity = model.parity.maps
        out.add_column("from float64" if model.precision == "fp32" else "from float64, fp32 graph")
        out.add_column("torch fp32")
    for spec in model.maps:
        row = [spec.name, ", ".join(spec.axes), str(len(spec.layers) or "all"), str(spec.heads or "")]
        if parity:
            found = parity[spec.name]
            row += [f"{found.exported:.1e}", f"{found.torch_fp32:.1e}"]
        out.add_row(*map(_plain, row))
    return out


def _plain(text: str) -> str:
    """Text that neither styles nor controls a terminal."""
    return escape("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text))


def _labels(model: Description) -> str:
    shown = ", ".join(model.labels[:FIRST_LABELS])
    more = len(model.labels) - FIRST_LABELS
    return f"{len(model.labels)} ({model.activation}): {shown}{f', and {more} more' if more > 0 else ''}"


def _input(model: Description) -> str:
    spec = model.preprocessing
    if isinstance(spec, TextInput):
        return f"a text{' or a pair of texts' if spec.pairs else ''}, at most {spec.max_tokens} tokens"
    to = spec.resize_to
    resize = f"{to[0]}x{to[1]}" if isinstance(to, tuple) else f"a shorter side of {to}"
    what = f"{spec.frames} frames of a clip" if isinstance(spec, VideoInput) else "a picture"
    return f"{what}, {spec.interpolation} resize to {resize}, crop {spec.height}x{spec.width}"


def _axes(axes: tuple[str | int, ...]) -> str:
    return f"[{', '.join(map(str, axes))}]"
