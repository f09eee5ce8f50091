"""Files of weights to tensors by key: safetensors and torch's pickles, whole or split, nothing executed."""

from __future__ import annotations

import re
import warnings
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.document import read_json

State = dict[str, Tensor]

# In order of preference; an index names the files of weights that are split.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# How every other file of weights ends, which has to be the only one of its folder.
ENDINGS = (".safetensors", ".pth", ".pth.tar", ".pt", ".bin")
# What training frameworks put before every key, and where they keep the model's own state, in order of
# preference: an average over training comes before the weights it follows, as in timm, since the figures
# that are published for such a model are the average's.
WRAPPERS = ("module.", "_orig_mod.")
NESTED = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
DEEPEST = 3
TIED = 2  # times the file's size, where every tensor is there under two names
ZIP = b"PK\x03\x04"  # torch's format since 1.6, the one that can be mapped instead of read
TORCHSCRIPT = "constants.pkl"  # in an archive of code alone
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, *INTEGERS)
GLOBAL = re.compile(r"GLOBAL (\S+)")
UNPICKLING = re.compile(r"WeightsUnpickler error:\s*(.+)")


class Dropped:
    """Stands for a value of NumPy beside the tensors; nothing of it is kept."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Plain data that published checkpoints pickle beside their tensors: timm's arguments, X-CLIP's settings,
# accuracies that NumPy computed.
HARMLESS: list[Any] = [
    Namespace,
    (OrderedDict, "yacs.config.CfgNode"),
    (Dropped, "numpy.dtype"),
    (Dropped, "numpy.core.multiarray.scalar"),
    (Dropped, "numpy._core.multiarray.scalar"),
]


def find_weights(folder: Path) -> Path:
    """A folder's file of weights, or the index of several; raises CheckpointError.

    It is called as transformers calls it, else it is the only file that ends as one of weights.
    """
    try:
        present = {path.name: path for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    named = next((name for name in WEIGHTS if name in present), None)
    if named is not None:
        return present[named]
    others = [name for name in present if name.endswith(ENDINGS)]
    if len(others) > 1:
        raise CheckpointError(f"{folder}: several files of weights, where one is needed: {_listed(others)}")
    if not others:
        wanted = ", ".join([*WEIGHTS, *(f"*{ending}" for ending in ENDINGS)])
        raise CheckpointError(f"{folder}: no weights; looked for {wanted}")
    return present[others[0]]


def read_weights(path: Path) -> tuple[tuple[Path, ...], State]:
    """The files of weights that a file or an index stands for, and what they hold; raises CheckpointError."""
    if path.suffix == ".json":
        parts, state = _split(path)
    else:
        parts, state = (path,), _read(path)
    return parts, _without_wrappers(state)


def _split(index: Path) -> tuple[tuple[Path, ...], State]:
    """The files of an index, each with the very keys that the index expects of it."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index.name}: no weight_map")
    present = {path.name: path for path in index.parent.iterdir() if path.is_file()}
    if absent := {str(name) for name in places.values() if not isinstance(name, str) or name not in present}:
        raise CheckpointError(f"{index.name}: not in the folder: {_listed(absent)}")
    state: State = {}
    names = sorted(set(places.values()))
    for name in names:
        part = _read(present[name])
        if odd := part.keys() ^ {key for key, place in places.items() if place == name}:
            raise CheckpointError(f"{name}: it and {index.name} disagree on {_listed(odd)}")
        state |= part
    return tuple(present[name] for name in names), state


def _read(path: Path) -> State:
    """Tensors on the CPU, mapped from the file where its format allows it."""
    document = _safetensors(path) if path.suffix == ".safetensors" else _unwrapped(path.name, _unpickle(path))
    if not document:
        raise CheckpointError(f"{path.name}: no tensors in it")
    if odd := {
        key if isinstance(key, str) else f"a key that is a {type(key).__name__}"
        for key, value in document.items()
        if not isinstance(key, str) or not _is_plain(value)
    }:
        raise CheckpointError(
            f"{path.name}: a state dict has plain tensors by name alone, "
            f"at the top or under {', '.join(NESTED)}; not so: {_listed(odd)}"
        )
    _check_sizes(path, document)
    return document


def _check_sizes(path: Path, state: State) -> None:
    """Views of one storage cost a file nothing, and a model in fp32 all that they claim to be."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > TIED * (size := path.stat().st_size):
        raise CheckpointError(
            f"{path.name}: its tensors are {claimed} bytes in a file of {size}, "
            f"of which tied weights make at most {TIED} times as much"
        )


def _safetensors(path: Path) -> dict[Any, Any]:
    try:
        return dict(load_file(path))
    except Exception as error:  # whatever foreign bytes make the parser raise
        raise CheckpointError(f"{path.name}: no safetensors ({error})") from None


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
        if is_zip:
            _check_archive(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:  # whatever foreign bytes make the unpickler raise
        raise CheckpointError(f"{path.name}: {_reason(error)}") from None


def _check_archive(path: Path) -> None:
    """Torch does not compress checkpoints: one that would grow without bounds was not written by it."""
    with ZipFile(path) as archive:
        entries = archive.infolist()
    if any(PurePosixPath(entry.filename).name == TORCHSCRIPT for entry in entries):
        raise CheckpointError(f"{path.name}: a TorchScript archive is code, and is not read")
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path.name}: a compressed archive, no checkpoint of torch")


def _reason(error: Exception) -> str:
    """Why torch did not read a file, without its advice to read it unsafely."""
    said = str(error)
    if found := GLOBAL.search(said):
        return f"holds {found[1]}; of a pickle, tensors and plain data alone are read, as in a state_dict()"
    detail = found[1] if (found := UNPICKLING.search(said)) else said.strip().partition("\n")[0]
    return f"no checkpoint of torch ({detail or type(error).__name__})"


def _unwrapped(name: str, document: Any) -> dict[Any, Any]:
    """The state dict in what a training run saved."""
    for _ in range(DEEPEST):
        if not isinstance(document, dict):
            raise CheckpointError(f"{name}: holds a {type(document).__name__}, no state dict")
        inner = next((key for key in NESTED if isinstance(document.get(key), dict) and document[key]), None)
        if inner is None:
            return document
        document = document[inner]
    raise CheckpointError(f"{name}: no state dict within {DEEPEST} levels")


def _is_plain(value: object) -> bool:
    """Whether this is a tensor of ordinary numbers that all lie in the file: neither sparse nor expanded."""
    return (
        isinstance(value, Tensor)
        and value.dtype in DTYPES
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _without_wrappers(state: State) -> State:
    while wrapper := next((w for w in WRAPPERS if all(key.startswith(w) for key in state)), None):
        state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    return state


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
