"""Gradient relevance and Grad-SAM, summed up on the way back through a model.

Both are made of mean_h (A * dy/dA)+ of each layer, which the adjoints hand out as its relevance [B, N, M].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_token(like: Tensor) -> Tensor:
    """1 for the first token, 0 for every other: like [..., N, D] -> [N]."""
    return (torch.arange(like.shape[-2], device=like.device) == 0).to(like.dtype)


class Relevance:
    """From the last layer of an encoder to its first.

    `row` [B, N] is the class token's row of R, which begins as I and takes R += A R at each layer
    (Chefer et al. 2021, eqs. 5, 6), as a chain of row-by-matrix products; `received` [B, N] sums
    A * (dy/dA)+ over layers and queries (Barkan et al. 2021, Grad-SAM), mean over heads.
    """

    def __init__(self, tokens: Tensor) -> None:
        """tokens [B, N, D]: any tensor of the encoder."""
        self._start = class_token(tokens).expand(tokens.shape[0], -1)
        self._row = self._start
        self._received: Tensor | None = None

    def through(self, relevance: Tensor) -> None:
        """One layer further towards the input: relevance [B, N, N]."""
        self._row = self._row + (self._row[:, None] @ relevance)[:, 0]
        received = relevance.sum(1)
        self._received = received if self._received is None else self._received + received

    @property
    def row(self) -> Tensor:
        """Less the identity that it began with, which is no relevance of the input: [B, N]."""
        return self._row - self._start

    def received(self, layers: int, queries: Tensor | int) -> Tensor:
        """The mean over this many layers and over queries, [B] where their number differs: [B, N]."""
        assert self._received is not None
        many = queries if isinstance(queries, int) else queries[:, None]
        return self._received / (layers * many)


class SpaceTimeRelevance:
    """Relevance through the patches of all frames and the messages between frames; from the last block of the
    vision tower to its first.

    Tokens are (t, i), the class token of each frame first. The row begins with what the head takes of them:
    of the class tokens the mean over frames through the blocks over frames, of the patches what the label's
    prompt saw of their mean. In each block, with S_t the relevance within a frame, m its message token and M
    that among messages: R[(t,i),(u,j)] = d + S_t[i,j] d_tu + S_t[i,m] (d_tu + M[t,u]) d_j,cls.
    """

    def __init__(self, tokens: Tensor, listened: Sequence[Tensor], looked: Sequence[Tensor]) -> None:
        """tokens [B, T, 1+P, D]; relevance, last block first: listened [B, T, T], looked [B, 1, P]."""
        time = tokens.shape[1]
        frames = torch.full_like(tokens[:, :, 0, 0], 1 / time)[:, None]  # [B, 1, T]
        for relevance in listened:
            frames = frames + frames @ relevance
        seen = torch.zeros_like(tokens[:, 0, 1:, 0])[:, None]  # [B, 1, P]
        for relevance in looked:
            seen = seen + relevance
        patches = (seen / time).expand(-1, time, -1)
        self._is_class = class_token(tokens)
        self._row = torch.cat([frames[:, 0, :, None], patches], 2)  # [B, T, 1+P]
        self._received = torch.zeros_like(patches)

    def through(self, relevance: Tensor, spoken: Tensor) -> None:
        """One block further towards the input: relevance [B*T, 1+P+1, 1+P+1], spoken [B, T, T]."""
        time = self._row.shape[1]
        inside = relevance.unflatten(0, (-1, time))  # [B, T, 1+P+1, 1+P+1]
        through = (self._row[:, :, None] @ inside[:, :, :-1])[:, :, 0]  # [B, T, 1+P+1]
        message = through[:, :, -1]
        heard = message + (message[:, None] @ spoken)[:, 0]
        self._row = self._row + through[:, :, :-1] + heard[:, :, None] * self._is_class
        self._received = self._received + inside.sum(2)[:, :, 1:-1]

    @property
    def patches(self) -> Tensor:
        """[B, T, P]."""
        return self._row[:, :, 1:]

    def received(self, layers: int) -> Tensor:
        """Grad-SAM within frames, the mean over this many layers and over queries: [B, T, P]."""
        return self._received / (layers * (self._row.shape[2] + 1))
