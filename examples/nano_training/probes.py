"""What nano is asked: galleries, and choices between pictures that differ in one thing.

Every scene asked about holds a pair of shape and colour that was never trained. The pictures of a choice share their
texture and every other pixel, so nothing but the attribute in question can tell them apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from core_encoder.nano.captions import (
    Description,
    Mention,
    full_description,
    write,
)
from core_encoder.nano.scenes import (
    COLOURS,
    HELD_OUT_PAIRS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIDE_PX,
    SIZES,
    Scene,
    SceneObject,
    draw_canvas,
    draw_scene,
    random_scene,
)
from core_encoder.nano.wording import LANGUAGES, Language
from nano_training.descriptions import pair_description, partial_description, relation_description
from nano_training.scene_groups import changed_scene, consistent, swapped_scenes

GALLERY_SIZE = 500
TILES_PER_SIDE = 4
ATTRIBUTES: dict[str, tuple[str, ...]] = {"colour": COLOURS, "size": SIZES, "place": PLACES, "shape": SHAPES}


class Encoder(Protocol):
    """The part of `JinaClipEncoder` that the probes use."""

    def encode_text(self, texts: Iterable[str], /) -> np.ndarray:
        """Encode texts as unit rows, (B, E)."""

    def encode_image(self, images: Iterable[Any], /) -> np.ndarray:
        """Encode pictures as unit rows, (B, E)."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Shares of queries whose right answer is the first, or among the first five."""

    at_1: float
    at_5: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Gallery:
    """500 pictures and, in each language, one caption each that fits no other picture."""

    images: np.ndarray  # (500, E) unit rows
    texts: dict[Language, np.ndarray]

    def recall(self, language: Language, *, from_text: bool, dims: int | None = None) -> Recall:
        """Search pictures by caption or captions by picture, with the first `dims` values."""
        images, texts = (_unit(rows[:, :dims]) for rows in (self.images, self.texts[language]))
        ranks = _ranks(texts @ images.T if from_text else images @ texts.T)
        return Recall(at_1=float((ranks == 0).mean()), at_5=float((ranks < 5).mean()))


def gallery(encoder: Encoder, seed: int) -> Gallery:
    """Draw and encode the gallery: half of the captions are full, half leave something out."""
    rng = np.random.default_rng((seed, 1))
    scenes: list[Scene] = []
    while len(scenes) < GALLERY_SIZE:
        scene = random_scene(rng, num_objects=int(rng.choice(MAX_OBJECTS, p=[0.2, 0.4, 0.4])) + 1, num_held_out=1)
        full = full_description(scene)
        if not any(full.fits(other) or full_description(other).fits(scene) for other in scenes):
            scenes.append(scene)
    descriptions = [_only_fitting(scene, scenes, rng) for scene in scenes]
    return Gallery(
        images=encoder.encode_image(_pictures(scenes, rng)),
        texts={language: encoder.encode_text([write(d, language) for d in descriptions]) for language in LANGUAGES},
    )


