"""Foreign keys to ours: every key of both sides is accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.checkpoints.checkpoint import CheckpointError

Split = Callable[[Tensor], Sequence[Tensor]]
BATCH_COUNT = "num_batches_tracked"  # of a batch norm; not in files of old, and of no use to a prediction


@dataclass(frozen=True)
class Rule:
    """A foreign key (a pattern for all of it) becomes `targets`; none where the key is of no use here.

    `split` gives one tensor for each target where they are not the tensor itself.
    """

    pattern: str
    targets: tuple[str, ...]
    split: Split | None = None


def rule(pattern: str, *targets: str, split: Split | None = None) -> Rule:
    """A rule; `{}` in a target stands for the pattern's groups, in order."""
    return Rule(pattern, targets, split)


def one(change: Callable[[Tensor], Tensor]) -> Split:
    """A split for a single target."""
    return lambda tensor: (change(tensor),)


def thirds(tensor: Tensor) -> Sequence[Tensor]:
    """Query, key and value of a fused projection [3D, ...]."""
    return tensor.chunk(3)


def fill(model: nn.Module, state: Mapping[str, Tensor], rules: Sequence[Rule]) -> nn.Module:
    """The model with a foreign state in fp32, in evaluation mode; it may have been built on "meta".

    Raises CheckpointError that lists every key without a place, every place without a key, and every
    tensor of another shape.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    unused, misfits = [], {}
    for key, tensor in state.items():
        match = next(((r, m) for r in rules if (m := re.fullmatch(r.pattern, key))), None)
        if match is None:
            unused.append(key)
            continue
        chosen, groups = match
        parts = (tensor,) * len(chosen.targets) if chosen.split is None else chosen.split(tensor)
        for target, part in zip(chosen.targets, parts, strict=True):
            name = target.format(*groups.groups())
            if name not in wanted or name in found:
                unused.append(key)
            elif part.shape != wanted[name].shape:
                misfits[name] = f"{key} {list(tensor.shape)} for {name} {list(wanted[name].shape)}"
            else:
                found[name] = part
    for name, tensor in wanted.items():
        if name.endswith(BATCH_COUNT):
            found.setdefault(name, torch.zeros((), dtype=tensor.dtype))
    missing = wanted.keys() - found.keys() - misfits.keys()
    wrong = {"unused keys": set(unused), "keys of another shape": misfits.values(), "missing": missing}
    if any(wrong.values()):
        raise CheckpointError(
            "; ".join(f"{what}: {', '.join(sorted(keys))}" for what, keys in wrong.items() if keys)
        )
    model.load_state_dict({name: _plain(tensor) for name, tensor in found.items()}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _plain(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
