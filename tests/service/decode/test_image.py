from __future__ import annotations

import contextlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from service.bundle import ImageInput
from service.decode.image import ImageDecoder
from service.decode.limits import Limits
from service.errors import InvalidInput, Problem, TooLarge, Undecodable, UnsupportedMedia

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PLAIN = ImageInput(height=32, width=32, resize_to=(32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours and hard edges."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    picture.paste((250, 10, 20), (width // 3, height // 4, width // 2, height // 2))
    return picture


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoder(limits: Limits | None = None) -> ImageDecoder:
    return ImageDecoder(PLAIN, limits)


def png(width: int, height: int, *, bits: int = 8, color: int = 0, rows: bytes = b"") -> bytes:
    """A PNG of the size its header claims, whatever its rows are."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


SIZES = [(640, 480), (480, 640), (333, 517), (517, 333), (224, 224), (97, 61), (255, 257)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize_to", "crop"), [(256, 224), (224, 224), (239, 224), (200, 224)])
def test_pixels_are_those_of_transformers_clip_processor(
    size: tuple[int, int], interpolation: str, resize_to: int, crop: int
) -> None:
    data = encode(scene(*size), "JPEG", quality=90)
    spec = ImageInput(
        height=crop,
        width=crop,
        resize_to=resize_to,
        interpolation=interpolation,  # type: ignore[arg-type]
        mean=MEAN,
        std=STD,
    )
    reference = CLIPImageProcessorPil(
        size={"shortest_edge": resize_to},
        crop_size={"height": crop, "width": crop},
        resample=Image.Resampling[interpolation.upper()],
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    item = ImageDecoder(spec).decode(data)
    expected = reference(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"][0]
    assert item.tensors["pixels"].dtype == np.float32
    np.testing.assert_array_equal(item.tensors["pixels"], expected)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers_vit_processor(size: tuple[int, int]) -> None:
    data = encode(scene(*size), "JPEG", quality=90)
    spec = ImageInput(height=64, width=96, resize_to=(64, 96), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    reference = ViTImageProcessorPil(size={"height": 64, "width": 96}, resample=Image.Resampling.BILINEAR)
    expected = reference(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"][0]
    item = ImageDecoder(spec).decode(data)
    assert item.tensors["pixels"].shape == (3, 64, 96)
    np.testing.assert_array_equal(item.tensors["pixels"], expected)


@pytest.mark.parametrize("width", range(225, 233))  # every remainder of the margins
def test_an_even_crop_is_that_of_torchvision(width: int) -> None:
    data = encode(scene(width, 224), "PNG")
    spec = ImageInput(height=224, width=224, resize_to=224, crop="even", mean=MEAN, std=STD)
    reference = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    expected = reference(Image.open(io.BytesIO(data))).numpy()
    np.testing.assert_allclose(ImageDecoder(spec).decode(data).tensors["pixels"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "media"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_each_format_is_read_and_named(kind: str, media: str) -> None:
    picture = scene(40, 30)
    item = decoder().decode(encode(picture, kind), content_type=media)
    assert (item.format, item.original.shape, item.original.dtype) == (media, (30, 40, 3), np.uint8)
    assert (item.view.width, item.view.height, item.cost) == (40, 30, 1024)
    assert np.abs(item.original.astype(int) - np.asarray(picture)).mean() < 12


def test_only_the_first_frame_of_a_gif_is_seen() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    item = decoder().decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (item.original == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was(orientation: int) -> None:
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)  # top left
    upright[:8, -8:] = (0, 255, 0)  # top right
    stored = {  # how a sensor stores it, by the definition of the tag (TIFF 6.0, Orientation)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    item = decoder().decode(data)
    np.testing.assert_array_equal(item.original, upright)
    assert (item.view.width, item.view.height) == (40, 24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_does_no_harm() -> None:
    data = encode(scene(20, 10), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decoder().decode(data).original.shape == (10, 20, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((10, 12), 204 * 257, np.uint16))
    else:
        picture = Image.new("RGB", (12, 10), (204, 204, 204)).convert(mode, dither=Image.Dither.NONE)
    item = decoder().decode(encode(picture, "JPEG" if mode == "CMYK" else "PNG"))
    expected = 255 if mode == "1" else 204
    assert item.original.shape == (10, 12, 3)
    assert np.abs(item.original.astype(int) - expected).max() <= 2


def test_sixteen_bits_of_colour_lose_the_lower_eight() -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 0xC8FF, 0x6400, 0x0080) * 4 for _ in range(3))
    item = decoder().decode(png(4, 3, bits=16, color=2, rows=rows))
    assert (item.original == (0xC8, 0x64, 0x00)).all()


def test_transparency_lies_over_white() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.paste((10, 20, 30, 255), (0, 0, 4, 8))
    picture.paste((0, 0, 0, 51), (4, 4, 8, 8))
    original = decoder().decode(encode(picture)).original
    assert original[0, 0].tolist() == [10, 20, 30]
    assert original[0, 7].tolist() == [255, 255, 255]
    assert original[7, 7].tolist() == [204, 204, 204]


def test_a_transparent_palette_entry_lies_over_white() -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 9, 9, 9])
    assert (decoder().decode(encode(picture, transparency=1)).original == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_off_picture_is_refused(kind: str, part: float) -> None:
    data = encode(scene(200, 150), kind)
    with pytest.raises(Undecodable) as caught:
        decoder().decode(data[: int(len(data) * part)])
    assert caught.value.field == "image"


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP"])
def test_a_signature_alone_is_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decoder().decode(data)


def test_damage_never_raises_anything_but_a_problem() -> None:
    random = np.random.default_rng(0)
    limited = decoder(Limits(max_pixels=100_000))
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        whole = np.frombuffer(encode(scene(60, 40), kind), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, min(len(whole), 400), 6)] = random.integers(0, 256, 6)
            with contextlib.suppress(Problem):
                limited.decode(damaged.tobytes())


@pytest.mark.parametrize("size", [(7000, 7200), (12000, 12000), (60000, 60000)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    # The last two are beyond Pillow's own warning and error.
    with pytest.raises(TooLarge, match="max_pixels is 50000000") as caught:
        decoder().decode(png(*size))
    assert (caught.value.field, caught.value.limit) == ("image", 50_000_000)


@pytest.mark.parametrize("side", [8000, 10000, 16383])
def test_a_gif_or_webp_bomb_is_refused_by_its_header(side: int) -> None:
    gif = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    canvas = struct.pack("<I", side - 1)[:3] * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    for data in (bytes(gif), b"RIFF" + struct.pack("<I", len(body)) + body):
        with pytest.raises((TooLarge, Undecodable)) as caught:
            decoder().decode(data)
        assert caught.value.field == "image"


def test_a_picture_at_the_limit_is_decoded() -> None:
    limited = decoder(Limits(max_pixels=1200))
    assert limited.decode(encode(scene(40, 30)))
    with pytest.raises(TooLarge, match=r"1230 pixels \(41x30\)"):
        limited.decode(encode(scene(41, 30)))


def test_a_sliver_is_refused_before_it_is_blown_up() -> None:
    spec = ImageInput(height=224, width=224, resize_to=224, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(TooLarge, match="once 1x4000 is resized"):
        ImageDecoder(spec).decode(encode(Image.new("L", (1, 4000))))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(scene(64, 64), "JPEG", progressive=True)
    assert decoder().decode(data)
    start = data.rindex(b"\xff\xda")
    many = data[:start] + data[start:-2] * 300 + data[-2:]
    with pytest.raises(TooLarge, match="max_scans is 100") as caught:
        decoder().decode(many)
    assert caught.value.limit == 100


def test_a_text_bomb_in_a_png_is_refused() -> None:
    body = b"k\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = encode(scene(8, 8))
    with pytest.raises(Undecodable):
        decoder().decode(whole[:33] + chunk + whole[33:])


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM", "PDF"])
def test_other_formats_are_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedMedia, match="none of image/jpeg"):
        decoder().decode(encode(scene(16, 16), kind))


def test_bytes_that_are_not_what_they_are_said_to_be_are_unsupported() -> None:
    with pytest.raises(UnsupportedMedia, match="image/png") as caught:
        decoder().decode(encode(scene(16, 16)), content_type="image/jpeg")
    assert caught.value.field == "content-type"


def test_no_bytes_are_invalid() -> None:
    with pytest.raises(InvalidInput, match="no bytes"):
        decoder().decode(b"")


def test_one_decoder_serves_several_threads() -> None:
    shared = decoder()
    pictures = [encode(scene(50 + seed, 40, seed), "JPEG") for seed in range(12)]
    expected = [shared.decode(data).tensors["pixels"] for data in pictures]
    with ThreadPoolExecutor(4) as pool:
        for item, pixels in zip(pool.map(shared.decode, pictures), expected, strict=True):
            np.testing.assert_array_equal(item.tensors["pixels"], pixels)


def test_a_blank_item_is_a_black_picture() -> None:
    item = decoder().blank()
    assert item.tensors["pixels"].shape == (3, 32, 32)
    assert not item.tensors["pixels"].any()
    assert item.original.shape == (32, 32, 3)
    assert item.view.seen == (0, 0, 32, 32)


def half(width: int, height: int) -> tuple[int, int]:
    return max(width // 2, 1), max(height // 2, 1)


def own(width: int, height: int) -> tuple[int, int]:
    return width, height


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_a_picture_to_draw_on_is_as_large_as_it_is_drawn(orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    data = encode(scene(801, 403), "JPEG", quality=95, exif=exif)
    whole, canvas = decoder().decode(data), decoder().canvas(data, half)
    assert canvas.view == whole.view
    assert canvas.tensors == {}
    assert canvas.original.shape[1::-1] == half(*whole.original.shape[1::-1])
    shrunk = np.asarray(
        Image.fromarray(whole.original).resize(canvas.original.shape[1::-1], Image.Resampling.BOX)
    )
    assert np.abs(canvas.original.astype(int) - shrunk).mean() < 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_drawn_in_its_own_size_is_the_whole_one(kind: str) -> None:
    data = encode(scene(120, 90), kind)
    whole, canvas = decoder().decode(data), decoder().canvas(data, own)
    np.testing.assert_array_equal(canvas.original, whole.original)
    assert (canvas.view, canvas.format) == (whole.view, whole.format)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_a_canvas_is_rgb_whatever_the_jpeg_is(mode: str) -> None:
    assert decoder().canvas(encode(scene(200, 100).convert(mode), "JPEG"), half).original.shape == (
        50,
        100,
        3,
    )


def test_a_canvas_has_the_limits_of_any_picture() -> None:
    data = encode(scene(200, 100), "JPEG")
    with pytest.raises(TooLarge) as caught:
        decoder(Limits(max_pixels=10_000)).canvas(data, half)
    assert caught.value.limit == 10_000
    with pytest.raises(Undecodable):
        decoder().canvas(data[: len(data) // 3], half)
