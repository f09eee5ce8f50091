"""Every map of a vision transformer against explicit float64 matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.vit import VisionTransformer, ViTConfig

GRID = (3, 4)  # rows and columns: another number of each, so that their order shows
Check = Callable[..., None]


def config(**changes: Any) -> ViTConfig:
    sizes = {"image": (12, 16), "patch": (4, 4), "labels": 5, "width": 36, "layers": 3, "heads": 6}
    return ViTConfig(**sizes, feedforward=48, **changes)  # type: ignore[arg-type]


CONFIGS = {
    "class token": config(),
    "distillation token": config(distillation=True, qkv_bias=False),
    "teacher": config(distillation=True, teacher=True),
}


@pytest.fixture(params=CONFIGS)
def watched(request: pytest.FixtureRequest, watch: Callable[..., Any]) -> Any:
    """Two pictures."""
    torch.manual_seed(0)
    model = VisionTransformer(CONFIGS[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return watch(model, pixels=torch.randn(2, 3, 12, 16))


def probabilities(watched: Any) -> list[Tensor]:
    """[B, H, N, N] of each layer."""
    return [watched.seen[f"blocks.{index}.attention"].probabilities.detach() for index in range(3)]


def grid(watched: Any, row: Tensor) -> Tensor:
    """Of a row over tokens the patches, one by one: [..., N] -> [..., rows, columns]."""
    first = 2 if watched.model.config.distillation else 1
    assert row.shape[-1] == first + GRID[0] * GRID[1]
    lines = [
        torch.stack([row[..., first + y * GRID[1] + x] for x in range(GRID[1])], -1) for y in range(GRID[0])
    ]
    return torch.stack(lines, -2)


def test_rows_are_those_of_the_class_and_of_the_distillation_token(watched: Any, close: Check) -> None:
    names = ["cls", "distillation"] if watched.model.config.distillation else ["cls"]
    assert ("distillation" in watched.model.programs()) == (len(names) == 2)
    for token, name in enumerate(names):
        for found, layer in zip(watched.map(name), probabilities(watched), strict=True):
            close(found, grid(watched, layer[:, :, token]))


def test_received_is_the_sum_over_all_queries(watched: Any, close: Check) -> None:
    for found, layer in zip(watched.map("received"), probabilities(watched), strict=True):
        expected = torch.zeros_like(layer[:, 0, 0])
        for head in range(layer.shape[1]):
            for query in range(layer.shape[2]):
                expected += layer[:, head, query] / layer.shape[1]
        close(found, grid(watched, expected))


def test_value_norm_is_the_length_of_what_each_head_adds_for_each_patch(watched: Any, close: Check) -> None:
    for index, (found, layer) in enumerate(
        zip(watched.map("value_norm"), probabilities(watched), strict=True)
    ):
        given = watched.seen[f"blocks.{index}.attention"].given().detach()
        close(found, grid(watched, (layer[:, :, 0, :, None] * given).norm(dim=-1)))


def test_rollout_is_the_class_tokens_row_of_the_product(watched: Any, close: Check, explicit: Any) -> None:
    (found,) = watched.map("rollout")
    for place in range(2):
        product = explicit.product([explicit.mixing(layer[place]) for layer in probabilities(watched)])
        close(found[place], grid(watched, product[0]))


@pytest.mark.parametrize("discard", [0.0, 0.3, 0.9])
def test_a_tuned_rollout_is_fused_and_discarded_for_each_picture(
    discard: float, watched: Any, close: Check, explicit: Any
) -> None:
    for ways in (("mean", "max"), ("min", "mean"), ("max", "min")):
        fuse = torch.tensor([("mean", "max", "min").index(way) for way in ways])
        share = torch.tensor([discard, 0.5], dtype=torch.float64)
        (found,) = watched.map("rollout", tuned=True, fuse=fuse, discard=share)
        for place, way in enumerate(ways):
            steps = [
                explicit.mixing(layer[place], fuse=way, discard=float(share[place]))
                for layer in probabilities(watched)
            ]
            close(found[place], grid(watched, explicit.product(steps)[0]))


@pytest.mark.parametrize("layer", range(3))
def test_attention_is_that_of_the_tokens_that_were_asked_for(layer: int, watched: Any, close: Check) -> None:
    whole = probabilities(watched)[layer]
    for rows in (torch.arange(whole.shape[2]), torch.tensor([5]), torch.tensor([2, 0, 12])):
        (found,) = watched.map("attention", layer=f"layers.{layer}", rows=rows)
        close(found, grid(watched, whole[:, :, rows]))


def test_a_patch_is_the_query_that_comes_so_many_tokens_after_those_before_the_patches(watched: Any) -> None:
    """Queries count from the first token, keys are patches alone: each looks at itself here."""
    before = watched.model.programs()["attention"].tokens_before
    query, key = torch.zeros(2, 1, before + 12, 36)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            token = before + row * GRID[1] + column
            query[0, token, token] = key[0, token, token] = 10.0
    (found,) = watched.map(
        "attention", layer="layers.0", query=query, key=key, rows=torch.arange(before, before + 12)
    )
    assert found[0].amax(0).flatten(-2).argmax(-1).tolist() == list(range(12))
