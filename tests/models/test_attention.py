"""The attention functions against numbers worked out by hand and against torch's own attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.attention import (
    HEADS_AT_ONCE,
    MultiHeadAttention,
    attend,
    attention_taps,
    merge_heads,
    scores,
    some_heads,
    split_heads,
    weights,
)

CLOSE = {"rtol": 0.0, "atol": 1e-5}


def heads_of(queries: int, keys: int, *, width: int = 6, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random query, key and value [2, 3, N or M, d]; scores have a spread of about 4."""
    generator = torch.Generator().manual_seed(queries * 100 + keys)
    lengths = (queries, keys, keys)
    return [2 * torch.randn(2, 3, n, width, generator=generator).to(dtype) for n in lengths]


def seen(lengths: Tensor, keys: int) -> Tensor:
    """True for a key that is not padding: [B, 1, 1, M]."""
    return torch.stack([torch.arange(keys) < n for n in lengths])[:, None, None]


def test_scores_are_the_numbers_worked_out_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    key = torch.tensor([[3.0, 4.0], [0.0, -1.0]])
    # q1.k1 = 3, q1.k2 = 0, q2.k1 = 3 + 8 = 11, q2.k2 = -2; divided by sqrt(2), or times the given scale.
    products = torch.tensor([[3.0, 0.0], [11.0, -2.0]])
    torch.testing.assert_close(scores(query, key), products / math.sqrt(2))
    torch.testing.assert_close(scores(query, key, scale=0.5), products / 2)


def test_weights_and_output_are_the_numbers_worked_out_by_hand() -> None:
    # One head of width 1, so the scale is 1. Scores: row 1 is (0, ln 3), row 2 is (0, 2 ln 3).
    # Softmax: (1, 3) / 4 and (1, 9) / 10. Values 4 and 8: 1 + 6 = 7 and 0.4 + 7.2 = 7.6.
    query = torch.tensor([[[1.0], [2.0]]])
    key = torch.tensor([[[0.0], [math.log(3.0)]]])
    value = torch.tensor([[[4.0], [8.0]]])
    found = weights(query[None], key[None])[0, 0]
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75], [0.1, 0.9]]))
    torch.testing.assert_close(attend(query, key, value, heads=1), torch.tensor([[[7.0], [7.6]]]))
    # Causal: the first row sees the first key alone, the last row is as before.
    torch.testing.assert_close(
        attend(query, key, value, heads=1, causal=True), torch.tensor([[[4.0], [7.6]]])
    )
    # One live key: both rows see the first key alone.
    alone = attend(query, key, value, heads=1, lengths=torch.tensor([1]))
    torch.testing.assert_close(alone, torch.tensor([[[4.0], [4.0]]]))


