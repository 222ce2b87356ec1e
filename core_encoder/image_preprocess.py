"""RGB picture -> pixel values, with the reference's arithmetic: resize, crop or pad, scale, normalise.

Pillow resizes, antialiased and in uint8: torch's own resizing changes pixels by half a standard deviation. JPEG's
`draft` and Pillow's `reducing_gap` are faster for huge photographs but change pixels too, so neither is used. Who asks
for it gets the faster `core_encoder.resampling`, which moves vectors a little.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.errors import ConfigError
from core_encoder.pictures import Box, Picture, as_image, size_of
from core_encoder.resampling import Axis, Interpolation, is_installed, is_large, resize

ResizeMode = Literal["shortest", "longest", "squash"]
Resampling = Literal["exact", "fast"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_STRIP_BYTES = 2**20  # of an array, which Pillow copies: copies of this size stay in the cache
_MAX_RESIZED_PIXELS = 2**24  # 64 MiB in Pillow; of a longer strip only the part in the crop is resized


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """The options in `preprocessor_config.json`.

    Attributes:
        size: side S of the square that the model sees, in pixels.
        mean: of each channel, in units of 0..1.
        std: of each channel, in units of 0..1.
        resize_mode: "shortest" fills the square and crops the centre, "longest" fits inside and pads, "squash"
            changes the aspect ratio.
        interpolation: how Pillow resizes.
        fill_color: value 0..255 of the padding of "longest", the same in each channel.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill_color: int = 0

    def __post_init__(self) -> None:
        """Refuse values that the arithmetic does not support.

        Raises:
            ConfigError: naming the field.
        """
        _check("size", self.size, _is_int(self.size) and self.size > 0, "a positive integer")
        _check("mean", self.mean, _is_triple(self.mean), "three finite numbers")
        _check("std", self.std, _is_triple(self.std) and min(self.std) > 0, "three positive numbers")
        _check("resize_mode", self.resize_mode, self.resize_mode in get_args(ResizeMode), get_args(ResizeMode))
        _check("interpolation", self.interpolation, self.interpolation in _FILTERS, get_args(Interpolation))
        _check("fill_color", self.fill_color, _is_int(self.fill_color) and 0 <= self.fill_color <= 255, "0..255")

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "PreprocessConfig":
        """Read the content of a checkpoint's `preprocessor_config.json`; fields of other software are ignored.

        Raises:
            ConfigError: a field is absent or its value is not supported.
        """
        if missing := [field.name for field in fields(cls) if field.name not in raw]:
            raise ConfigError(f"preprocessor_config.json lacks {missing}; use the file of the same checkpoint")
        values = {field.name: raw[field.name] for field in fields(cls)}
        if isinstance(raw["size"], list) and len(raw["size"]) == 2:
            _check("size", raw["size"], raw["size"][0] == raw["size"][1], "one side, or two equal ones")
            values["size"] = raw["size"][0]
        for name in ("mean", "std"):
            _check(name, raw[name], isinstance(raw[name], list), "a list of three numbers")
            values[name] = tuple(raw[name])
        return cls(**values)


def check_resize_mode(resize_mode: str | None) -> None:
    """Refuse a value that is neither a resize mode nor `None` (the checkpoint's own mode).

    Raises:
        ConfigError: naming the modes.
    """
    if resize_mode is not None and resize_mode not in get_args(ResizeMode):
        raise ConfigError(f"`resize_mode` is {resize_mode!r}: choose one of {get_args(ResizeMode)}")


def check_resampling(resampling: str) -> None:
    """Refuse a value that is no `Resampling`, and one that needs a package which is not installed.

    Raises:
        ConfigError: naming the values, or the package.
    """
    if resampling not in get_args(Resampling):
        raise ConfigError(f"`resampling` is {resampling!r}: choose one of {get_args(Resampling)}")
    if resampling == "fast" and not is_installed():
        raise ConfigError(
            "`resampling` is 'fast', which needs the package cykooz-resizer: `pip install cykooz-resizer` (there is no "
            "wheel for Linux on ARM), or leave it 'exact'"
        )


def is_mostly_cropped(size: tuple[int, int], config: PreprocessConfig, resize_mode: ResizeMode | None = None) -> bool:
    """Whether the crop to a square leaves out more than half of an image of this width and height."""
    mode = config.resize_mode if resize_mode is None else resize_mode
    return mode == "shortest" and max(size) > 2 * min(size)


def preprocess_batch(
    images: Sequence[Image.Image],
    config: PreprocessConfig,
    resize_mode: ResizeMode | None = None,
    *,
    resampling: Resampling = "exact",
) -> NDArray[np.float32]:
    """Make the model's input from B images: `pixel_values` of their `squares`, (B, 3, S, S) float32.

    Raises:
        ConfigError: as for `squares`.

    Source: the reference's preprocessing, which is torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize`.
    """
    return pixel_values(squares(images, config, resize_mode, resampling=resampling), config)


