"""Every key of both sides is accounted for, or the model is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.keys import fill, one, rule, thirds

RULES = [
    rule(r"position_ids"),
    rule(r"in_proj\.(.+)", "query.{}", "key.{}", "value.{}", split=thirds),
    rule(r"proj", "out.weight", split=one(lambda tensor: tensor.transpose(0, 1))),
    rule(r"bn\.(.+)", "norm.{}"),
]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(2, 2) for _ in range(3))
        self.out = nn.Linear(2, 3, bias=False)
        self.norm = nn.BatchNorm1d(2)


def foreign(**changes: Tensor | None) -> dict[str, Tensor]:
    """A state that fits, with changes; None takes a key away."""
    state = {
        "in_proj.weight": torch.arange(12.0).view(6, 2),
        "in_proj.bias": torch.arange(6.0),
        "proj": torch.arange(6.0).view(2, 3),
        "bn.weight": torch.ones(2),
        "bn.bias": torch.ones(2),
        "bn.running_mean": torch.ones(2),
        "bn.running_var": torch.ones(2),
        "bn.num_batches_tracked": torch.tensor(5),
    }
    changed = state | {key.replace("__", "."): tensor for key, tensor in changes.items()}
    return {key: tensor for key, tensor in changed.items() if tensor is not None}


def meta() -> Model:
    with torch.device("meta"):
        return Model()


@pytest.mark.parametrize("make", [Model, meta])
def test_a_foreign_state_becomes_the_model_s(make: type[Model]) -> None:
    model = fill(make(), foreign(position_ids=torch.arange(4)), RULES)
    found = model.state_dict()
    assert torch.equal(found["key.weight"], torch.tensor([[4.0, 5.0], [6.0, 7.0]]))
    assert torch.equal(found["value.bias"], torch.tensor([4.0, 5.0]))
    assert torch.equal(found["out.weight"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))
    assert found["norm.num_batches_tracked"] == 5
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in found.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_becomes_fp32(dtype: torch.dtype) -> None:
    halved = {k: t.to(dtype) if t.is_floating_point() else t.int() for k, t in foreign().items()}
    found = fill(meta(), halved, RULES).state_dict()
    count = found.pop("norm.num_batches_tracked")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert count.dtype == torch.int64
    assert torch.equal(found["query.weight"], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))


def test_weights_that_fit_are_not_copied() -> None:
    state = foreign()
    model = fill(meta(), state, RULES)
    assert model.state_dict()["query.weight"].data_ptr() == state["in_proj.weight"].data_ptr()


def test_old_files_have_no_count_of_batches() -> None:
    found = fill(meta(), foreign(bn__num_batches_tracked=None), RULES).state_dict()
    assert found["norm.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc": torch.ones(1), "b": torch.ones(1)}, "unused keys: b, fc"),
        ({"bn__extra": torch.ones(1)}, "unused keys: bn.extra"),
        ({"in_proj__extra": torch.ones(3)}, "unused keys: in_proj.extra"),
        ({"proj": None, "bn__bias": None}, "missing: norm.bias, out.weight"),
        ({"proj": torch.ones(3, 2)}, "keys of another shape: proj [3, 2] as [2, 3] for out.weight [3, 2]"),
        ({"proj": torch.ones(6)}, "keys of another shape: proj [6] has not the axes of out.weight"),
        ({"in_proj__bias": torch.ones(7)}, "keys of another shape: in_proj.bias [7] has no 3 equal parts"),
        ({"in_proj__bias": torch.ones(2)}, "keys of another shape: in_proj.bias [2] has no 3 equal parts"),
        ({"in_proj__bias": torch.tensor(1.0)}, "keys of another shape: in_proj.bias [] has no 3 equal parts"),
        ({"bn__bias": torch.ones(2).int()}, "keys of another kind: bn.bias of torch.int32 for norm.bias"),
        (
            {"bn__num_batches_tracked": torch.tensor(1.0)},
            "keys of another kind: bn.num_batches_tracked of torch.float32 for norm.num_batches_tracked",
        ),
        (
            {"stray": torch.ones(1), "proj": torch.ones(3, 3), "bn__weight": None},
            "unused keys: stray; keys of another shape: proj [3, 3] for out.weight [3, 2]; "
            "missing: norm.weight",
        ),
    ],
)
def test_what_does_not_fit_is_listed(changes: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        fill(meta(), foreign(**changes), RULES)
    assert str(refusal.value) == message


def test_a_second_key_for_one_place_is_unused() -> None:
    with pytest.raises(CheckpointError, match=r"^unused keys: gamma$"):
        fill(meta(), foreign(gamma=torch.ones(2)), [*RULES, rule("gamma", "norm.weight")])


def test_a_model_is_not_changed_by_what_does_not_fit() -> None:
    model = Model()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        fill(model, foreign(stray=torch.ones(1)), RULES)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
