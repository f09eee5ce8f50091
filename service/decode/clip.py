"""A clip's packets and frames, by their place in the order they are shown."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.decode import boxes, ebml
from service.decode.budget import Reservation
from service.decode.container import Tamed, beyond, tame_gif
from service.decode.limits import Deadline, Limits
from service.errors import Undecodable

FIELD = "video"

# The demuxer is named, never guessed: none that opens playlists or other files can be reached.
_DEMUXERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "image/gif": "gif",
}
_CODECS = ("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mjpeg", "gif")
_VP8_SHOWN = 0x10


class Stretch(NamedTuple):
    """Packets first..last, to be decoded in one go."""

    first: int
    last: int


class Mark:
    """Rides on a packet and comes out on its frame.

    PyAV keeps such objects by identity for the whole process: numbers, of which small ones are shared,
    would be dropped for one clip when another is done with them.
    """

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


class Clip:
    """The video stream of a container that is open; frames are counted by reading its packets.

    `shown` are the positions of the packets that show a frame, in the order of presentation.
    """

    def __init__(
        self,
        *,
        container: InputContainer,
        stream: VideoStream,
        length: int,
        limits: Limits,
        deadline: Deadline,
    ) -> None:
        self._limits = limits
        self._deadline = deadline
        self._stream = stream
        self._codec: VideoCodecContext = stream.codec_context
        self._packets = self._demux(container, length)
        # Without times, packets are taken to be shown in their order and at the frame rate.
        self._timed = bool(stream.time_base) and all(packet.pts is not None for packet in self._packets)
        self._tick = float(stream.time_base or 0)
        self._interval = float(1 / stream.average_rate) if stream.average_rate else 0.0
        self.shown = self._order()
        if not self.shown:
            raise Undecodable("the clip has no frames", field=FIELD)
        limits.hold("max_clip_seconds", self.duration, field=FIELD, what="seconds")

    def __len__(self) -> int:
        return len(self.shown)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        last = self._packets[self.shown[-1]]
        lasting = (last.duration or 0) * self._tick if self._timed else 0.0
        return self.seconds(len(self) - 1) + (lasting or self._interval)

    def seconds(self, index: int) -> float:
        """When a frame is shown, counted from the first."""
        if not self._timed:
            return index * self._interval
        return (self._time(self.shown[index]) - self._time(self.shown[0])) * self._tick

    def pictures(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames by index as upright RGB [T, H, W, 3]; no stretch of the clip is decoded twice."""
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            rows.setdefault(self.shown[index], []).append(row)
        stretches = self._stretches(rows)
        work = sum(stretch.last - stretch.first + 1 for stretch in stretches)
        self._limits.hold(
            "max_decoded_frames", work, field=FIELD, what="frames to decode to reach the sampled ones"
        )
        pictures, missing = np.empty((len(indices), 0, 0, 3), np.uint8), set(rows)
        for stretch in stretches:
            for frame in self._decode(stretch):
                mark = frame.opaque
                if not isinstance(mark, Mark) or mark.position not in rows:
                    continue
                picture = _rgb(frame)
                if not pictures.size:
                    pictures = np.empty((len(indices), *picture.shape), np.uint8)
                if picture.shape != pictures.shape[1:]:
                    raise Undecodable("the clip's frames are not all of one size", field=FIELD)
                pictures[rows[mark.position]] = picture
                missing.discard(mark.position)
        for index in indices:
            if self.shown[index] in missing:
                raise Undecodable(f"frame {index} of {len(self)} cannot be decoded", field=FIELD)
        return pictures

    def _demux(self, container: InputContainer, length: int) -> list[Packet[VideoStream]]:
        for other in container.streams:
            if other.index != self._stream.index:
                other.discard = Discard.all
        packets: list[Packet[VideoStream]] = []
        total = 0
        for packet in container.demux(self._stream):
            self._deadline.check()
            if not packet.size or packet.is_corrupt:  # the mark of the end; a packet the file's end cuts off
                continue
            packet.opaque = Mark(len(packets))
            packets.append(packet)
            total += packet.size
            self._limits.hold("max_clip_frames", len(packets), field=FIELD, what="frames or more")
            if total > 2 * length:
                raise Undecodable("the container's frames are larger than the container", field=FIELD)
        return packets

    def _order(self) -> list[int]:
        shown = [
            i for i, packet in enumerate(self._packets) if not packet.is_discard and not self._hidden(packet)
        ]
        return sorted(shown, key=self._time) if self._timed else shown

    def _hidden(self, packet: Packet[VideoStream]) -> bool:
        """VP8 packs the pictures it only predicts from as packets of their own (RFC 6386, 9.1)."""
        return self._codec.name == "vp8" and not memoryview(packet)[0] & _VP8_SHOWN

    def _time(self, position: int) -> int:
        return self._packets[position].pts or 0

    def _stretches(self, positions: Iterable[int]) -> list[Stretch]:
        """What must be decoded to see these packets' frames: merged, in order."""
        merged: list[Stretch] = []
        for stretch in sorted(Stretch(self._keyframe(position), position) for position in positions):
            if merged and stretch.first <= merged[-1].last + 1:
                merged[-1] = Stretch(merged[-1].first, max(merged[-1].last, stretch.last))
            else:
                merged.append(stretch)
        return merged

    def _keyframe(self, position: int) -> int:
        """The keyframe to start from: before the frame in the file and no later in presentation.

        A frame shown before the keyframe it follows in the file needs the group of pictures before.
        """
        if self._codec.name == "gif":  # each picture is drawn over what is there
            return 0
        for candidate in range(position, 0, -1):
            if self._packets[candidate].is_keyframe and (
                not self._timed or self._time(candidate) <= self._time(position)
            ):
                return candidate
        return 0

    def _decode(self, stretch: Stretch) -> Iterator[VideoFrame]:
        for packet in self._packets[stretch.first : stretch.last + 1]:
            self._deadline.check()
            yield from self._codec.decode(packet)
        yield from self._codec.decode(None)
        self._codec.flush_buffers()