def _only_fitting(scene: Scene, scenes: list[Scene], rng: np.random.Generator) -> Description:
    """Describe `scene` so that no other of `scenes` fits; a full description always does."""
    full = full_description(scene)
    if rng.random() < 0.5:
        return full
    for _ in range(30):
        partial = partial_description(scene, rng)
        if sum(partial.fits(other) for other in scenes) == 1:
            return partial
    return full


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Shares of right choices among pictures, given a caption, and among captions, given a picture."""

    of_picture: float
    of_text: float


def attribute_probe(encoder: Encoder, attribute: str, seed: int, *, count: int = 300) -> dict[Language, Choices]:
    """Offer a scene and the same scene with every other value of one attribute of one object.

    That object is of a pair never trained, and up to two others stand beside it. The captions are full.
    """
    rng = np.random.default_rng((seed, 2, list(ATTRIBUTES).index(attribute)))
    groups: list[list[Scene]] = []
    while len(groups) < count:
        base = random_scene(rng, num_objects=1 + len(groups) % MAX_OBJECTS, num_held_out=1)
        index = next(i for i, item in enumerate(base.objects) if item.held_out)
        values = [value for value in ATTRIBUTES[attribute] if value != getattr(base.objects[index], attribute)]
        others = [changed_scene(base, index, **{attribute: value}) for value in values]
        # At the new place, or of the new look, there may be another object already.
        groups.append([base, *(scene for scene in others if consistent(scene))])
    captions = [[full_description(scene) for scene in group] for group in groups]
    return _choices(encoder, groups, captions, rng)


def swap_probe(encoder: Encoder, seed: int, *, count: int = 400) -> dict[Language, Choices]:
    """Exchange the colours of two objects: "a red circle and a blue square", or a blue circle and a red square?"""
    rng = np.random.default_rng((seed, 3))
    groups = [[scene, swapped_scenes(scene)[2]] for scene in _pairs(rng, count)]
    orders = rng.integers(2**32, size=count)
    captions = [
        [pair_description(scene, np.random.default_rng(order)) for scene in group]
        for group, order in zip(groups, orders, strict=True)
    ]
    return _choices(encoder, groups, captions, rng)


def order_probe(encoder: Encoder, seed: int, *, count: int = 400) -> dict[Language, Choices]:
    """Exchange the places of two objects: "a red circle left of a blue square", or the square left of the circle?

    The two captions have the same words in another order.
    """
    rng = np.random.default_rng((seed, 4))
    groups = [[scene, swapped_scenes(scene)[1]] for scene in _pairs(rng, count)]
    captions = []
    for scene, _ in groups:
        said = relation_description(scene, rng)
        captions.append([said, replace(said, mentions=said.mentions[::-1])])
    return _choices(encoder, groups, captions, rng)


def _pairs(rng: np.random.Generator, count: int) -> list[Scene]:
    """Draw scenes of two objects that differ in shape and colour; one is of a pair never trained."""
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(rng, num_objects=2, num_held_out=1)
        first, second = scene.objects
        if first.shape != second.shape and first.colour != second.colour:
            found.append(scene)
    return found


def _choices(
    encoder: Encoder,
    groups: Sequence[Sequence[Scene]],
    captions: Sequence[Sequence[Description]],
    rng: np.random.Generator,
) -> dict[Language, Choices]:
    """Choose the first scene of each group by its caption, and its caption among the captions of the group."""
    seeds = rng.integers(2**32, size=len(groups))
    drawings = [
        draw_scene(scene, seed=int(s)).pixels for s, group in zip(seeds, groups, strict=True) for scene in group
    ]
    images = encoder.encode_image(drawings)
    starts = np.cumsum([0, *map(len, groups)])
    result = {}
    for language in LANGUAGES:
        texts = encoder.encode_text([write(said, language) for group in captions for said in group])
        of_picture = [_first_wins(images[a:b] @ texts[a]) for a, b in pairwise(starts)]
        of_text = [_first_wins(texts[a:b] @ images[a]) for a, b in pairwise(starts)]
        result[language] = Choices(of_picture=float(np.mean(of_picture)), of_text=float(np.mean(of_text)))
    return result


def _first_wins(scores: np.ndarray) -> bool:
    return bool((scores[0] > scores[1:]).all())


def pair_search(encoder: Encoder, seed: int) -> dict[Language, tuple[float, float]]:
    """Ask a gallery of 500 for "a red circle" and every other pair: shares of right first hits (all, never trained).

    The scenes hold all pairs alike, trained or not.
    """
    rng = np.random.default_rng((seed, 5))
    share = len(HELD_OUT_PAIRS) / (len(SHAPES) * len(COLOURS))
    scenes = []
    for index in range(GALLERY_SIZE):
        count = 1 + index % MAX_OBJECTS
        scenes.append(random_scene(rng, num_objects=count, num_held_out=int(rng.binomial(count, share))))
    images = encoder.encode_image(_pictures(scenes, rng))
    wanted = [Mention(shape=shape, colour=colour) for shape in SHAPES for colour in COLOURS]
    wanted = [mention for mention in wanted if any(_shows(scene, mention) for scene in scenes)]
    unseen = np.array([(mention.shape, mention.colour) in HELD_OUT_PAIRS for mention in wanted])
    result = {}
    for language in LANGUAGES:
        texts = encoder.encode_text([write(Description(mentions=(mention,)), language) for mention in wanted])
        best = (texts @ images.T).argmax(axis=1)
        right = np.array([_shows(scenes[index], mention) for index, mention in zip(best, wanted, strict=True)])
        result[language] = (float(right.mean()), float(right[unseen].mean()))
    return result


def _shows(scene: Scene, mention: Mention) -> bool:
    return any(mention.fits(item) for item in scene.objects)


@dataclass(frozen=True, kw_only=True)
class TileRecall:
    """Recall@5 of a small object on a canvas of 16 tiles."""

    tiles: float  # best of the overview and the tiles
    tiles_never_trained: float  # the same, for the pairs never trained
    overview: float  # the overview alone


def tile_search(encoder: Encoder, seed: int, *, sets: int = 4) -> dict[Language, TileRecall]:
    """Find one small object on textured canvases of 16 tiles.

    Each set is a gallery of 90 canvases, one for each pair of shape and colour, asked for as "a small red circle".
    """
    rng = np.random.default_rng((seed, 6))
    items = [SceneObject(shape=s, colour=c, size="small", place="centre") for s in SHAPES for c in COLOURS]
    overviews, tiles = [], []
    for _ in range(sets):
        placed = [replace(item, place=PLACES[int(rng.integers(len(PLACES)))]) for item in items]
        canvases = [draw_canvas(item, seed=int(rng.integers(2**32)), tiles_per_side=TILES_PER_SIDE) for item in placed]
        overviews.append(encoder.encode_image([canvas.image for canvas in canvases]))  # (90, E)
        tiles.append(encoder.encode_image([tile for canvas in canvases for tile in _tiles(canvas.pixels)]))
    wanted = [Mention(shape=item.shape, colour=item.colour, size="small") for item in items]
    unseen = np.array([item.held_out for item in items])
    result = {}
    for language in LANGUAGES:
        texts = encoder.encode_text([write(Description(mentions=(mention,)), language) for mention in wanted])
        whole = [texts @ rows.T for rows in overviews]  # (90, 90) each
        best = [(texts @ rows.T).reshape(len(items), len(items), -1).max(axis=2) for rows in tiles]
        found = np.stack([_ranks(np.maximum(a, b)) < 5 for a, b in zip(whole, best, strict=True)])  # (sets, 90)
        result[language] = TileRecall(
            tiles=float(found.mean()),
            tiles_never_trained=float(found[:, unseen].mean()),
            overview=float(np.mean([_ranks(scores) < 5 for scores in whole])),
        )
    return result


def _tiles(pixels: np.ndarray) -> list[np.ndarray]:
    starts = range(0, pixels.shape[0], SIDE_PX)
    return [pixels[top : top + SIDE_PX, left : left + SIDE_PX] for top in starts for left in starts]


def _pictures(scenes: Sequence[Scene], rng: np.random.Generator) -> list[np.ndarray]:
    return [draw_scene(scene, seed=int(rng.integers(2**32))).pixels for scene in scenes]


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Count, for each row, the columns that beat the diagonal one: (N, N) -> (N,)."""
    ranks: np.ndarray = (scores > scores.diagonal()[:, None]).sum(axis=1)
    return ranks


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
