"""What a model is given to look at: `read(image)` makes one plain form of a path, a PIL image, an array or bytes.

    chat.say("What is this?", images=["photo.jpg"])     calls read for each

Every image becomes RGB with eight bits a channel: turned as its EXIF says, transparency laid on white, palettes, grey,
CMYK and 16 bits converted. Of an animation or a file of several pages the first picture counts. An image longer than
`MAX_SIDE` is made smaller with its proportions kept, so a panorama of 20,000 pixels works. What is refused, each in a
sentence: more than `MAX_PIXELS`, told by the file's header before anything is decoded (a "decompression bomb" is a
small file that fills the memory); a strip more than `MOST_OBLONG` times as long as wide, of which nothing would be
left; a file that is missing, empty, cut short, or no image; an array with other numbers than an image has.

Of what phones make, HEIC, AVIF and MPO are read; a video (the moving part of a Live Photo), a raw photograph, JPEG XL
and an archive are told apart by their first bytes, each with what to do.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from helpers.errors import InvalidInput
from helpers.records import Picture

#: The formats that are opened. Pillow knows more, and one of them (EPS) starts a program on the file.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "AVIF", "HEIF")
#: Decoded, this many pixels take 200 MB.
MAX_PIXELS = 50_000_000
#: No model of the course looks at more than about 2,000 pixels a side.
MAX_SIDE = 2048
#: Beyond this ratio of the sides, the shorter one would have fewer than 41 pixels left.
MOST_OBLONG = 50
JPEG_QUALITY = 90
#: Below this many pixels on its longer side, a photograph loses what it shows.
LEAST_SIDE = 512
#: The brands of an ISO media file (ISO/IEC 14496-12, section 4.3) that say HEIC, and those that say raw.
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
RAW_BRANDS = {b"crx "}
#: How files begin that phones and cameras make and that are read nowhere here: what they are, and what to do.
RAW_PHOTO = (
    "a raw photograph, the numbers of a sensor",
    "Export it as JPEG, with the phone's or camera's own program.",
)
VIDEO = ("a video, perhaps the moving part of a Live Photo", "Give the photograph that lies beside it, or one frame.")
JPEG_XL = ("a photograph in JPEG XL, which is not read here", "Export it as JPEG.")
ARCHIVE = ("an archive", "Unpack it, and give one of the images in it.")
STARTS = {
    b"FUJIFILMCCD-RAW": RAW_PHOTO,
    b"IIRO": RAW_PHOTO,
    b"IIRS": RAW_PHOTO,
    b"MMOR": RAW_PHOTO,
    b"IIU\0": RAW_PHOTO,
    b"\x1aE\xdf\xa3": VIDEO,
    b"\0\0\0\x0cJXL ": JPEG_XL,
    b"\xff\x0a": JPEG_XL,
    b"PK\x03\x04": ARCHIVE,
}
#: Tags of TIFF: DNGVersion, NewSubfileType and SubIFDs (DNG specification 1.7, chapter 4).
DNG_VERSION, SUBFILE_TYPE, SUB_IFDS = 50706, 254, 330
_FORMS = "Give a path, a PIL image, a numpy array of height × width (× 3 or 4), or the bytes of an image file."


def read(image: Any, *, max_side: int = MAX_SIDE) -> Picture:
    """The image in the form that every backend takes; `max_side` limits its longer side, in pixels.

    >>> import numpy
    >>> read(numpy.zeros((48, 64), dtype="uint8"))
    Picture(64 × 48 pixels)
    """
    if not isinstance(max_side, int) or max_side < 1:
        raise InvalidInput(f"max_side={max_side!r} is no number of pixels.", "Set it to 1 or more.")
    from PIL import Image

    with warnings.catch_warnings(), ExitStack() as files:
        # What Pillow warns of is either refused here, or does not change the pixels.
        warnings.simplefilter("ignore")
        opened = _opened(image, files)
        if opened is not image:
            opened.draft(None, (max_side, max_side))  # a JPEG can be decoded at a half or a quarter of its size
        rgb = _as_rgb(opened, max_side)
    if max(rgb.size) > max_side:
        rgb.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return Picture(rgb.width, rgb.height, rgb.tobytes())


def as_pil(picture: Picture) -> Any:
    """The picture as a PIL image in RGB."""
    from PIL import Image

    return Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)


def as_png_bytes(picture: Picture) -> bytes:
    """The picture as the bytes of a PNG file, which keeps every pixel."""
    return _saved(picture, format="PNG")


def as_small_bytes(picture: Picture, limit: int) -> bytes:
    """The picture as PNG where that has at most `limit` bytes, else as JPEG, and that with fewer pixels if need be.

    A side of `LEAST_SIDE` pixels is not made shorter, so the result can be larger than `limit` all the same.
    """
    data = as_png_bytes(picture)
    while len(data) > limit:
        data = _saved(picture, format="JPEG", quality=JPEG_QUALITY)
        shorter = max(picture.width, picture.height) * 3 // 4
        if len(data) <= limit or shorter < LEAST_SIDE:
            break
        picture = read(picture, max_side=shorter)
    return data


def sample_photo() -> Path:
    """A photograph that is here already: Grace Hopper in uniform, 512 × 600 pixels, which comes with matplotlib.

    James S. Davis, U.S. Navy, 1984: an official photograph, in the public domain.
    """
    from matplotlib.cbook import get_sample_data

    return Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))


def _saved(picture: Picture, **options: Any) -> bytes:
    file = io.BytesIO()
    as_pil(picture).save(file, **options)
    return file.getvalue()


def _opened(image: Any, files: ExitStack) -> Any:
    """A PIL image of whatever was given, not larger than `MAX_PIXELS`; a file's pixels are not decoded yet."""
    import numpy
    from PIL import Image

    if isinstance(image, Picture):
        return as_pil(image)
    if isinstance(image, numpy.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        _refuse_size("The image", *image.size)
        return image
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(bytes(image)), "The image", len(image))
    if isinstance(image, str | os.PathLike):
        return _from_path(image, files)
    raise InvalidInput(f"An image cannot be read from {type(image).__name__}.", _FORMS)


