"""A checkpoint becomes a bundle: graphs, verification, manifest; written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from export import quantize
from export.errors import ExportError
from export.graph import export_map, export_model
from export.lowering import Lowering, examples
from export.maps import map_graphs, map_programs, map_spec, parameters, proof_spec
from export.shapes import (
    FEWEST_TOKENS,
    Axes,
    Preprocessing,
    Signature,
    example_inputs,
    run,
    signature,
    tracing_shape,
    verified_shapes,
)
from export.verify import verify
from models.checkpoints.checkpoint import Checkpoint
from service.bundle import (
    MANIFEST,
    MODEL,
    NAME_PATTERN,
    TOKENIZER,
    Card,
    Description,
    Manifest,
    MapSpec,
    Provenance,
    Tap,
    TensorSpec,
    TextInput,
    digest,
    first_fault,
)

Advance = Callable[[str], None]
PREPROCESSING: TypeAdapter[Preprocessing] = TypeAdapter(Annotated[Preprocessing, Field(discriminator="kind")])


def steps(checkpoint: Checkpoint, lowering: Lowering | None = None) -> int:
    """How often `pack` calls `advance` for this checkpoint."""
    spec = _preprocessing(checkpoint)
    verified = 2 * len(verified_shapes(spec))
    return 2 + len(map_graphs(checkpoint.model, spec)) + verified + (2 if lowering else 0)


def pack(
    checkpoint: Checkpoint,
    repository: Path,
    *,
    lowering: Lowering | None = None,
    advance: Advance = lambda stage: None,
) -> Path:
    """Export, verify and write `repository/NAME/VERSION`; returns that folder.

    The bundle is built in a folder beside its place and renamed into it last; one of lower precision is made
    from a verified one and measured against it. Raises ExportError where the place is taken, the checkpoint
    does not fit, verification fails or too much is lost; then nothing is left behind.
    """
    describe(checkpoint, *checked(checkpoint))
    target = repository / checkpoint.name / checkpoint.version
    if target.exists():
        raise ExportError(f"{target} exists already: remove it, or choose another --name")
    with _folder(repository), _staging(repository) as folder, _staging(repository) as lowered:
        build(checkpoint, folder, advance=advance)
        manifest = seal(checkpoint, folder, advance=advance)
        if lowering is not None:
            lower(checkpoint, folder, manifest, lowered, lowering, advance=advance)
            folder = lowered
        folder.chmod(0o755)
        target.parent.mkdir(exist_ok=True)
        os.rename(folder, target)
    return target


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder that is there from now on; gone again, with those made above it, if it stays empty."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder beside a bundle's place; gone afterwards unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=repository))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(checkpoint: Checkpoint, folder: Path, *, advance: Advance = lambda stage: None) -> None:
    """Write the graphs and the tokenizer of a bundle."""
    model = checkpoint.model
    spec, names = checked(checkpoint)
    inputs = example_inputs(model, spec, tracing_shape(spec), seed=0)
    advance("model")
    export_model(model, inputs, names.axes, outputs=[*names.outputs, *names.taps], path=folder / MODEL)
    tensors = run(model, inputs) | parameters(len(inputs[next(iter(inputs))]), len(checkpoint.labels))
    for graph in map_graphs(model, spec):
        advance(f"map {graph.name}")
        export_map(graph, tensors, names.axes, path=folder / MapSpec.path(graph.name))
    if checkpoint.tokenizer is not None:
        shutil.copyfile(checkpoint.tokenizer, folder / TOKENIZER)


def seal(checkpoint: Checkpoint, folder: Path, *, advance: Advance = lambda stage: None) -> Manifest:
    """Verify the graphs in a folder and write the manifest beside them; raises ExportError."""
    spec, names = checked(checkpoint)
    parity = verify(folder, checkpoint.model, spec, names, advance=lambda: advance("verify"))
    advance("manifest")
    tools = {tool: version(tool).split("+")[0] for tool in ("regard", "torch", "onnx", "onnxscript")}
    manifest = Manifest(
        **dict(describe(checkpoint, spec, names)),
        parity=parity,
        provenance=Provenance(source=checkpoint.source, sha256=digest(*checkpoint.weights), tools=tools),
        files=_digests(folder),
    )
    _write(folder, manifest)
    return manifest


def lower(
    checkpoint: Checkpoint,
    folder: Path,
    manifest: Manifest,
    into: Path,
    lowering: Lowering,
    *,
    advance: Advance = lambda stage: None,
) -> Manifest:
    """Write the verified bundle `folder` into another one in lower precision; raises ExportError."""
    advance(lowering.precision)
    lowered = quantize.lower(folder, manifest, into, lowering.precision, lowering.calibration(folder))
    lowered = lowered.model_copy(update={"files": _digests(into)})
    _write(into, lowered)
    advance("measure")
    agreement = lowering.measure(into, folder, examples(checkpoint.model, manifest.preprocessing))
    lowered = lowered.model_copy(update={"agreement": agreement})
    _write(into, lowered)
    return lowered


def _write(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def describe(checkpoint: Checkpoint, spec: Preprocessing, names: Signature) -> Description:
    """What the bundle of a checkpoint says of its model; raises ExportError where that is not sound."""
    model = checkpoint.model
    inputs = example_inputs(model, spec, tracing_shape(spec), seed=0)
    card = None
    if checkpoint.card is not None:
        with _validated("card"):
            card = Card.model_validate(checkpoint.card)
    with _validated():
        return Description(
            name=checkpoint.name,
            version=checkpoint.version,
            family=checkpoint.family,
            architecture=checkpoint.architecture,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            description=checkpoint.description,
            labels=checkpoint.labels,
            activation=checkpoint.activation,
            preprocessing=spec,
            inputs=tuple(
                _tensor(name, names.axes, "float32" if x.is_floating_point() else "int64")
                for name, x in inputs.items()
            ),
            outputs=tuple(_tensor(name, names.axes, "float32") for name in names.outputs),
            taps=tuple(_tap(name, names.axes) for name in names.taps),
            maps=tuple(map_spec(name, program) for name, program in map_programs(model, spec).items()),
            proof=proof_spec(model),
            card=card,
        )


def _preprocessing(checkpoint: Checkpoint) -> Preprocessing:
    with _validated("preprocessing"):
        return PREPROCESSING.validate_python(checkpoint.preprocessing)


@contextmanager
def _validated(*field: str) -> Iterator[None]:
    """The first thing that the bundle's schema finds wrong (in a field) becomes an ExportError."""
    try:
        yield
    except ValidationError as error:
        raise ExportError(first_fault(error, *field)) from error


