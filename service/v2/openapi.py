"""What OpenAPI says of bodies that routes read themselves."""

from __future__ import annotations

from typing import Any

from service.choices import DISCARD, ONE_QUERY, RefineOptions
from service.v2.compression import ENCODINGS
from service.v2.datatypes import DATATYPES
from service.v2.documents import ErrorDocument
from service.v2.framing import HEADER_LENGTH, MAX_AXES, MAX_NAME, MAX_SIZE

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument} for status in (400, 401, 403, 404, 408, 413, 415, 422, 503, 504)
}

_NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
_SHAPE = {
    "type": "array",
    "maxItems": MAX_AXES,
    "items": {"type": "integer", "minimum": 1, "maximum": MAX_SIZE},
}
_PARAMETERS = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _parameters(**properties: dict[str, Any]) -> dict[str, Any]:
    return {**_PARAMETERS, "properties": properties}


def _refinement(name: str) -> dict[str, Any]:
    """What v1 says of an option."""
    schema: dict[str, Any] = RefineOptions.model_json_schema()["properties"][name]
    return {"type": schema["anyOf"][0]["type"], "description": schema["description"]}


_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _parameters(
            timeout={
                "type": "integer",
                "minimum": 0,
                "description": "Microseconds until the answer has to be there; 0 is the server's own limit.",
            },
            binary_data_output={"type": "boolean", "description": "All outputs behind the JSON."},
            maps={
                "type": "string",
                "description": "Maps to make, by name, separated by commas: each is an output of its own "
                "name, and `tokens` comes with those over tokens. Shorter rows are padded with 0. Options of "
                "/v1 that are not listed here are refused.",
            },
            layers={
                "anyOf": [{"type": "string"}, {"type": "integer"}],
                "description": "An index, several separated by commas, or all; -1 is the last.",
            },
            heads={
                "anyOf": [{"type": "string"}, {"type": "integer"}],
                "description": "An index, several separated by commas, all, mean, max or min.",
            },
            target={
                "anyOf": [{"type": "string"}, {"type": "integer"}],
                "description": "Label, by name or index, of maps that have one per label.",
            },
            token={"type": "integer", "minimum": 0, "description": ONE_QUERY},
            rows={"type": "string", "description": "Query tokens of such a map, START:STOP, without STOP."},
            frame={"type": "integer", "minimum": 0, "description": "One frame of a clip, from 0."},
            discard={"type": "number", "description": DISCARD},
            **{name: _refinement(name) for name in ("mass", "top")},
            verify={
                "type": "boolean",
                "description": "An error where the attention behind the answer is not the softmax of its "
                "queries and keys.",
            },
        ),
        "inputs": {
            "type": "array",
            "minItems": 1,
            "description": 'Either raw (`text`, with a `text_pair` if the model takes one and "" where a row '
            "has none; `image`; `video`), or the tensors of the graph; the model's metadata lists both.",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": _NAME,
                    "shape": _SHAPE,
                    "datatype": {"enum": list(DATATYPES)},
                    "parameters": _parameters(binary_data_size={"type": "integer", "minimum": 0}),
                    "data": {"type": "array", "items": {}, "description": "Flat, or nested as the shape."},
                },
            },
        },
        "outputs": {
            "type": "array",
            "description": "`label`, `scores` and `logits` if left out. Maps can be named here too.",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": _NAME,
                    "parameters": _parameters(
                        binary_data={"type": "boolean"},
                        classification={
                            "type": "integer",
                            "minimum": 1,
                            "description": 'Of scores or logits: the best so many, as "value:index:label".',
                        },
                    ),
                },
            },
        },
    },
}

_EXAMPLE = {
    "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["fn main() {}"]}],
    "parameters": {"maps": "rollout"},
}

HEADERS: list[dict[str, Any]] = [
    {
        "name": HEADER_LENGTH,
        "in": "header",
        "description": "Bytes of JSON before the binary tensors; the whole body is JSON if left out.",
        "schema": {"type": "integer", "minimum": 0},
    },
]

INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON, and binary tensors behind it; may be packed, with a Content-Encoding of "
        f"{' or '.join(ENCODINGS)}.",
        "content": {
            "application/json": {"schema": _REQUEST, "example": _EXAMPLE},
            "application/octet-stream": _BINARY,
        },
    },
}

INFERRED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs; where any is binary, behind the JSON, whose length a header says.",
        "headers": {HEADER_LENGTH: {"schema": {"type": "integer"}}},
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model_name", "model_version", "outputs"],
                    "properties": {
                        "model_name": {"type": "string"},
                        "model_version": {"type": "string"},
                        "id": {"type": "string"},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["name", "shape", "datatype"],
                                "properties": {
                                    "name": _NAME,
                                    "shape": _SHAPE,
                                    "datatype": {"enum": list(DATATYPES)},
                                    "parameters": _PARAMETERS,
                                    "data": {"type": "array", "items": {}},
                                },
                            },
                        },
                    },
                }
            },
            "application/octet-stream": _BINARY,
        },
    },
    500: {
        "model": ErrorDocument,
        "description": "With `verify`: attention that is not the softmax it should be.",
    },
}


def optional_body(**properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON body that may be left out."""
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}


INDEX = optional_body(ready={"type": "boolean", "description": "Only what is ready."})
LOAD = optional_body(
    parameters={
        "type": "object",
        "maxProperties": 0,
        "description": "None: models come as they were exported.",
    }
)
UNLOAD = optional_body(
    parameters={
        "type": "object",
        "properties": {"unload_dependents": {"type": "boolean", "description": "No model has any."}},
        "additionalProperties": False,
    }
)
