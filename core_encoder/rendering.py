"""How a decoded picture becomes RGB: as a person sees it in a viewer, or as the published model's code reads it."""

import contextlib
import functools
import struct
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile

from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.forks import ForkSafeLock

Rendering = Literal["as_seen", "as_stored"]
"""How a picture becomes RGB.

"as_seen" is the picture in a viewer: upright, transparency on white, colours in sRGB, full-range 16-bit grey in 8 bits.
"as_stored" is the published model's code, Pillow's `convert("RGB")`: the pixels of the file as they are.
"""

_TRANSPOSE_BY_EXIF = {  # Source: EXIF 2.3, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXCHANGES_SIDES, _MIRRORS_ROWS, _MIRRORS_COLUMNS = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)  # in this order
_EXIF_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # Source: TIFF 6.0, section 8
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # the colour space of a profile for each mode
_SAME_COLOUR = 2  # of 255; profiles of sRGB differ by rounding
_MAX_PROFILE_BYTES = 8 * 2**20
_WHITE = (255, 255, 255)

_WARNINGS_LOCK = ForkSafeLock()


def check_rendering(rendering: object) -> None:
    """Refuse a value that is not a `Rendering`.

    Raises:
        ConfigError: naming the two values.
    """
    if rendering not in get_args(Rendering):
        raise ConfigError(f"`rendering` is {rendering!r}: choose one of {get_args(Rendering)}")


def render(image: Image.Image, where: str, rendering: Rendering) -> Image.Image:
    """Convert a loaded picture to RGB.

    Args:
        image: any mode; it keeps its pixels, mode and info.
        where: names the picture in a message.
        rendering: how.

    Returns:
        The picture in mode RGB; `image` itself if it needs no change.

    Raises:
        ImageDecodeError: grey values of unknown range, which RGB would clip.
    """
    if rendering == "as_stored":
        _refuse_clipping(image, where)
        if image.mode == "RGB":
            return image
        if "transparency" in image.info:  # has no effect on RGB pixels, but Pillow warns about it
            image = image.copy()
            del image.info["transparency"]
        return image.convert("RGB")
    return _as_seen(image, where)


def has_other_colours(image: Image.Image) -> bool:
    """Whether the colour profile of a picture of mode RGB, loaded or not, changes its colours when it is seen."""
    profile = image.info.get("icc_profile")
    return _is_usable(profile) and _transform(profile, "RGB") is not None


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror pixels (H, W, 3) by an EXIF orientation 1..8, another number changes nothing; a view."""
    if orientation in _EXCHANGES_SIDES:
        pixels = pixels.transpose(1, 0, 2)
    vertical, horizontal = orientation in _MIRRORS_ROWS, orientation in _MIRRORS_COLUMNS
    return pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]


def read_orientation(image: Image.Image) -> int:
    """Read EXIF tag 0x0112, or give 1 (upright) if it is absent; damage in other tags is ignored."""
    with pillow_warnings_ignored(), contextlib.suppress(SyntaxError, struct.error, ValueError, TypeError):
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    return 1


@contextlib.contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings: an image is either good or refused.

    The process has one list of filters, so this is used only where Pillow can warn, and under a lock: of two
    overlapping calls the later would restore the filters of the earlier.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _as_seen(image: Image.Image, where: str) -> Image.Image:
    """Grey in 8 bits, colours in sRGB, transparency on white, upright, in this order."""
    colour, alpha = _split(image, where)
    seen = _to_srgb(colour, image.info.get("icc_profile"))
    if alpha is not None and alpha.getextrema() != (255, 255):
        page = Image.new("RGB", seen.size, _WHITE)
        page.paste(seen, mask=alpha)
        seen = page
    orientation = read_orientation(image)
    if orientation in _TRANSPOSE_BY_EXIF:
        seen = seen.transpose(_TRANSPOSE_BY_EXIF[orientation])
    if seen is not image:
        seen.info = {}  # whoever renders the result again must not turn or convert it twice
    return seen


def _split(image: Image.Image, where: str) -> tuple[Image.Image, Image.Image | None]:
    """Separate the colours, without transparency, from the opacity (mode L, or `None`: opaque)."""
    key = image.info.get("transparency")
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_in_8_bits(image, where), None if key is None else _opaque_but(image, key)
    if image.mode in ("La", "RGBa"):  # the colours were multiplied with the opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("P", "PA") and image.has_transparency_data:
        image = image.copy().convert("RGBA")  # Pillow writes the opacity into the palette of the image that it converts
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    if key is None or image.mode not in ("1", "L", "RGB"):
        return image, None
    return image, _opaque_but(image, key)


def _opaque_but(image: Image.Image, key: object) -> Image.Image:
    """The opacity of a picture in which one colour means transparent, as in PNG's tRNS chunk."""
    values = key if isinstance(key, tuple) else (key,)
    opaque = Image.new("L", image.size, 255)
    if len(values) != len(image.getbands()) or not all(isinstance(value, int) for value in values):
        return opaque
    if image.mode == "1":
        values = (255 if values[0] else 0,)
    if image.mode == "RGB" and max(values) > 255:  # of 16 bits, of which Pillow keeps the higher 8
        values = tuple(value >> 8 for value in values)
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)  # (H, W) or (H, W, 3)
    differs = np.zeros(pixels.shape[:2], bool)  # (H, W)
    for channel, value in zip(np.atleast_3d(pixels).transpose(2, 0, 1), values, strict=True):
        differs |= channel != value
    return Image.fromarray(differs.astype(np.uint8) * 255)


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert to RGB, by the colour profile of the file if it has a usable one."""
    if _is_usable(profile):
        if image.mode in ("1", "P", "PA", "RGBX"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        transform = _transform(profile, image.mode) if image.mode in _SPACES else None
        if transform is not None:
            return transform(image)
    return image if image.mode == "RGB" else _without_key(image).convert("RGB")


def _is_usable(profile: object) -> TypeGuard[bytes]:
    return isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE_BYTES


def _without_key(image: Image.Image) -> Image.Image:
    """The picture without a transparent colour, about which Pillow's `convert` would warn."""
    if "transparency" not in image.info:
        return image
    image = image.copy()
    del image.info["transparency"]
    return image


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """The conversion to sRGB; `None` if it changes nothing, or if the profile is damaged or of other colours.

    A damaged profile, and one for another number of channels, is ignored by viewers too.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        # Little CMS would sample a grey curve at a few points: ten levels wrong in the dark.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB", flags=flags)
        probe = _probe(mode)
        converted = np.asarray(transform.apply(probe))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    change = converted.astype(int) - np.asarray(probe.convert("RGB"))
    if mode != "CMYK" and np.abs(change).max() <= _SAME_COLOUR:
        return None
    return functools.partial(_look_up, table=converted[0]) if mode == "L" else transform.apply


def _look_up(image: Image.Image, *, table: NDArray[np.uint8]) -> Image.Image:
    """Grey to RGB by a table (256, 3); Little CMS itself is slow with an exact grey curve."""
    return Image.merge("RGB", [image.point(column.tolist()) for column in table.T])


def _probe(mode: str) -> Image.Image:
    """A picture of colours from all over the space, to see what a profile changes."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])  # (1, 256)
    levels = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, 18 * 18, 3)
    image = Image.fromarray(grid)
    return image if mode == "RGB" else image.convert(mode)