def checked(checkpoint: Checkpoint) -> tuple[Preprocessing, Signature]:
    """How the model's input is made and its signature; raises ExportError where the parts do not fit."""
    spec = _preprocessing(checkpoint)
    if not re.fullmatch(NAME_PATTERN, checkpoint.name):
        raise ExportError(f"name {checkpoint.name!r} does not match {NAME_PATTERN}")
    if spec.kind != checkpoint.family:
        raise ExportError(f"preprocessing is for {spec.kind}, the model is of the family {checkpoint.family}")
    if (spec.kind == "text") != (checkpoint.tokenizer is not None):
        raise ExportError("a text model needs a tokenizer.json, and no other model has one")
    if isinstance(spec, TextInput) and spec.max_tokens < FEWEST_TOKENS:
        raise ExportError(f"max_tokens is {spec.max_tokens}; at least {FEWEST_TOKENS} are needed")
    names = signature(checkpoint.model, spec)
    logits = names.axes["logits"][1]
    if logits != len(checkpoint.labels):
        raise ExportError(f"{logits} logits, {len(checkpoint.labels)} labels")
    return spec, names


def _tensor(name: str, axes: dict[str, Axes], dtype: str) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "axes": axes[name]})


def _tap(name: str, axes: dict[str, Axes]) -> Tap:
    layer, _, kind = name.rpartition(".")
    return Tap(name=name, dtype="float32", axes=axes[name], layer=layer, kind=kind)


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest(path) for path in paths}
