"""The protocol's datatypes: values in JSON and in bytes, in and out of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInput

Array = NDArray[Any]
PREFIX = 4  # bytes of a BYTES element's length
MAX_ELEMENTS = 65_536  # of BYTES: each becomes an object of its own
CUTOFF_BITS = 16  # what BF16 leaves out of a float32


@dataclass(frozen=True, kw_only=True)
class Datatype:
    """One of them: `dtype` is that of the array, `wire` that of the bytes.

    BYTES is an array of `bytes`; BF16, which numpy does not know, one of float32.
    """

    name: str
    dtype: np.dtype[Any]
    wire: np.dtype[Any]
    in_json: bool = True

    def __str__(self) -> str:
        return self.name


def _number(name: str, wire: str, *, in_json: bool = True) -> Datatype:
    return Datatype(name=name, dtype=np.dtype(wire[1:]), wire=np.dtype(wire), in_json=in_json)


BYTES = Datatype(name="BYTES", dtype=np.dtype(object), wire=np.dtype(object))
BF16 = Datatype(name="BF16", dtype=np.dtype("f4"), wire=np.dtype("<u2"), in_json=False)
FP32 = _number("FP32", "<f4")
INT64 = _number("INT64", "<i8")
DATATYPES: dict[str, Datatype] = {
    one.name: one
    for one in (
        _number("BOOL", "|?"),
        *(_number(f"INT{8 * size}", f"<i{size}") for size in (1, 2, 4)),
        INT64,
        *(_number(f"UINT{8 * size}", f"<u{size}") for size in (1, 2, 4, 8)),
        _number("FP16", "<f2", in_json=False),
        BF16,
        FP32,
        _number("FP64", "<f8"),
        BYTES,
    )
}


def from_bytes(data: memoryview, datatype: Datatype, shape: Sequence[int], field: str) -> Array:
    """An array of this shape, a view of the bytes where it can be; raises InvalidInput."""
    count = math.prod(shape)
    if datatype is BYTES:
        return _elements(data, count, field).reshape(shape)
    expected = count * datatype.wire.itemsize
    if len(data) != expected:
        raise InvalidInput(
            f"{field}: shape {list(shape)} of {datatype} is {expected} bytes, "
            f"binary_data_size is {len(data)}",
            field=field,
            limit=expected,
        )
    if datatype.name == "BOOL":
        octets = np.frombuffer(data, np.uint8)
        if octets.max() > 1:
            raise InvalidInput(f"{field}: a BOOL is a byte of 0 or 1", field=field, limit=1)
        return octets.view(np.bool_).reshape(shape)
    values: Array = np.frombuffer(data, datatype.wire)
    if datatype is BF16:
        values = (values.astype(np.uint32) << CUTOFF_BITS).view(np.float32)
    return values.astype(datatype.dtype, copy=False).reshape(shape)


def _elements(data: memoryview, count: int, field: str) -> Array:
    """BYTES: each element's length as 4 bytes, little-endian, and the element."""
    if count > MAX_ELEMENTS:
        raise InvalidInput(
            f"{field}: {count} BYTES elements, at most {MAX_ELEMENTS}", field=field, limit=MAX_ELEMENTS
        )
    if count * PREFIX > len(data):
        raise InvalidInput(
            f"{field}: {count} BYTES elements need at least {count * PREFIX} bytes, "
            f"binary_data_size is {len(data)}",
            field=field,
            limit=len(data),
        )
    elements = np.empty(count, object)
    start = 0
    for index in range(count):
        begin = start + PREFIX
        end = begin + int.from_bytes(data[start:begin], "little")
        if begin > len(data) or end > len(data):
            raise InvalidInput(
                f"{field}: BYTES element {index} ends at byte {max(begin, end)} of {len(data)}",
                field=field,
                limit=len(data),
            )
        elements[index] = bytes(data[begin:end])
        start = end
    if start != len(data):
        raise InvalidInput(
            f"{field}: {len(data) - start} bytes are left after {count} BYTES elements",
            field=field,
            limit=start,
        )
    return elements


