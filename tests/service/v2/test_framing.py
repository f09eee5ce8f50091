"""Bodies against tritonclient, which writes requests and reads answers; and bodies that are wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import np_to_triton_dtype

from service.errors import InvalidInput
from service.v2.datatypes import DATATYPES
from service.v2.framing import InferRequest, InferResponse, RequestedOutput, Tensor, read_request

BINARY_ONLY = ("FP16", "BF16")
DTYPES = {
    "BOOL": np.bool_,
    **{f"INT{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A datatype and an array of it, as tritonclient has them."""
    name = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(SHAPES)
    if name == "BYTES":
        values = np.empty(shape, object)
        for index in np.ndindex(*shape):
            values[index] = draw(st.binary(max_size=8))
        return name, values
    if name == "BF16":
        bits = draw(arrays.arrays(np.uint16, shape))
        values = bits.view(ml_dtypes.bfloat16)
        return name, np.where(np.isfinite(values.astype(np.float32)), values, values.dtype.type(1))
    dtype = np.dtype(DTYPES[name])
    plain = {"allow_nan": False, "allow_infinity": False, "width": 8 * dtype.itemsize}
    elements = st.floats(**plain) if dtype.kind == "f" else arrays.from_dtype(dtype)
    return name, draw(arrays.arrays(dtype, shape, elements=elements))


def readable(values: np.ndarray) -> np.ndarray:
    """BYTES that JSON can say."""
    if values.dtype == object:
        for index, value in np.ndenumerate(values):
            values[index] = value.decode("utf-8", "replace").encode()
    return values


def same(found: np.ndarray, sent: np.ndarray) -> bool:
    if sent.dtype == ml_dtypes.bfloat16:
        sent = sent.astype(np.float32)
    return found.dtype == sent.dtype and found.shape == sent.shape and bool(np.all(found == sent))


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(tensors(), min_size=1, max_size=3), data=st.data())
def test_what_tritonclient_writes_is_read(sent: list[tuple[str, np.ndarray]], data: st.DataObject) -> None:
    inputs = []
    for index, (datatype, values) in enumerate(sent):
        binary = datatype in BINARY_ONLY or data.draw(st.booleans())
        value = values if binary else readable(values)
        tensor = InferInput(f"input{index}", list(values.shape), datatype)
        inputs.append(tensor.set_data_from_numpy(value, binary_data=binary))
    body, length = InferenceServerClient.generate_request_body(inputs, request_id="7")
    request = read_request(body, None if length is None else str(length), max_json_bytes=10**8)
    assert request.id == "7"
    assert request.parameters == {"binary_data_output": True}
    assert request.outputs is None
    assert request.binary("anything")
    for index, ((datatype, values), found) in enumerate(zip(sent, request.inputs, strict=True)):
        assert (found.name, found.datatype.name) == (f"input{index}", datatype)
        assert same(found.values, values)


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(tensors(), min_size=1, max_size=3), data=st.data())
def test_what_is_written_tritonclient_reads(sent: list[tuple[str, np.ndarray]], data: st.DataObject) -> None:
    outputs, binary = [], set()
    for index, (datatype, values) in enumerate(sent):
        name = f"output{index}"
        if datatype in BINARY_ONLY or data.draw(st.booleans()):
            binary.add(name)
        else:
            values = readable(values)
        ours = values.astype(np.float32) if datatype == "BF16" else values
        outputs.append(Tensor(name=name, datatype=DATATYPES[datatype], values=ours))
    response = InferResponse(
        model_name="m", model_version="3", outputs=tuple(outputs), binary=frozenset(binary), id="7"
    )
    body, length = response.write()
    assert (length is None) == (not binary)
    result = InferenceServerClient.parse_response_body(body, header_length=length)
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "3", "7")
    for index, (datatype, values) in enumerate(sent):
        found = result.as_numpy(f"output{index}")
        if datatype == "BYTES" and f"output{index}" not in binary:
            found = np.array([one.encode() for one in found.flat], object).reshape(found.shape)
        assert same(found.astype(np.float32) if datatype == "BF16" else found, values)
        assert result.get_output(f"output{index}")["datatype"] == np_to_triton_dtype(values.dtype)


