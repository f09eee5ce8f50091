from __future__ import annotations

import contextlib
import io
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.bundle import ImageInput, VideoInput
from service.decode import clip as clips
from service.decode.image import ImageDecoder
from service.decode.item import VideoItem
from service.decode.limits import Limits
from service.decode.video import VideoDecoder, sample
from service.errors import InvalidInput, Problem, TooLarge, Undecodable, UnsupportedMedia

STEP = 36  # between two grey levels, so that eight of them survive any codec


def picture(number: int, size: tuple[int, int] = (96, 64)) -> NDArray[np.uint8]:
    """A frame that says its number: three stripes, digits in base eight."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    for place, stripe in enumerate(np.array_split(frame, 3, axis=1)):
        stripe[...] = number // 8 ** (2 - place) % 8 * STEP
    return frame


def number(frame: NDArray[np.uint8]) -> int:
    """What `picture` said."""
    digits = [round(float(stripe[..., 0].mean()) / STEP) for stripe in np.array_split(frame, 3, axis=1)]
    return digits[0] * 64 + digits[1] * 8 + digits[2]


def write(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 30,
    rate: int = 10,
    gop: int = 12,
    b_frames: int = 0,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (96, 64),
    options: dict[str, str] | None = None,
    flags: str = "",
    sound: bool = False,
    streams: int = 1,
) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        with av.open(
            file.name, "w", format=container, options={"movflags": flags} if flags else {}
        ) as output:
            voice = output.add_stream("aac", rate=44100, layout="mono") if sound else None
            tracks: list[Any] = [output.add_stream(codec, rate=rate) for _ in range(streams)]
            for track in tracks:
                track.width, track.height = size
                track.pix_fmt = pixels
                track.options = options or {}
                track.codec_context.gop_size = gop
                track.codec_context.max_b_frames = b_frames
            if voice is not None:
                for packet in [*voice.encode(silence(44100)), *voice.encode(None)]:
                    output.mux(packet)
            for track in tracks:
                for index in range(frames):
                    frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
                    frame = frame.reformat(format=pixels)
                    frame.pts, frame.time_base = index, Fraction(1, rate)
                    output.mux(track.encode(frame))
                output.mux(track.encode(None))
        return Path(file.name).read_bytes()


def silence(samples: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 44100, 0
    return frame


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: write(),
    "mp4, B-frames": lambda: write(b_frames=3, gop=24),
    "mp4, one long group": lambda: write(b_frames=2, gop=250),
    "mp4, open groups": lambda: write(b_frames=3, gop=8, options={"x264-params": "open-gop=1"}),
    "mp4, fragments": lambda: write(b_frames=2, flags="frag_keyframe+empty_moov+default_base_moof"),
    "mp4, indexed fragments": lambda: write(flags="dash+frag_keyframe+global_sidx"),
    "mp4, fragments with sound": lambda: write(
        flags="frag_keyframe+empty_moov+default_base_moof", sound=True
    ),
    "mp4, with sound": lambda: write(b_frames=3, sound=True),
    "mp4, index first": lambda: write(flags="faststart"),
    "mp4, HEVC": lambda: write(
        codec="libx265", b_frames=3, size=(128, 96), options={"x265-params": "log-level=none"}
    ),
    "mp4, MPEG-4": lambda: write(codec="mpeg4", b_frames=1),
    "mov": lambda: write("mov", b_frames=3),
    "webm, VP8": lambda: write("webm", "libvpx"),
    "webm, VP9": lambda: write("webm", "libvpx-vp9"),
    "mkv, H.264": lambda: write("matroska", b_frames=3),
    "gif": lambda: write("gif", "gif", pixels="rgb8"),
}
MEDIA = {"mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm", "mkv": "video/x-matroska"}


def spec(frames: int = 5, **changes: Any) -> VideoInput:
    fields: dict[str, Any] = {
        "height": 32,
        "width": 32,
        "resize_to": 36,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "frames": frames,
    }
    return VideoInput(**(fields | changes))


def decode(data: bytes, frames: int = 5, limits: Limits | None = None, **changes: Any) -> VideoItem:
    return VideoDecoder(spec(frames, **changes), limits).decode(data)


def numbers(item: VideoItem) -> list[int]:
    return [number(frame) for frame in item.original]


def patch(data: bytes, old: bytes, new: bytes, *, at: int = 0) -> bytes:
    """`data` with the bytes `at` after its only `old` overwritten."""
    assert data.count(old) == 1
    place = data.index(old) + at
    return data[:place] + new + data[place + len(new) :]


# Which frames


@pytest.mark.parametrize(
    ("total", "frames", "expected"),
    [
        (8, 8, (0, 1, 2, 3, 4, 5, 6, 7)),
        (16, 4, (2, 6, 10, 14)),
        (30, 4, (3, 11, 18, 26)),  # 3.75, 11.25, 18.75, 26.25
        (3, 8, (0, 0, 0, 1, 1, 2, 2, 2)),  # .1875 + .375 i
        (1, 4, (0, 0, 0, 0)),
    ],
)
def test_frames_are_the_middles_of_equal_parts(total: int, frames: int, expected: tuple[int, ...]) -> None:
    assert sample(total, frames) == expected


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("frames", [1, 5, 30])
def test_the_frames_sampled_are_the_frames_shown(kind: str, frames: int) -> None:
    item = decode(CONTAINERS[kind](), frames)
    assert numbers(item) == list(item.indices) == list(sample(30, frames))
    assert (item.total, item.duration) == (30, pytest.approx(3.0, abs=0.05))
    assert item.timestamps == pytest.approx([index / 10 for index in item.indices], abs=0.03)
    assert item.format == MEDIA.get(kind.partition(",")[0], "image/gif")


def test_a_short_clip_shows_frames_again() -> None:
    item = decode(write(frames=3), 8)
    assert numbers(item) == list(item.indices) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert item.tensors["frames"].shape == (8, 3, 32, 32)


def test_a_clip_of_one_frame_is_a_clip() -> None:
    item = decode(write(frames=1), 2)
    assert (numbers(item), item.timestamps, item.total) == ([0, 0], (0.0, 0.0), 1)


def test_frames_without_times_are_taken_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    original = clips.Clip._demux

    def timeless(self: clips.Clip, container: Any, length: int) -> list[Any]:
        packets = original(self, container, length)
        packets[4].pts = None
        return packets

    monkeypatch.setattr(clips.Clip, "_demux", timeless)
    item = decode(write("mp4", "mpeg4", frames=12), 12)
    assert numbers(item) == list(range(12))
    assert item.timestamps == pytest.approx([index / 10 for index in range(12)])
    assert item.duration == pytest.approx(1.2)


def test_a_hidden_packet_of_vp8_is_no_frame() -> None:
    data = bytearray(write("webm", "libvpx", frames=20, gop=60))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = bytes(data).index(packets[7])
    data[place] &= ~0x10  # show_frame
    item = decode(bytes(data), 19)
    assert item.total == 19
    assert numbers(item) == [index for index in range(20) if index != 7]


def test_frames_cut_by_an_edit_list_are_not_shown() -> None:
    data = write(frames=30, gop=30)
    # One edit: 2 s of 3 (in units of 1/1000), from the 6th frame on (in units of 1/10240).
    edited = patch(data, b"elst", struct.pack(">IIIIHH", 0, 1, 2000, 6 * 1024, 1, 0), at=4)
    item = decode(edited, 20)
    assert (item.total, numbers(item)) == (20, list(range(6, 26)))
    assert item.timestamps[0] == 0


def test_no_stretch_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    original = clips.Clip._decode

    def counting(self: clips.Clip, stretch: clips.Stretch) -> Iterator[av.VideoFrame]:
        fed.extend(range(stretch.first, stretch.last + 1))
        return original(self, stretch)

    monkeypatch.setattr(clips.Clip, "_decode", counting)
    decode(write(frames=200, gop=10, b_frames=2), 4)
    assert len(fed) == len(set(fed)) <= 4 * 14  # of 200: from the keyframe before each, not from the start
    fed.clear()
    decode(write(frames=40, gop=10, b_frames=2), 40)
    assert sorted(fed) == list(range(40))


# How they look


def test_frames_are_prepared_as_pictures_are() -> None:
    item = decode(write(size=(160, 90)), 3)
    fields = spec().model_dump(exclude={"kind", "frames"})
    for frame, tensor in zip(item.original, item.tensors["frames"], strict=True):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        expected = ImageDecoder(ImageInput(**fields)).decode(buffer.getvalue())
        np.testing.assert_array_equal(tensor, expected.tensors["pixels"])
        assert item.view == expected.view
    assert item.tensors["frames"].dtype == np.float32
    assert item.cost == 3 * 32 * 32


ROTATIONS = {  # the matrix of a track header: a, b, c, d of (x, y) -> (a x + c y, b x + d y)
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


@pytest.mark.parametrize("clockwise", ROTATIONS)
def test_a_clip_is_turned_as_its_camera_was(clockwise: int) -> None:
    data = write(frames=8, size=(96, 64))
    a, b, c, d = (value * 0x10000 for value in ROTATIONS[clockwise])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    item = decode(patch(data, b"tkhd", matrix, at=44), 2)
    stored = decode(data, 2)
    turned = [np.rot90(frame, -clockwise // 90) for frame in stored.original]
    np.testing.assert_array_equal(item.original, np.stack(turned))
    assert (item.view.width, item.view.height) == ((64, 96) if clockwise != 180 else (96, 64))


def test_transparent_parts_of_a_gif_are_white() -> None:
    frames = [Image.new("RGBA", (32, 24), (0, 0, 0, 0)) for _ in range(2)]
    for index, frame in enumerate(frames):
        frame.paste((0, 0, 255, 255), (8 * index, 0, 8 * index + 8, 24))
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    item = decode(buffer.getvalue(), 2)
    assert item.original[0, 0, 0].tolist() == [0, 0, 255]
    assert item.original[1, 0, 31].tolist() == [255, 255, 255]


# What containers say of themselves


def test_a_declared_duration_is_not_believed() -> None:
    data = write(frames=10)
    with av.open(io.BytesIO(data)) as container:
        ticks = container.streams.video[0].duration
    assert ticks == 10 * 1024
    item = decode(patch(data, b"mvhd", struct.pack(">I", 9_999_999), at=20), 2)
    assert item.duration == pytest.approx(1.0)
    item = decode(patch(data, b"mdhd", struct.pack(">I", 9_999_999), at=20), 2)
    assert (item.total, item.duration) == (10, pytest.approx(1.0))


@pytest.mark.parametrize(("declared", "found"), [(50, 30), (10, 10)])
def test_frames_are_those_that_are_there(declared: int, found: int) -> None:
    item = decode(patch(write(frames=30), b"stsz", struct.pack(">I", declared), at=12))
    assert item.total == found
    assert numbers(item) == list(item.indices) == list(sample(found, 5))


def test_a_clip_without_a_whole_frame_is_refused() -> None:
    with pytest.raises(Undecodable, match="no frames"):
        decode(patch(write(), b"stsz", struct.pack(">I", 0xFFFFFFFF), at=8))


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8])
def test_a_cut_off_clip_is_what_is_left_of_it(part: float) -> None:
    data = write("webm", "libvpx", frames=60)
    item = decode(data[: int(len(data) * part)], 4)
    assert item.total < 60
    assert numbers(item) == list(item.indices)


def test_a_cut_off_clip_with_its_index_first_is_what_is_left_of_it() -> None:
    data = write(frames=60, flags="faststart")
    item = decode(data[: data.index(b"mdat") + 1000], 4)
    assert item.total < 60
    assert numbers(item) == list(item.indices)


def test_a_cut_off_clip_with_its_index_last_is_refused() -> None:
    with pytest.raises(Undecodable, match="moov"):
        decode(write()[:-40])


@pytest.mark.parametrize("kind", ["mp4", "webm, VP8", "gif", "mov"])
def test_a_signature_alone_is_refused(kind: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(CONTAINERS[kind]()[:40])
    assert caught.value.field == "video"


@pytest.mark.parametrize("container", ["mp4", "mov", "webm", "matroska"])
def test_sound_alone_is_refused(container: str) -> None:
    codec = "libopus" if container == "webm" else "aac"
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container) as output:
            voice = output.add_stream(codec, rate=48000, layout="mono")
            frame = silence(48000)
            frame.sample_rate = 48000
            output.mux(voice.encode(frame))
            output.mux(voice.encode(None))
        data = Path(file.name).read_bytes()
    with pytest.raises(Undecodable, match="no video stream") as caught:
        decode(data)
    assert caught.value.field == "video"


def test_a_codec_that_is_not_read_is_named() -> None:
    with pytest.raises(Undecodable, match=r"codec \(ffv1\)"):
        decode(write("matroska", "ffv1", frames=3))


def test_other_streams_are_not_read() -> None:
    assert numbers(decode(write(streams=3), 5)) == [3, 9, 15, 21, 27]


def test_damage_never_raises_anything_but_a_problem() -> None:
    random = np.random.default_rng(0)
    decoder = VideoDecoder(spec(), Limits(max_pixels=100_000))
    for kind in CONTAINERS:
        whole = np.frombuffer(CONTAINERS[kind](), np.uint8)
        for _ in range(20):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 8)] = random.integers(0, 256, 8)
            with contextlib.suppress(Problem):
                decoder.decode(damaged.tobytes())


# Limits


def refusal(data: bytes, frames: int = 5, **limits: Any) -> TooLarge:
    with pytest.raises(TooLarge) as caught:
        decode(data, frames, Limits(**limits))
    assert caught.value.field == "video"
    (name,) = limits
    assert f"{name} is {limits[name]}" in caught.value.detail
    assert caught.value.limit == limits[name]
    return caught.value


def test_too_many_frames_are_refused() -> None:
    assert decode(write(frames=20), limits=Limits(max_clip_frames=20)).total == 20
    refusal(write(frames=21), max_clip_frames=20)


def test_a_clip_that_lasts_too_long_is_refused() -> None:
    assert decode(write(frames=20, rate=10), limits=Limits(max_clip_seconds=2.0))
    assert "2.1 seconds" in refusal(write(frames=21, rate=10), max_clip_seconds=2.0).detail


def test_a_gif_that_stands_still_for_an_hour_is_refused() -> None:
    data = bytearray(write("gif", "gif", pixels="rgb8", frames=6))
    for _ in range(6):
        place = data.index(b"\x21\xf9\x04") + 4
        data[place - 4] = 0x2A
        data[place : place + 2] = struct.pack("<H", 60_000)
    refusal(bytes(data.replace(b"\x2a\xf9\x04", b"\x21\xf9\x04")), max_clip_seconds=120.0)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("webm", "libvpx"), ("gif", "gif")])
def test_large_frames_are_refused_by_the_header(container: str, codec: str) -> None:
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    data = write(container, codec, pixels=pixels, size=(320, 240), frames=4)
    assert decode(data, limits=Limits(max_pixels=76_800))
    assert "76800 pixels in a frame (320x240)" in refusal(data, max_pixels=76_799).detail
    assert decode(data, 10, Limits(max_clip_pixels=768_000))
    assert "844800 pixels in 11 sampled frames" in refusal(data, 11, max_clip_pixels=768_000).detail


def test_frames_larger_than_the_header_says_are_refused() -> None:
    # The container claims 16 x 16; the codec's own header does not.
    data = write("webm", "libvpx", size=(640, 480), frames=2)
    place = data.index(b"\xb0\x82\x02\x80")
    lying = data[:place] + b"\xb0\x82\x00\x10" + data[place + 4 :]
    lying = lying.replace(b"\xba\x82\x01\xe0", b"\xba\x82\x00\x10", 1)
    with pytest.raises(Undecodable):
        decode(lying, limits=Limits(max_pixels=10_000))


def test_the_work_to_reach_frames_is_bounded() -> None:
    data = write(frames=100, gop=250, options={"sc_threshold": "0"})
    assert decode(data, 2, Limits(max_decoded_frames=76))
    refusal(data, 2, max_decoded_frames=75)
    assert decode(write(frames=100, gop=10, options={"sc_threshold": "0"}), 2, Limits(max_decoded_frames=20))


def test_time_is_bounded() -> None:
    refusal(write(frames=60), decode_seconds=1e-9)


def test_an_index_that_unfolds_is_refused_at_once() -> None:
    data = write(frames=30)
    lying = patch(data, b"stsz", struct.pack(">II", 1, 2**27), at=8)
    start = time.monotonic()
    refusal(lying, max_samples=1_000_000)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_streams_are_bounded(container: str) -> None:
    data = write(container, streams=6, frames=2)
    assert decode(data, limits=Limits(max_streams=6)).total == 2
    refusal(data, max_streams=5)
    refusal(data, max_streams=2)


def test_samples_that_share_their_bytes_are_refused() -> None:
    data = bytearray(write(frames=30, streams=2))  # two streams in turns: a chunk for each frame
    sizes, chunks = data.index(b"stsz") + 8, data.index(b"stco") + 8
    count = int.from_bytes(data[chunks : chunks + 4], "big")
    assert count > 10
    data[sizes : sizes + 4] = struct.pack(">I", len(data) // 3)
    data[chunks + 4 : chunks + 4 + 4 * count] = struct.pack(">I", 48) * count
    with pytest.raises(Undecodable, match="larger than the container"):
        decode(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n",
    ],
)
def test_playlists_are_nothing_that_is_read(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        decode(data)


def test_a_clip_opens_nothing_else() -> None:
    with pytest.raises(PermissionError):
        clips._refuse("file:///etc/passwd", 1, {})


def test_no_bytes_are_invalid() -> None:
    with pytest.raises(InvalidInput, match="no bytes"):
        decode(b"")


def test_bytes_that_are_not_what_they_are_said_to_be_are_unsupported() -> None:
    with pytest.raises(UnsupportedMedia, match="video/mp4") as caught:
        VideoDecoder(spec()).decode(write(frames=2), content_type="video/webm")
    assert caught.value.field == "content-type"


def test_a_picture_is_no_clip() -> None:
    with pytest.raises(UnsupportedMedia, match="image/png"):
        decode(b"\x89PNG\r\n\x1a\n" + bytes(32))


def test_one_decoder_serves_several_threads() -> None:
    shared = VideoDecoder(spec(4))
    data = [CONTAINERS[kind]() for kind in CONTAINERS]
    with ThreadPoolExecutor(4) as pool:
        for item in pool.map(shared.decode, data * 2):
            assert numbers(item) == list(item.indices)


def test_a_blank_item_is_a_black_clip() -> None:
    item = VideoDecoder(spec(4)).blank()
    assert item.tensors["frames"].shape == (4, 3, 32, 32)
    assert item.original.shape == (4, 32, 32, 3)
    assert not item.original.any()
    assert (item.indices, item.total) == ((0, 1, 2, 3), 4)
