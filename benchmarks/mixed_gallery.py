"""Measure searches over texts and pictures together: how well both kinds are put into one order.

    python benchmarks/mixed_gallery.py

Galleries of 400 scenes, each drawn or described in a caption, are searched with descriptions of one object in five
languages. A scene is as relevant as it is like the object: 3 for all of shape, colour, size and place, 2 for three of
them, 1 for two. Each way to order the results is measured by nDCG@10 (Source: Jarvelin and Kekalainen 2002).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core_encoder.nano.captions import ATTRIBUTES, full_description, write
from core_encoder.nano.scenes import Scene, SceneObject, draw_scene, random_object, random_scene
from core_encoder.nano.wording import LANGUAGES
from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.collection import samples
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import SearchHit

GALLERY_SIZE, QUERIES, SEED = 400, 60, 3
SHARES = (0.5, 0.2, 0.8, 0.05)  # of pictures
SAMPLES = (128, 64, 32)  # records of each kind


class RememberingEmbedder(LocalEmbedder):
    """Embeds each query once."""

    embed_query = functools.cache(LocalEmbedder.embed_query)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A collection and what it shows.

    Attributes:
        collection: ids are positions in `scenes`.
        scenes: the content of each record.
    """

    collection: MultimodalCollection
    scenes: Sequence[Scene]


def make_gallery(embedder: LocalEmbedder, share: float, *, size: int = GALLERY_SIZE, seed: int = SEED) -> Gallery:
    """Draw a share of some scenes and describe the others in English."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, num_objects=1) for _ in range(size)]
    collection = MultimodalCollection(embedder, InMemoryStore(embedder.config))
    drawn = round(size * share)
    images = [draw_scene(scene, seed=seed * 1000 + at).image for at, scene in enumerate(scenes[:drawn])]
    collection.add_images(images, ids=[str(at) for at in range(drawn)])
    texts = [write(full_description(scene), "en", rng) for scene in scenes[drawn:]]
    collection.add_texts(texts, ids=[str(at) for at in range(drawn, size)])
    return Gallery(collection=collection, scenes=scenes)


def queries(count: int = QUERIES, *, seed: int = SEED + 8) -> Iterator[tuple[SceneObject, str]]:
    """Objects and their descriptions, in the five languages in turn."""
    rng = np.random.default_rng(seed)
    for at in range(count):
        item = random_object(rng, held_out=None)
        description = full_description(Scene(objects=(item,)))
        yield item, write(description, LANGUAGES[at % len(LANGUAGES)], rng)


def relevance(item: SceneObject, scene: Scene) -> int:
    """How relevant a scene is to a query for `item`: 0 to 3."""
    same: int = max(sum(getattr(item, name) == getattr(other, name) for name in ATTRIBUTES) for other in scene.objects)
    return max(0, same - 1)


def ndcg(found: Sequence[int], all_grades: Sequence[int], *, depth: int = 10) -> float:
    """Normalised discounted cumulative gain of the grades of the results, in their order."""
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    ideal = np.sort(np.exp2(all_grades) - 1)[::-1][:depth]
    return float((np.exp2(found[:depth]) - 1) @ discounts[: len(found)] / (ideal @ discounts[: len(ideal)]))


def by_rank_score(gallery: Gallery, text: str) -> list[SearchHit]:
    """The order of the collection."""
    return gallery.collection.search(text, limit=10)


def by_reciprocal_rank(gallery: Gallery, text: str) -> list[SearchHit]:
    """The best picture, the best text, the second picture, ... (Source: Cormack, Clarke and Buettcher 2009)."""
    images, texts = (gallery.collection.search(text, limit=10, modality=kind) for kind in ("image", "text"))
    ranked = [(rank, hit) for hits in (images, texts) for rank, hit in enumerate(hits)]
    return [hit for _, hit in sorted(ranked, key=lambda each: each[0])][:10]


def by_cosine(gallery: Gallery, text: str) -> list[SearchHit]:
    """The order of the cosines of both kinds together."""
    both = [hit for kind in ("image", "text") for hit in gallery.collection.search(text, limit=10, modality=kind)]
    return sorted(both, key=lambda hit: -hit.score)[:10]


ORDERS: Mapping[str, Callable[[Gallery, str], list[SearchHit]]] = {
    "rank_score": by_rank_score,
    "reciprocal rank": by_reciprocal_rank,
    "cosine": by_cosine,
}


def measure(gallery: Gallery, order: Callable[[Gallery, str], list[SearchHit]], *, count: int = QUERIES) -> float:
    """The mean nDCG@10 over the queries."""
    values = []
    for item, text in queries(count):
        grades = [relevance(item, scene) for scene in gallery.scenes]
        values.append(ndcg([grades[int(hit.record_id)] for hit in order(gallery, text)], grades))
    return float(np.mean(values))


def main() -> None:
    """Print a table."""
    embedder = RememberingEmbedder(EmbeddingConfig(model="nano"), device="cpu")
    print(f"nDCG@10, {GALLERY_SIZE} records\n| share of pictures | {' | '.join(f'{share:.0%}' for share in SHARES)} |")
    print("|---" * (len(SHARES) + 1) + "|")
    galleries = [make_gallery(embedder, share) for share in SHARES]
    for name, order in ORDERS.items():
        print(_row(name, [measure(gallery, order) for gallery in galleries]), flush=True)
    for records in SAMPLES:
        samples.SAMPLE_RECORDS = records
        for gallery in galleries:
            gallery.collection.delete(where={"never": True})  # forgets the samples
        values = [measure(gallery, by_rank_score) for gallery in galleries]
        print(_row(f"rank_score, sample of {records}", values), flush=True)


def _row(name: str, values: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"


if __name__ == "__main__":
    main()