def test_outputs_are_asked_for_as_tritonclient_asks() -> None:
    tensor = InferInput("text", [1], "BYTES").set_data_from_numpy(np.array([b"x"], object))
    outputs = [
        InferRequestedOutput("scores", binary_data=False, class_count=3),
        InferRequestedOutput("label"),
    ]
    body, length = InferenceServerClient.generate_request_body([tensor], outputs=outputs, timeout=5)
    request = read_request(body, str(length), max_json_bytes=10**8)
    assert request.outputs == (
        RequestedOutput(name="scores", binary=False, classes=3),
        RequestedOutput(name="label", binary=True),
    )
    assert request.parameters == {"timeout": 5}
    assert (request.binary("scores"), request.binary("label"), request.binary("logits")) == (
        False,
        True,
        False,
    )


def test_nested_data_is_read_as_flat_is() -> None:
    nested = [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]]
    found = read(tensor(shape=[3, 2, 2], datatype="INT16", data=nested)).inputs[0].values
    np.testing.assert_array_equal(found, np.arange(1, 13, dtype=np.int16).reshape(3, 2, 2))


def test_numbers_beyond_json_are_written_as_null() -> None:
    values = np.array([1.5, np.nan, np.inf, -np.inf], np.float32)
    output = Tensor(name="x", datatype=DATATYPES["FP32"], values=values)
    body, _ = InferResponse(model_name="m", model_version="1", outputs=(output,)).write()
    assert json.loads(body)["outputs"][0]["data"] == [1.5, None, None, None]


