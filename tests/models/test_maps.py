"""From taps to maps: against explicit matrices in float64, and against numbers worked out by hand.

Whole models, with every map that they have, are in `programs/`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import maps
from models.attention import MultiHeadAttention

HEADS = 2
LENGTHS = torch.tensor([6, 3])


def softmax_rows(query: Tensor, key: Tensor, heads: int) -> np.ndarray:
    """[N, H*d], [M, H*d] -> [H, N, M], one number at a time."""
    q, k = query.detach().double().numpy(), key.detach().double().numpy()
    width = q.shape[1] // heads
    out = np.empty((heads, len(q), len(k)))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(q)):
            row = [math.exp(float(q[i, part] @ k[j, part]) / math.sqrt(width)) for j in range(len(k))]
            out[head, i] = np.array(row) / sum(row)
    return out


def random_pairs(layers: int, *shape: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (1.5 * torch.randn(*shape, generator=generator), 1.5 * torch.randn(*shape, generator=generator))
        for _ in range(layers)
    ]


def check(found: Tensor, expected: np.ndarray) -> None:
    """Equal to 1e-5; positions beyond the expected ones are padding and hold exactly 0."""
    n = expected.shape[-1]
    np.testing.assert_allclose(found[..., :n].detach().numpy(), expected, rtol=0, atol=1e-5)
    assert torch.count_nonzero(found[..., n:]) == 0


def test_attention_is_the_softmax_of_every_head() -> None:
    (pair,) = random_pairs(1, 2, 5, 8)
    key = torch.randn(2, 7, 8)
    found = maps.attention(pair[0], key, heads=HEADS)
    assert found.shape == (2, HEADS, 5, 7)
    for sample in range(2):
        check(found[sample], softmax_rows(pair[0][sample], key[sample], HEADS))


@pytest.mark.parametrize("token", [0, 1, 4])
def test_a_tokens_row_is_that_of_the_whole_attention(token: int) -> None:
    ((query, key),) = random_pairs(1, 2, 6, 8)
    found = maps.token_row(query, key, token=token, heads=HEADS, lengths=LENGTHS)
    for sample, n in enumerate(LENGTHS.tolist()):
        check(found[sample], softmax_rows(query[sample], key[sample, :n], HEADS)[:, token])


def test_uniform_attention_means_that_every_live_token_receives_one() -> None:
    nothing = torch.zeros(2, 6, 8)
    found = maps.received(nothing, nothing, heads=HEADS, lengths=LENGTHS)
    torch.testing.assert_close(found, (torch.arange(6) < LENGTHS[:, None]).float(), rtol=0, atol=1e-6)
    everywhere = maps.received(nothing, nothing, heads=HEADS)
    torch.testing.assert_close(everywhere, torch.ones(2, 6), rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [8, 2])
def test_factors_are_small_and_keep_every_length(width: int) -> None:
    """Heads of four or of one, so that the output's columns are more than a head is wide, or as many."""
    torch.manual_seed(0)
    module = MultiHeadAttention(width=width, heads=2)
    factors = maps.output_factors(module)
    size = width // 2
    assert factors.shape == (2, size, size)
    assert not factors.requires_grad
    for head in range(2):
        values = torch.randn(5, size)
        projected = values @ module.out.weight[:, head * size : (head + 1) * size].T
        torch.testing.assert_close((values @ factors[head].T).norm(dim=1), projected.norm(dim=1))


def test_value_norm_by_hand() -> None:
    # One head, uniform over two tokens; values (3, 4) and (0, 2), which the output doubles: lengths 10 and 4.
    nothing = torch.zeros(1, 2, 2)
    value = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    found = maps.value_norm(nothing, nothing, value, factors=2 * torch.eye(2)[None])
    torch.testing.assert_close(found, torch.tensor([[[5.0, 2.0]]]))


def test_rollout_without_lengths_sees_every_token() -> None:
    pairs = random_pairs(2, 1, 5, 8)
    found = maps.rollout(pairs, heads=HEADS)
    first, second = (0.5 * softmax_rows(q[0], k[0], HEADS).mean(0) + 0.5 * np.eye(5) for q, k in pairs)
    check(found[0], (second @ first)[0])


def matrix(mix: maps.Mix, query: Tensor, key: Tensor, **options: Any) -> Tensor:
    """The whole mixing matrix [B, N, M], from what each token alone goes on to and keeps."""
    rows = []
    for token in range(query.shape[1]):
        row = torch.zeros_like(query[:, :, 0])
        row[:, token] = 1
        through, stays = mix(row, query, key, heads=HEADS, **options)
        assert torch.count_nonzero(stays[:, :token]) == torch.count_nonzero(stays[:, token + 1 :]) == 0
        rows.append(through + torch.nn.functional.pad(stays, (0, key.shape[1] - query.shape[1])))
    return torch.stack(rows, 1)