def _grey_in_8_bits(image: Image.Image, where: str) -> Image.Image:
    """Scale 16-bit grey by the range that its file states; values that fit 8 bits are kept, as in "as_stored"."""
    values = np.asarray(image)  # (H, W) uint16, int32 or float32
    if image.mode.startswith("I;16") and values.max() > 255:
        bits = _bits(image)
        # 65535 / 257 = 255; a range of fewer bits gives its highest 8 bits.
        scaled = values // 257 if bits == 16 else (values >> (bits - 8)).clip(0, 255)
        grey = scaled.astype(np.uint8)  # (H, W)
    else:
        _refuse_clipping(image, where)
        grey = values.astype(np.uint8)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    # Pillow inverts grey of 8 bits where 0 is white, but not grey of 16 bits.
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)


def _bits(image: Image.Image) -> int:
    """Bits of a grey value: 16, or fewer if a TIFF says so."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    bits = tags.get(_BITS_PER_SAMPLE, (16,))
    first = bits[0] if isinstance(bits, tuple) and bits else bits
    return first if isinstance(first, int) and 8 < first < 16 else 16


def _refuse_clipping(image: Image.Image, where: str) -> None:
    """Refuse a grayscale image whose values `convert("RGB")` would clip, or whose range is unknown."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # (H, W) float32, int32 or uint16
        if image.mode == "F" or values.min() < 0 or values.max() > 255:
            raise ImageDecodeError(
                f"{where} is grayscale of mode {image.mode!r} with values {values.min()}..{values.max()}, which RGB "
                "would clip to 0..255; save it with 8 bits per channel in an image editor, or pass "
                "`Image.fromarray((numpy.asarray(image) // 257).astype('uint8'))` if its values are 0..65535"
                + (', or read it with `rendering` "as_seen"' if image.mode.startswith("I;16") else "")
            )
