"""What verifies an answer is 0 where the attention is the explicit one, and not where anything is changed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from models.programs import Proof

HEADS, WIDTH = 5, 30
LENGTHS = torch.tensor([7, 4])
Taps = dict[str, Tensor]


def taps(*frames: int, lengths: Tensor | None = None) -> Taps:
    """Taps of two inputs (of frames) with seven tokens; torch's own fused attention did the mixing."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, *frames, 7, WIDTH).double() for _ in range(3))
    split = [x.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for x in (query, key, value)]
    seen = None if lengths is None else (torch.arange(7) < lengths[:, None])[:, None, None]
    mixed = scaled_dot_product_attention(*split, seen).transpose(-2, -3).flatten(-2)
    given = {} if lengths is None else {"lengths": lengths}
    return {"query": query, "key": key, "value": value, "mixed": mixed} | given


KINDS: dict[str, Callable[[], Taps]] = {
    "texts": lambda: taps(lengths=LENGTHS),
    "pictures": lambda: taps(),
    "clips": lambda: taps(5),
}


def prove(given: Taps) -> tuple[Tensor, Tensor]:
    proof = Proof(heads=HEADS, lengths="lengths" in given)
    assert proof.inputs == tuple(given)
    row_sums, outputs = proof(*given.values())
    assert row_sums.shape == outputs.shape == (2,)
    return row_sums, outputs


@pytest.mark.parametrize("kind", KINDS)
def test_true_taps_prove_it(kind: str) -> None:
    row_sums, outputs = prove(KINDS[kind]())
    assert row_sums.max() < 1e-14
    assert 0 < outputs.max() < 1e-14


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["query", "key", "value", "mixed"])
def test_one_changed_number_shows_in_its_own_input_and_in_no_other(kind: str, name: str) -> None:
    given = KINDS[kind]()
    place = (1, *(3 for _ in given[name].shape[1:-2]), 2, 5)
    given[name][place] += 0.5
    _, outputs = prove(given)
    assert outputs[0] < 1e-14
    assert outputs[1] > 1e-3


def test_the_error_is_a_share_of_the_largest_value() -> None:
    given = taps()
    largest = given["mixed"].abs().amax((1, 2))
    given["mixed"][:, 6, 0] += 1e-3 * largest * (given["mixed"][:, 6, 0].sign())
    _, outputs = prove(given)
    torch.testing.assert_close(outputs, torch.full((2,), 1e-3).double(), rtol=1e-6, atol=0)


def test_a_padded_key_that_was_seen_shows() -> None:
    given = taps(lengths=LENGTHS)
    _, outputs = prove(given | {"lengths": torch.tensor([7, 5])})
    assert outputs[0] < 1e-14
    assert outputs[1] > 1e-3


def test_another_number_of_heads_shows() -> None:
    given = taps()
    _, outputs = Proof(heads=HEADS + 1, lengths=False)(*given.values())
    assert outputs.min() > 1e-3


@pytest.mark.parametrize("name", ["query", "key", "value", "mixed"])
def test_what_is_not_a_number_is_no_proof(name: str) -> None:
    given = taps()
    given[name][1, 0, 0] = math.nan
    for errors in prove(given):
        assert errors[0] < 1e-14
    assert not prove(given)[1][1] <= 1


def test_rows_that_do_not_sum_to_one_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """No taps make such a softmax, so it is broken here: one row of one head, of the last input alone."""
    from models.programs import proof

    real = proof.weights

    def broken(query: Tensor, key: Tensor, **options: object) -> Tensor:
        rows = real(query, key, **options).clone()  # type: ignore[arg-type]
        rows[-1, -1, 2] *= 1.25
        return rows

    monkeypatch.setattr(proof, "weights", broken)
    for kind in KINDS.values():
        row_sums, outputs = prove(kind())
        assert row_sums.tolist() == pytest.approx([0, 0.25])
        assert outputs[0] < 1e-14
        assert outputs[1] > 1e-3


def test_an_output_of_zeros_is_proven_by_zeros_alone() -> None:
    given = taps()
    given["value"][0], given["mixed"][0] = 0, 0
    _, outputs = prove(given)
    assert outputs[0] == 0
    given["mixed"][0, 3, 5] = 1e-3
    _, outputs = prove(given)
    assert outputs[0] > 0.5
