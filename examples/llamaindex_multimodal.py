"""LlamaIndex over drawn pictures and notes: one collection, found by text and by picture, offline and without a key.

python examples/llamaindex_multimodal.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from llama_index.core import StorageContext
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import Scene, draw_scene, random_scene
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore

NOTES = ("a large red circle in the centre", "a small yellow star", "a blue square and a green triangle")


def draw(folder: Path, number: int, scene: Scene) -> ImageNode:
    """Draw a picture and make its node; the caption is only printed, search looks at the picture."""
    path = folder / f"{number:02}.png"
    draw_scene(scene, seed=number).image.save(path)
    return ImageNode(image_path=str(path), metadata={"caption": write(full_description(scene), "en")})


def show(asked: str, found: list[NodeWithScore]) -> None:
    """Print what was found."""
    print(asked)
    for hit in found:
        print(f"  {hit.score:.2f}  {hit.node.metadata.get('caption', hit.node.get_content())}")


def main() -> None:
    """Draw, index and search."""
    rng = np.random.default_rng(3)
    with TemporaryDirectory() as name:
        folder = Path(name)
        scenes = [random_scene(rng, num_objects=1) for _ in range(40)]
        pictures = [draw(folder, number, scene) for number, scene in enumerate(scenes)]
        notes = [TextNode(text=note) for note in NOTES]

        embedding = JinaClipEmbedding(model="nano")
        with QdrantEdgeStore.open(folder / "notes.jclip", embedding.config) as store:
            texts, images = (JinaClipVectorStore(store=store, modality=kind) for kind in ("text", "image"))
            index = MultiModalVectorStoreIndex(
                nodes=[*notes, *pictures],
                storage_context=StorageContext.from_defaults(vector_store=texts, image_store=images),
                embed_model=embedding,
                image_embed_model=embedding,
            )
            retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=3)
            asked = write(full_description(scenes[0]), "en")
            show(f"notes and pictures: {asked}", retriever.retrieve(asked))
            show(f"pictures: {asked}", retriever.text_to_image_retrieve(asked))
            show(f"pictures like {asked}", retriever.image_to_image_retrieve(str(pictures[0].image_path)))


if __name__ == "__main__":
    main()
