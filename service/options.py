"""Options as they come from a query, a form or a body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.errors import InvalidInput, UnknownOption

Options = TypeVar("Options", bound=BaseModel)

BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length", "expected")  # what pydantic calls a limit


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Options by name; one that is given several times is a list."""
    options: dict[str, list[str]] = {}
    for name, value in pairs:
        options.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in options.items()}


def parse_options(model: type[Options], given: Mapping[str, Any]) -> Options:
    """Options as their model; raises UnknownOption or InvalidInput naming the first field that is wrong."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _option_problem(model, error.errors(include_url=False, include_input=False)) from None


def _option_problem(model: type[BaseModel], errors: list[ErrorDetails]) -> InvalidInput:
    first = errors[0]
    field = str(first["loc"][0]) if first["loc"] else "options"
    if first["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields)
        return UnknownOption(f"no option {field[:80]!r}; known: {known}", field=field[:80], limit=known)
    several = sum(one["loc"][:1] == (field,) for one in errors) > 1  # one for each type the option may have
    if several or first["type"] == "tuple_type":
        return InvalidInput(f"{field}: no such value. {model.model_fields[field].description}", field=field)
    limit = next((first["ctx"][bound] for bound in BOUNDS if bound in first.get("ctx", {})), None)
    return InvalidInput(f"{field}: {first['msg']}", field=field, limit=limit)
