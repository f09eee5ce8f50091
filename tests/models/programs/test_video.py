"""Every map of a clip against explicit float64 matrices over the tokens of all its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.programs import FrameClassRows, LabelPatches, SpaceTimeRollout
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

BATCH, TIME, GRID, LABELS, HEADS = 2, 3, (2, 2), 5, 5
PATCHES = GRID[0] * GRID[1]
Check = Callable[..., None]
CONFIG = XCLIPConfig(
    image=16,
    patch=8,
    frames=TIME,
    embed=16,
    vision=TowerConfig(width=20, layers=3, heads=HEADS),
    temporal=TowerConfig(width=16, layers=2, heads=2),
    prompt=TowerConfig(width=16, layers=2, heads=4),
    text=TowerConfig(width=8, layers=1, heads=2),
    vocabulary=20,
    context=6,
)


@pytest.fixture
def watched(watch: Callable[..., Any]) -> Any:
    """Two clips of three frames."""
    torch.manual_seed(0)
    xclip = XCLIP(CONFIG)
    with torch.no_grad():
        for name, parameter in xclip.named_parameters():
            parameter.normal_(0, 0.4) if name != "logit_scale" else parameter.fill_(2.0)
    model = VideoClassifier(xclip, torch.randn(LABELS, CONFIG.embed))
    # Class tokens start alike, so the first messages would all be the same: these have something to say.
    started = torch.randn(BATCH * TIME, 1, CONFIG.vision.width).double()
    model.vision.norm_pre.register_forward_hook(lambda module, inputs, output: output + started)
    return watch(model, frames=torch.randn(BATCH, TIME, 3, 16, 16))


def inside(watched: Any, layer: int) -> Tensor:
    """Attention within frames, class token first, message last: [B, T, H, 1+P+1, 1+P+1]."""
    found = watched.seen[f"vision.blocks.{layer}.frame.attention"].probabilities.detach()
    assert found.shape == (BATCH * TIME, HEADS, PATCHES + 2, PATCHES + 2)
    return torch.stack([torch.stack([found[b * TIME + t] for t in range(TIME)]) for b in range(BATCH)])


def spoken(watched: Any, layer: int) -> Tensor:
    """Attention among messages: [B, H, T, T]."""
    return watched.seen[f"vision.blocks.{layer}.message_attention"].probabilities.detach()


def grid(row: Tensor) -> Tensor:
    """Of a row over the tokens of a frame the patches: [..., 1+P+1] -> [..., rows, columns]."""
    lines = [torch.stack([row[..., 1 + y * GRID[1] + x] for x in range(GRID[1])], -1) for y in range(GRID[0])]
    return torch.stack(lines, -2)


def test_class_rows_are_those_of_each_frame(watched: Any, close: Check) -> None:
    for layer, found in enumerate(watched.map("cls")):
        assert found.shape == (BATCH, HEADS, TIME, *GRID)
        for t in range(TIME):
            close(found[:, :, t], grid(inside(watched, layer)[:, t, :, 0]))


def test_received_is_the_sum_over_the_queries_of_a_frame(watched: Any, close: Check) -> None:
    for layer, found in enumerate(watched.map("received")):
        assert found.shape == (BATCH, TIME, *GRID)
        for t in range(TIME):
            expected = torch.zeros(BATCH, PATCHES + 2, dtype=torch.float64)
            for head in range(HEADS):
                for query in range(PATCHES + 2):
                    expected += inside(watched, layer)[:, t, head, query] / HEADS
            close(found[:, t], grid(expected))


def test_value_norm_is_the_length_of_what_a_frames_class_token_is_given(watched: Any, close: Check) -> None:
    for layer, found in enumerate(watched.map("value_norm")):
        given = watched.seen[f"vision.blocks.{layer}.frame.attention"].given().detach()  # [B*T, H, N, D]
        for b in range(BATCH):
            for t in range(TIME):
                added = inside(watched, layer)[b, t, :, 0, :, None] * given[b * TIME + t]
                close(found[b, :, t], grid(added.norm(dim=-1)))


@pytest.mark.parametrize("layer", range(3))
@pytest.mark.parametrize("frame", range(TIME))
def test_attention_is_that_of_the_tokens_and_the_frame_that_were_asked_for(
    layer: int, frame: int, watched: Any, close: Check
) -> None:
    for rows in (torch.arange(PATCHES + 2), torch.tensor([4]), torch.tensor([5, 0])):
        (found,) = watched.map("attention", layer=f"vision.{layer}", rows=rows, frame=torch.tensor([frame]))
        close(found, grid(inside(watched, layer)[:, frame][:, :, rows]))


def test_messages_and_temporal_attention_are_the_softmax_of_every_head(watched: Any, close: Check) -> None:
    for layer, found in enumerate(watched.map("message")):
        close(found, spoken(watched, layer))
    temporal = [watched.seen[f"temporal.blocks.{index}.attention"].probabilities.detach() for index in (0, 1)]
    for found, expected in zip(watched.map("temporal"), temporal, strict=True):
        close(found, expected)
    close(watched.map("importance")[0], temporal[-1].mean((1, 2)))


def test_label_patches_are_the_softmax_of_the_prompts(watched: Any, close: Check) -> None:
    for index, found in enumerate(watched.map("label_patches")):
        rows = watched.seen[f"prompts.blocks.{index}.attention"].probabilities.detach()  # [B, H, K, P]
        close(found, grid(torch.nn.functional.pad(rows, (1, 1))))


def rolled_out(watched: Any, explicit: Any, clip: int, **how: Any) -> Tensor:
    """The whole row over (t, i) [T, 1+P]: products of matrices of T(1+P) squared, filled entry by entry."""
    size = 1 + PATCHES
    steps = []
    for layer in range(3):
        within = [explicit.mixing(inside(watched, layer)[clip, t, :, :-1], **how) for t in range(TIME)]
        heard = explicit.mixing(spoken(watched, layer)[clip], **how)
        step = torch.zeros(TIME * size, TIME * size, dtype=torch.float64)
        for t in range(TIME):
            for i in range(size):
                for j in range(size):
                    step[t * size + i, t * size + j] += within[t][i, j]
                for u in range(TIME):
                    step[t * size + i, u * size] += within[t][i, size] * heard[t, u]
        torch.testing.assert_close(step.sum(1), torch.ones(TIME * size).double(), rtol=0, atol=1e-12)
        steps.append(step)
    last = watched.seen["temporal.blocks.1.attention"].probabilities.detach()[clip]
    weights = explicit.mixing(last, **how).mean(0)
    product = explicit.product(steps)
    row = sum(weights[t] * product[t * size] for t in range(TIME))
    assert float(row.sum()) == pytest.approx(1)
    return row.view(TIME, size)


def test_rollout_is_the_product_of_whole_matrices(watched: Any, close: Check, explicit: Any) -> None:
    (found,) = watched.map("rollout")
    for clip in range(BATCH):
        close(found[clip], rolled_out(watched, explicit, clip)[:, 1:].unflatten(-1, GRID))


@pytest.mark.parametrize("discard", [0.0, 0.3, 0.5])
def test_a_tuned_rollout_is_fused_and_discarded_for_each_clip(
    discard: float, watched: Any, close: Check, explicit: Any
) -> None:
    for ways in (("mean", "max"), ("min", "mean"), ("max", "min")):
        fuse = torch.tensor([("mean", "max", "min").index(way) for way in ways])
        share = torch.tensor([discard, 0.5], dtype=torch.float64)
        (found,) = watched.map("rollout", tuned=True, fuse=fuse, discard=share)
        for clip, way in enumerate(ways):
            expected = rolled_out(watched, explicit, clip, fuse=way, discard=float(share[clip]))
            close(found[clip], expected[:, 1:].unflatten(-1, GRID))


WIDE = (2, 3)  # a grid whose rows and columns differ, as no X-CLIP has it


def marked(frame: int, row: int, column: int) -> list[Tensor]:
    """Query and key of one clip where every class token looks for what one patch alone has."""
    query, key = torch.zeros(1, TIME, 6 + 2, 4), torch.zeros(1, TIME, 6 + 2, 4)
    query[:, :, 0] = 10
    key[0, frame, 1 + row * WIDE[1] + column] = 10
    return [query, key]


@pytest.mark.parametrize(("frame", "row", "column"), [(0, 0, 0), (1, 0, 2), (2, 1, 0), (0, 1, 2)])
def test_a_marked_patch_lands_in_its_frame_row_and_column(frame: int, row: int, column: int) -> None:
    taps = marked(frame, row, column)
    (found,) = FrameClassRows(["a"], heads=1, grid=WIDE)(*taps)
    assert found[0, 0, frame, row, column] == pytest.approx(1)
    others = found[0, 0].clone()
    others[frame, row, column] = 0
    assert others[frame].abs().max() < 1e-6
    assert others.max() < 0.2  # the other frames are uniform over eight tokens

    nothing = [torch.zeros(1, TIME, 4)] * 2
    rollout = SpaceTimeRollout(["a"], ["m"], "t", heads=1, temporal_heads=1, grid=WIDE)
    (place,) = rollout(*taps, *nothing, *nothing)
    assert place[0].argmax() == frame * 6 + row * WIDE[1] + column
    assert place[0, frame, row, column] == pytest.approx(1 / 6)  # a third of the clip, half by attention

    prompt = LabelPatches(["p"], heads=1, grid=WIDE)
    (patches,) = prompt(taps[0][:, frame, :1], taps[1][:, frame, 1:-1])
    assert patches[0, 0, 0, row, column] == pytest.approx(1)


def test_a_patch_of_the_picture_is_the_key_at_its_row_and_column() -> None:
    torch.manual_seed(0)
    model = VideoClassifier(XCLIP(replace(CONFIG, image=24)), torch.randn(LABELS, CONFIG.embed)).eval()
    plain = torch.randn(1, TIME, 3, 24, 24)
    changed = plain.clone()
    changed[0, 1, :, 16:24, 0:8] += 1  # frame 1, row 2, column 0 of three by three
    with torch.no_grad():
        difference = model(changed)[1]["vision.0.key"] - model(plain)[1]["vision.0.key"]
    moved = difference.abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().tolist() == [[1, 1 + 2 * 3 + 0]]