def squares(
    pictures: Sequence[Picture],
    config: PreprocessConfig,
    resize_mode: ResizeMode | None = None,
    *,
    resampling: Resampling = "exact",
) -> NDArray[np.uint8]:
    """Resize each picture to the square that the model sees.

    Args:
        pictures: B pictures of any size.
        config: the checkpoint's options.
        resize_mode: instead of the checkpoint's own, if not `None`.
        resampling: "exact" gives Pillow's values to the last bit, "fast" differs by two levels at most, in large
            pictures.

    Returns:
        (B, S, S, 3) uint8, RGB, range 0..255.

    Raises:
        ConfigError: an unknown `resize_mode` or `resampling`, or "fast" without its package.
    """
    check_resize_mode(resize_mode)
    check_resampling(resampling)
    fit = _FIT[config.resize_mode if resize_mode is None else resize_mode]
    batch = np.empty((len(pictures), config.size, config.size, 3), np.uint8)
    for square, picture in zip(batch, pictures, strict=True):
        square[:] = fit(picture, config, resampling)
    return batch


def pixel_values(squares: NDArray[np.uint8], config: PreprocessConfig) -> NDArray[np.float32]:
    """Scale and normalise squares.

    Args:
        squares: (B, S, S, 3) uint8, RGB.
        config: the checkpoint's options.

    Returns:
        (B, 3, S, S) float32, `(value / 255 - mean) / std`.
    """
    count, height, width, _ = squares.shape
    batch = np.empty((count, 3, height, width), np.float32)
    for planes, square in zip(batch, squares, strict=True):
        # Channel by channel in place: a channel stays in the cache, and every step rounds as in the reference.
        for channel, mean, std in zip(range(3), config.mean, config.std, strict=True):
            plane = planes[channel]  # (S, S)
            np.divide(square[:, :, channel], np.float32(255), out=plane)
            np.subtract(plane, np.float32(mean), out=plane)
            np.divide(plane, np.float32(std), out=plane)
    return batch


def _squash(picture: Picture, config: PreprocessConfig, resampling: Resampling) -> NDArray[np.uint8]:
    return _resized(picture, (config.size, config.size), config, resampling)


def _longest(picture: Picture, config: PreprocessConfig, resampling: Resampling) -> NDArray[np.uint8]:
    """Fit the long side and pad; a side that would round to 0 keeps one pixel (the reference fails there)."""
    size = size_of(picture)
    ratio = max(size) / config.size
    width, height = (max(1, round(side / ratio)) for side in size)
    square = np.full((config.size, config.size, 3), config.fill_color, np.uint8)
    left, top = (config.size - width) // 2, (config.size - height) // 2
    square[top : top + height, left : left + width] = _resized(picture, (width, height), config, resampling)
    return square


def _shortest(picture: Picture, config: PreprocessConfig, resampling: Resampling) -> NDArray[np.uint8]:
    """Fit the short side and crop the centre of the long one."""
    size, short = config.size, min(size_of(picture))
    width, height = (size if side == short else int(size * side / short) for side in size_of(picture))
    left, top = round((width - size) / 2), round((height - size) / 2)  # Python's banker's rounding, as the reference
    box = left, top, left + size, top + size
    return _resized(picture, (width, height), config, resampling, box=box)


_FIT: dict[str, Callable[[Picture, PreprocessConfig, Resampling], NDArray[np.uint8]]] = {
    "shortest": _shortest,
    "longest": _longest,
    "squash": _squash,
}


def _resized(
    picture: Picture,
    resized: tuple[int, int],
    config: PreprocessConfig,
    resampling: Resampling,
    *,
    box: Box | None = None,
) -> NDArray[np.uint8]:
    """Resize a picture to a width and height; give a box of the result (all of it if `None`), (h, w, 3)."""
    left, top, right, bottom = (0, 0, *resized) if box is None else box
    if resampling == "fast" and is_large(picture):
        columns, rows = (
            Axis(side=side, resized=new_side, start=start, count=end - start)
            for side, new_side, start, end in zip(size_of(picture), resized, (left, top), (right, bottom), strict=True)
        )
        return resize(picture, columns, rows, config.interpolation)
    size, pillow_filter = size_of(picture), _FILTERS[config.interpolation]
    # Shrinking never adds pixels.
    if min(size) < min(resized) and resized[0] * resized[1] > _MAX_RESIZED_PIXELS:
        return np.asarray(_resize_centre(as_image(picture), resized, (left, top), config))
    if isinstance(picture, np.ndarray) and size[1] - resized[1] <= 2 * (size[0] - resized[0]):
        return _resize_strips(picture, resized, (left, top, right, bottom), pillow_filter)
    return np.asarray(as_image(picture).resize(resized, pillow_filter).crop((left, top, right, bottom)))