def test_heads_are_neighbouring_columns() -> None:
    packed = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])  # two tokens, two heads of two
    first, second = [[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]
    assert torch.equal(split_heads(packed, 2), torch.tensor([[first, second]]))
    assert torch.equal(merge_heads(split_heads(packed, 2)), packed)


@pytest.mark.parametrize("heads", [1, 3, 4, 5, 8, 9])
def test_some_heads_after_the_others_are_all_of_them_in_order(heads: int) -> None:
    one, other = torch.randn(2, 5, 4 * heads), torch.randn(2, 7, 3 * heads)
    parts = list(some_heads(one, other, heads=heads))
    assert all(first.shape[1] == second.shape[1] <= HEADS_AT_ONCE for first, second in parts)
    assert torch.equal(torch.cat([part[0] for part in parts], 1), split_heads(one, heads))
    assert torch.equal(torch.cat([part[1] for part in parts], 1), split_heads(other, heads))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("keys", [5, 9])
@pytest.mark.parametrize("mask", ["none", "causal", "lengths", "both"])
def test_attend_agrees_with_torch(mask: str, keys: int, scale: float | None) -> None:
    query, key, value = heads_of(5, keys)
    lengths = torch.tensor([keys, 3]) if mask in ("lengths", "both") else None
    allowed = torch.ones(2, 1, 5, keys, dtype=torch.bool)
    if mask in ("causal", "both"):
        allowed = allowed.tril()
    if lengths is not None:
        allowed = allowed & seen(lengths, keys)
    expected = scaled_dot_product_attention(query, key, value, allowed, scale=scale)
    packed = [merge_heads(x) for x in (query, key, value)]
    causal = mask in ("causal", "both")
    found = attend(*packed, heads=3, lengths=lengths, causal=causal, scale=scale)
    torch.testing.assert_close(found, merge_heads(expected), **CLOSE)
    if mask == "causal":
        flag = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        torch.testing.assert_close(found, merge_heads(flag), **CLOSE)


def test_values_may_be_wider_than_keys() -> None:
    query, key, _ = heads_of(4, 7)
    value = torch.randn(2, 3, 7, 10)
    expected = scaled_dot_product_attention(query, key, value)
    found = attend(*(merge_heads(x) for x in (query, key, value)), heads=3)
    torch.testing.assert_close(found, merge_heads(expected), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_row_sums_to_one_and_padding_gets_exactly_nothing(dtype: torch.dtype) -> None:
    query, key, _ = heads_of(6, 8, dtype=dtype)
    lengths = torch.tensor([8, 3])
    found = weights(query, key, lengths=lengths)
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double().sum(-1), torch.ones(2, 3, 6).double(), rtol=0, atol=tolerance)
    assert torch.count_nonzero(found[1, ..., 3:]) == 0
    assert torch.count_nonzero(weights(query, key, causal=True).triu(1)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("causal", [False, True])
def test_a_row_that_sees_nothing_is_not_nan(dtype: torch.dtype, causal: bool) -> None:
    query, key, value = heads_of(4, 4, dtype=dtype)
    lengths = torch.tensor([0, 4])
    found = weights(query, key, lengths=lengths, causal=causal)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), rtol=0, atol=0.01)
    packed = [merge_heads(x) for x in (query, key, value)]
    assert attend(*packed, heads=3, lengths=lengths, causal=causal).isfinite().all()


def test_half_precision_survives_large_scores() -> None:
    query, key, _ = heads_of(6, 8, dtype=torch.float16)
    query, key = 30 * query, 30 * key  # scores of several thousand
    lengths = torch.tensor([8, 3])
    allowed = torch.ones(2, 1, 6, 8, dtype=torch.bool).tril() & seen(lengths, 8)
    found = weights(query, key, lengths=lengths, causal=True)
    assert found.isfinite().all()
    assert torch.count_nonzero(found * ~allowed) == 0
    exact = (query.double() @ key.double().mT / math.sqrt(6)).masked_fill(~allowed, -math.inf).softmax(-1)
    assert (found.argmax(-1) == exact.argmax(-1)).float().mean() > 0.95  # ties aside


def test_gradients_flow_and_padding_gets_none() -> None:
    tensors = [merge_heads(x).requires_grad_() for x in heads_of(5, 7)]
    attend(*tensors, heads=3, lengths=torch.tensor([7, 4])).square().sum().backward()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert torch.count_nonzero(tensor.grad[0]) == tensor.grad[0].numel()
    for tensor in tensors[1:]:
        assert tensor.grad is not None
        assert torch.count_nonzero(tensor.grad[1, 4:]) == 0


def torch_attention(*, bias: bool, source_width: int | None) -> nn.MultiheadAttention:
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(
        12, 3, bias=bias, kdim=source_width, vdim=source_width, batch_first=True
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.4)
    return theirs


