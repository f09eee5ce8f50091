"""The tensors that each model takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from service.bundle import ImageInput, Manifest, TextInput
from service.v2.datatypes import BYTES, FP32, INT64, Datatype

BATCH = FREE = -1  # a size that is the request's to choose


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A tensor's name, datatype and shape, its batch included.

    Inputs of one value a row are [N, 1] here and may come as [N] too: perf_analyzer refuses a model whose
    input has no axis beside the batch.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    optional: bool = True


def raw_inputs(manifest: Manifest) -> tuple[Signature, ...]:
    """What is decoded here: texts (in UTF-8), pictures or clips, one a row."""
    names: list[str] = [manifest.family]
    if isinstance(manifest.preprocessing, TextInput) and manifest.preprocessing.pairs:
        names.append("text_pair")
    return tuple(
        Signature(name=name, datatype=BYTES, shape=(BATCH, 1), optional=name == "text_pair") for name in names
    )


def tensor_inputs(manifest: Manifest) -> tuple[Signature, ...]:
    """What enters the graph; the first is the one that a request in this form cannot leave out."""
    spec = manifest.preprocessing
    if isinstance(spec, TextInput):
        ids = Signature(name="input_ids", datatype=INT64, shape=(BATCH, FREE))
        lengths = Signature(name="lengths", datatype=INT64, shape=(BATCH, 1))
        types = Signature(name="token_types", datatype=INT64, shape=(BATCH, FREE))
        return (ids, lengths, types) if spec.token_types else (ids, lengths)
    picture = (3, spec.height, spec.width)
    if isinstance(spec, ImageInput):
        return (Signature(name="pixels", datatype=FP32, shape=(BATCH, *picture)),)
    return (Signature(name="frames", datatype=FP32, shape=(BATCH, spec.frames, *picture)),)


def inputs(manifest: Manifest) -> tuple[Signature, ...]:
    """All inputs, of which a request gives those of one form."""
    return raw_inputs(manifest) + tensor_inputs(manifest)


def outputs(manifest: Manifest) -> tuple[Signature, ...]:
    """What every request gets that does not choose; K are the labels."""
    labels = len(manifest.labels)
    return (
        Signature(name="label", datatype=BYTES, shape=(BATCH,)),
        Signature(name="scores", datatype=FP32, shape=(BATCH, labels)),
        Signature(name="logits", datatype=FP32, shape=(BATCH, labels)),
    )
