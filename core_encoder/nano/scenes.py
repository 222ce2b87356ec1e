"""Draw scenes for `nano`: coloured shapes at nine places on a textured background, from a seed.

The training, the evaluation and the demo all draw with this file, so the bundled model is shown the kind of pictures
that it was trained on. It needs only numpy and Pillow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

Shape = Literal["circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "diamond", "arrow"]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"]
Size = Literal["small", "large"]
Place = Literal[
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"
]  # row by row: index = 3 * row + column

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)

SIDE_PX = 72  # the model's image side; every length below is given for it and scales with the picture
MAX_OBJECTS = 3

# Never trained, so that the evaluation can ask for them: one colour of each shape, at least one shape of each colour.
HELD_OUT_PAIRS: frozenset[tuple[Shape, Colour]] = frozenset(
    {
        ("circle", "yellow"),
        ("square", "pink"),
        ("triangle", "white"),
        ("star", "blue"),
        ("heart", "green"),
        ("cross", "orange"),
        ("ring", "black"),
        ("moon", "red"),
        ("diamond", "purple"),
        ("arrow", "green"),
    }
)

_RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (214, 28, 32),
    "orange": (250, 134, 8),
    "yellow": (250, 226, 24),
    "green": (26, 150, 50),
    "blue": (28, 70, 214),
    "purple": (116, 30, 156),
    "pink": (255, 132, 190),
    "white": (252, 252, 252),
    "black": (10, 10, 10),
}
_RADIUS_PX: dict[Size, tuple[float, float]] = {"small": (7.0, 7.7), "large": (10.8, 11.6)}  # drawn uniformly
_CENTRES_PX = (13.6, 36.0, 58.4)  # of the three rows and columns
_CENTRE_JITTER_PX = 1.0
_ROTATION_DEG = 8.0  # more would turn squares into diamonds
_COLOUR_JITTER = 12  # of 255, per channel
_SUPERSAMPLING = 4


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One shape in a scene."""

    shape: Shape
    colour: Colour
    size: Size
    place: Place

    @property
    def held_out(self) -> bool:
        """True where this shape was never trained in this colour."""
        return (self.shape, self.colour) in HELD_OUT_PAIRS


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The content of a picture: up to three objects, each at a different place."""

    objects: tuple[SceneObject, ...] = ()

    @property
    def held_out(self) -> bool:
        """True where some object is of a pair that was never trained."""
        return any(item.held_out for item in self.objects)


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """A drawn scene.

    Attributes:
        pixels: (S, S, 3) uint8 0..255, RGB.
        owner: (S, S) int8, the index of the object that covers the pixel, -1 for the background.
    """

    pixels: np.ndarray
    owner: np.ndarray

    @property
    def image(self) -> Image.Image:
        """The picture as an RGB image."""
        return Image.fromarray(self.pixels)


def random_object(
    rng: np.random.Generator, *, places: Sequence[Place] = PLACES, held_out: bool | None = False
) -> SceneObject:
    """Draw an object at one of `places`, of a trained pair, a held-out pair, or either (`held_out=None`)."""
    while True:
        item = SceneObject(
            shape=SHAPES[rng.integers(len(SHAPES))],
            colour=COLOURS[rng.integers(len(COLOURS))],
            size=SIZES[rng.integers(len(SIZES))],
            place=places[int(rng.integers(len(places)))],
        )
        if held_out is None or item.held_out == held_out:
            return item


def random_scene(rng: np.random.Generator, *, num_objects: int, num_held_out: int = 0) -> Scene:
    """Draw a scene with no two objects of the same shape and colour, `num_held_out` of them of held-out pairs."""
    objects: list[SceneObject] = []
    free = list(PLACES)
    while len(objects) < num_objects:
        item = random_object(rng, places=free, held_out=len(objects) < num_held_out)
        if all((item.shape, item.colour) != (other.shape, other.colour) for other in objects):
            objects.append(item)
            free.remove(item.place)
    order = rng.permutation(num_objects)  # so that the held-out object is not always named first
    return Scene(objects=tuple(objects[index] for index in order))


def draw_scene(scene: Scene, *, seed: int, side_px: int = SIDE_PX) -> Drawing:
    """Draw `scene` on a random texture; the same seed gives the same pixels."""
    rng = np.random.default_rng(seed)
    scale = side_px / SIDE_PX
    drawing = Drawing(pixels=_texture(rng, side_px, scale), owner=np.full((side_px, side_px), -1, dtype=np.int8))
    for index, item in enumerate(scene.objects):
        _draw_object(drawing, index, item, rng, scale, origin_px=(0.0, 0.0))
    return drawing


def draw_canvas(item: SceneObject, *, seed: int, tiles_per_side: int = 4, tile_px: int = SIDE_PX) -> Drawing:
    """Draw a textured canvas of several tiles with `item` inside one of them, at its place within that tile.

    Sizes in pixels are those of a scene of `tile_px`; the object does not cross the border of a tile.
    """
    rng = np.random.default_rng(seed)
    side_px, scale = tile_px * tiles_per_side, tile_px / SIDE_PX
    drawing = Drawing(pixels=_texture(rng, side_px, scale), owner=np.full((side_px, side_px), -1, dtype=np.int8))
    row, column = rng.integers(tiles_per_side, size=2)
    _draw_object(drawing, 0, item, rng, scale, origin_px=(float(column * tile_px), float(row * tile_px)))
    return drawing


def _draw_object(
    drawing: Drawing,
    index: int,
    item: SceneObject,
    rng: np.random.Generator,
    scale: float,
    origin_px: tuple[float, float],
) -> None:
    """Paint `item` into `drawing`, with an edge smoothed by supersampling."""
    row, column = divmod(PLACES.index(item.place), 3)
    jitter_x, jitter_y = rng.uniform(-_CENTRE_JITTER_PX, _CENTRE_JITTER_PX, size=2)
    x = origin_px[0] + (_CENTRES_PX[column] + jitter_x) * scale
    y = origin_px[1] + (_CENTRES_PX[row] + jitter_y) * scale
    radius = rng.uniform(*_RADIUS_PX[item.size]) * scale
    angle = math.radians(rng.uniform(-_ROTATION_DEG, _ROTATION_DEG))
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    half = math.ceil(radius * 1.15) + 1
    left, top = round(x) - half, round(y) - half
    stencil = Image.new("L", (2 * half * _SUPERSAMPLING, 2 * half * _SUPERSAMPLING))
    painter = ImageDraw.Draw(stencil)
    for fill, outline in zip((255, 0), _OUTLINES[item.shape], strict=False):  # the second outline is a hole
        points = (outline @ rotation * radius + (x - left, y - top)) * _SUPERSAMPLING
        painter.polygon([(float(px), float(py)) for px, py in points], fill=fill)
    coverage = np.asarray(stencil.reduce(_SUPERSAMPLING), dtype=np.float32)[..., None] / 255  # (h, w, 1)

    height, width = drawing.owner.shape
    rows = slice(max(top, 0), min(top + 2 * half, height))
    columns = slice(max(left, 0), min(left + 2 * half, width))
    coverage = coverage[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    colour = np.array(_RGB[item.colour]) + rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, size=3)
    under = drawing.pixels[rows, columns]
    drawing.pixels[rows, columns] = np.clip(under + coverage * (colour - under), 0, 255).astype(np.uint8)
    drawing.owner[rows, columns][coverage[..., 0] > 0.5] = index


def _texture(rng: np.random.Generator, side_px: int, scale: float) -> np.ndarray:
    """Paint a muted background of one of six kinds: (S, S, 3) uint8."""
    first, second = _muted_colour(rng), _muted_colour(rng)
    y, x = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / scale
    angle, period, phase = rng.uniform(0, 2 * math.pi), rng.uniform(5, 16), rng.uniform(0, 16)
    along = x * math.cos(angle) + y * math.sin(angle) + phase
    across = y * math.cos(angle) - x * math.sin(angle) + phase
    kind = rng.integers(6)
    if kind == 0:  # plain
        blend = np.zeros_like(x)
    elif kind == 1:  # a gradient from side to side
        blend = (along - along.min()) / (along.max() - along.min())
    elif kind == 2:  # stripes
        blend = (along % period < period / 2).astype(np.float32)
    elif kind == 3:  # checks
        blend = ((along % period < period / 2) ^ (across % period < period / 2)).astype(np.float32)
    elif kind == 4:  # dots
        blend = (np.hypot(along % period - period / 2, across % period - period / 2) < period / 4).astype(np.float32)
    else:  # blotches
        cells = max(2, round(side_px / scale / period))
        noise = rng.integers(0, 256, size=(cells, cells), dtype=np.uint8)
        blend = np.asarray(Image.fromarray(noise).resize((side_px, side_px), Image.Resampling.BICUBIC)) / 255
    grain = rng.normal(0, rng.uniform(1, 7), size=(side_px, side_px, 1)).astype(np.float32)
    pixels: np.ndarray = first + blend[..., None] * (second - first) + grain
    return np.asarray(pixels.clip(0, 255), dtype=np.uint8)


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    """Return a greyish colour, (3,) float32, clearly different from the colours of the objects."""
    return (rng.uniform(105, 180) + rng.uniform(-16, 16, size=3)).astype(np.float32)


def _regular(corners: int, *, radius: float = 1.0, inner: float | None = None) -> np.ndarray:
    """Return a regular polygon with one corner up, or with `inner` a star of so many points: (n, 2)."""
    count = corners if inner is None else 2 * corners
    angles = np.arange(count) * (2 * math.pi / count) - math.pi / 2
    radii = np.where(np.arange(count) % 2, radius if inner is None else inner, radius)
    return np.stack((np.cos(angles) * radii, np.sin(angles) * radii), axis=1)


def _heart() -> np.ndarray:
    """Return the classic heart curve, scaled into the unit square: (n, 2)."""
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack((x, y - 2), axis=1) / 16


def _moon() -> np.ndarray:
    """Return a crescent that is open to the right: the left rim of a circle and back along a shifted one, (n, 2)."""
    outer = np.linspace(0.25 * math.pi, 1.75 * math.pi, 32)
    rim = np.stack((np.cos(outer), np.sin(outer)), axis=1)
    tip_x, tip_y = rim[0]
    centre_x = 0.55
    radius = math.hypot(tip_x - centre_x, tip_y)
    start = math.atan2(tip_y, tip_x - centre_x)
    inner = np.linspace(2 * math.pi - start, start, 24)
    return np.concatenate((rim, np.stack((centre_x + radius * np.cos(inner), radius * np.sin(inner)), axis=1))) * 1.02


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points)


# For each shape its outline and, for the ring, a hole; in units of the object's radius, y downwards.
_OUTLINES: dict[Shape, tuple[np.ndarray, ...]] = {
    "circle": (_regular(40, radius=0.95),),
    "square": (_polygon((-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)),),
    "triangle": (_polygon((0, -0.95), (1.02, 0.83), (-1.02, 0.83)),),
    "star": (_regular(5, radius=1.07, inner=0.43),),
    "heart": (_heart(),),
    "cross": (
        _polygon(
            *((-0.32, -1), (0.32, -1), (0.32, -0.32), (1, -0.32), (1, 0.32), (0.32, 0.32)),
            *((0.32, 1), (-0.32, 1), (-0.32, 0.32), (-1, 0.32), (-1, -0.32), (-0.32, -0.32)),
        ),
    ),
    "ring": (_regular(40, radius=1.0), _regular(40, radius=0.56)),
    "moon": (_moon(),),
    "diamond": (_polygon((0, -1.07), (0.72, 0), (0, 1.07), (-0.72, 0)),),
    "arrow": (_polygon((-1.05, -0.3), (0.1, -0.3), (0.1, -0.88), (1.1, 0), (0.1, 0.88), (0.1, 0.3), (-1.05, 0.3)),),
}