def copied(theirs: nn.MultiheadAttention, *, bias: bool, source_width: int | None) -> MultiHeadAttention:
    """Our module with the weights of torch's."""
    ours = MultiHeadAttention(width=12, heads=3, source_width=source_width, bias=bias, out_bias=bias)
    state = {"out.weight": theirs.out_proj.weight}
    if theirs.in_proj_weight is not None:
        projections = theirs.in_proj_weight.chunk(3)
    else:
        projections = (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
    for index, name in enumerate(("query", "key", "value")):
        state[f"{name}.weight"] = projections[index]
        if bias:
            state[f"{name}.bias"] = theirs.in_proj_bias.chunk(3)[index]
    if bias:
        state["out.bias"] = theirs.out_proj.bias
    ours.load_state_dict(state, strict=True)
    return ours.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("source_width", [None, 20])
@pytest.mark.parametrize("padded", [False, True])
def test_module_agrees_with_torch(bias: bool, source_width: int | None, padded: bool) -> None:
    theirs = torch_attention(bias=bias, source_width=source_width)
    ours = copied(theirs, bias=bias, source_width=source_width)
    x, source = torch.randn(2, 5, 12), torch.randn(2, 8, source_width or 12)
    lengths = torch.tensor([8, 3]) if padded else None
    ignored = None if lengths is None else ~seen(lengths, 8)[:, 0, 0]
    with torch.no_grad():
        expected, maps = theirs(x, source, source, key_padding_mask=ignored, average_attn_weights=False)
        found, taps = ours(x, source, lengths=lengths)
    torch.testing.assert_close(found, expected, **CLOSE)
    rows = weights(split_heads(taps["query"], 3), split_heads(taps["key"], 3), lengths=lengths)
    torch.testing.assert_close(rows, maps, **CLOSE)


def test_module_attends_to_itself_without_a_source() -> None:
    theirs = torch_attention(bias=True, source_width=None)
    ours = copied(theirs, bias=True, source_width=None)
    x = torch.randn(2, 5, 12)
    hidden = nn.Transformer.generate_square_subsequent_mask(5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], theirs(x, x, x)[0], **CLOSE)
        causal = theirs(x, x, x, attn_mask=hidden, is_causal=True)[0]
        torch.testing.assert_close(ours(x, causal=True)[0], causal, **CLOSE)


def test_bias_of_the_output_is_a_setting_of_its_own() -> None:
    module = MultiHeadAttention(width=4, heads=2, bias=False, out_bias=True)
    assert [name for name, _ in module.named_parameters() if name.endswith("bias")] == ["out.bias"]


def test_width_must_be_divisible_by_the_heads() -> None:
    with pytest.raises(ValueError, match="10 is not divisible by 4"):
        MultiHeadAttention(width=10, heads=4)


def test_a_layers_taps_are_named_after_it_and_nothing_else_is_handed_out() -> None:
    module = MultiHeadAttention(width=4, heads=2)
    taps = module(torch.randn(1, 3, 4))[1] | {"hidden": torch.zeros(1)}
    found = attention_taps("layers.0", taps)
    assert list(found) == [f"layers.0.{kind}" for kind in ("query", "key", "value", "mixed")]
    assert all(tensor is taps[name.removeprefix("layers.0.")] for name, tensor in found.items())


def test_what_was_mixed_is_the_output_before_its_projection() -> None:
    module = MultiHeadAttention(width=4, heads=2)
    x, source = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    out, taps = module(x, source, lengths=torch.tensor([5, 2]))
    torch.testing.assert_close(taps["mixed"] @ module.out.weight.T + module.out.bias, out, **CLOSE)
    torch.testing.assert_close(taps["value"], module.value(source), **CLOSE)


def test_an_exported_attention_is_one_fused_node() -> None:
    class Attends(nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor) -> Tensor:
            return attend(query, key, value, heads=2, lengths=lengths, scale=0.25)

    tensors = (torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 6), torch.tensor([2, 5]))
    program = torch.export.export(Attends(), tensors)
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    names = [getattr(node.target, "name", lambda: "getitem")() for node in calls]
    assert names == ["onnx_symbolic::_symbolic_multi_out", "getitem"]
    inputs, operator = calls[0].args[:2]
    assert operator == "Attention"
    # query, key, value, no mask, no past key, no past value, then the number of keys that are not padding
    assert [str(node) for node in inputs] == ["query", "key", "value", "None", "None", "None", "lengths"]
    settings = calls[0].kwargs
    assert settings["attr_keys"] == ["q_num_heads", "kv_num_heads", "is_causal", "scale"]
    assert settings["attr_ints"] == [2, 2, 0]
    assert settings["attr_floats"] == [0.25]
    assert settings["shapes"] == [[2, 3, 6]]
    assert settings["version"] == 24