FUSED = ("mean", "max", "min")


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("discard", [0.0, 0.3, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("fuse", range(3))
def test_every_row_of_a_mixing_matrix_sums_to_one(
    fuse: int, discard: float, lengths: Tensor | None, explicit: Any
) -> None:
    ((query, key),) = random_pairs(1, 2, 6, 8)
    mix = maps.Tuned(torch.full((2,), fuse), torch.full((2,), discard))
    found = matrix(mix, query, key, lengths=lengths)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 6))
    for sample, n in enumerate([6, 6] if lengths is None else lengths.tolist()):
        rows = torch.from_numpy(softmax_rows(query[sample, :n], key[sample, :n], HEADS))
        expected = explicit.mixing(rows, fuse=FUSED[fuse], discard=discard)
        check(found[sample, :n], expected.numpy())


def test_halves_are_rows_that_sum_to_one() -> None:
    ((query, key),) = random_pairs(1, 2, 6, 8)
    found = matrix(maps.halves, query, key, lengths=LENGTHS)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 6))
    assert torch.count_nonzero(found[1, :3, 3:]) == 0


def tuned(**changes: float) -> maps.Tuned:
    given = {"fuse": 0, "discard": 0.0} | changes
    return maps.Tuned(torch.tensor([int(given["fuse"])]), torch.tensor([given["discard"]]))


ROWS = torch.tensor([[[[0.5, 0.2, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]]]])  # [B, H, N, M]


@pytest.mark.parametrize(
    ("discard", "first", "second"),
    [
        (0.0, [0.5, 0.2, 0.2, 0.1], [0.25] * 4),
        (0.24, [0.5, 0.2, 0.2, 0.1], [0.25] * 4),  # less than one of four
        (0.25, [0.5, 0.2, 0.2, 0.0], [0.25] * 4),  # all are the same: none is least
        (0.5, [0.5, 0.2, 0.2, 0.0], [0.25] * 4),  # one of two equal ones would go: both stay
        (0.75, [0.5, 0.0, 0.0, 0.0], [0.25] * 4),
        (0.9999, [0.5, 0.0, 0.0, 0.0], [0.25] * 4),  # never all
    ],
)
def test_what_is_discarded_by_hand(discard: float, first: list[float], second: list[float]) -> None:
    kept = tuned(discard=discard).kept(ROWS.mean(1), None)
    assert kept.tolist() == torch.tensor([[first, second]]).tolist()


def test_padding_is_no_part_of_what_may_be_discarded() -> None:
    rows = torch.tensor([[[0.4, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0, 0.0]]])
    kept = tuned(discard=0.5).kept(rows, torch.tensor([4]))
    assert kept.tolist() == torch.tensor([[[0.4, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0]]]).tolist()


@pytest.mark.parametrize(("fuse", "expected"), [(0, [0.4, 0.6]), (1, [0.7, 0.9]), (2, [0.1, 0.3])])
def test_heads_are_fused_by_hand(fuse: int, expected: list[float]) -> None:
    parts = [torch.tensor([[[[0.7, 0.3]], [[0.1, 0.9]]]]), torch.tensor([[[[0.4, 0.6]]]])]
    torch.testing.assert_close(tuned(fuse=fuse).fused(parts, 3), torch.tensor([[expected]]))


def test_each_clip_has_its_own_way_in_all_its_frames() -> None:
    mix = maps.Tuned(torch.tensor([1, 2]), torch.tensor([0.0, 0.0]))
    heads = torch.tensor([[[0.7, 0.3]], [[0.1, 0.9]]]).expand(6, -1, -1, -1)  # two clips of three frames
    found = mix.fused([heads], 2)
    torch.testing.assert_close(found[:3, 0], torch.tensor([[0.7, 0.9]] * 3))
    torch.testing.assert_close(found[3:, 0], torch.tensor([[0.1, 0.3]] * 3))


def test_a_share_of_tenths_is_that_many_keys_of_ten() -> None:
    """Whatever a tenth is in binary."""
    rows = torch.arange(1.0, 11.0)[None, None]
    for tenths in range(10):
        kept = tuned(discard=tenths / 10).kept(rows, None)
        assert torch.count_nonzero(kept) == 10 - tenths


def test_class_activation_sums_to_the_logit_where_all_evidence_is_positive() -> None:
    # One channel, two places with 1 and 3, weight 2: the mean is 2, the logit 4, the places give 1 and 3.
    features = torch.tensor([[[[1.0, 3.0]]]])
    found = maps.class_activation(features, torch.tensor([[2.0], [-2.0]]))
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]]))


def test_frame_importance_sums_to_one() -> None:
    ((query, key),) = random_pairs(1, 2, 4, 8)
    found = maps.frame_importance(query, key, heads=HEADS)
    for sample in range(2):
        check(found[sample], softmax_rows(query[sample], key[sample], HEADS).mean((0, 1)))
        assert found[sample].sum() == pytest.approx(1)


def test_a_layer_without_its_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        maps.space_time_rollout(
            random_pairs(2, 1, 3, 8, 8),
            random_pairs(1, 1, 3, 8),
            random_pairs(1, 1, 3, 8)[0],
            heads=HEADS,
            temporal_heads=HEADS,
        )
