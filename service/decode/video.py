"""Clips to frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.bundle import VideoInput
from service.decode.budget import Budget
from service.decode.clip import FIELD, check_size, open_clip, tame
from service.decode.item import VideoItem
from service.decode.limits import Limits
from service.decode.media import CLIPS, identify
from service.decode.preprocess import Preprocessor


class VideoDecoder:
    """MP4, QuickTime, WebM, Matroska or GIF to `frames` [T, 3, h, w] float32; safe in several threads."""

    def __init__(self, spec: VideoInput, limits: Limits | None = None, budget: Budget | None = None) -> None:
        self._spec = spec
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits)
        self._preprocessor = Preprocessor(spec=spec, limits=self._limits, field=FIELD)

    def decode(self, data: bytes, *, content_type: str | None = None) -> VideoItem:
        """T frames spread over the clip, upright and in RGB; a clip of fewer shows some of them again.

        Frames are counted in the file, whatever its header says: what a cut-off file still holds is the clip.
        Raises InvalidInput, TooLarge, UnsupportedMedia, Undecodable, Overloaded.
        """
        media = identify(data, declared=content_type, accepted=CLIPS, field=FIELD)
        limits, wanted = self._limits, self._spec.frames
        tamed = tame(data, media, limits)
        check_size(tamed.size, limits)
        width, height = tamed.size
        limits.hold(
            "max_clip_pixels",
            width * height * wanted,
            field=FIELD,
            what=f"pixels in {wanted} sampled frames",
        )
        coded = tamed.coded_pixels(limits)
        nbytes = tamed.peak(coded) + self._peak(width, height, coded)
        with self._budget.reserve(nbytes, field=FIELD) as reservation:
            with open_clip(tamed, media=media, limits=limits, coded=coded, reservation=reservation) as clip:
                indices = sample(len(clip), wanted)
                pictures = clip.pictures(indices)
                timestamps = tuple(clip.seconds(index) for index in indices)
                total, duration = len(clip), clip.duration
            resize = self._preprocessor.peak
            reservation.grow(resize(pictures.shape[2], pictures.shape[1]) - resize(width, height))
            return self._item(
                pictures, media=media, indices=indices, timestamps=timestamps, total=total, duration=duration
            )

    def _peak(self, width: int, height: int, coded: int) -> int:
        """Bytes of memory for the sampled frames, two more on their way, and the tensors."""
        tensors = 4 * 3 * self._spec.height * self._spec.width
        wanted = self._spec.frames
        return 3 * (wanted + 2) * coded + 2 * wanted * tensors + self._preprocessor.peak(width, height)

    def blank(self) -> VideoItem:
        """A black clip, for warming up."""
        indices = tuple(range(self._spec.frames))
        return self._item(
            np.zeros((len(indices), self._spec.height, self._spec.width, 3), np.uint8),
            media="video/mp4",
            indices=indices,
            timestamps=tuple(float(index) for index in indices),
            total=len(indices),
            duration=float(len(indices)),
        )

    def _item(
        self,
        pictures: NDArray[np.uint8],
        *,
        media: str,
        indices: tuple[int, ...],
        timestamps: tuple[float, ...],
        total: int,
        duration: float,
    ) -> VideoItem:
        _, height, width, _ = pictures.shape
        view = self._preprocessor.view(width, height)
        ready: dict[int, NDArray[np.float32]] = {
            index: self._preprocessor.pixels(Image.fromarray(pictures[row]), view)
            for row, index in enumerate(indices)
            if row == 0 or index != indices[row - 1]
        }
        return VideoItem(
            tensors={"frames": np.stack([ready[index] for index in indices])},
            original=pictures,
            view=view,
            format=media,
            indices=indices,
            timestamps=timestamps,
            total=total,
            duration=duration,
        )


def sample(total: int, frames: int) -> tuple[int, ...]:
    """Frame floor((i + 0.5) N / T) of N for i in 0..T-1."""
    return tuple((2 * i + 1) * total // (2 * frames) for i in range(frames))
