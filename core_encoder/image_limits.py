"""Limits on the size and the decoding time of one image, and the errors that name them."""

from dataclasses import dataclass, fields

from core_encoder.errors import ConfigError, ImageDecodeError, ImageLimitError


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Limits for one image; all but `max_decode_s` are checked before it is decoded.

    Attributes:
        max_bytes: size of the encoded image. The default takes a plain TIFF of 100 megapixels.
        max_pixels: width times height. A decoded pixel takes 4 bytes in Pillow; the default is the size from which
            Pillow itself refuses an image as a decompression bomb. A JPEG with more pixels is shrunk while it is
            decoded, to a half, a quarter or an eighth of its sides.
        max_side_px: width, and height. Resizing a long strip needs an intermediate picture of `size` times the long
            side, which `max_pixels` does not limit; JPEG and WebP files cannot reach the default.
        max_decode_s: seconds of processor time in the thread that decodes. A crafted file of 8 MB can take an hour;
            normal files do not reach the default. JPEG, PNG, GIF, BMP and plain TIFF are stopped at this limit; the
            other formats cannot be stopped and are limited by `max_bytes` and `max_pixels`.

    Raises:
        ConfigError: a limit is not a positive integer.
    """

    max_bytes: int = 384 * 2**20
    max_pixels: int = 178_956_970
    max_side_px: int = 2**17
    max_decode_s: int = 60

    def __post_init__(self) -> None:
        """Refuse values that could switch a limit off by accident."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"`{field.name}` must be an integer from 1 up, not {value!r}")


DEFAULT_LIMITS = ImageLimits()


def check_size(size: tuple[int, int], where: str, limits: ImageLimits) -> None:
    """Refuse a picture that has no pixel, too many pixels, or a side that is too long.

    Raises:
        ImageDecodeError: it has no pixel.
        ImageLimitError: it is over a limit.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ImageDecodeError(f"{where} is empty: {width} x {height} pixels")
    if width * height > limits.max_pixels:
        found = f"{where} has {width} x {height} = {width * height} pixels, over `max_pixels` {limits.max_pixels}"
        raise ImageLimitError(found, limit="max_pixels")
    if max(size) > limits.max_side_px:
        found = f"{where} has {width} x {height} pixels, a side over `max_side_px` {limits.max_side_px}"
        raise ImageLimitError(found, limit="max_side_px")


def check_bytes(num_bytes: int, where: str, limits: ImageLimits) -> None:
    """Refuse an encoded image that is too large.

    Raises:
        ImageLimitError: it is over `max_bytes`.
    """
    if num_bytes > limits.max_bytes:
        found = f"{where} has {num_bytes} bytes, over `max_bytes` {limits.max_bytes}"
        raise ImageLimitError(found, limit="max_bytes")
