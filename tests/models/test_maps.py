"""Every map against explicit matrices in float64, written here without the code under test."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import maps, programs
from models.cbam import CBAMConfig, CBAMResNet
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

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


def tokens() -> list[tuple[Tensor, Tensor]]:
    """Three layers of queries and keys [2, 6, 8]; the second sample has three tokens and noise after them."""
    return random_pairs(3, 2, 6, 8)


def each(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Per sample: its attention [H, n, n] of every layer, computed on its live tokens alone."""
    for sample, n in enumerate(LENGTHS.tolist()):
        yield sample, [softmax_rows(q[sample, :n], k[sample, :n], HEADS) for q, k in pairs]


def check(found: Tensor, expected: np.ndarray) -> None:
    """Equal to 1e-5; positions beyond the expected ones are padding and hold exactly 0."""
    n = expected.shape[-1]
    np.testing.assert_allclose(found[..., :n].detach().numpy(), expected, rtol=0, atol=1e-5)
    assert torch.count_nonzero(found[..., n:]) == 0


def flat(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [tensor for pair in pairs for tensor in pair]


def run(program: programs.MapProgram, taps: list[Tensor]) -> tuple[Tensor, ...]:
    assert len(taps) == len(program.taps)
    out: tuple[Tensor, ...] = program(*taps)
    assert len(out) == max(1, len(program.layers))
    assert all(tensor.ndim == 1 + len(program.axes) for tensor in out)
    return out


def test_attention_is_the_softmax_of_every_head() -> None:
    (pair,) = random_pairs(1, 2, 5, 8)
    key = torch.randn(2, 7, 8)
    found = maps.attention(pair[0], key, heads=HEADS)
    assert found.shape == (2, HEADS, 5, 7)
    for sample in range(2):
        check(found[sample], softmax_rows(pair[0][sample], key[sample], HEADS))


def test_class_rows_are_the_first_rows() -> None:
    pairs = tokens()
    program = programs.ClassRows(["a", "b", "c"], heads=HEADS)
    assert program.taps == ("lengths", "a.query", "a.key", "b.query", "b.key", "c.query", "c.key")
    found = run(program, [LENGTHS, *flat(pairs)])
    for sample, attention in each(pairs):
        for layer in range(3):
            check(found[layer][sample], attention[layer][:, 0])


def test_received_is_the_sum_over_live_queries() -> None:
    pairs = tokens()
    found = run(programs.Received(["a", "b", "c"], heads=HEADS), [LENGTHS, *flat(pairs)])
    for sample, attention in each(pairs):
        n = int(LENGTHS[sample])
        for layer in range(3):
            expected = np.zeros(n)
            for head in range(HEADS):
                for query in range(n):
                    expected += attention[layer][head, query] / HEADS
            check(found[layer][sample], expected)
            assert found[layer][sample].sum() == pytest.approx(n, abs=1e-4)


def test_uniform_attention_means_that_every_live_token_receives_one() -> None:
    nothing = torch.zeros(2, 6, 8)
    found = maps.received(nothing, nothing, heads=HEADS, lengths=LENGTHS)
    torch.testing.assert_close(found, (torch.arange(6) < LENGTHS[:, None]).float(), rtol=0, atol=1e-6)
    everywhere = maps.received(nothing, nothing, heads=HEADS)
    torch.testing.assert_close(everywhere, torch.ones(2, 6), rtol=0, atol=1e-6)


def test_rollout_is_the_first_row_of_the_matrix_product() -> None:
    pairs = tokens()
    (found,) = run(programs.Rollout(["a", "b", "c"], heads=HEADS), [LENGTHS, *flat(pairs)])
    for sample, attention in each(pairs):
        n = int(LENGTHS[sample])
        product = np.eye(n)
        for layer in attention:  # A_3 A_2 A_1, as the layers multiply from the left
            step = 0.5 * layer.mean(0) + 0.5 * np.eye(n)
            product = (step / step.sum(1, keepdims=True)) @ product
        check(found[sample], product[0])
        assert found[sample].sum() == pytest.approx(1, abs=1e-5)


def test_rollout_without_lengths_sees_every_token() -> None:
    pairs = random_pairs(2, 1, 5, 8)
    found = maps.rollout(pairs, heads=HEADS)
    first, second = (0.5 * softmax_rows(q[0], k[0], HEADS).mean(0) + 0.5 * np.eye(5) for q, k in pairs)
    check(found[0], (second @ first)[0])


def lively_image_model() -> CBAMResNet:
    torch.manual_seed(0)
    model = CBAMResNet(CBAMConfig(labels=4, depth=18, width=8, stem="small", reduction=4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
        model.classifier.weight.mul_(30)
    return model.eval()


def test_class_activation_is_grad_cam() -> None:
    model = lively_image_model()
    outputs, taps = model(torch.randn(2, 3, 40, 24))
    features, logits = taps["features"], outputs["logits"]
    program = model.programs()["cam"]
    assert program.taps == ("features",)
    (found,) = run(program, [features])
    assert found.shape == (2, 4, 5, 3)
    for sample in range(2):
        for label in range(4):
            (gradient,) = torch.autograd.grad(logits[sample, label], features, retain_graph=True)
            alpha = gradient[sample].double().mean((1, 2))
            planes = (alpha[:, None, None] * features[sample].double()).sum(0)
            check(found[sample, label], planes.clamp(min=0).detach().numpy())
    assert found.min() == 0
    assert found.max() > 0.5


def test_class_activation_sums_to_the_logit_where_all_evidence_is_positive() -> None:
    # One channel, two places with 1 and 3, weight 2: the mean is 2, the logit 4, the places give 1 and 3.
    features = torch.tensor([[[[1.0, 3.0]]]])
    found = maps.class_activation(features, torch.tensor([[2.0], [-2.0]]))
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]]))


