"""Pictures with captions and labels for an evaluation without data: scenes that the bundled model knows, from a seed.

A caption says one or two things about each of two objects, so it is true of other pictures as well: a model that
understands everything still finds a wrong picture now and then, as with captions that people wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

from core_encoder.nano.captions import ATTRIBUTES, Description, mention_of, write
from core_encoder.nano.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, SceneObject, draw_scene, random_scene
from core_encoder.nano.wording import LANGUAGES, TONGUES, Language
from jclip_connectors.errors import EmbedInputError

CAPTIONS_PER_PICTURE = 5
_SMALL_PX = (16, 16)  # shapes are hard to tell apart in so few pixels
_TRIES = 8  # of a description of some length, before a longer one is tried


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """A picture with captions.

    Attributes:
        picture: RGB.
        captions: five in each language, which say the same; no two samples share a caption.
        scene: what the picture shows.
    """

    picture: Image.Image
    captions: Mapping[Language, tuple[str, ...]]
    scene: Scene


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """A way to sort pictures of one object into classes.

    Attributes:
        classes: names in English.
        templates: sentences with `{c}` for the name of a class.
        label: the class of an object, 0..C-1.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    label: Callable[[SceneObject], int]


LABELLINGS: Mapping[str, Labelling] = MappingProxyType(
    {
        "shape": Labelling(
            classes=SHAPES,
            templates=("a {c}", "a small {c}", "a large {c}"),
            label=lambda item: SHAPES.index(item.shape),
        ),
        "colour": Labelling(classes=COLOURS, templates=("a {c} shape",), label=lambda item: COLOURS.index(item.colour)),
        "place": Labelling(
            classes=tuple(options[0] for options in TONGUES["en"].places),
            templates=("a shape {c}", "a large shape {c}"),
            label=lambda item: PLACES.index(item.place),
        ),
        "pair": Labelling(
            classes=tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
            templates=("a {c}",),
            label=lambda item: COLOURS.index(item.colour) * len(SHAPES) + SHAPES.index(item.shape),
        ),
        "size": Labelling(classes=SIZES, templates=("a {c} shape",), label=lambda item: SIZES.index(item.size)),
    }
)


def synthetic_samples(count: int, seed: int = 0) -> list[Sample]:
    """Draw pictures of two or three objects and write captions for them; the same seed gives the same samples.

    Args:
        count: how many; the more there are, the more pictures fit a caption.
        seed: at least 0.

    Raises:
        EmbedInputError: there are so many that captions would not differ.
    """
    rng = np.random.default_rng((seed, 1))
    used: set[str] = set()
    samples = []
    for number in range(count):
        scene = random_scene(rng, num_objects=2 + number % 2)
        picture = draw_scene(scene, seed=int(rng.integers(2**32))).image
        described = [_describe(scene, used, rng) for _ in range(CAPTIONS_PER_PICTURE)]
        captions = {language: tuple(texts[language] for texts in described) for language in LANGUAGES}
        samples.append(Sample(picture=picture, captions=captions, scene=scene))
    return samples


def synthetic_objects(count: int, seed: int = 0) -> list[tuple[Image.Image, SceneObject]]:
    """Draw small pictures of one object each, for classification; the same seed gives the same pictures."""
    rng = np.random.default_rng((seed, 2))
    scenes = [random_scene(rng, num_objects=1) for _ in range(count)]
    drawn = [draw_scene(scene, seed=int(rng.integers(2**32))).image for scene in scenes]
    return [(picture.resize(_SMALL_PX), scene.objects[0]) for picture, scene in zip(drawn, scenes, strict=True)]


def known_language(language: str) -> Language:
    """The language of the captions for a data set's `language`: English where the bundled model does not know it."""
    return next((known for known in LANGUAGES if known == language), "en")


def _describe(scene: Scene, used: set[str], rng: np.random.Generator) -> Mapping[Language, str]:
    """Say as little about two objects as no other caption says; `used` gets what is said."""
    for said in range(2, 2 * len(ATTRIBUTES) + 1):
        for _ in range(_TRIES):
            first = int(rng.integers(1, said))
            description = _two_objects(scene, (first, said - first), rng)
            texts = {language: write(description, language) for language in LANGUAGES}
            if used.isdisjoint(texts.values()):
                used.update(texts.values())
                return texts
    raise EmbedInputError(f"{len(used)} captions are written, and no more differ from these: ask for fewer pictures")


def _two_objects(scene: Scene, counts: Sequence[int], rng: np.random.Generator) -> Description:
    """Mention two objects, each by so many of its attributes, or by all."""
    chosen = [scene.objects[index] for index in rng.permutation(len(scene.objects))[: len(counts)]]
    return Description(
        mentions=tuple(
            mention_of(item, rng.permutation(ATTRIBUTES)[:count]) for item, count in zip(chosen, counts, strict=True)
        )
    )
