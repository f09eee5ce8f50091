"""Bodies of inference requests and answers: a JSON document, and raw tensors behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.errors import InvalidInput
from service.sizes import read_json
from service.v2.datatypes import DATATYPES, Array, Datatype, from_bytes, from_json, to_bytes, to_json

HEADER_LENGTH = "inference-header-content-length"
MAX_AXES = 8
MAX_SIZE = 2**32  # of one axis
MAX_NAME = 200  # characters
BINARY_SIZE = "binary_data_size"

Scalar = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named tensor: BYTES are an array of `bytes`, BF16 one of float32."""

    name: str
    datatype: Datatype
    values: Array


@dataclass(frozen=True, kw_only=True)
class RequestedOutput:
    """An output that is asked for: as bytes or in JSON (None: as the request says), or as so many classes."""

    name: str
    binary: bool | None = None
    classes: int | None = None


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """What a body asks for; `outputs` is None where the model's own are meant."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    id: str | None = None

    def binary(self, name: str) -> bool:
        """Whether this output goes behind the JSON."""
        for output in self.outputs or ():
            if output.name == name and output.binary is not None:
                return output.binary
        return self.parameters.get("binary_data_output") is True


def read_document(body: bytes | memoryview, *, max_json_bytes: int) -> dict[str, Any]:
    """A JSON object; raises InvalidInput and TooLarge."""
    try:
        document = read_json(body, max_json_bytes)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON: UTF-8, no NaN or Infinity", field="body") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is no JSON object", field="body")
    return document


def read_request(body: bytes, header_length: str | None, *, max_json_bytes: int) -> InferRequest:
    """A body as its tensors, which are views of it where they are binary; raises InvalidInput and TooLarge.

    `header_length` is the header Inference-Header-Content-Length: the bytes of JSON before the tensors.
    """
    whole = memoryview(body)
    length = _length(header_length, len(body))
    document = read_document(whole[:length], max_json_bytes=max_json_bytes)
    if not isinstance(document.get("id", ""), str):
        raise InvalidInput("id: a string", field="id")
    parameters = read_parameters(document, "parameters")
    if not isinstance(parameters.get("binary_data_output", False), bool):
        raise InvalidInput("parameters.binary_data_output: true or false", field="binary_data_output")
    inputs = _inputs(_named(document, "inputs"), whole[length:])
    outputs = None
    if document.get("outputs", []) != []:
        outputs = tuple(
            _output(output, f"outputs.{output['name']}") for output in _named(document, "outputs")
        )
    return InferRequest(inputs=inputs, outputs=outputs, parameters=parameters, id=document.get("id"))


def _length(given: str | None, size: int) -> int:
    if given is None:
        return size
    if not (given.isascii() and given.isdigit()) or len(given) > len(str(size)) or int(given) > size:
        raise InvalidInput(
            f"Inference-Header-Content-Length: {given[:20]!r} is no length within a body of {size} bytes",
            field=HEADER_LENGTH,
            limit=size,
        )
    return int(given)


def read_parameters(document: Mapping[str, Any], where: str) -> dict[str, Scalar]:
    """The `parameters` of a document, of which there need be none; raises InvalidInput."""
    given = document.get("parameters", {})
    if not isinstance(given, dict):
        raise InvalidInput(f"{where}: an object", field=where)
    for name, value in given.items():
        if not isinstance(value, str | int | float) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise InvalidInput(f"{where}: {name[:80]!r} is no string, number or boolean", field=where)
    return given


def _named(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """A list of objects with a name each, none of them twice."""
    given = document.get(field)
    if not isinstance(given, list) or not given:
        raise InvalidInput(f"{field}: a list of at least one", field=field)
    names = set()
    for index, one in enumerate(given):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise InvalidInput(
                f"{field}[{index}]: an object with a name of 1 to {MAX_NAME} printable characters",
                field=f"{field}[{index}].name",
                limit=MAX_NAME,
            )
        if name in names:
            raise InvalidInput(f"{field}: {name!r} is given twice", field=f"{field}[{index}].name")
        names.add(name)
    return given


def _inputs(documents: Sequence[dict[str, Any]], binary: memoryview) -> tuple[Tensor, ...]:
    tensors = []
    start = 0
    for document in documents:
        where = f"inputs.{document['name']}"
        word = document.get("datatype")
        datatype = DATATYPES.get(word) if isinstance(word, str) else None
        if datatype is None:
            known = ", ".join(DATATYPES)
            raise InvalidInput(f"{where}.datatype: one of {known}", field=f"{where}.datatype", limit=known)
        shape = _shape(document.get("shape"), f"{where}.shape")
        size = _binary_size(read_parameters(document, f"{where}.parameters"), len(binary) - start, where)
        if (size is None) == ("data" not in document):
            raise InvalidInput(f"{where}: either data or parameters.{BINARY_SIZE}", field=where)
        if size is None:
            values = from_json(document["data"], datatype, shape, where)
        else:
            values = from_bytes(binary[start : start + size], datatype, shape, where)
            start += size
        tensors.append(Tensor(name=document["name"], datatype=datatype, values=values))
    if start != len(binary):
        raise InvalidInput(
            f"{len(binary) - start} bytes are left behind the tensors of the inputs",
            field="body",
            limit=start,
        )
    return tuple(tensors)


def _shape(given: Any, field: str) -> list[int]:
    if not isinstance(given, list) or len(given) > MAX_AXES:
        raise InvalidInput(f"{field}: a list of at most {MAX_AXES} sizes", field=field, limit=MAX_AXES)
    if any(type(size) is not int or not 1 <= size <= MAX_SIZE for size in given):
        raise InvalidInput(f"{field}: whole numbers from 1 to {MAX_SIZE}", field=field, limit=MAX_SIZE)
    return given


def _binary_size(parameters: Mapping[str, Scalar], left: int, where: str) -> int | None:
    """How many of the bytes behind the JSON are an input's; None where its values are in the JSON."""
    if "shared_memory_region" in parameters:
        raise InvalidInput(f"{where}: shared memory is not read here", field=where)
    size = parameters.get(BINARY_SIZE)
    if size is None:
        return None
    if type(size) is not int or not 0 <= size <= left:
        raise InvalidInput(
            f"{where}.{BINARY_SIZE}: a number of bytes, of which {left} are there",
            field=f"{where}.{BINARY_SIZE}",
            limit=left,
        )
    return size


