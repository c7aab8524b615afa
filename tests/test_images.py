"""Every kind of image a learner may give: it becomes plain RGB, or is refused in a sentence with a next step."""

from __future__ import annotations

import io
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import images
from helpers.errors import InvalidInput
from helpers.images import as_pil, as_png_bytes, as_small_bytes, read
from helpers.records import Picture, Turn

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def left_red_right_blue(width: int = 40, height: int = 20) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def corner(picture: Picture) -> tuple[int, int, int]:
    return tuple(picture.rgb[:3])


def refused(image: Any, complaint: str, **options: Any) -> None:
    with pytest.raises(InvalidInput, match=complaint) as caught:
        read(image, **options)
    assert tempfile.gettempdir() not in str(caught.value)  # no path of the machine
    assert caught.value.message.endswith(".")
    assert caught.value.next_step.endswith((".", "…"))


# What is read


def test_a_path_a_pil_image_an_array_and_bytes_are_the_same_picture(tmp_path: Path) -> None:
    image = left_red_right_blue()
    image.save(tmp_path / "två färger.png")
    forms = [tmp_path / "två färger.png", str(tmp_path / "två färger.png"), image, np.asarray(image), saved(image)]
    assert len({read(form) for form in [*forms, bytearray(saved(image)), read(image)]}) == 1
    assert np.array_equal(np.asarray(as_pil(read(image))), np.asarray(image))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO"])
def test_each_format_is_read(kind: str) -> None:
    picture = read(saved(left_red_right_blue(), kind))
    assert max(abs(a - b) for a, b in zip(corner(picture), RED, strict=True)) < 16
    assert kind in images.FORMATS


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"])
def test_each_mode_of_pillow_becomes_rgb(mode: str) -> None:
    source = {"RGBa": "RGBA", "HSV": "RGB", "PA": "P"}.get(mode, mode)
    image = Image.new("RGB", (4, 3), WHITE).convert(source).convert(mode) if mode != "LAB" else Image.new("LAB", (4, 3))
    assert (read(image).width, read(image).height, len(read(image).rgb)) == (4, 3, 36)
    assert mode == "LAB" or corner(read(image)) == WHITE


def test_cmyk_and_palettes_keep_their_colours() -> None:
    red, green, blue = corner(read(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")))
    assert red > 200 > 60 > max(green, blue)
    assert corner(read(saved(left_red_right_blue().convert("P"), "GIF"))) == RED
    assert corner(read(left_red_right_blue(400, 200).convert("P"), max_side=20)) == RED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}
    assert corner(read(saved(image, **options))) == WHITE
    assert corner(read(Image.new("RGBA", (4, 4), (255, 0, 0, 128)))) == (255, 127, 127)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind: str) -> None:
    grey = np.array([[0, 257 * 100, 65535]], dtype="uint16")
    assert list(read(saved(Image.fromarray(grey), kind)).rgb[::3]) == [0, 100, 255]


@pytest.mark.fault("what people feed in")
def test_a_photo_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: the stored left side is the top
    picture = read(saved(left_red_right_blue(40, 20), "JPEG", exif=exif, quality=95))
    assert (picture.width, picture.height) == (20, 40)
    assert corner(picture)[0] > 200
    assert picture.rgb[-1] > 200