def test_gates_are_the_taps_and_what_multiplies_the_features() -> None:
    model = lively_image_model()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, block in model.blocks.items():
        block.cbam.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output[0])})
        )
    with torch.no_grad():
        taps = model(torch.randn(2, 3, 24, 16))[1]
    programs = model.programs()
    channel, spatial = programs["channel"], programs["spatial"]
    channels = run(channel, [taps[name] for name in channel.taps])
    places = run(spatial, [taps[name] for name in spatial.taps])
    assert channel.layers == spatial.layers == tuple(model.blocks)
    for name, one, other in zip(model.blocks, channels, places, strict=True):
        assert torch.equal(one, taps[f"{name}.channel"])
        assert torch.equal(other, taps[f"{name}.spatial"][:, 0])
        before, after = seen[name]
        gated = torch.einsum("bchw,bc,bhw->bchw", before.double(), one.double(), other.double())
        np.testing.assert_allclose(after.numpy(), gated.numpy(), rtol=1e-5, atol=1e-5)
    assert channel.fixed_range == spatial.fixed_range == (0.0, 1.0)


def test_messages_are_the_softmax_of_every_head() -> None:
    pairs = random_pairs(2, 2, 4, 8)
    found = run(programs.Messages(["a", "b"], heads=HEADS), flat(pairs))
    for layer, (query, key) in enumerate(pairs):
        for sample in range(2):
            check(found[layer][sample], softmax_rows(query[sample], key[sample], HEADS))


def test_frame_importance_is_the_column_mean_of_the_heads_mean() -> None:
    ((query, key),) = random_pairs(1, 2, 4, 8)
    (found,) = run(programs.FrameImportance("temporal.0", heads=HEADS), [query, key])
    for sample in range(2):
        rows = softmax_rows(query[sample], key[sample], HEADS)
        expected = np.zeros(4)
        for head in range(HEADS):
            for frame in range(4):
                expected += rows[head, frame] / (HEADS * 4)
        check(found[sample], expected)
        assert found[sample].sum() == pytest.approx(1, abs=1e-5)


# Three frames of two rows and three columns of patches; with class and message eight tokens each.
TIME, GRID = 3, (2, 3)
PATCHES = GRID[0] * GRID[1]


def test_frame_class_rows_leave_out_class_and_message() -> None:
    pairs = random_pairs(2, 2, TIME, PATCHES + 2, 8)
    found = run(programs.FrameClassRows(["a", "b"], heads=HEADS, grid=GRID), flat(pairs))
    for layer, (query, key) in enumerate(pairs):
        assert found[layer].shape == (2, HEADS, TIME, *GRID)
        for sample in range(2):
            for frame in range(TIME):
                rows = softmax_rows(query[sample, frame], key[sample, frame], HEADS)
                for head in range(HEADS):
                    expected = rows[head, 0, 1 : 1 + PATCHES].reshape(GRID)
                    check(found[layer][sample, head, frame], expected)


