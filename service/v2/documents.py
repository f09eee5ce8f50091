"""What the protocol says of the server and its models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.bundle import Manifest
from service.catalog import Entry, State
from service.v2.signature import Signature, inputs, outputs

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
PLATFORM = "onnxruntime_onnx"
STATES: dict[State, str] = {
    "loading": "LOADING",
    "ready": "READY",
    "draining": "UNLOADING",
    "refused": "UNAVAILABLE",
    "unloaded": "UNAVAILABLE",
}


class ErrorDocument(BaseModel):
    """Every error under /v2."""

    error: str


class Live(BaseModel):
    live: Literal[True] = True


class Ready(BaseModel):
    ready: Literal[True] = True


class ModelReady(Ready):
    name: str


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="The batch first; -1 is any size.")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str] = Field(description="Those that are ready.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfigTensor(BaseModel):
    name: str
    data_type: str
    dims: list[int] = Field(description="Without the batch; -1 is any size.")


class ConfigInput(ConfigTensor):
    optional: bool


class ConfigText(BaseModel):
    string_value: str


class ModelConfig(BaseModel):
    name: str
    platform: str
    max_batch_size: int = Field(description="Most rows of one request.")
    input: list[ConfigInput]
    output: list[ConfigTensor]
    dynamic_batching: dict[str, Any]
    parameters: dict[str, ConfigText] = Field(description="`maps`: those that can be asked for, by name.")


class IndexEntry(BaseModel):
    name: str
    version: str
    state: str
    reason: str


class Duration(BaseModel):
    count: int
    ns: int


class InferenceStatistics(BaseModel):
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(BaseModel):
    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatisticsDocument(BaseModel):
    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970; 0 if there was none.")
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class StatisticsDocument(BaseModel):
    model_stats: list[ModelStatisticsDocument]


def server_metadata() -> ServerMetadata:
    """Of this server."""
    return ServerMetadata(name="regard", version=version("regard"), extensions=list(EXTENSIONS))


def model_metadata(manifest: Manifest, versions: list[str]) -> ModelMetadata:
    """Of a model; maps are outputs that have to be asked for, and are not listed."""
    return ModelMetadata(
        name=manifest.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[_metadata(one) for one in inputs(manifest)],
        outputs=[_metadata(one) for one in outputs(manifest)],
    )


def _metadata(signature: Signature) -> TensorMetadata:
    return TensorMetadata(name=signature.name, datatype=signature.datatype.name, shape=list(signature.shape))


def model_config(manifest: Manifest, max_items: int) -> ModelConfig:
    """Of a model, as far as Triton's ModelConfig has words for it."""
    return ModelConfig(
        name=manifest.name,
        platform=PLATFORM,
        max_batch_size=max_items,
        input=[ConfigInput(**_config(one), optional=one.optional) for one in inputs(manifest)],
        output=[ConfigTensor(**_config(one)) for one in outputs(manifest)],
        dynamic_batching={},
        parameters={"maps": ConfigText(string_value=",".join(spec.name for spec in manifest.maps))},
    )


def _config(signature: Signature) -> dict[str, Any]:
    datatype = signature.datatype.name
    return {
        "name": signature.name,
        "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}",
        "dims": list(signature.shape[1:]),
    }


def index_entry(entry: Entry) -> IndexEntry:
    """A version in the repository, whether or not it is served."""
    reason = entry.reason or ("unloaded" if entry.state == "unloaded" else "")
    return IndexEntry(name=entry.name, version=entry.version, state=STATES[entry.state], reason=reason)
