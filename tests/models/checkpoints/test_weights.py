"""Weights are read as tensors, mapped where they can be, and nothing in a file is executed."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from yacs.config import CfgNode

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.weights import find_weights, read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(7)}
INDEX = "model.safetensors.index.json"


class Command:
    """What is unpickled as the call of a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def settings(value: object) -> CfgNode:
    node = CfgNode()
    node["value"] = value
    return node


def read(path: Path) -> dict[str, Tensor]:
    return read_weights(path)[1]


def assert_state(found: dict[str, Tensor]) -> None:
    assert list(found) == list(STATE)
    assert all(torch.equal(found[key], tensor) for key, tensor in STATE.items())


@pytest.fixture(params=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Path]:
    """`torch.save` in the format since 1.6 and in the one before."""

    def saved(document: Any) -> Path:
        path = tmp_path / "model.pth"
        torch.save(document, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return saved


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    assert_state(dict(sorted(read(tmp_path / "model.safetensors").items(), reverse=True)))


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".pt", ".bin", ".ckpt"])
def test_pickles_are_read_whatever_their_suffix(tmp_path: Path, suffix: str) -> None:
    torch.save(STATE, tmp_path / f"model{suffix}")
    assert_state(read(tmp_path / f"model{suffix}"))


@pytest.mark.parametrize(
    "document",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "arch": "resnet50"},
        {"model": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model_state_dict": STATE},
        {"model": {"state_dict": STATE}, "state_dict_ema": None, "model_ema": {}},
        {f"module.{key}": tensor for key, tensor in STATE.items()},
        {f"_orig_mod.module.{key}": tensor for key, tensor in STATE.items()},
    ],
    ids=["plain", "state_dict", "model", "model_state_dict", "two levels", "module.", "_orig_mod.module."],
)
def test_what_training_wraps_around_a_state_is_taken_off(
    save: Callable[[Any], Path], document: dict[str, Any]
) -> None:
    assert_state(read(save(document)))


def test_a_prefix_that_only_some_keys_have_belongs_to_the_model(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "m.pth")
    assert sorted(read(tmp_path / "m.pth")) == ["b", "module.a"]


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema"])
@pytest.mark.parametrize("trained", ["state_dict", "model"])
def test_an_average_over_training_comes_before_the_weights_it_follows(
    save: Callable[[Any], Path], average: str, trained: str
) -> None:
    other = {key: torch.zeros_like(tensor) for key, tensor in STATE.items()}
    assert_state(read(save({trained: other, average: STATE})))


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(77.6),
        np.float32(77.6),
        np.int64(3),
        np.bool_(True),
        Namespace(lr=0.1, img_size=[224], tags={"a": None}),
        CfgNode({"DATA": {"ROOT": "/data", "FRAMES": 8}, "TAGS": ["a"], "BASE": [""]}),
        torch.tensor(77.6),
        {"a", "b"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_beside_the_tensors_does_no_harm(save: Callable[[Any], Path], beside: object) -> None:
    assert_state(read(save({"state_dict": STATE, "best_prec1": beside})))


def test_scalars_of_old_numpy_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"state_dict": STATE, "best_prec1": np.float64(1)}, path, _use_new_zipfile_serialization=False)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(new, old))
    assert_state(read(path))


@pytest.mark.parametrize(
    "place",
    [
        lambda command: {**STATE, "b": command},
        lambda command: {"state_dict": STATE, "args": Namespace(command=command)},
        lambda command: {"state_dict": STATE, "config": settings(command)},
        lambda command: [command],
        lambda command: command,
    ],
    ids=["entry", "namespace", "settings", "list", "alone"],
)
def test_a_command_in_a_pickle_is_refused_and_not_run(
    save: Callable[[Any], Path], tmp_path: Path, place: Callable[[object], object]
) -> None:
    path = save(place(Command(tmp_path / "marker")))
    with pytest.raises(
        CheckpointError, match=r"^model.pth: holds posix.system; of a pickle, tensors and plain"
    ):
        read(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_command_in_a_bare_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(pickle.dumps({"a": Command(tmp_path / "marker")}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"^model.bin: "):
        read(path)
    assert not (tmp_path / "marker").exists()


def test_a_whole_model_is_refused_with_what_to_save_instead(save: Callable[[Any], Path]) -> None:
    with pytest.raises(CheckpointError, match=r"holds torch.nn.modules.linear.Linear; .* state_dict\(\)$"):
        read(save({"model": nn.Linear(2, 2)}))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"^model.pt: a TorchScript archive is code, and is not read$"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "no tensors in it"),
        ({"state_dict": {}}, "not so: state_dict"),
        ([STATE], "holds a list, no state dict"),
        (torch.ones(2), "holds a Tensor, no state dict"),
        ({"net": STATE, "epoch": 3}, "not so: epoch, net"),
        ({**STATE, "note": "hello"}, "not so: note"),
        ({**STATE, 5: torch.ones(1)}, "not so: a key that is a int"),
        ({**STATE, "b": torch.ones(2).to_sparse()}, "not so: b"),
        ({**STATE, "b": torch.ones(2, dtype=torch.complex64)}, "not so: b"),
        ({**STATE, "b": torch.empty(2, device="meta")}, "not so: b"),
        ({**STATE, "b": torch.ones(1).expand(10**6, 10**6)}, "not so: b"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_key(
    save: Callable[[Any], Path], document: Any, message: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(document)
    with pytest.raises(CheckpointError, match=rf"^model.pth: .*{message}$"):
        read(path)


def test_a_state_dict_that_holds_itself_is_refused(save: Callable[[Any], Path]) -> None:
    document: dict[str, Any] = {}
    document["model"] = document
    with pytest.raises(CheckpointError, match="no state dict within 3 levels"):
        read(save(document))


def test_a_tensor_larger_than_its_storage_is_refused(save: Callable[[Any], Path]) -> None:
    class Large:
        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.ones(1).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**5, 10**5), (10**5, 1), False, {})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save({"a": Large()})
    with pytest.raises(CheckpointError, match=r"^model.pth: "):
        read(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match=r"^small.pth: a compressed archive"):
        read(tmp_path / "small.pth")


def header(text: str, *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is text, and long enough",
        header("{}", length=2**63),
        header("{}", length=99_000_000),
        header('{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}')
        + b"0000",
        header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}') + b"0000",
        header('{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}') + b"0000",
        header("{}"),
        header("[" * 100_000),
    ],
)
def test_what_is_no_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"^model.safetensors: "):
        read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_pickle_of_torch_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"^model.bin: "):
        read(tmp_path / "model.bin")


