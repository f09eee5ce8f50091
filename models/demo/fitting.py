"""The training loop of the digit models: AdamW, warmup, cosine, a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn


def fit(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    title: str,
    steps: int,
    rate: float,
    decay: float = 0.05,
    warmup: float = 0.05,
    clip: float = 1.0,
) -> None:
    """Train on `steps` values of `loss`, each of a new batch.

    `rate` is reached after the share `warmup` of the steps and falls to 0 along a cosine. Matrices alone are
    decayed; gradients are cut to the norm `clip`.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share(step / steps, max(warmup, 1 / steps))
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    model.train()
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=steps, loss=math.nan)
        smooth = math.nan
        for _ in range(steps):
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            smooth = value.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * value.item()
            progress.update(task, advance=1, loss=smooth)
    model.eval()


def _share(done: float, warmup: float) -> float:
    """Of the full learning rate, after this share of the steps."""
    if done < warmup:
        return done / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))
