"""From a request's tensors to the inputs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.bundle import Manifest
from service.decode.tensors import TensorRow
from service.errors import InvalidInput
from service.job import Payload
from service.v2.framing import Tensor
from service.v2.signature import FREE, Signature, raw_inputs, tensor_inputs


def read_inputs(
    tensors: Sequence[Tensor], manifest: Manifest, *, max_items: int
) -> list[Payload] | list[TensorRow]:
    """One input for each row, either all raw or all as tensors; raises InvalidInput."""
    given = {tensor.name: tensor for tensor in tensors}
    raw = {one.name: one for one in raw_inputs(manifest)}
    ready = {one.name: one for one in tensor_inputs(manifest)}
    if unknown := [name for name in given if name not in raw | ready]:
        have = ", ".join(raw | ready)
        raise InvalidInput(
            f"inputs: model {manifest.name} has no input {unknown[0]!r}; it has {have}",
            field="inputs",
            limit=have,
        )
    form = ready if given.keys() <= ready.keys() else raw
    first = next(iter(form))
    if first not in given or not given.keys() <= form.keys():
        raise InvalidInput(
            f"inputs: either {' and '.join(raw)}, or {' and '.join(ready)}; got {', '.join(given)}",
            field="inputs",
        )
    rows = given[first].values.shape[0] if given[first].values.ndim else 0
    for name, tensor in given.items():
        _check(tensor, form[name], rows)
    if rows > max_items:
        raise InvalidInput(
            f"inputs.{first}.shape: {rows} rows, max_items is {max_items}",
            field=f"inputs.{first}.shape",
            limit=max_items,
        )
    return _payloads(given, first) if form is raw else _rows(given, rows)


def _check(tensor: Tensor, signature: Signature, rows: int) -> None:
    """Raise InvalidInput unless a tensor is of its signature, and of so many rows."""
    where = f"inputs.{tensor.name}"
    if tensor.datatype is not signature.datatype:
        raise InvalidInput(
            f"{where}.datatype: {signature.datatype}, not {tensor.datatype}",
            field=f"{where}.datatype",
            limit=signature.datatype.name,
        )
    shape, wanted = tensor.values.shape, (rows, *signature.shape[1:])
    one_each = signature.shape[1:] == (1,) and shape == (rows,)
    fits = len(shape) == len(wanted) and all(
        size == want or want == FREE for size, want in zip(shape, wanted, strict=True)
    )
    if not rows or not (fits or one_each):
        raise InvalidInput(
            f"{where}.shape: {list(shape)} is not {list(signature.shape)}, with the same rows in every input",
            field=f"{where}.shape",
            limit=str(list(signature.shape)),
        )


def _payloads(given: Mapping[str, Tensor], name: str) -> list[Payload]:
    data = given[name].values.ravel()
    if name != "text":
        return [Payload(data=one, field=name) for one in data]
    pairs = given["text_pair"].values.ravel() if "text_pair" in given else [b""] * len(data)
    return [
        Payload(data=_text(text, name, index), pair=_text(pair, "text_pair", index) or None, field=name)
        for index, (text, pair) in enumerate(zip(data, pairs, strict=True))
    ]


def _text(data: bytes, name: str, index: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"inputs.{name}: row {index} is not UTF-8", field=f"inputs.{name}") from None


def _rows(given: Mapping[str, Tensor], rows: int) -> list[TensorRow]:
    """Rows as the graph has them, `lengths` as one number each."""
    arrays = {
        name: tensor.values.reshape(rows) if name == "lengths" else tensor.values
        for name, tensor in given.items()
    }
    return [
        TensorRow(tensors={name: array[index] for name, array in arrays.items()}, index=index)
        for index in range(rows)
    ]