def tensor(**changes: Any) -> dict[str, Any]:
    """A sound input, and what is wrong with it: None takes a field away."""
    sound = {"name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2]}
    return {name: value for name, value in (sound | changes).items() if value is not None}


def read(*inputs: Any, binary: bytes | None = None, **fields: Any) -> InferRequest:
    head = json.dumps({"inputs": list(inputs), **fields}).encode()
    return read_request(
        head + (binary or b""), None if binary is None else str(len(head)), max_json_bytes=10**8
    )


WRONG_INPUTS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "inputs[0]"),
    "an empty name": ({"name": ""}, "inputs[0]"),
    "half a surrogate pair for a name": ({"name": "\ud800"}, "inputs[0]"),
    "a number for a name": ({"name": 7}, "inputs[0]"),
    "no shape": ({"shape": None}, "inputs.x.shape"),
    "a number for a shape": ({"shape": 2}, "inputs.x.shape"),
    "a negative size": ({"shape": [-1]}, "inputs.x.shape"),
    "no rows": ({"shape": [0], "data": []}, "inputs.x.shape"),
    "a fraction for a size": ({"shape": [2.0]}, "inputs.x.shape"),
    "true for a size": ({"shape": [True], "data": [1]}, "inputs.x.shape"),
    "a size beyond all bounds": ({"shape": [10**3000, 10**3000]}, "inputs.x.shape"),
    "sizes that overflow": ({"shape": [2**32, 2**32, 2**32]}, "inputs.x.data"),
    "too many axes": ({"shape": [1] * 9}, "inputs.x.shape"),
    "no datatype": ({"datatype": None}, "inputs.x.datatype"),
    "a datatype nobody has": ({"datatype": "INT128"}, "inputs.x.datatype"),
    "a list for a datatype": ({"datatype": ["INT32"]}, "inputs.x.datatype"),
    "neither data nor size": ({"data": None}, "inputs.x"),
    "data and size": ({"parameters": {"binary_data_size": 8}}, "inputs.x"),
    "a string for data": ({"data": "12"}, "inputs.x.data"),
    "null for data": ({"data": [None, 1]}, "inputs.x.data"),
    "too few values": ({"data": [1]}, "inputs.x.data"),
    "too many values": ({"data": [1, 2, 3]}, "inputs.x.data"),
    "other nesting": ({"data": [[1], [2]], "shape": [1, 2]}, "inputs.x.data"),
    "uneven nesting": ({"data": [[1, 2], [3]], "shape": [2, 2]}, "inputs.x.data"),
    "deeper nesting": ({"data": [[1], [2]], "shape": [2]}, "inputs.x.data"),
    "half nesting": ({"data": [[1], 2], "shape": [2, 1]}, "inputs.x.data"),
    "an object for a value": ({"data": [{}, 1]}, "inputs.x.data"),
    "a fraction for a whole number": ({"data": [1.0, 2]}, "inputs.x.data"),
    "true for a number": ({"data": [True, 2]}, "inputs.x.data"),
    "true for a fraction": ({"data": [True, 2], "datatype": "FP32"}, "inputs.x.data"),
    "300 for a byte": ({"data": [300, 2], "datatype": "INT8"}, "inputs.x.data"),
    "-1 for an unsigned": ({"data": [-1, 2], "datatype": "UINT64"}, "inputs.x.data"),
    "more than 64 bits": ({"data": [2**64, 2], "datatype": "UINT64"}, "inputs.x.data"),
    "more than a float32": ({"data": [1e39, 2], "datatype": "FP32"}, "inputs.x.data"),
    "more than any float": ({"data": [10**400, 2], "datatype": "FP64"}, "inputs.x.data"),
    "a number for a BOOL": ({"data": [0, 1], "datatype": "BOOL"}, "inputs.x.data"),
    "a number for a string": ({"data": ["a", 1], "datatype": "BYTES"}, "inputs.x.data"),
    "half a surrogate pair": ({"data": ["a", "\ud800"], "datatype": "BYTES"}, "inputs.x.data"),
    "FP16 in JSON": ({"data": [1.0, 2.0], "datatype": "FP16"}, "inputs.x"),
    "BF16 in JSON": ({"data": [1.0, 2.0], "datatype": "BF16"}, "inputs.x"),
    "a list for parameters": ({"parameters": [1]}, "inputs.x.parameters"),
    "a list for a parameter": ({"parameters": {"a": [1]}}, "inputs.x.parameters"),
    "shared memory": ({"parameters": {"shared_memory_region": "a"}, "data": None}, "inputs.x"),
    "a size where nothing is": ({"parameters": {"binary_data_size": 8}, "data": None}, "inputs.x"),
    "true for a binary size": ({"parameters": {"binary_data_size": True}, "data": None}, "inputs.x"),
}


@pytest.mark.parametrize("wrong", WRONG_INPUTS)
def test_an_input_that_is_wrong_is_named(wrong: str) -> None:
    changes, where = WRONG_INPUTS[wrong]
    with pytest.raises(InvalidInput) as caught:
        read(tensor(**changes))
    assert where in caught.value.detail
    caught.value.document()["detail"].encode()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"id": 7}, "id"),
        ({"id": None}, "id"),
        ({"parameters": None}, "parameters"),
        ({"outputs": None}, "outputs"),
        ({"parameters": "maps"}, "parameters"),
        ({"parameters": {"maps": ["a"]}}, "parameters"),
        ({"parameters": {"maps": None}}, "parameters"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"outputs": {}}, "outputs"),
        ({"outputs": 0}, "outputs"),
        ({"outputs": ["label"]}, "outputs[0]"),
        ({"outputs": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": "yes"}}]}, "outputs.a.binary_data"),
        ({"outputs": [{"name": "a", "parameters": {"classification": 0}}]}, "outputs.a.classification"),
        ({"outputs": [{"name": "a", "parameters": {"classification": True}}]}, "outputs.a.classification"),
        ({"outputs": [{"name": "a", "parameters": {"shared_memory_region": "b"}}]}, "outputs.a"),
    ],
)
def test_a_request_that_is_wrong_is_told_where(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput, match=r".") as caught:
        read(tensor(), **fields)
    assert where in caught.value.detail


def test_an_input_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x' is given twice"):
        read(tensor(), tensor())


