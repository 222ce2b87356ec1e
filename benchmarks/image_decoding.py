"""A JPEG to the square of pixels that the model sees, on one core, against Pillow: decode, resize all of it, crop.

    python -m benchmarks.image_decoding --quick | --full

The photographs are drawn: an upright 12 megapixels of 2 bits a pixel, as phones store them, and one of 640 x 480.
`resampling="exact"`, the default, must give Pillow's values; "fast" may differ by two levels of 255, and has the bars.
Rows without a bar say which part limits. Processor time.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from benchmarks.comparison import Bench, Claim, main
from core_encoder.image_input import read_picture
from core_encoder.image_preprocess import PreprocessConfig, Resampling, squares
from core_encoder.pictures import Picture

_FULL = ((640, 480, 1.8), (4000, 3000, 2.0))  # width, height, bar
_QUICK = ((800, 600, 2.0),)
_HOPE = 2.6
_SIDES = (512, 224)  # of v2's square and of v1's
_FAST_LEVELS = 2  # of 255, that "fast" may differ by


def levels(expected: object, actual: object) -> float:
    """The largest difference of two pictures."""
    return float(np.abs(np.asarray(expected, np.int16) - np.asarray(actual, np.int16)).max())


def photograph(width: int, height: int) -> bytes:
    """A JPEG whose detail falls with its size, as in nature, with a sensor's noise."""
    random = np.random.default_rng(0)
    light = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells <= width:
        rows = max(2, cells * height // width)
        grey, colour = random.normal(0, 1, (rows, cells, 1)), random.normal(0, 0.35, (rows, cells, 3))
        detail = (grey + colour).astype(np.float32) / cells**0.8
        for channel in range(3):
            plane = Image.fromarray(detail[:, :, channel])
            light[:, :, channel] += np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC))
        cells *= 2
    light = 120 + 52 * (light - light.mean()) / light.std() + random.normal(0, 6, (height, width, 1))
    file = BytesIO()
    Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


def pillow_decoded(data: bytes) -> Image.Image:
    """The baseline's first half."""
    image = JpegImageFile(BytesIO(data))
    image.load()
    return image


def pillow_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The baseline's second half: shrink the short side, crop the centre; (side, side, 3) uint8."""
    width, height = (int(side * length / min(image.size)) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    square: NDArray[np.uint8] = np.asarray(resized.crop((left, top, left + side, top + side)))
    return square


def pillow_pixels(data: bytes, side: int) -> NDArray[np.uint8]:
    """The whole baseline."""
    return pillow_square(pillow_decoded(data), side)


def our_picture(data: bytes) -> Picture:
    """Our first half."""
    return read_picture(data, index=0).picture


def our_square(picture: Picture, config: PreprocessConfig, resampling: Resampling) -> NDArray[np.uint8]:
    """Our second half."""
    square: NDArray[np.uint8] = squares([picture], config, resampling=resampling)[0]
    return square


def our_pixels(data: bytes, config: PreprocessConfig, resampling: Resampling) -> NDArray[np.uint8]:
    """What the encoder does with a file's bytes."""
    return our_square(our_picture(data), config, resampling)


def all_pixels(files: Sequence[bytes], config: PreprocessConfig, threads: int) -> list[NDArray[np.uint8]]:
    """Several files in threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(partial(our_pixels, config=config, resampling="exact"), files))


def run(bench: Bench) -> None:
    """One photograph after the other, for both sides of the square."""
    for width, height, bar in _QUICK if bench.quick else _FULL:
        data = photograph(width, height)
        name = f"{width} x {height}, {len(data) / 2**20:.1f} MiB"
        image, picture = pillow_decoded(data), our_picture(data)
        for side in _SIDES:
            config = PreprocessConfig(size=side, mean=(0.5,) * 3, std=(0.5,) * 3)
            sides: dict[str, Callable[[], object]] = {
                "Pillow": partial(pillow_pixels, data, side),
                "exact": partial(our_pixels, data, config, "exact"),
                "fast": partial(our_pixels, data, config, "fast"),
                "Pillow, resizing": partial(pillow_square, image, side),
                "exact, resizing": partial(our_square, picture, config, "exact"),
                "fast, resizing": partial(our_square, picture, config, "fast"),
                "fast, resizing Pillow's image": partial(our_square, image, config, "fast"),
            }
            pixels, resizing = f"{name} to {side}: JPEG to pixels", f"{name} to {side}: resizing alone"
            claims = [
                _claim(f"{pixels}, exact / Pillow", "Pillow", "exact"),
                _claim(f"{pixels}, fast / Pillow", "Pillow", "fast", bar, levels_apart=_FAST_LEVELS),
                _claim(f"{resizing}, exact / Pillow", "Pillow, resizing", "exact, resizing"),
                *(
                    _claim(f"{resizing}, {what} / Pillow", "Pillow, resizing", ours, levels_apart=_FAST_LEVELS)
                    for what, ours in [
                        ("fast", "fast, resizing"),
                        ("fast, of Pillow's image", "fast, resizing Pillow's image"),
                    ]
                ),
            ]
            bench.compare(sides, claims, clock="process")
        sides = {"Pillow": partial(pillow_decoded, data), "ours": partial(our_picture, data)}
        bench.compare(sides, [_claim(f"{name}: decoding alone / Pillow", "Pillow", "ours")], clock="process")
        config = PreprocessConfig(size=_SIDES[0], mean=(0.5,) * 3, std=(0.5,) * 3)
        files = [data] * 8
        sides = {f"{count}": partial(all_pixels, files, config, count) for count in (1, 2)}
        bench.compare(sides, [_claim(f"{name} to {_SIDES[0]}: two threads / one, wall time", "1", "2")])


def _claim(what: str, baseline: str, ours: str, bar: float | None = None, *, levels_apart: int = 0) -> Claim:
    hope = None if bar is None else _HOPE
    return Claim(what=what, baseline=baseline, ours=ours, bar=bar, hope=hope, difference=levels, tolerance=levels_apart)


if __name__ == "__main__":
    main("image_decoding", __doc__, run)
