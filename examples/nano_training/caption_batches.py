"""The texts of a training batch, and which of them are true of which picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from core_encoder.nano.captions import (
    Description,
    full_description,
    holds,
    write,
)
from core_encoder.nano.scenes import COLOURS, MAX_OBJECTS, PLACES, SHAPES, SIZES, Scene
from core_encoder.nano.wording import LANGUAGES, RELATIONS
from nano_training.descriptions import pair_description, partial_description, relation_description

_OPEN = -1
_HOLDS = np.array([[[holds(r, a, b) for b in PLACES] for a in PLACES] for r in RELATIONS])  # (4, 9, 9)


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptionBatch:
    """Two descriptions of each of B scenes, each written in two languages: T = 4B texts.

    Attributes:
        input_ids: (N,) int64, the texts packed in order of length.
        lengths: tokens of each packed text.
        order: (T,) int64; row `order[t]` of the packed result belongs to text t.
            Text t says description t mod 2B, and that is one of scene t mod B.
        fits: (2B, B) bool, whether a description is true of a scene.
        same: (2B, 2B) bool, whether two descriptions say the same.
    """

    input_ids: Tensor
    lengths: list[int]
    order: Tensor
    fits: Tensor
    same: Tensor


def caption_batch(
    scenes: Sequence[Scene], objects: np.ndarray, tokenizer: Tokenizer, rng: np.random.Generator
) -> CaptionBatch:
    """Describe the scenes; `objects` are their coded objects, (B, 3, 4)."""
    descriptions = [_whole_or_part(scene, rng) for scene in scenes] + [_two_objects(scene, rng) for scene in scenes]
    texts: list[list[str]] = [[], []]
    for description in descriptions:
        first, second = rng.permutation(len(LANGUAGES))[:2]
        texts[0].append(write(description, LANGUAGES[first], rng))
        texts[1].append(write(description, LANGUAGES[second], rng))
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts[0] + texts[1])]
    by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    order = np.empty(len(encoded), dtype=np.int64)
    order[by_length] = np.arange(len(encoded))
    keys = [_meaning(description) for description in descriptions]
    numbers = np.array([keys.index(key) for key in keys])
    return CaptionBatch(
        input_ids=torch.tensor([token for index in by_length for token in encoded[index]]),
        lengths=[len(encoded[index]) for index in by_length],
        order=torch.from_numpy(order),
        fits=torch.from_numpy(fit_matrix(descriptions, objects)),
        same=torch.from_numpy(numbers[:, None] == numbers),
    )


def _whole_or_part(scene: Scene, rng: np.random.Generator) -> Description:
    return full_description(scene) if rng.random() < 0.5 else partial_description(scene, rng)


def _two_objects(scene: Scene, rng: np.random.Generator) -> Description:
    if len(scene.objects) < 2:
        return partial_description(scene, rng)
    draw = rng.random()
    if draw < 0.5:
        return relation_description(scene, rng)
    return pair_description(scene, rng) if draw < 0.7 else partial_description(scene, rng)


def _meaning(description: Description) -> object:
    """Return what two descriptions share if and only if they say the same."""
    if description.relation in ("right of", "below"):
        opposite = {"right of": "left of", "below": "above"}[description.relation]
        return (opposite, *reversed(description.mentions))
    if description.relation is not None:
        return (description.relation, *description.mentions)
    return frozenset(description.mentions)


def fit_matrix(descriptions: Sequence[Description], objects: np.ndarray) -> np.ndarray:
    """Decide `Description.fits` for every description and scene at once: (C, B) bool.

    Args:
        descriptions: C of them.
        objects: (B, 3, 4) coded objects of the scenes.
    """
    said = np.full((len(descriptions), MAX_OBJECTS, 4), _OPEN)
    counts = np.array([len(description.mentions) for description in descriptions])
    relations = np.array([-1 if d.relation is None else RELATIONS.index(d.relation) for d in descriptions])
    for row, description in zip(said, descriptions, strict=True):
        for coded, mention in zip(row, description.mentions, strict=False):
            coded[:] = (
                _OPEN if mention.shape is None else SHAPES.index(mention.shape),
                _OPEN if mention.colour is None else COLOURS.index(mention.colour),
                _OPEN if mention.size is None else SIZES.index(mention.size),
                _OPEN if mention.place is None else PLACES.index(mention.place),
            )
    said_4 = said[:, :, None, None]  # (C, 3, 1, 1, 4)
    matches = ((said_4 == _OPEN) | (said_4 == objects)).all(axis=-1)  # (C, 3, B, 3)
    present = objects[:, :, 0] >= 0  # (B, 3)
    matches &= present
    places = np.maximum(objects[:, :, 3], 0)
    fits = np.zeros((len(descriptions), len(objects)), dtype=bool)
    for chosen in permutations(range(MAX_OBJECTS)):
        true = np.ones_like(fits)
        for position, index in enumerate(chosen):
            true &= matches[:, position, :, index] | (position >= counts)[:, None]
        related = _HOLDS[relations][:, places[:, chosen[0]], places[:, chosen[1]]]  # (C, B)
        fits |= true & (related | (relations < 0)[:, None])
    fits[counts == 0] = ~present.any(axis=1)
    return fits