def _output(document: Mapping[str, Any], where: str) -> RequestedOutput:
    parameters = read_parameters(document, f"{where}.parameters")
    if "shared_memory_region" in parameters:
        raise InvalidInput(
            f"{where}: shared memory is not written here", field=f"{where}.shared_memory_region"
        )
    binary, classes = parameters.get("binary_data"), parameters.get("classification")
    if binary is not None and not isinstance(binary, bool):
        raise InvalidInput(f"{where}.binary_data: true or false", field=f"{where}.binary_data")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise InvalidInput(
            f"{where}.classification: a number of classes from 1", field=f"{where}.classification", limit=1
        )
    return RequestedOutput(name=document["name"], binary=binary, classes=classes)


@dataclass(frozen=True, kw_only=True)
class InferResponse:
    """An answer; `binary` are the names of the outputs that go behind the JSON."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    binary: frozenset[str] = frozenset()
    id: str | None = None

    def write(self) -> tuple[bytes, int | None]:
        """The body, and the length of its JSON where tensors follow it."""
        documents = []
        parts = []
        for output in self.outputs:
            document: dict[str, Any] = {
                "name": output.name,
                "datatype": output.datatype.name,
                "shape": list(output.values.shape),
            }
            if output.name in self.binary:
                parts.append(to_bytes(output.values, output.datatype))
                document["parameters"] = {BINARY_SIZE: len(parts[-1])}
            else:
                document["data"] = to_json(output.values, output.datatype)
            documents.append(document)
        answer = {"model_name": self.model_name, "model_version": self.model_version, "outputs": documents}
        if self.id is not None:
            answer["id"] = self.id
        head = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
        return b"".join((head, *parts)), len(head) if parts else None
