"""The ONNX Runtime session pool: one session per graph and device, runs by IO binding.

The only module of the service that imports onnxruntime.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]

ELEMENT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
LOG_ERRORS = 3
ARENAS = {"cpu": "cpu", "cuda": "gpu"}
SHRINK = "memory.enable_memory_arena_shrinkage"

# What the arithmetic of shapes is made of.
SHAPE_OPERATORS = {
    *("Cast", "Concat", "Constant", "Equal", "Gather", "Range", "Reshape", "Shape", "Slice", "Squeeze"),
    "Unsqueeze",
}


# How the runtime says that memory does not suffice: it has no error class of its own for that.
EXHAUSTED = re.compile(
    r"failed to allocate memory|bad.?alloc|out.of.memory|alloc_failed|smaller than requested bytes",
    re.IGNORECASE,
)


class ProviderError(RuntimeError):
    """The device asked for is not the one that would run."""


class OutOfMemory(RuntimeError):
    """The memory of the device, or that of the machine, does not suffice; less at a time may do."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Whatever says within this block that memory does not suffice is raised as OutOfMemory."""
    try:
        yield
    except OutOfMemory:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or EXHAUSTED.search(str(error)):
            raise OutOfMemory("memory does not suffice") from error
        raise


def release_memory() -> None:
    """Give freed memory back to the system; glibc keeps it, and other libraries know no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def check_placement(session: Any, provider: str, name: str) -> None:
    """Raise ProviderError unless the provider runs the graph, all of it but the arithmetic of shapes.

    The runtime itself puts what follows a `Shape` on the CPU, where shapes are needed, so
    `session.disable_cpu_ep_fallback` would refuse every graph with a free axis.
    """
    first = session.get_providers()[0]
    if first != provider:
        raise ProviderError(f"{name} would run on {first}, not on {provider}")
    if provider == PROVIDERS["cpu"]:
        return
    strayed = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name != provider and node.op_type not in SHAPE_OPERATORS
    }
    if strayed:
        raise ProviderError(f"{name}: {', '.join(sorted(strayed))} would not run on {provider}")


class DeviceTensor:
    """A tensor where a run left it, on the device."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.shape: tuple[int, ...] = tuple(value.shape())
        self.dtype = ELEMENT_TYPES[value.data_type()]

    def numpy(self) -> Array:
        """A copy in main memory."""
        out: Array = self._value.numpy()
        return out

    def rows(self, start: int, stop: int) -> Rows:
        """Some rows of the first axis, without a copy."""
        return Rows(self, start, stop)

    @property
    def address(self) -> int:
        return int(self._value.data_ptr())


@dataclass(frozen=True)
class Rows:
    """Rows start..stop of a device tensor; keeps it alive."""

    tensor: DeviceTensor
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stop - self.start, *self.tensor.shape[1:])

    @property
    def address(self) -> int:
        row = int(np.prod(self.tensor.shape[1:])) * np.dtype(self.tensor.dtype).itemsize
        return self.tensor.address + self.start * row


class Program:
    """One graph in one session; `run` may be called from several threads at once.

    `crowded` is set by whoever saw memory run out: a run that failed leaves what it had claimed in the arena.
    """

    def __init__(self, *, session: Any, kind: str, index: int) -> None:
        self._session = session
        self._device = (kind, index)
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry(SHRINK, f"{ARENAS[kind]}:{index}")
        self.crowded = False
        self.inputs: tuple[str, ...] = tuple(node.name for node in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(node.name for node in session.get_outputs())

    @memory_errors()
    def run(self, feeds: Mapping[str, Array | Rows], outputs: Iterable[str]) -> dict[str, DeviceTensor]:
        """Run once; what is not in `outputs` is not bound and never leaves the graph. Raises OutOfMemory.

        Feeds that the graph does not take are left out, so callers may pass everything they have. Where the
        program is `crowded`, the run ends with giving back the memory that the arena has no use for.
        """
        names = list(outputs)
        binding = self._session.io_binding()
        for name in self.inputs:
            feed = feeds[name]
            if isinstance(feed, Rows):
                binding.bind_input(name, *self._device, feed.tensor.dtype, feed.shape, feed.address)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(feed))
        for name in names:
            binding.bind_output(name, *self._device)
        crowded, self.crowded = self.crowded, False
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding, self._shrinking if crowded else None)
        binding.synchronize_outputs()
        return dict(zip(names, map(DeviceTensor, binding.get_outputs()), strict=True))


class SessionPool:
    """Opens graphs on one device, "cpu" or "cuda:N". On a CPU every run has one thread: as many runs as there
    are cores, side by side, are the best arrangement.

    Raises ProviderError where a graph would run elsewhere than on the device: never a silent fallback.
    """

    def __init__(self, *, device: str, gpu_memory_mib: int = 0) -> None:
        kind, _, index = device.partition(":")
        self.kind, self.index = kind, int(index or 0)
        self._gpu_memory_mib = gpu_memory_mib
        if kind == "cuda" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        if PROVIDERS[kind] not in onnxruntime.get_available_providers():
            raise ProviderError(f"device {device}: this ONNX Runtime was built without {PROVIDERS[kind]}")

    @memory_errors()
    def open(self, path: Path) -> Program:
        """Load a graph; to be called by one thread at a time. Raises OutOfMemory too."""
        session = onnxruntime.InferenceSession(
            str(path), self._options(), providers=[(PROVIDERS[self.kind], self._provider_options())]
        )
        check_placement(session, PROVIDERS[self.kind], path.name)
        return Program(session=session, kind=self.kind, index=self.index)

    def _options(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = LOG_ERRORS
        if self.kind == "cuda":
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return options

    def _provider_options(self) -> dict[str, str]:
        if self.kind == "cpu":
            return {}
        # TF32 rounds fp32 products to 10 bits: it would break what export verified.
        options = {"device_id": str(self.index), "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
        if self._gpu_memory_mib:
            options["gpu_mem_limit"] = str(self._gpu_memory_mib * 1024**2)
        return options
