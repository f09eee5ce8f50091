"""JSON documents as frozen dataclasses: what a newer server adds is ignored, what is missing is None."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from regard_client.errors import UnexpectedAnswer

T = TypeVar("T")


PLAIN = (str, int, bool)


class Misfit(Exception):
    """A value that is not of its type; `place` grows on the way out, the innermost first."""

    def __init__(self, value: Any) -> None:
        super().__init__(str(value)[:80])
        self.place: list[str] = []


def read(kind: type[T], document: Any) -> T:
    """A document as this dataclass; raises UnexpectedAnswer naming the field that does not fit."""
    try:
        found: T = _read(kind, document)
    except Misfit as misfit:
        place = kind.__name__ + "".join(reversed(misfit.place))
        raise UnexpectedAnswer(f"the server's answer has {str(misfit)!r} for {place}") from None
    return found


def _read(kind: Any, value: Any) -> Any:
    if kind in PLAIN:
        _check(type(value) is kind, value)
        return value
    if kind is float:
        _check(type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max), value)
        return float(value)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _record(kind, value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _either(arguments, value)
    if origin is tuple:
        return _sequence(arguments, value)
    if origin is Mapping:
        _check(isinstance(value, dict), value)
        return {key: _within(f".{key}", arguments[1], one) for key, one in value.items()}
    assert origin is np.ndarray
    return _array(value)


def _within(place: str, kind: Any, value: Any) -> Any:
    try:
        return _read(kind, value)
    except Misfit as misfit:
        misfit.place.append(place)
        raise


def _record(kind: Any, value: Any) -> Any:
    _check(isinstance(value, dict), value)
    given = {}
    for name, (field, hint) in _hints(kind).items():
        if name in value:
            given[name] = _within(f".{name}", hint, value[name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Misfit(f"no {name}")
    return kind(**given)


@cache
def _hints(kind: Any) -> dict[str, tuple[Field[Any], Any]]:
    hints = get_type_hints(kind)
    return {field.name: (field, hints[field.name]) for field in fields(kind)}


def _either(kinds: tuple[Any, ...], value: Any) -> Any:
    """The first that fits; of dataclasses the one whose `kind` it says, None where that is a new one."""
    if value is None and NoneType in kinds:
        return None
    records = {one.kind: one for one in kinds if is_dataclass(one) and hasattr(one, "kind")}
    if records:
        _check(isinstance(value, dict), value)
        kind = records.get(value.get("kind")) if isinstance(value.get("kind"), str) else None
        return None if kind is None and NoneType in kinds else _read(kind, value)
    for one in kinds:
        if one is NoneType:
            continue
        try:
            return _read(one, value)
        except Misfit as error:
            misfit = error
    raise misfit


def _sequence(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    _check(isinstance(value, list), value)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _check(len(kinds) == len(value), value)
    found = []
    for kind, one in zip(kinds, value, strict=True):
        try:
            found.append(_read(kind, one))
        except Misfit as misfit:
            misfit.place.append(f"[{len(found)}]")
            raise
    return tuple(found)


def _array(value: Any) -> Any:
    try:
        array = np.array(value, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise Misfit(error) from None
    array.flags.writeable = False
    return array


def _check(fits: bool, value: Any) -> None:
    if not fits:
        raise Misfit(value)