def _from_path(path: str | os.PathLike[str], files: ExitStack) -> Any:
    if str(path).startswith(("http://", "https://", "data:")):
        raise InvalidInput("An image is not fetched from an address.", "Download it, and give its path.")
    place = Path(path).expanduser()
    name = f"The image {place.name!r}"
    try:
        if place.is_dir():
            raise InvalidInput(f"{place.name!r} is a folder and not an image.", "Give the path of one file in it.")
        if not place.is_file():
            raise InvalidInput(f"{name} is not there.", "Check its path; it starts at this notebook's folder.")
        return _from_file(files.enter_context(place.open("rb")), name, place.stat().st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{name} cannot be opened.", "Check its path and who may read it.") from error


def _from_file(file: IO[bytes], name: str, size: int) -> Any:
    from PIL import Image, UnidentifiedImageError

    if size == 0:
        raise InvalidInput(f"{name} is empty: it has no bytes.", "Save or fetch it again.")
    head = file.read(32)
    file.seek(0)
    _refuse_other_kinds(name, head)
    Image.init()
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    try:
        opened = Image.open(file, formats=[known for known in FORMATS if known in Image.OPEN])
    except Image.DecompressionBombError:
        raise _too_large(f"{name} claims to have") from None
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise InvalidInput(f"{name} is not an image, or damaged from its start.", f"Give one of {formats}.") from error
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes each decoder fail in its own way
        raise InvalidInput(f"{name} is damaged: its header cannot be read.", "Save or fetch it again.") from error
    tags = getattr(opened, "tag_v2", {})
    if DNG_VERSION in tags or (tags.get(SUBFILE_TYPE) == 1 and SUB_IFDS in tags):  # what opens is a small preview
        raise _other_kind(name, *RAW_PHOTO)
    _refuse_size(name, *opened.size)
    return opened


def _refuse_other_kinds(name: str, head: bytes) -> None:
    """Refuses what a camera makes beside images, by its first bytes."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in RAW_BRANDS:
            raise _other_kind(name, *RAW_PHOTO)
        if brand not in HEIC_BRANDS | {b"avif", b"avis"}:
            raise _other_kind(name, *VIDEO)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):  # QuickTime without its brand
        raise _other_kind(name, *VIDEO)
    if head[:4] in (b"II*\0", b"MM\0*") and head[8:10] == b"CR":
        raise _other_kind(name, *RAW_PHOTO)
    for start, kind in STARTS.items():
        if head.startswith(start):
            raise _other_kind(name, *kind)


def _other_kind(name: str, what: str, step: str) -> InvalidInput:
    return InvalidInput(f"{name} is {what}, and no image that a model is shown.", step)


def _from_array(array: Any) -> Any:
    import numpy
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        step = "numpy.moveaxis(array, 0, -1) puts channels last." if array.shape[:1] in ((3,), (4,)) else _FORMS
        raise InvalidInput(f"An array of the shape {array.shape} is no image.", step)
    _refuse_size("The array", array.shape[1], array.shape[0])
    if array.dtype == numpy.uint8:
        return Image.fromarray(numpy.ascontiguousarray(array))
    if not numpy.issubdtype(array.dtype, numpy.floating):
        step = "Write array.astype('uint8') for numbers from 0 to 255."
        raise InvalidInput(f"An image has uint8 or float numbers, not {array.dtype}.", step)
    return Image.fromarray(_eight_bits(array, 1.0, "The array"))


def _eight_bits(array: Any, top: float, name: str) -> Any:
    """Numbers from 0 to `top` as bytes."""
    import numpy

    if not numpy.isfinite(array).all():
        raise InvalidInput(f"{name} holds numbers that are none (NaN or infinite).", "Look where they come from.")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > top:
        step = "Scale them first; whole numbers from 0 to 255 go as uint8."
        raise InvalidInput(f"{name} has numbers from {low:g} to {high:g}, not from 0 to {top:g}.", step)
    return numpy.rint(array.astype("float64") * (255 / top)).astype("uint8")


def _as_rgb(opened: Any, max_side: int) -> Any:
    """The decoded image, upright, on white, in RGB."""
    from PIL import Image, ImageOps

    try:
        opened.load()
        try:
            image = ImageOps.exif_transpose(opened)
        except Exception:  # noqa: BLE001 - an unreadable note on how the camera was held hides no picture
            image = opened.copy()
        if image.mode[0] in "IF":
            image = _from_wide(image)
        elif image.mode not in ("1", "P", "PA"):
            image.thumbnail((2 * max_side, 2 * max_side), Image.Resampling.LANCZOS)  # less to convert
        if image.has_transparency_data:
            over = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
        return image.convert("RGB")
    except (MemoryError, InvalidInput):
        raise
    except Exception as error:  # a damaged file makes each decoder fail in its own way
        raise InvalidInput(
            "The image is damaged or cut short: its header can be read, and its pixels cannot.",
            "Save or fetch it again.",
        ) from error


def _from_wide(image: Any) -> Any:
    """An image of one channel with 16 bits, 32 bits or real numbers, as grey."""
    import numpy
    from PIL import Image

    array = numpy.asarray(image)
    return Image.fromarray(_eight_bits(array, 1.0 if image.mode[0] == "F" else 65535.0, "The image"))


def _refuse_size(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InvalidInput(f"{name} is empty: {width} × {height} pixels.", "Give one with at least one pixel.")
    if width * height > MAX_PIXELS:
        raise _too_large(f"{name} has {width:,} × {height:,} pixels, which is")
    if max(width, height) > MOST_OBLONG * min(width, height):
        raise InvalidInput(
            f"{name} is a strip of {width:,} × {height:,} pixels: made small for a model, nothing is left of it.",
            "Cut it into pieces and show them one by one.",
        )


def _too_large(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what} more than the {MAX_PIXELS / 1e6:.0f} million pixels that are decoded here.",
        "Make it smaller first; if nobody made it that large on purpose, distrust the file.",
    )