def split(folder: Path, places: dict[str, Any] | None = None) -> Path:
    """The state in two files, under an index that says so or says `places`."""
    for number, (key, tensor) in enumerate(STATE.items()):
        save_file({key: tensor}, folder / f"model-{number}.safetensors")
    places = places or {key: f"model-{number}.safetensors" for number, key in enumerate(STATE)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder / INDEX


def test_split_weights_are_read_together(tmp_path: Path) -> None:
    parts, state = read_weights(split(tmp_path))
    assert [part.name for part in parts] == ["model-0.safetensors", "model-1.safetensors"]
    assert_state(state)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/hostname",
        "..",
        ".",
        "",
        "gone.safetensors",
        "a\x00b",
        "x" * 5000,
        3,
        None,
    ],
)
def test_a_part_outside_the_folder_is_refused(tmp_path: Path, name: Any) -> None:
    (tmp_path / "model").mkdir()
    save_file({"a.count": STATE["a.count"]}, tmp_path / "outside.safetensors")
    index = split(tmp_path / "model", {"a.weight": "model-0.safetensors", "a.count": name})
    with pytest.raises(CheckpointError, match=rf"^{INDEX}: not in the folder: "):
        read(index)


@pytest.mark.parametrize(
    "places",
    [
        {"a.weight": "model-0.safetensors"},
        {"a.weight": "model-0.safetensors", "a.count": "model-0.safetensors"},
        {"a.weight": "model-0.safetensors", "b": "model-1.safetensors"},
        {"a.weight": "model-0.safetensors", "a.count": "model-1.safetensors", "b": "model-1.safetensors"},
    ],
)
def test_an_index_that_disagrees_with_its_parts_is_refused(tmp_path: Path, places: dict[str, str]) -> None:
    index = split(tmp_path, places)
    if len(places) == 1:  # the part that nobody names is not read
        assert list(read(index)) == ["a.weight"]
        return
    with pytest.raises(CheckpointError, match=rf"it and {INDEX} disagree on (a.count|b)"):
        read(index)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "nonsense"])
def test_an_index_without_places_is_refused(tmp_path: Path, text: str) -> None:
    split(tmp_path).write_text(text)
    with pytest.raises(CheckpointError, match=rf"^{INDEX}: no "):
        read(tmp_path / INDEX)


def test_safetensors_are_preferred_and_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights; looked for model.safetensors, "):
        find_weights(tmp_path)
    for name in ("pytorch_model.bin.index.json", "pytorch_model.bin", INDEX, "model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path) == tmp_path / name


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_views_of_one_storage_do_not_outgrow_the_file(save: Callable[[Any], Path], count: int) -> None:
    storage = torch.ones(2**16)
    path = save({str(index): storage.view(2**8, 2**8) for index in range(count)})
    if count <= 2:  # a tied weight
        assert len(read(path)) == count
        return
    with pytest.raises(CheckpointError, match=f"its tensors are {count * 2**18} bytes in a file of "):
        read(path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(CheckpointError, match="Permission denied"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_weights_are_mapped_not_read(tmp_path: Path, name: str) -> None:
    (save_file if name.endswith("tensors") else torch.save)({"a": torch.ones(2**25)}, tmp_path / name)
    before = anonymous()
    state = read(tmp_path / name)
    assert state["a"].sum() == 2**25
    assert anonymous() - before < 2**25  # a quarter of what the tensor has


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut off or put in, mostly near the start, where the formats say what follows."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 3])):
        place = chance.randrange(chance.choice([len(found), min(len(found), 300)]))
        match chance.randrange(10):
            case 0:
                del found[max(1, place) :]
            case 1:
                found[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                found[place] = chance.randrange(256)
    return bytes(found)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "model.safetensors"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    document = {"state_dict": STATE, "args": Namespace(lr=0.1), "best_prec1": np.float64(1)}
    if name == "model.safetensors":
        save_file(STATE, tmp_path / name)
    else:
        torch.save(document, tmp_path / name, _use_new_zipfile_serialization=name == "zip.pth")
    data, chance = (tmp_path / name).read_bytes(), random.Random(0)
    refused = 0
    for number in range(300):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(damaged(data, chance))
        try:
            for tensor in read(path).values():
                tensor.double().sum()
        except CheckpointError:
            refused += 1
        path.unlink()
    assert 100 < refused < 300
