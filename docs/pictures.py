"""Draw the pictures that explain tiles and shortened vectors, with the bundled model's own scenes and measurements.

    python docs/pictures.py            # writes docs/pictures/*.png; tests/docs/test_pictures.py compares them

Everything is computed here: the boxes by `core_encoder.tiling`, the cosines and the quality by `nano`.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from core_encoder import JinaClipEncoder, Tiling
from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import SIDE_PX, SceneObject, draw_canvas, draw_scene, random_scene
from core_encoder.tiling import Box, tile_boxes

FOLDER = Path(__file__).parent / "pictures"
DIMENSIONS = (8, 16, 32, 64, 96, 128)
GALLERY = 400  # pictures that the quality is measured on

_INK, _MUTED, _PAPER, _LINE, _RING = (33, 33, 48), (110, 110, 130), (255, 255, 255), (63, 81, 181), (233, 30, 99)
_GRID = (226, 226, 236)
_MARGIN, _GAP = 24, 22
_STAR = SceneObject(shape="star", colour="yellow", size="small", place="centre")
_QUERY = "a small yellow star"


def draw_all(encoder: JinaClipEncoder, measured: dict[int, float]) -> dict[str, bytes]:
    """Every picture by its name, as a PNG; `measured` is what `measure` gives."""
    return {
        "tiles.png": _png(_cutting()),
        "tiles-limit.png": _png(_limits()),
        "tiles-search.png": _png(_searching(encoder)),
        "shortened-vectors.png": _png(_plot(measured)),
    }


def measure(encoder: JinaClipEncoder) -> dict[int, float]:
    """Of how many captions the right picture comes first among all, by the length of the vectors."""
    rng = np.random.default_rng(5)
    scenes = [random_scene(rng, num_objects=1 + index % 3) for index in range(GALLERY)]
    pictures = [draw_scene(scene, seed=index).image for index, scene in enumerate(scenes)]
    captions = [write(full_description(scene), "en") for scene in scenes]
    images, texts = encoder.encode_image(pictures), encoder.encode_text(captions)  # (B, 128) each
    found = {}
    for length in DIMENSIONS:
        short = [rows[:, :length] / np.linalg.norm(rows[:, :length], axis=1, keepdims=True) for rows in (texts, images)]
        first = (short[0] @ short[1].T).argmax(axis=1)  # (B,)
        # Two scenes may have one caption: both are right.
        found[length] = float(np.mean([captions[at] == captions[asked] for asked, at in enumerate(first)]))
    return found


def _street() -> Image.Image:
    """A picture of 250 x 180 pixels, in which there is one small star."""
    return draw_canvas(_STAR, seed=23, tiles_per_side=4).image.crop((20, 60, 270, 240))


def _cutting() -> Image.Image:
    """The picture with its tiles drawn in, and beside it what the model is shown."""
    picture, scale = _street(), 2
    boxes = tile_boxes(*picture.size, size=SIDE_PX, tiling=Tiling(max_tiles=12))
    large = _scaled(picture, scale)
    _outline(large, boxes, scale)
    tile_px, columns = 68, 4
    right = large.width + 2 * _MARGIN + _GAP
    canvas = _paper(right + columns * (tile_px + 8) + _MARGIN, large.height + 3 * _MARGIN)
    canvas.paste(large, (_MARGIN, 2 * _MARGIN))
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, 14), f"{picture.width} x {picture.height} pixels, {len(boxes)} tiles", _INK, _font(16))
    pen.text((right, 14), "what the model sees: the whole picture ...", _INK, _font(16))
    overview = picture.resize((110, 79), Image.Resampling.BICUBIC)
    canvas.paste(overview, (right, 2 * _MARGIN))
    pen.text((right, 2 * _MARGIN + 90), "... and each tile", _INK, _font(16))
    for index, box in enumerate(boxes):
        tile = picture.crop(box).resize((tile_px, tile_px), Image.Resampling.BICUBIC)
        row, column = divmod(index, columns)
        canvas.paste(tile, (right + column * (tile_px + 8), 2 * _MARGIN + 122 + row * (tile_px + 8)))
    return canvas


def _limits() -> Image.Image:
    """The same picture under three limits: the windows grow."""
    picture, scale = _street(), 1.12
    limits = (12, 6, 2)
    large = _scaled(picture, scale)
    canvas = _paper(len(limits) * (large.width + _GAP) + 2 * _MARGIN - _GAP, large.height + 3 * _MARGIN)
    pen = ImageDraw.Draw(canvas)
    for index, limit in enumerate(limits):
        boxes = tile_boxes(*picture.size, size=SIDE_PX, tiling=Tiling(max_tiles=limit))
        panel = _scaled(picture, scale)
        _outline(panel, boxes, scale)
        left = _MARGIN + index * (large.width + _GAP)
        side = boxes[0].right - boxes[0].left
        pen.text((left, 14), f"max_tiles={limit}: {len(boxes)} of {side} px", _INK, _font(15))
        canvas.paste(panel, (left, 2 * _MARGIN))
    return canvas


def _searching(encoder: JinaClipEncoder) -> Image.Image:
    """The cosine of each tile with a query, on the picture; the nearest tile has a ring."""
    picture, scale = _street(), 2.4
    tiling = Tiling(max_tiles=12)
    (tiles,) = encoder.encode_image_tiles([picture], tiling=tiling)
    query = encoder.encode_text([_QUERY])[0]
    whole, *cosines = (tiles.vectors @ query).tolist()
    boxes = [Box(*box) for box in tiles.boxes[1:].tolist()]
    large = _scaled(picture, scale)
    best = int(np.argmax(cosines))
    pen = ImageDraw.Draw(large)
    for index, (box, cosine) in enumerate(zip(boxes, cosines, strict=True)):
        edges = _grown(box, scale)
        label = f"{cosine:.2f}"
        centre = ((edges[0] + edges[2]) / 2, (edges[1] + edges[3]) / 2)
        if index != best:
            width = pen.textlength(label, _font(16))
            frame = (centre[0] - width / 2 - 5, centre[1] - 11, centre[0] + width / 2 + 5, centre[1] + 11)
            pen.rounded_rectangle(frame, 5, fill=(255, 255, 255))
            pen.text(centre, label, _MUTED, _font(16), anchor="mm")
    edges = _grown(boxes[best], scale)
    pen.rectangle(edges, outline=_RING, width=5)
    pen.rounded_rectangle((edges[0], edges[3] - 26, edges[0] + 52, edges[3]), 3, fill=_RING)
    pen.text((edges[0] + 26, edges[3] - 13), f"{max(cosines):.2f}", _PAPER, _font(17), anchor="mm")
    canvas = _paper(large.width + 2 * _MARGIN, large.height + 3 * _MARGIN + 12)
    canvas.paste(large, (_MARGIN, 2 * _MARGIN + 12))
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, 12), f"“{_QUERY}”: cosine with the whole picture {whole:.2f},", _INK, _font(17))
    pen.text((_MARGIN, 33), f"with the nearest tile {max(cosines):.2f}", _RING, _font(17))
    return canvas


def _plot(found: dict[int, float]) -> Image.Image:
    """Quality against the length of the vectors."""
    width, height, left, top, right, bottom = 680, 340, 70, 54, 30, 62
    canvas = _paper(width, height)
    pen = ImageDraw.Draw(canvas)

    def place(length: int, share: float) -> tuple[float, float]:
        across = (np.log2(length) - 3) / 4  # 8 .. 128
        return left + across * (width - left - right), top + (1 - share) * (height - top - bottom)

    for percent in (0, 25, 50, 75, 100):
        start, end = place(8, percent / 100), place(128, percent / 100)
        pen.line((*start, *end), _GRID, 2)
        pen.text((start[0] - 12, start[1]), f"{percent} %", _MUTED, _font(14), anchor="rm")
    points = [place(length, share) for length, share in found.items()]
    pen.line([value for point in points for value in point], _LINE, 4, joint="curve")
    for (x, y), (length, share) in zip(points, found.items(), strict=True):
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=_LINE, outline=_PAPER, width=2)
        pen.text(
            (x, y - 12 if share < 0.9 else y + 12),
            f"{100 * share:.0f}",
            _INK,
            _font(15),
            anchor="mb" if share < 0.9 else "mt",
        )
        pen.text((x, height - bottom + 12), str(length), _INK, _font(15), anchor="mt")
        pen.text((x, height - bottom + 32), f"{4 * length} B", _MUTED, _font(13), anchor="mt")
    pen.text((left, 14), f"right picture first, of {GALLERY}, by the number of values kept", _INK, _font(17))
    return canvas


def _outline(picture: Image.Image, boxes: Sequence[Box], scale: float) -> None:
    pen = ImageDraw.Draw(picture)
    for index, box in enumerate(boxes):
        left, top, right, bottom = _grown(box, scale)
        inset = 1 + index % 2  # so that edges of neighbours that overlap can be told apart
        pen.rectangle(
            (left + inset, top + inset, right - inset, bottom - inset), outline=(_LINE, _RING)[index % 2], width=2
        )


def _grown(box: Box, scale: float) -> tuple[float, float, float, float]:
    return box.left * scale, box.top * scale, box.right * scale - 1, box.bottom * scale - 1


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), _PAPER)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType, which draws the letters: install a wheel of Pillow")
    return font


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        content, "PNG", optimize=True
    )
    return content.getvalue()


def as_pixels(png: bytes) -> NDArray[np.float32]:
    """The pixels of a PNG, (H, W, 3) 0..255, to compare it with another."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32)


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    encoder = JinaClipEncoder.load("nano", device="cpu", local_files_only=True)
    for name, content in draw_all(encoder, measure(encoder)).items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
