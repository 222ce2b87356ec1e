"""Captions for `nano`: full or partial descriptions of scenes, written in five languages.

A `Description` has no wording: it can be written in every language, and `fits` decides for which scenes it is true.
Training and evaluation use `fits` to tell a wrong answer from a second right answer.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np

from core_encoder.nano.scenes import PLACES, Colour, Place, Scene, SceneObject, Shape, Size
from core_encoder.nano.wording import DATIVE, TONGUES, Language, Relation, Tongue

ATTRIBUTES: tuple[str, ...] = ("shape", "colour", "size", "place")


@dataclass(frozen=True, kw_only=True)
class Mention:
    """The attributes of one object that a description gives; `None` leaves an attribute open."""

    shape: Shape | None = None
    colour: Colour | None = None
    size: Size | None = None
    place: Place | None = None

    def fits(self, item: SceneObject) -> bool:
        """Whether every given attribute is true of `item`."""
        return (
            self.shape in (None, item.shape)
            and self.colour in (None, item.colour)
            and self.size in (None, item.size)
            and self.place in (None, item.place)
        )


@dataclass(frozen=True, kw_only=True)
class Description:
    """Some objects of a scene, and possibly the relation of the first to the second; no objects: an empty scene."""

    mentions: tuple[Mention, ...] = ()
    relation: Relation | None = None

    def fits(self, scene: Scene) -> bool:
        """Whether the description is true of `scene`, which may show more than is described."""
        if not self.mentions:
            return not scene.objects
        return any(
            all(mention.fits(item) for mention, item in zip(self.mentions, chosen, strict=True))
            and (self.relation is None or holds(self.relation, chosen[0].place, chosen[1].place))
            for chosen in permutations(scene.objects, len(self.mentions))
        )


def holds(relation: Relation, first: Place, second: Place) -> bool:
    """Whether an object at `first` has `relation` to one at `second`; only the axis of the relation counts."""
    (row_1, column_1), (row_2, column_2) = divmod(PLACES.index(first), 3), divmod(PLACES.index(second), 3)
    return {
        "left of": column_1 < column_2,
        "right of": column_1 > column_2,
        "above": row_1 < row_2,
        "below": row_1 > row_2,
    }[relation]


def full_description(scene: Scene) -> Description:
    """Name every object with all its attributes."""
    return Description(mentions=tuple(mention_of(item) for item in scene.objects))


def mention_of(item: SceneObject, said: Iterable[str] = ATTRIBUTES) -> Mention:
    """Mention an object by the attributes in `said`."""
    return Mention(**{name: getattr(item, name) for name in said})


def write(description: Description, language: Language, rng: np.random.Generator | None = None) -> str:
    """Write `description` in `language`; `rng` varies the wording, `None` gives the usual one."""
    tongue = TONGUES[language]
    if not description.mentions:
        return _pick(tongue.nothing, rng)
    if description.relation is not None:
        first = _phrase(tongue, description.mentions[0], rng)
        second = _phrase(tongue, description.mentions[1], rng, dative=True)
        return _pick(tongue.relations[description.relation], rng).format(first, second)
    bare = rng is not None and rng.random() < _BARE_SHARE
    phrases = []
    for mention in description.mentions:
        phrase = _phrase(tongue, mention, rng, bare=bare)
        if mention.place is not None:
            phrase = tongue.placed.format(phrase, _pick(tongue.places[PLACES.index(mention.place)], rng))
        phrases.append(phrase)
    *others, last = phrases
    return tongue.last_join.join((tongue.join.join(others), last)) if others else last


_Option = TypeVar("_Option")
_BARE_SHARE = 0.2  # share of varied captions without articles: "red circle", not "a red circle"
_AN = re.compile(r"^a (?=[aeio])")


def _pick(options: Sequence[_Option], rng: np.random.Generator | None) -> _Option:
    return options[0] if rng is None or len(options) == 1 else options[int(rng.random() * len(options))]


def _phrase(
    tongue: Tongue, mention: Mention, rng: np.random.Generator | None, *, dative: bool = False, bare: bool = False
) -> str:
    """Write one object without its place, as "a small red circle"; `bare` drops the article."""
    noun, gender = tongue.nouns[mention.shape]
    articles, form = tongue.articles, gender
    if dative and tongue.dative_articles is not None:
        articles, form = tongue.dative_articles, DATIVE
    text = tongue.pattern.format(
        article="" if bare else articles[gender],
        size="" if mention.size is None else _pick(tongue.sizes[mention.size], rng)[form],
        colour="" if mention.colour is None else tongue.colours[mention.colour][form],
        noun=noun,
    )
    return _AN.sub("an ", " ".join(text.split())) if tongue is TONGUES["en"] else " ".join(text.split())
