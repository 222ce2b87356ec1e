"""Descriptions for training and evaluation: parts of a scene, chosen at random; and every word that captions use."""

from collections.abc import Iterator
from itertools import compress

import numpy as np

from core_encoder.nano.captions import ATTRIBUTES, Description, holds, mention_of
from core_encoder.nano.scenes import Scene
from core_encoder.nano.wording import RELATIONS, TONGUES, Language


def partial_description(scene: Scene, rng: np.random.Generator) -> Description:
    """Leave out objects and attributes at random, but never everything of an object."""
    count = len(scene.objects)
    if count > 1 and rng.random() < 0.4:
        count = int(rng.integers(1, count))
    chosen = rng.permutation(len(scene.objects))[:count]
    # Most people say the shape and the colour.
    keep = rng.random((count, 4)) < np.array([0.85, 0.85, 0.4, 0.5])
    keep[~keep[:, :2].any(axis=1), 1] = True
    return Description(
        mentions=tuple(
            mention_of(scene.objects[index], compress(ATTRIBUTES, kept))
            for index, kept in zip(chosen, keep, strict=True)
        )
    )


def pair_description(scene: Scene, rng: np.random.Generator) -> Description:
    """Name two of the scene's objects by colour and shape only."""
    first, second = rng.permutation(len(scene.objects))[:2]
    mentions = tuple(mention_of(scene.objects[index], ("shape", "colour")) for index in (first, second))
    return Description(mentions=mentions)


def relation_description(scene: Scene, rng: np.random.Generator) -> Description:
    """Say how one of the scene's objects lies to another, both by colour and shape."""
    first, second = rng.permutation(len(scene.objects))[:2]
    places = scene.objects[first].place, scene.objects[second].place
    true = [relation for relation in RELATIONS if holds(relation, *places)]
    mentions = tuple(mention_of(scene.objects[index], ("shape", "colour")) for index in (first, second))
    return Description(mentions=mentions, relation=true[rng.integers(len(true))])


def wordings(language: Language) -> Iterator[str]:
    """Yield every piece of text that `captions.write` can put into a caption of this language."""
    tongue = TONGUES[language]
    yield from (*tongue.articles, *(tongue.dative_articles or ()), *tongue.nothing)
    yield from (noun for noun, _ in tongue.nouns.values())
    yield from (form for forms in tongue.colours.values() for form in forms)
    yield from (form for options in tongue.sizes.values() for forms in options for form in forms)
    yield from (place for options in tongue.places for place in options)
    for template in (tongue.placed, tongue.join, tongue.last_join, *sum(map(tuple, tongue.relations.values()), ())):
        yield template.replace("{}", " ")
    if language == "en":
        yield "an"