@pytest.mark.fault("what people feed in")
def test_damaged_exif_hides_no_picture() -> None:
    data = saved(left_red_right_blue(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read(data).width == 40


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    assert corner(read(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))) == GREEN


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_arrays_of_bytes_and_of_fractions(shape: tuple[int, ...]) -> None:
    for dtype, top in {"uint8": 255, "float32": 1, "float64": 1, "float16": 1}.items():
        assert read(np.full(shape, top, dtype)) == Picture(7, 5, b"\xff" * 105)


def test_a_slice_of_an_array_is_read_as_it_looks() -> None:
    array = np.asarray(left_red_right_blue())
    assert corner(read(array[:, ::-1])) == BLUE


# What phones and cameras make


def heic(image: Image.Image, **options: Any) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(image, "HEIF", quality=95, **options)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_read_by_its_bytes_and_not_by_its_name(brand: bytes, tmp_path: Path) -> None:
    data = heic(left_red_right_blue(400, 200)).replace(b"ftypheic", b"ftyp" + brand)
    (tmp_path / "IMG_0001.jpg").write_bytes(data)
    picture = read(tmp_path / "IMG_0001.jpg")
    assert (picture.width, picture.height) == (400, 200)
    assert corner(picture)[0] > 200 > 60 > corner(picture)[2]
    assert read(data) == picture


def test_heic_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # which the encoder writes as the turn that HEIC has of its own
    picture = read(heic(left_red_right_blue(400, 200), exif=exif.tobytes()))
    assert (picture.width, picture.height) == (200, 400)
    assert corner(picture)[0] > 200


def test_heic_needs_no_opener_that_was_registered_before(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "a.heic").write_bytes(heic(left_red_right_blue()))
    program = f"from helpers import images; print(images.read({str(tmp_path / 'a.heic')!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Picture(40 × 20 pixels)"


@pytest.mark.fault("what people feed in")
def test_a_damaged_heic_is_a_sentence() -> None:
    data = heic(Image.effect_noise((200, 200), 90).convert("RGB"))
    refused(data[:40], "damaged|not an image")
    refused(data[: len(data) // 2], "damaged|cut short")


@pytest.mark.parametrize("kind", ["AVIF", "MPO"])
def test_other_formats_of_phones_are_read(kind: str) -> None:
    more = {"save_all": True, "append_images": [left_red_right_blue()]} if kind == "MPO" else {}
    assert read(saved(left_red_right_blue(), kind, **more)).width == 40


def dng(*, version: bool) -> bytes:
    """A preview in TIFF, as a raw file begins, with the tag of DNG or with those of other makers."""
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if version:
        tags[images.DNG_VERSION] = b"\x01\x04\0\0"
    else:
        tags[images.SUBFILE_TYPE], tags[images.SUB_IFDS] = 1, 8
    return saved(left_red_right_blue(), "TIFF", tiffinfo=tags)


OTHER_KINDS = {
    "live photo": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video"),
    "old mov": (b"\0\0\0\x08wide\0\0\1\0mdat", "a video"),
    "webm": (b"\x1aE\xdf\xa3" + b"\0" * 30, "a video"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a raw photograph"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 30, "a raw photograph"),
    "raf": (b"FUJIFILMCCD-RAW 0201", "a raw photograph"),
    "orf": (b"IIRO\x08\0\0\0", "a raw photograph"),
    "rw2": (b"IIU\0\x18\0\0\0", "a raw photograph"),
    "dng": (dng(version=True), "a raw photograph"),
    "nef": (dng(version=False), "a raw photograph"),
    "jxl": (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    "jxl in a box": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "zip": (b"PK\x03\x04" + b"\0" * 30, "an archive"),
}


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_what_is_no_photograph_is_named(kind: str) -> None:
    data, said = OTHER_KINDS[kind]
    refused(data, f"is .*{said}")


# What is made smaller


def test_a_panorama_of_20000_pixels_is_made_smaller_with_its_proportions() -> None:
    picture = read(saved(left_red_right_blue(20_000, 1_000), "JPEG"))
    assert picture.width == 2048
    assert 102 <= picture.height <= 103  # a twentieth
    assert corner(picture)[0] > 200


@pytest.mark.parametrize(("max_side", "width"), [(1, 1), (10, 10), (39, 39), (500, 40)])
def test_the_longer_side_is_limited_and_never_stretched(max_side: int, width: int) -> None:
    image = left_red_right_blue()
    assert read(image, max_side=max_side).width == width
    assert image.size == (40, 20)  # the learner's own stays as it is


# What is refused


@pytest.mark.parametrize("max_side", [0, -3, 1.5, None])
def test_an_impossible_max_side(max_side: Any) -> None:
    refused(left_red_right_blue(), "no number of pixels", max_side=max_side)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "gone.png", "'gone.png' is not there")
    refused(tmp_path, "is a folder and not an image")
    refused("a\0b.png", "not there|cannot be opened")
    refused("x" * 5000, "cannot be opened")


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize("address", ["https://example.org/a.png", "http://localhost/a.png", "data:image/png;base64,AA"])
def test_an_address_is_not_fetched(address: str) -> None:
    refused(address, "not fetched")


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty"),
        (b"Not a picture, just words.", "not an image"),
        (b"%PDF-1.7 ...", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (saved(left_red_right_blue())[:20], "not an image|damaged"),
        (saved(left_red_right_blue(400, 400), "JPEG")[:600], "damaged"),
        (saved(Image.effect_noise((200, 200), 90))[:5000], "cut short"),
        (saved(Image.effect_noise((200, 200), 90), "GIF")[:5000], "cut short"),
        (saved(Image.effect_noise((200, 200), 90), "WEBP")[:500], "not an image|damaged"),
        (saved(Image.effect_noise((200, 200), 90), "TIFF")[:5000], "not an image|damaged"),
    ],
)
def test_what_is_no_whole_image(data: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(data)
    refused(data, complaint)
    refused(tmp_path / "file.png", complaint)


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize("size", [(8_000, 7_000), (11_000, 9_000), (60_000, 60_000), (2**31 - 1, 3)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    refused(png(*size), "more than the 50 million|is a strip|header cannot be read")


def test_a_bomb_that_is_already_open_or_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(np.broadcast_to(np.uint8(0), (8_000, 7_000)), "8,000|7,000")
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    refused(Image.new("RGB", (10, 10)), "10 × 10 pixels")


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (51, 1)])
def test_a_strip_is_refused(size: tuple[int, int]) -> None:
    refused(Image.new("L", size), "strip")


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (np.full((4, 4), 255.0), "from 255 to 255"),
        (np.full((4, 4), -0.5), "not from 0 to 1"),
        (np.zeros((4, 4), "int64"), "not int64"),
        (np.zeros((4, 4), "uint16"), "not uint16"),
        (np.zeros((4, 4), "bool"), "not bool"),
        (np.zeros((4, 4), "complex64"), "not complex64"),
        (np.zeros((4, 4), "object"), "not object"),
        (np.zeros((3, 64, 64), "uint8"), r"shape \(3, 64, 64\)"),
        (np.zeros((1, 4, 4, 3), "uint8"), "is no image"),
        (np.zeros((4, 4, 2), "uint8"), "is no image"),
        (np.zeros(16, "uint8"), "is no image"),
        (np.zeros((0, 4), "uint8"), "is no image"),
        (np.uint8(3), "uint8"),
    ],
)
def test_arrays_that_are_no_images(array: Any, complaint: str) -> None:
    refused(array, complaint)


@pytest.mark.parametrize("thing", [None, 5, 1.5, [[1, 2], [3, 4]], {"a": 1}, object()])
def test_things_that_are_no_images(thing: Any) -> None:
    refused(thing, type(thing).__name__)


def test_a_pil_image_without_pixels_or_already_closed() -> None:
    refused(Image.new("RGB", (0, 5)), "0 × 5")
    closed = Image.open(io.BytesIO(saved(left_red_right_blue())))
    closed.close()
    refused(closed, "damaged|closed")


# What is passed on


def test_a_picture_is_a_value() -> None:
    one, same = read(left_red_right_blue()), read(left_red_right_blue())
    assert repr(one) == "Picture(40 × 20 pixels)"
    assert {Turn("user", "a", (one,)), Turn("user", "a", (same,))} == {Turn("user", "a", (one,))}


def test_small_bytes_are_png_where_it_fits_else_jpeg() -> None:
    noise = read(Image.effect_noise((300, 300), 90))
    assert read(as_png_bytes(noise)) == noise
    assert as_small_bytes(noise, 10**6).startswith(b"\x89PNG")
    small = as_small_bytes(noise, 40_000)
    assert small.startswith(b"\xff\xd8\xff")
    assert len(small) < len(as_png_bytes(noise))


def test_the_photograph_that_is_here_already_is_read() -> None:
    assert str(read(images.sample_photo())) == "Picture(512 × 600 pixels)"
