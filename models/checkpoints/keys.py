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
    parts: tuple[Tensor, ...] = tensor.unflatten(0, (3, -1)).unbind()
    return parts


def shape(state: Mapping[str, Tensor], key: str, *, axes: int) -> tuple[int, ...]:
    """The sizes of a tensor; raises CheckpointError where it is missing, empty or has other axes."""
    if key not in state:
        beside = sorted(other for other in state if other.startswith(key.removesuffix("weight")))
        raise CheckpointError(f"missing: {key}" + (f"; there are {', '.join(beside)}" if beside else ""))
    sizes = tuple(state[key].shape)
    if len(sizes) != axes or 0 in sizes:
        raise CheckpointError(f"{key} {list(sizes)} does not have {axes} axes, none of them empty")
    return sizes


def outputs(state: Mapping[str, Tensor], key: str) -> int:
    """How many logits a classifier gives; 1 where it has no weights, which `fill` then lists as missing."""
    weight = state.get(key)
    if weight is None or not weight.ndim:
        return 1
    if not len(weight):
        raise CheckpointError(f"{key}: a classifier without outputs")
    return len(weight)


def fill(model: nn.Module, state: Mapping[str, Tensor], rules: Sequence[Rule]) -> nn.Module:
    """The model with a foreign state in fp32, in evaluation mode; it may have been built on "meta".

    Raises CheckpointError that lists every key without a place (or with one that is taken), every place
    without a key, and every tensor of another shape or kind.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    unused: set[str] = set()
    misfits: dict[str, str] = {}
    strange: dict[str, str] = {}
    for key, tensor in state.items():
        match = next(((r, m) for r in rules if (m := re.fullmatch(r.pattern, key))), None)
        if match is None:
            unused.add(key)
            continue
        chosen, groups = match
        names = [target.format(*groups.groups()) for target in chosen.targets]
        parts = _parts(chosen, tensor)
        if len(parts) != len(names):
            lacks = f"no {len(names)} equal parts" if len(names) > 1 else f"not the axes of {names[0]}"
            misfits |= dict.fromkeys(names, f"{key} {list(tensor.shape)} has {lacks}")
            continue
        for name, part in zip(names, parts, strict=True):
            if name not in wanted or name in found:
                unused.add(key)
            elif part.shape != wanted[name].shape:
                changed = "" if part.shape == tensor.shape else f" as {list(part.shape)}"
                misfits[name] = f"{key} {list(tensor.shape)}{changed} for {name} {list(wanted[name].shape)}"
            elif part.is_floating_point() != wanted[name].is_floating_point():
                strange[name] = f"{key} of {part.dtype} for {name}"
            else:
                found[name] = part
    for name, tensor in wanted.items():
        if name.endswith(BATCH_COUNT):
            found.setdefault(name, torch.zeros((), dtype=tensor.dtype))
    wrong = {
        "unused keys": unused,
        "keys of another shape": set(misfits.values()),
        "keys of another kind": set(strange.values()),
        "missing": wanted.keys() - found.keys() - misfits.keys() - strange.keys(),
    }
    if any(wrong.values()):
        raise CheckpointError(
            "; ".join(f"{what}: {', '.join(sorted(keys))}" for what, keys in wrong.items() if keys)
        )
    model.load_state_dict(
        {name: tensor.to(wanted[name].dtype).contiguous() for name, tensor in found.items()}, assign=True
    )
    return model.eval().requires_grad_(False)


def _parts(chosen: Rule, tensor: Tensor) -> Sequence[Tensor]:
    """A tensor for each target of a rule; none where the tensor has not the axes for it."""
    if chosen.split is None:
        return (tensor,) * len(chosen.targets)
    try:
        return chosen.split(tensor)
    except (IndexError, RuntimeError, ValueError):
        return ()
