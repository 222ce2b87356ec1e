"""Training pictures: groups of four scenes that differ by one change, drawn once before the training.

A random other scene is told apart by its colours alone, so a model that only ever sees such negatives learns neither
shapes nor who is where. Here every scene shares its batch with three that are nearly the same.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import numpy as np

from core_encoder.nano.scenes import (
    COLOURS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIDE_PX,
    SIZES,
    Scene,
    SceneObject,
    draw_scene,
    random_scene,
)

GROUP_SIZE = 4
ABSENT = -2  # in the coded objects; the coded descriptions use -1 for what they leave open
_KINDS = ("shape", "any", "swap")
_KIND_SHARES = (0.3, 0.35, 0.35)
_OBJECT_SHARES = (0.3, 0.4, 0.3)  # of one, two and three objects
_COVERED = 0.15  # a patch shows an object that covers this much of it


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures:
    """Drawn scenes; neighbours belong together in groups of four.

    Attributes:
        scenes: the N scenes.
        pixels: (N, S, S, 3) uint8 0..255.
        objects: (N, 3, 4) int64, each object's shape, colour, size and place as indices, `ABSENT` beyond the last.
        owners: (N, P) int64, the object that a patch shows, -1 for the background.
    """

    scenes: list[Scene]
    pixels: np.ndarray
    objects: np.ndarray
    owners: np.ndarray


def draw_pictures(num_groups: int, *, patch_px: int, seed: int, processes: int) -> Pictures:
    """Invent and draw `num_groups` groups of four scenes on several processes; the result depends on the seed only."""
    chunk = 250
    starts = range(0, num_groups, chunk)
    draw = partial(_draw_chunk, patch_px=patch_px, seed=seed)
    bounds = [(start, min(start + chunk, num_groups)) for start in starts]
    if processes == 1:
        parts = [draw(bound) for bound in bounds]
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(draw, bounds))
    return Pictures(
        scenes=[scene for part in parts for scene in part.scenes],
        pixels=np.concatenate([part.pixels for part in parts]),
        objects=np.concatenate([part.objects for part in parts]),
        owners=np.concatenate([part.owners for part in parts]),
    )


def _draw_chunk(bound: tuple[int, int], *, patch_px: int, seed: int) -> Pictures:
    scenes: list[Scene] = []
    pixels, owners = [], []
    for group in range(*bound):
        rng = np.random.default_rng((seed, group))
        for scene in scene_group(rng):
            drawing = draw_scene(scene, seed=int(rng.integers(2**32)))
            scenes.append(scene)
            pixels.append(drawing.pixels)
            owners.append(patch_owners(drawing.owner, patch_px))
    return Pictures(
        scenes=scenes,
        pixels=np.stack(pixels),
        objects=np.stack([coded_objects(scene) for scene in scenes]),
        owners=np.stack(owners),
    )


def scene_group(rng: np.random.Generator) -> tuple[Scene, ...]:
    """Invent four scenes: shapes of one object, single changes of any kind, or two objects that swap something."""
    kind = _KINDS[rng.choice(len(_KINDS), p=_KIND_SHARES)]
    while True:
        count = int(rng.choice(MAX_OBJECTS, p=_OBJECT_SHARES)) + 1
        base = random_scene(rng, num_objects=max(2, count) if kind == "swap" else count)
        if kind == "swap":
            group: tuple[Scene, ...] = swapped_scenes(base)
        elif kind == "shape":
            index = int(rng.integers(count))
            shapes = [SHAPES[i] for i in rng.permutation(len(SHAPES)) if SHAPES[i] != base.objects[index].shape]
            group = (base, *(changed_scene(base, index, shape=shape) for shape in shapes[: GROUP_SIZE - 1]))
        else:
            group = (base, *(_changed(base, rng) for _ in range(GROUP_SIZE - 1)))
        if len(set(group)) == GROUP_SIZE and all(consistent(scene) and not scene.held_out for scene in group):
            return group


def swapped_scenes(scene: Scene) -> tuple[Scene, Scene, Scene, Scene]:
    """Let the first two objects keep everything, or exchange their places, their colours or their shapes."""
    first, second, *others = scene.objects

    def swap(**names: str) -> Scene:
        one = replace(first, **{name: getattr(second, name) for name in names})
        two = replace(second, **{name: getattr(first, name) for name in names})
        return Scene(objects=(one, two, *others))

    return scene, swap(place=""), swap(colour=""), swap(shape="")


def _changed(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change one attribute of one object, or take the object away."""
    index = int(rng.integers(len(scene.objects)))
    item = scene.objects[index]
    match rng.choice(["shape", "colour", "size", "place", "gone"], p=[0.1, 0.2, 0.35, 0.3, 0.05]):
        case "shape":
            return changed_scene(scene, index, shape=_other(SHAPES, item.shape, rng))
        case "colour":
            return changed_scene(scene, index, colour=_other(COLOURS, item.colour, rng))
        case "size":
            return changed_scene(scene, index, size=_other(SIZES, item.size, rng))
        case "place":
            return changed_scene(scene, index, place=_other(PLACES, item.place, rng))
        case _:
            return Scene(objects=scene.objects[:index] + scene.objects[index + 1 :])


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return values[(values.index(value) + int(rng.integers(1, len(values)))) % len(values)]


def changed_scene(scene: Scene, index: int, **changes: str) -> Scene:
    """Return `scene` with other attributes of one object."""
    objects = list(scene.objects)
    objects[index] = replace(objects[index], **changes)  # type: ignore[arg-type]  # a str of the attribute's own values
    return Scene(objects=tuple(objects))


def consistent(scene: Scene) -> bool:
    """Whether no two objects share their place, nor their shape and colour."""
    objects = scene.objects
    return len({item.place for item in objects}) == len(objects) == len({(o.shape, o.colour) for o in objects})


def coded_objects(scene: Scene) -> np.ndarray:
    """Return the scene's objects as indices, (3, 4) int64; see `Pictures.objects`."""
    coded = np.full((MAX_OBJECTS, 4), ABSENT, dtype=np.int64)
    for row, item in zip(coded, scene.objects, strict=False):
        row[:] = _codes(item)
    return coded


def _codes(item: SceneObject) -> tuple[int, int, int, int]:
    return SHAPES.index(item.shape), COLOURS.index(item.colour), SIZES.index(item.size), PLACES.index(item.place)


def patch_owners(owner: np.ndarray, patch_px: int) -> np.ndarray:
    """Return the object that covers most of each patch, -1 where none covers enough: (S, S) -> (P,) int64."""
    grid = SIDE_PX // patch_px
    patches = owner.reshape(grid, patch_px, grid, patch_px).transpose(0, 2, 1, 3).reshape(grid * grid, -1)
    shares = np.stack([(patches == index).mean(axis=1) for index in range(MAX_OBJECTS)], axis=1)  # (P, 3)
    return np.where(shares.max(axis=1) >= _COVERED, shares.argmax(axis=1), -1)


def batches(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the indices of batches of whole groups, without end; every pass has a new order."""
    while True:
        groups = rng.permutation(count // GROUP_SIZE)
        per_batch = batch_size // GROUP_SIZE
        for start in range(0, len(groups) - per_batch + 1, per_batch):
            chosen = groups[start : start + per_batch]
            yield (chosen[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).reshape(-1)