def tame(data: bytes, media: str, limits: Limits) -> Tamed:
    """What a demuxer may see of a clip. Raises TooLarge, Undecodable."""
    demuxer = _DEMUXERS[media]
    if demuxer == "gif":
        return tame_gif(data)
    return boxes.tame(data, limits) if demuxer == "mov" else ebml.tame(data, limits)


@contextmanager
def open_clip(
    tamed: Tamed, *, media: str, limits: Limits, coded: int, reservation: Reservation
) -> Iterator[Clip]:
    """The clip whose media type and memory are known. Raises TooLarge, Undecodable, in the block too.

    `coded` bounds the pixels of a frame. Raises Overloaded where the pixel format is a rare one that needs
    more memory than was reserved, and there is none.
    """
    deadline = Deadline(limits=limits, field=FIELD)
    # `threads`: requests are decoded side by side, frames one after the other.
    options = {"threads": "1", "max_pixels": str(coded), "codec_whitelist": ",".join(_CODECS)}
    try:
        with av.open(
            io.BytesIO(tamed.data),
            "r",
            format=_DEMUXERS[media],
            options=options,
            container_options={"max_streams": str(limits.max_streams + 1)},
            metadata_errors="replace",
            io_open=_refuse,
            timeout=limits.decode_seconds,
        ) as container:
            limits.hold("max_streams", len(container.streams), field=FIELD, what="streams or more")
            stream = _stream(container)
            check_size((stream.codec_context.width, stream.codec_context.height), limits)
            if (format := stream.codec_context.format) is not None:
                bits = format.padded_bits_per_pixel
                reservation.grow(beyond(coded, bits, gif=media == "image/gif"))
            stream.codec_context.options = options
            stream.codec_context.thread_count = 1
            stream.codec_context.copy_opaque = True  # a frame tells which packet it came from
            yield Clip(
                container=container,
                stream=stream,
                length=len(tamed.data),
                limits=limits,
                deadline=deadline,
            )
    except (av.FFmpegError, ValueError) as error:
        deadline.check()
        raise Undecodable(f"the {media} cannot be decoded: {_reason(error)}", field=FIELD) from error


def _stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no cover picture, if its codec is read here."""
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        context: Any = stream.codec_context
        if context is None or context.codec.name not in _CODECS:
            name = "unknown" if context is None else context.codec.name
            raise Undecodable(f"the clip's codec ({name}) is not one of {', '.join(_CODECS)}", field=FIELD)
        return stream
    raise Undecodable("the container has no video stream", field=FIELD)


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Raise TooLarge for a frame beyond `max_pixels`."""
    width, height = size
    limits.hold("max_pixels", width * height, field=FIELD, what=f"pixels in a frame ({width}x{height})")


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    if frame.is_corrupt:
        raise Undecodable("a sampled frame is damaged", field=FIELD)
    picture = frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
    quarters, rest = divmod(frame.rotation, 90)  # counterclockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters and not rest else picture


def _reason(error: Exception) -> str:
    """The library's own few words, without its numbers and file names."""
    return str(getattr(error, "strerror", None) or "damaged data").lower()


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a clip may not open anything else")
