"""What the examples put into a store: a few drawn pictures that `nano` can tell apart, and texts about such."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_encoder.nano.scenes import Scene, SceneObject, draw_scene
from jclip_connectors.port import SearchHit

OBJECTS = (
    SceneObject(shape="circle", colour="red", size="large", place="centre"),
    SceneObject(shape="square", colour="blue", size="large", place="right"),
    SceneObject(shape="star", colour="yellow", size="large", place="top left"),
    SceneObject(shape="triangle", colour="green", size="large", place="bottom right"),
    SceneObject(shape="heart", colour="pink", size="small", place="top"),
    SceneObject(shape="moon", colour="purple", size="large", place="bottom left"),
)
TEXTS = ("a large red circle in the centre", "ein großer gelber Stern oben links", "un petit cœur rose en haut")


def draw_pictures(folder: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """Draw the pictures; their paths, and the metadata of each."""
    paths, metadatas = [], []
    for number, item in enumerate(OBJECTS):
        paths.append(folder / f"{item.colour}-{item.shape}.png")
        draw_scene(Scene(objects=(item,)), seed=number).image.save(paths[-1])
        metadatas.append({"year": 2018 + number, "shape": item.shape})
    return paths, metadatas


def draw_query(folder: Path) -> Path:
    """Draw another picture of the red circle, to search with."""
    path = folder / "query.png"
    draw_scene(Scene(objects=(OBJECTS[0],)), seed=100).image.save(path)
    return path


def show(question: str, hits: Sequence[SearchHit]) -> None:
    """Print what was found."""
    print(question)
    for hit in hits:
        print(f"  {hit.score:.3f}  {hit.modality:5}  {hit.content or Path(hit.uri or '').name}")