def _resize_strips(
    pixels: NDArray[np.uint8], resized: tuple[int, int], box: Box, pillow_filter: Image.Resampling
) -> NDArray[np.uint8]:
    """Resize an array, strip by strip, and crop it: the same pixels to the last bit, in less time.

    Pillow resizes the columns first, each row by itself, and rounds to uint8; only if many more rows than columns are
    removed, rows come first since Pillow 13.
    """
    left, top, right, bottom = box
    height, width, _ = pixels.shape
    part = np.empty((height, right - left, 3), np.uint8)
    lines = max(1, _STRIP_BYTES // (3 * width))
    for start in range(0, height, lines):
        strip = Image.fromarray(pixels[start : start + lines])
        resized_strip = strip.resize((resized[0], strip.height), pillow_filter)
        part[start : start + lines] = np.asarray(resized_strip)[:, left:right]
    return np.asarray(Image.fromarray(part).resize((right - left, resized[1]), pillow_filter))[top:bottom]


def _resize_centre(
    image: Image.Image, resized: tuple[int, int], offset: tuple[int, int], config: PreprocessConfig
) -> Image.Image:
    """Enlarge a long strip and crop it, computing only what the crop keeps: the same pixels to the last bit.

    Otherwise a picture of 1 x 5000 pixels would be resized to 512 x 2,560,000 only to keep one square. Pillow's own
    `resize(box=...)` takes the box in float32, which changes pixels. So the long axis is resampled here, and the short
    axis by Pillow, in Pillow's order: rows first, rounded to uint8, then columns. (Pillow 13 reverses this order when
    it shrinks a tall picture; no version reverses it when it enlarges.)
    """
    size, pillow_filter = config.size, _FILTERS[config.interpolation]
    tall = image.height > image.width
    side, new_side, start = (axis[int(tall)] for axis in (image.size, resized, offset))
    weights = [_weights(position, side, new_side, config.interpolation) for position in range(start, start + size)]
    first, last = weights[0][0], weights[-1][0] + len(weights[-1][1])
    if tall:
        strip = image.crop((0, first, image.width, last)).resize((size, last - first), pillow_filter)
        return Image.fromarray(_resample_rows(np.asarray(strip), weights, first))
    columns = np.asarray(image.crop((first, 0, last, image.height))).swapaxes(0, 1)  # (last - first, h, 3)
    strip = Image.fromarray(_resample_rows(columns, weights, first).swapaxes(0, 1).copy())
    return strip.resize((size, size), pillow_filter)


def _weights(position: int, side: int, new_side: int, interpolation: str) -> tuple[int, NDArray[np.int64]]:
    """Give the first source pixel of one output pixel, and the weights in units of 2^-22, as Pillow rounds them.

    Source: Pillow, src/libImaging/Resample.c, `precompute_coeffs` and `normalize_coeffs_8bpc`, without shrinking.
    """
    kernel, reach = _KERNELS[interpolation]
    centre = (position + 0.5) * (side / new_side)
    first, last = max(0, int(centre - reach + 0.5)), min(side, int(centre + reach + 0.5))
    raw = [kernel(abs(source - centre + 0.5)) for source in range(first, last)]
    total = sum(raw)
    return first, np.array([math.trunc(w / total * 2**22 + math.copysign(0.5, w)) for w in raw], np.int64)


def _resample_rows(
    pixels: NDArray[np.uint8], weights: Sequence[tuple[int, NDArray[np.int64]]], origin: int
) -> NDArray[np.uint8]:
    """(n, m, 3) uint8 -> (S, m, 3): row i is the weighted sum of the source rows that `weights[i]` names."""
    rows = [
        np.tensordot(row, pixels[first - origin : first - origin + len(row)], axes=(0, 0)) for first, row in weights
    ]
    total: NDArray[np.int64] = np.stack(rows)  # (S, m, 3)
    return ((total + 2**21) >> 22).clip(0, 255).astype(np.uint8)


def _cubic(x: float) -> float:
    """Keys' kernel with a = -0.5, for x >= 0."""
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


def _triangle(x: float) -> float:
    return 1.0 - x if x < 1.0 else 0.0


_KERNELS: dict[str, tuple[Callable[[float], float], float]] = {"bicubic": (_cubic, 2.0), "bilinear": (_triangle, 1.0)}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_triple(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        # A larger number means a damaged file, and a huge int cannot be converted to a float.
        and all(isinstance(x, int | float) and not isinstance(x, bool) and -1e9 < x < 1e9 for x in value)
    )


def _check(name: str, value: object, ok: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"`{name}` of the image preprocessing is {value!r}: supported is {allowed}")
