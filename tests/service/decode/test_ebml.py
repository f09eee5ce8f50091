"""What a demuxer sees of WebM and Matroska files, read back by FFmpeg itself."""

from __future__ import annotations

import io
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from service.decode.ebml import MAX_ELEMENTS, tame
from service.decode.limits import Limits
from service.errors import TooLarge, Undecodable

INFO, TRACKS, CLUSTER = 0x1549A966, 0x1654AE6B, 0x1F43B675
CUES, TAGS, FILES = 0x1C53BB6B, 0x1254C367, 0x1941A469
UNKNOWN = b"\x01" + b"\xff" * 7


def element(kind: int, body: bytes = b"", size: bytes | None = None) -> bytes:
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + (size or (1 << 56 | len(body)).to_bytes(8, "big")) + body


def write(container: str = "webm", *, sound: bool = False, codec: str = "libvpx") -> bytes:
    """Ten frames of 64 x 48, as FFmpeg writes them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        track = output.add_stream(codec, rate=10)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        voice = output.add_stream("libopus", rate=48000) if sound else None
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), "rgb24")
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), "fltp", "mono")
            silence.sample_rate, silence.time_base = 48000, Fraction(1, 48000)
            output.mux([*voice.encode(silence), *voice.encode(None)])
    return buffer.getvalue()


def packets(data: bytes) -> list[tuple[bytes, int | None, int | None, bool]]:
    with av.open(io.BytesIO(data), format="matroska") as container:
        (stream,) = container.streams.video
        return [
            (bytes(one), one.pts, one.duration, one.is_keyframe)
            for one in container.demux(stream)
            if one.size
        ]


def parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """What lies before the segment, its info and tracks, and its clusters."""
    info, cluster = (data.rindex(one.to_bytes(4, "big")) for one in (INFO, CLUSTER))
    return data[: data.index(b"\x18\x53\x80\x67")], data[info:cluster], data[cluster:]


def segment(*inside: bytes) -> bytes:
    head, _, _ = parts(WEBM)
    return head + element(0x18538067, b"".join(inside), UNKNOWN)


WEBM = write()
HEAD, INDEX, CLUSTERS = parts(WEBM)


@pytest.mark.parametrize("container", ["webm", "matroska"])
@pytest.mark.parametrize("sound", [False, True])
def test_the_demuxer_finds_the_same_frames(container: str, sound: bool) -> None:
    data = write(container, sound=sound)
    tamed = tame(data, Limits())
    assert packets(tamed.data) == packets(data)
    assert (tamed.size, tamed.entries) == ((64, 48), 10)
    with av.open(io.BytesIO(tamed.data)) as made, av.open(io.BytesIO(data)) as given:
        assert made.streams.video[0].average_rate == given.streams.video[0].average_rate
        assert len(made.streams) == 1


@pytest.mark.parametrize("kind", [CUES, TAGS, FILES, 0x1043A770, 0x114D9B74, 0xEC, 0xBF])
def test_what_shows_no_pictures_is_left_out(kind: int) -> None:
    body = b"\xbb\x80hidden"
    data = segment(INDEX, element(kind, body), CLUSTERS)
    tamed = tame(data, Limits())
    assert b"hidden" not in tamed.data
    assert packets(tamed.data) == packets(WEBM)


def test_a_stream_as_browsers_record_it_is_read() -> None:
    """Segment and clusters of unknown size, one after the other."""
    content = CLUSTERS[CLUSTERS.index(b"\xe7") :]
    end = content.find(b"\x1c\x53\xbb\x6b")
    content = content if end < 0 else content[:end]
    data = segment(INDEX, element(CLUSTER, content, UNKNOWN), element(CLUSTER, content, UNKNOWN))
    assert [one[0] for one in packets(tame(data, Limits()).data)] == 2 * [one[0] for one in packets(WEBM)]


def test_a_file_that_is_cut_off_keeps_what_is_whole() -> None:
    whole = packets(WEBM)
    for end in range(len(HEAD + INDEX) + 200, len(WEBM), 37):
        try:
            found = packets(tame(WEBM[:end], Limits()).data)
        except Undecodable:
            continue
        assert found == whole[: len(found)]
    assert len(packets(tame(WEBM[:-40], Limits()).data)) >= 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEAD, "no video stream"),
        (WEBM[: len(HEAD) + 60], "damaged|no video"),
        (segment(element(TRACKS, element(0xAE, element(0xD7, b"\1") + element(0x83, b"\2")))), "no video"),
        (
            segment(INDEX, element(CLUSTER, element(0xA3, b"\x81\0\0\x86\1\1aa"))),
            "several frames in one block",
        ),
        (segment(INDEX, element(CLUSTER, element(0xA3, b"\x81\0"))), "too short"),
        (segment(element(TRACKS, b"\xae\x01"), CLUSTERS), "damaged"),
        (segment(element(INFO, element(0x2AD7B1, bytes(9))), INDEX, CLUSTERS), "wrong size"),
        (segment(element(INFO, b"\0\0\0")), "name cannot be read"),
        (
            segment(
                element(
                    TRACKS, element(0xAE, element(0xD7, b"\1") + element(0x83, b"\1") + element(0x6D80, b""))
                )
            ),
            "packed or encrypted",
        ),
    ],
)
def test_a_broken_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason) as caught:
        tame(data, Limits())
    assert caught.value.field == "video"


def test_streams_are_counted_before_they_are_unfolded() -> None:
    entry = element(0xAE, element(0xD7, b"\1") + element(0x83, b"\1"))
    with pytest.raises(TooLarge, match="max_streams is 16"):
        tame(segment(element(TRACKS, 10_000 * entry)), Limits())


def test_endless_elements_are_refused_soon() -> None:
    start = time.monotonic()
    with pytest.raises(TooLarge, match=str(MAX_ELEMENTS)) as caught:
        tame(segment(INDEX, element(CLUSTER, 10**7 * b"\xec\x80")), Limits())
    assert (caught.value.field, caught.value.limit) == ("video", MAX_ELEMENTS)
    assert time.monotonic() - start < 5


def test_the_largest_size_that_any_track_declares_counts() -> None:
    wide = element(0xE0, element(0xB0, b"\x10\0") + element(0xBA, b"\x02"))
    entry = element(0xAE, element(0xD7, b"\2") + element(0x83, b"\1") + wide)
    assert tame(segment(INDEX, element(TRACKS, entry), CLUSTERS), Limits()).size == (4096, 48)