def from_json(data: Any, datatype: Datatype, shape: Sequence[int], field: str) -> Array:
    """An array of this shape, of values that are flat or nested as the shape says; raises InvalidInput."""
    if not datatype.in_json:
        raise InvalidInput(f"{field}: {datatype} comes as binary data alone", field=field)
    if not isinstance(data, list):
        raise InvalidInput(f"{field}.data: a list of values", field=f"{field}.data")
    nested = any(isinstance(one, list) for one in data)
    values = _flat(data, shape, field) if nested else data
    count = math.prod(shape)
    if len(values) != count:
        raise InvalidInput(
            f"{field}.data: {len(values)} values, shape {list(shape)} has {count}",
            field=f"{field}.data",
            limit=count,
        )
    check = _CHECKS.get(datatype.dtype.kind, _whole)
    array = np.empty(count, datatype.dtype)
    array[:] = check(values, datatype, f"{field}.data")
    return array.reshape(shape)


def _flat(data: list[Any], shape: Sequence[int], field: str) -> list[Any]:
    """Values of nested lists in order, one level for each axis."""
    level = data
    for axis, size in enumerate(shape[1:], start=1):
        if any(not isinstance(one, list) or len(one) != size for one in level):
            raise InvalidInput(
                f"{field}.data: nested otherwise than shape {list(shape)}: axis {axis} has {size}",
                field=f"{field}.data",
                limit=size,
            )
        level = [value for one in level for value in one]
    return level


def _strings(values: list[Any], datatype: Datatype, field: str) -> list[bytes]:
    _of_type(values, {str}, "a string", datatype, field)
    try:
        return [value.encode() for value in values]
    except UnicodeEncodeError:
        raise InvalidInput(f"{field}: half of a surrogate pair is no text", field=field) from None


def _booleans(values: list[Any], datatype: Datatype, field: str) -> list[Any]:
    _of_type(values, {bool}, "true or false", datatype, field)
    return values


def _whole(values: list[Any], datatype: Datatype, field: str) -> list[Any]:
    _of_type(values, {int}, "a whole number", datatype, field)
    bounds = np.iinfo(datatype.dtype)
    if min(values) < bounds.min or max(values) > bounds.max:
        raise InvalidInput(
            f"{field}: {datatype} is from {bounds.min} to {bounds.max}", field=field, limit=int(bounds.max)
        )
    return values


def _real(values: list[Any], datatype: Datatype, field: str) -> list[Any]:
    _of_type(values, {int, float}, "a number", datatype, field)
    largest = float(np.finfo(datatype.dtype).max)
    # Compared as Python does it: exactly, however large the number is.
    if not (-largest <= min(values) and max(values) <= largest):
        raise InvalidInput(f"{field}: {datatype} is from {-largest} to {largest}", field=field, limit=largest)
    return values


_CHECKS: dict[str, Callable[[list[Any], Datatype, str], list[Any]]] = {
    "O": _strings,
    "b": _booleans,
    "f": _real,
}


def _of_type(values: list[Any], types: set[type], what: str, datatype: Datatype, field: str) -> None:
    """Raise InvalidInput unless every value is of exactly these types: a bool is no number."""
    if not set(map(type, values)) <= types:
        wrong = next(index for index, value in enumerate(values) if type(value) not in types)
        raise InvalidInput(f"{field}: value {wrong} is not {what}, as {datatype} needs", field=field)


def to_bytes(values: Array, datatype: Datatype) -> bytes:
    """Little-endian, row-major."""
    if datatype is BYTES:
        return b"".join(len(one).to_bytes(PREFIX, "little") + one for one in values.flat)
    if datatype is BF16:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return (bits >> CUTOFF_BITS).astype(BF16.wire).tobytes()
    return np.ascontiguousarray(values, datatype.wire).tobytes()


def to_json(values: Array, datatype: Datatype) -> list[Any]:
    """A flat list; null stands for what JSON cannot say (not a number, infinite)."""
    if datatype is BYTES:
        return [one.decode() for one in values.flat]
    flat: list[Any] = values.ravel().tolist()
    if datatype.dtype.kind == "f" and not np.isfinite(values).all():
        return [value if math.isfinite(value) else None for value in flat]
    return flat
