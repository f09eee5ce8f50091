"""Clips to frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.bundle import VideoInput
from service.decode.clip import FIELD, Pictures, open_clip
from service.decode.item import VideoItem
from service.decode.limits import Limits
from service.decode.media import CLIPS, identify
from service.decode.preprocess import Preprocessor
from service.errors import Undecodable


class VideoDecoder:
    """MP4, QuickTime, WebM, Matroska or GIF to `frames` [T, 3, h, w] float32; safe in several threads."""

    def __init__(self, spec: VideoInput, limits: Limits | None = None) -> None:
        self._spec = spec
        self._limits = limits or Limits()
        self._preprocessor = Preprocessor(spec=spec, limits=self._limits, field=FIELD)

    def decode(self, data: bytes, *, content_type: str | None = None) -> VideoItem:
        """T frames spread over the clip, upright and in RGB; a clip of fewer shows some of them again.

        Frames are counted in the file, whatever its header says: what a cut-off file still holds is the clip.
        Raises InvalidInput, TooLarge, UnsupportedMedia, Undecodable.
        """
        media = identify(data, declared=content_type, accepted=CLIPS, field=FIELD)
        limits, wanted = self._limits, self._spec.frames
        max_pixels = min(limits.max_pixels, limits.max_clip_pixels // wanted)
        with open_clip(data, media=media, limits=limits, max_pixels=max_pixels) as clip:
            width, height = clip.size
            limits.hold(
                "max_clip_pixels",
                width * height * wanted,
                field=FIELD,
                what=f"pixels in {wanted} sampled frames",
            )
            indices = sample(len(clip), wanted)
            pictures = clip.pictures(indices)
            timestamps = tuple(clip.seconds(index) for index in indices)
            total, duration = len(clip), clip.duration
        return self._item(
            pictures, media=media, indices=indices, timestamps=timestamps, total=total, duration=duration
        )

    def blank(self) -> VideoItem:
        """A black clip, for warming up."""
        indices = tuple(range(self._spec.frames))
        black = np.zeros((self._spec.height, self._spec.width, 3), np.uint8)
        return self._item(
            dict.fromkeys(indices, black),
            media="video/mp4",
            indices=indices,
            timestamps=tuple(float(index) for index in indices),
            total=len(indices),
            duration=float(len(indices)),
        )

    def _item(
        self,
        pictures: Pictures,
        *,
        media: str,
        indices: tuple[int, ...],
        timestamps: tuple[float, ...],
        total: int,
        duration: float,
    ) -> VideoItem:
        first = pictures[indices[0]]
        if any(picture.shape != first.shape for picture in pictures.values()):
            raise Undecodable("the clip's frames are not all of one size", field=FIELD)
        height, width, _ = first.shape
        view = self._preprocessor.view(width, height)
        ready: dict[int, NDArray[np.float32]] = {
            index: self._preprocessor.pixels(Image.fromarray(picture), view)
            for index, picture in pictures.items()
        }
        return VideoItem(
            tensors={"frames": np.stack([ready[index] for index in indices])},
            original=np.stack([pictures[index] for index in indices]),
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