def space_time_reference(
    frames: list[tuple[Tensor, Tensor]],
    messages: list[tuple[Tensor, Tensor]],
    temporal: tuple[Tensor, Tensor],
    sample: int,
) -> np.ndarray:
    """The whole row over tokens (t, i) [T, 1+P]: matrices of T*(1+P) squared, entry by entry."""
    size = 1 + PATCHES
    product = np.eye(TIME * size)
    for (query, key), (message_query, message_key) in zip(frames, messages, strict=True):
        inside = [softmax_rows(query[sample, t], key[sample, t], HEADS).mean(0) for t in range(TIME)]
        heard = softmax_rows(message_query[sample], message_key[sample], HEADS).mean(0)
        heard = 0.5 * np.eye(TIME) + 0.5 * heard
        step = np.zeros((TIME * size, TIME * size))
        for t in range(TIME):
            for i in range(size):
                for u in range(TIME):
                    for j in range(size):
                        same_frame, same_token, is_class = float(t == u), float(i == j), float(j == 0)
                        step[t * size + i, u * size + j] = 0.5 * same_frame * same_token + 0.5 * (
                            inside[t][i, j] * same_frame + inside[t][i, -1] * heard[t, u] * is_class
                        )
        np.testing.assert_allclose(step.sum(1), 1, atol=1e-12)
        product = step @ product
    read = softmax_rows(temporal[0][sample], temporal[1][sample], HEADS + 2).mean(0)
    read = (0.5 * np.eye(TIME) + 0.5 * read).mean(0)
    row = sum(read[t] * product[t * size] for t in range(TIME))
    assert row.sum() == pytest.approx(1, abs=1e-12)
    return row.reshape(TIME, size)


def test_space_time_rollout_is_the_product_of_explicit_matrices() -> None:
    frames = random_pairs(3, 2, TIME, PATCHES + 2, 8, seed=1)
    messages = random_pairs(3, 2, TIME, 8, seed=2)
    (temporal,) = random_pairs(1, 2, TIME, 12, seed=3)
    program = programs.SpaceTimeRollout(
        ["a", "b", "c"], ["x", "y", "z"], "t", heads=HEADS, temporal_heads=HEADS + 2, grid=GRID
    )
    assert program.taps[::2] == tuple(f"{name}.query" for name in "abcxyzt")
    (found,) = run(program, [*flat(frames), *flat(messages), *temporal])
    assert found.shape == (2, TIME, *GRID)
    for sample in range(2):
        expected = space_time_reference(frames, messages, temporal, sample)
        check(found[sample], expected[:, 1:].reshape(TIME, *GRID))
        assert 0 < found[sample].sum() < 1
        assert found[sample].sum() + expected[:, 0].sum() == pytest.approx(1, abs=1e-5)


def test_a_layer_without_its_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        maps.space_time_rollout(
            random_pairs(2, 1, TIME, PATCHES + 2, 8),
            random_pairs(1, 1, TIME, 8),
            random_pairs(1, 1, TIME, 8)[0],
            heads=HEADS,
            temporal_heads=HEADS,
        )


def test_label_patches_are_the_prompts_softmax() -> None:
    pairs = [(1.5 * torch.randn(2, 4, 8), 1.5 * torch.randn(2, PATCHES, 8)) for _ in range(2)]
    found = run(programs.LabelPatches(["a", "b"], heads=HEADS, grid=GRID), flat(pairs))
    for layer, (query, key) in enumerate(pairs):
        assert found[layer].shape == (2, HEADS, 4, *GRID)
        for sample in range(2):
            rows = softmax_rows(query[sample], key[sample], HEADS)
            for head in range(HEADS):
                check(found[layer][sample, head], rows[head].reshape(4, *GRID))


def marked(frame: int, row: int, column: int) -> list[Tensor]:
    """Query and key of one sample where every class token looks for what one patch alone has."""
    query, key = torch.zeros(1, TIME, PATCHES + 2, 4), torch.zeros(1, TIME, PATCHES + 2, 4)
    query[:, :, 0] = 10
    key[0, frame, 1 + row * GRID[1] + column] = 10
    return [query, key]


