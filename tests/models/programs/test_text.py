"""Every map of a text against explicit float64 matrices of the text alone, in a padded batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models.text import TextConfig, TextTransformer

LENGTHS = torch.tensor([10, 4, 7, 1])
CONFIG = TextConfig(
    vocabulary=60, labels=5, width=30, layers=3, heads=5, feedforward=48, positions=12, token_types=2
)
Check = Callable[..., None]


@pytest.fixture(scope="module")
def model() -> TextTransformer:
    torch.manual_seed(0)
    model = TextTransformer(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


@pytest.fixture
def watched(model: TextTransformer, watch: Callable[..., Any]) -> Any:
    """A batch of four texts, with noise where they are padded."""
    torch.manual_seed(1)
    ids, types = torch.randint(CONFIG.vocabulary, (4, 10)), torch.randint(2, (4, 10))
    return watch(model, input_ids=ids, lengths=LENGTHS, token_types=types)


def alone(watched: Any) -> Iterator[tuple[int, int, list[Tensor]]]:
    """Of each text: its place, its length, and what its own tokens attend to in every layer [H, n, n]."""
    layers = [watched.seen[f"blocks.{index}.attention"].probabilities.detach() for index in range(3)]
    for place, n in enumerate(LENGTHS.tolist()):
        for layer in layers:
            assert torch.count_nonzero(layer[place, ..., n:]) == 0
        yield place, n, [layer[place, :, :n, :n] for layer in layers]


def check(close: Check, found: Tensor, expected: Tensor) -> None:
    """As expected, and nothing at all of what is padding."""
    n = expected.shape[-1]
    close(found[..., :n], expected)
    assert torch.count_nonzero(found[..., n:]) == 0


def test_class_rows_are_the_first_rows_of_each_head(watched: Any, close: Check) -> None:
    found = watched.map("cls")
    assert len(found) == 3
    for place, _, layers in alone(watched):
        for rows, layer in zip(found, layers, strict=True):
            check(close, rows[place], layer[:, 0])


def test_received_is_the_sum_over_the_queries_that_are_there(watched: Any, close: Check) -> None:
    found = watched.map("received")
    for place, n, layers in alone(watched):
        for row, layer in zip(found, layers, strict=True):
            expected = torch.zeros(n, dtype=torch.float64)
            for head in layer:
                for query in head:
                    expected += query / CONFIG.heads
            check(close, row[place], expected)
            assert float(row[place].sum()) == pytest.approx(n)


def test_value_norm_is_the_length_of_what_each_head_adds_for_each_token(watched: Any, close: Check) -> None:
    found = watched.map("value_norm")
    for place, n, layers in alone(watched):
        for index, layer in enumerate(layers):
            given = watched.seen[f"blocks.{index}.attention"].given()[place, :, :n].detach()  # [H, n, D]
            added = layer[:, 0, :, None] * given
            check(close, found[index][place], added.norm(dim=-1))


def test_what_value_norm_measures_adds_up_to_the_attentions_output(watched: Any, close: Check) -> None:
    """So that the reference of the test above is the f(x) of the paper."""
    seen = watched.seen["blocks.1.attention"]
    total = torch.einsum("bhnm,bhmd->bnd", seen.probabilities, seen.given()) + seen.module.out.bias
    close(total.detach(), seen.module.out(watched.taps["layers.1.mixed"]).detach())


def test_rollout_is_the_first_row_of_the_product(watched: Any, close: Check, explicit: Any) -> None:
    (found,) = watched.map("rollout")
    for place, _, layers in alone(watched):
        product = explicit.product([explicit.mixing(layer) for layer in layers])
        check(close, found[place], product[0])
        assert float(found[place].sum()) == pytest.approx(1)


FUSED = ("mean", "max", "min")


@pytest.mark.parametrize("discard", [0.0, 0.3, 0.9])
def test_a_tuned_rollout_fuses_and_discards_for_each_text_as_it_asks(
    discard: float, watched: Any, close: Check, explicit: Any
) -> None:
    fuse = torch.tensor([0, 1, 2, 1])
    for shift in range(3):
        ways = (fuse + shift) % 3
        share = torch.tensor([discard, 0.5, discard, discard], dtype=torch.float64)
        (found,) = watched.map("rollout", tuned=True, fuse=ways, discard=share)
        for place, _, layers in alone(watched):
            given = {"fuse": FUSED[int(ways[place])], "discard": float(share[place])}
            product = explicit.product([explicit.mixing(layer, **given) for layer in layers])
            check(close, found[place], product[0])
            assert float(found[place].sum()) == pytest.approx(1)


def test_a_tuned_rollout_of_means_without_discard_is_the_plain_one(watched: Any, close: Check) -> None:
    (found,) = watched.map("rollout", tuned=True, fuse=torch.zeros(4).long(), discard=torch.zeros(4))
    close(found, watched.map("rollout")[0])


@pytest.mark.parametrize("layer", range(3))
def test_attention_is_every_row_that_was_asked_for_in_that_order(
    layer: int, watched: Any, close: Check
) -> None:
    for rows in (torch.arange(10), torch.tensor([3]), torch.tensor([9, 0, 4])):
        (found,) = watched.map("attention", layer=f"layers.{layer}", rows=rows)
        close(found, watched.seen[f"blocks.{layer}.attention"].probabilities.detach()[:, :, rows])


def test_every_map_of_a_padded_batch_is_that_of_each_text_alone(
    watched: Any, watch: Callable[..., Any], model: TextTransformer, close: Check
) -> None:
    torch.manual_seed(2)
    target = torch.tensor([3, 0, 4, 2])
    tuned = {
        "fuse": torch.tensor([0, 1, 2, 1]),
        "discard": torch.tensor([0.3, 0.3, 0.5, 0.9], dtype=torch.float64),
    }
    for place, n in enumerate(LENGTHS.tolist()):
        part = slice(place, place + 1)
        cut = {name: x[part, :n] for name, x in watched.inputs.items() if name != "lengths"}
        single = watch(model, lengths=LENGTHS[part], **cut)
        for name, program in model.programs().items():
            given = {"target": target, "rows": torch.arange(n), **tuned}
            own = given | {key: value[part] for key, value in given.items() if key != "rows"}
            for layer in model.layers if program.sliced else [""]:
                for way in (False, True)[: 1 if program.tuned is None else 2]:
                    together = watched.map(name, layer=layer, tuned=way, **given)
                    for wide, narrow in zip(
                        together, single.map(name, layer=layer, tuned=way, **own), strict=True
                    ):
                        if n > 1 or float(narrow.abs().max()) > 0:  # nothing flows where nothing else is
                            check(close, wide[part], narrow)