@pytest.mark.parametrize("inputs", [None, [], {}, "x", [1], [[]]])
def test_inputs_are_a_list_of_objects(inputs: Any) -> None:
    with pytest.raises(InvalidInput, match="inputs"):
        read_request(json.dumps({"inputs": inputs}).encode(), None, max_json_bytes=10**8)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"inputs"',
        b"{",
        b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, NaN]}]}',
        b'{"inputs":[{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}],"parameters": {"a": NaN}}',
        b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, -Infinity]}]}',
        b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [' + b"9" * 10_000 + b"]}]}",
        '{"id": "\xe4"}'.encode("latin-1"),
        '{"inputs": []}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_request(body, None, max_json_bytes=10**8)


def test_an_exponent_beyond_all_floats_is_no_infinity() -> None:
    body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [-1e999]}]}'
    with pytest.raises(InvalidInput, match=r"inputs\.x\.data: FP64 is from"):
        read_request(body, None, max_json_bytes=10**8)


@pytest.mark.parametrize("length", ["-1", "+3", "1e1", " 3", "3.0", "0x3", "", "\xb2", "9" * 5000, "10000"])
def test_a_header_length_is_a_number_within_the_body(length: str) -> None:
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length"):
        read_request(json.dumps({"inputs": [tensor()]}).encode(), length, max_json_bytes=10**8)


def test_a_header_length_that_cuts_the_json_is_refused() -> None:
    body = json.dumps({"inputs": [tensor()]}).encode()
    for length in (0, 1, len(body) - 1):
        with pytest.raises(InvalidInput, match="no JSON"):
            read_request(body, str(length), max_json_bytes=10**8)


def sized(size: int, **changes: Any) -> dict[str, Any]:
    return tensor(**{"data": None, "parameters": {"binary_data_size": size}, **changes})


@pytest.mark.parametrize(
    ("document", "binary", "said"),
    [
        (sized(8), bytes(7), "of which 7 are there"),
        (sized(8), bytes(9), "1 bytes are left"),
        (sized(7), bytes(7), "is 8 bytes, binary_data_size is 7"),
        (sized(-8), bytes(8), "of which 8 are there"),
        (sized(8, shape=[2**32, 2**32]), bytes(8), "binary_data_size is 8"),
        (sized(2, datatype="BOOL"), b"\x00\x02", "0 or 1"),
        (sized(8, datatype="BYTES", shape=[2**32]), bytes(8), "4294967296 BYTES elements, at most 65536"),
        (sized(8, datatype="BYTES", shape=[3]), bytes(8), "binary_data_size is 8"),
        (sized(8, datatype="BYTES"), struct.pack("<II", 0, 1), "element 1 ends at byte 9 of 8"),
        (sized(9, datatype="BYTES"), struct.pack("<II", 2**32 - 1, 0) + b"a", "element 0 ends"),
        (sized(9, datatype="BYTES"), struct.pack("<I5s", 5, b"hello"), "element 1 ends at byte 13 of 9"),
        (sized(10, datatype="BYTES"), struct.pack("<II", 0, 0) + b"ab", "2 bytes are left after 2"),
    ],
)
def test_binary_data_that_does_not_add_up_is_refused(
    document: dict[str, Any], binary: bytes, said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(document, binary=binary)
    assert said in caught.value.detail


def test_a_body_with_data_that_no_input_claims_is_refused() -> None:
    with pytest.raises(InvalidInput, match="3 bytes are left"):
        read(tensor(), binary=b"abc")


@settings(max_examples=300, deadline=None)
@given(
    head=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["x", "INT8"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
    binary=st.binary(max_size=16),
    length=st.none() | st.text(max_size=4) | st.integers(-1, 200).map(str),
)
def test_whatever_comes_is_read_or_refused(head: Any, binary: bytes, length: str | None) -> None:
    body = json.dumps(head).encode() + binary
    try:
        read_request(body, length, max_json_bytes=10**8)
    except InvalidInput as problem:
        json.dumps(problem.document())
        problem.detail.encode()