@pytest.mark.parametrize(("frame", "row", "column"), [(0, 0, 0), (1, 0, 2), (2, 1, 0), (0, 1, 2)])
def test_a_marked_patch_lands_in_its_frame_row_and_column(frame: int, row: int, column: int) -> None:
    taps = marked(frame, row, column)
    (found,) = run(programs.FrameClassRows(["a"], heads=1, grid=GRID), taps)
    assert found[0, 0, frame, row, column] == pytest.approx(1)
    others = found[0, 0].clone()
    others[frame, row, column] = 0
    assert others[frame].abs().max() < 1e-6
    assert others.max() < 0.2  # the other frames are uniform over eight tokens

    nothing = [torch.zeros(1, TIME, 4)] * 2
    rollout = programs.SpaceTimeRollout(["a"], ["m"], "t", heads=1, temporal_heads=1, grid=GRID)
    (place,) = run(rollout, [*taps, *nothing, *nothing])
    assert place[0].argmax() == frame * PATCHES + row * GRID[1] + column
    assert place[0, frame, row, column] == pytest.approx(1 / 6)  # a third of the clip, half by attention

    prompt = programs.LabelPatches(["p"], heads=1, grid=GRID)
    (patches,) = run(prompt, [taps[0][:, frame, :1], taps[1][:, frame, 1:-1]])
    assert patches[0, 0, 0, row, column] == pytest.approx(1)


def video_model() -> VideoClassifier:
    torch.manual_seed(0)
    xclip = XCLIP(
        XCLIPConfig(
            image=24,
            patch=8,
            frames=TIME,
            embed=8,
            vision=TowerConfig(width=8, layers=2, heads=2),
            temporal=TowerConfig(width=8, layers=1, heads=2),
            prompt=TowerConfig(width=8, layers=2, heads=2),
            text=TowerConfig(width=8, layers=1, heads=2),
            vocabulary=10,
            context=4,
        )
    )
    return VideoClassifier(xclip, torch.randn(5, 8)).eval()


def test_a_patch_of_the_picture_is_the_key_at_its_row_and_column() -> None:
    model = video_model()
    plain = torch.randn(1, TIME, 3, 24, 24)
    changed = plain.clone()
    changed[0, 1, :, 16:24, 0:8] += 1  # frame 1, row 2, column 0 of three by three
    with torch.no_grad():
        difference = model(changed)[1]["vision.0.key"] - model(plain)[1]["vision.0.key"]
    moved = difference.abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[1, 1 + 2 * 3 + 0]]


def text_case() -> tuple[nn.Module, dict[str, Tensor]]:
    config = TextConfig(vocabulary=9, labels=3, width=8, layers=2, heads=2, feedforward=8, positions=6)
    model = TextTransformer(config).eval()
    return model, {"lengths": LENGTHS, **model(torch.ones(2, 6, dtype=torch.long), LENGTHS)[1]}


def image_case() -> tuple[nn.Module, dict[str, Tensor]]:
    model = lively_image_model()
    return model, model(torch.randn(2, 3, 24, 16))[1]


def video_case() -> tuple[nn.Module, dict[str, Tensor]]:
    model = video_model()
    return model, model(torch.randn(2, TIME, 3, 24, 24))[1]


@pytest.mark.parametrize("case", [text_case, image_case, video_case])
def test_every_program_runs_on_its_models_taps_and_describes_itself(case) -> None:
    model, taps = case()
    for program in model.programs().values():
        before = {name: tensor.clone() for name, tensor in taps.items()}
        out = run(program, [taps[name] for name in program.taps])
        assert all(torch.isfinite(tensor).all() for tensor in out)
        assert all(torch.equal(taps[name], tensor) for name, tensor in before.items())
        assert program.description.endswith(".")
        if program.layers:
            assert program.default == len(program.layers) - 1
        else:
            assert program.default is None


def test_a_map_that_covers_all_layers_has_no_default_layer() -> None:
    assert programs.MapProgram(taps=["x"], layers=["a", "b", "c"], default=1).default == 1
    assert programs.MapProgram(taps=["x"]).default is None
