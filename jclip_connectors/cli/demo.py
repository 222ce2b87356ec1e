"""The demo: a drawn gallery, indexed with the bundled model and searched in five languages and by a picture.

It uses the same parts as any program: a collection, the embedded store, and the indexing behind `jclip index`. The
content of each picture is known, so that every result can be marked as right or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from core_encoder.nano import REVISION
from core_encoder.nano.captions import Description, Mention, full_description, write
from core_encoder.nano.scenes import (
    MAX_OBJECTS,
    Scene,
    SceneObject,
    draw_canvas,
    draw_scene,
    random_object,
    random_scene,
)
from core_encoder.nano.wording import Language
from core_encoder.tiling import Tiling
from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.indexing import IndexReport, Progress, index_files
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.store_kit.files import replace_file

# The queries with their languages; the gallery has an answer to each. A "canvas" object is small and lies in one of
# many tiles; its query names no place, because its place is relative to the tile.
QUESTIONS: tuple[tuple[Language, SceneObject, Literal["scene", "canvas"]], ...] = (
    ("en", SceneObject(shape="circle", colour="red", size="large", place="centre"), "scene"),
    ("de", SceneObject(shape="star", colour="yellow", size="large", place="top left"), "scene"),
    ("fr", SceneObject(shape="triangle", colour="green", size="large", place="bottom right"), "scene"),
    ("es", SceneObject(shape="heart", colour="pink", size="small", place="top"), "scene"),
    ("zh", SceneObject(shape="square", colour="blue", size="large", place="right"), "scene"),
    ("en", SceneObject(shape="ring", colour="orange", size="small", place="centre"), "canvas"),
    ("de", SceneObject(shape="cross", colour="white", size="small", place="centre"), "canvas"),
)
PICTURE_QUESTION = SceneObject(shape="moon", colour="purple", size="large", place="bottom left")

_SEED = 7
_SCENES, _CANVASES = 120, 24  # in addition to the answers
_TILES_PER_SIDE = 4
_LIMIT = 5


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The results of the demo.

    Attributes:
        indexed: the report about the gallery's files.
        answers: each query with its results; `right_ids` has the right ones.
        captions: by record id, a description of the picture in English.
        sheet: the contact sheet.
        collection: the folder of the collection.
    """

    indexed: IndexReport
    answers: Sequence[Section]
    captions: Mapping[str, str]
    sheet: Path
    collection: Path


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """One picture of the gallery: a scene, or its one object somewhere on a canvas of tiles."""

    scene: Scene
    seed: int
    on_canvas: bool

    def draw(self) -> Image.Image:
        if self.on_canvas:
            return draw_canvas(self.scene.objects[0], seed=self.seed, tiles_per_side=_TILES_PER_SIDE).image
        return draw_scene(self.scene, seed=self.seed).image

    def shows(self, description: Description) -> bool:
        places = any(mention.place is not None for mention in description.mentions)
        return description.fits(self.scene) and not (places and self.on_canvas)

    @property
    def caption(self) -> str:
        if self.on_canvas:
            return f"{write(_describe(self.scene.objects[0], placed=False), 'en')} on a large canvas"
        return write(full_description(self.scene), "en")


def run_demo(folder: Path, *, progress: Progress | None = None) -> DemoResult:
    """Draw the gallery, index it, search it, and write the contact sheet; a second run embeds no picture again.

    Args:
        folder: for all files; made if it does not exist.
        progress: called with (done, total) pictures while they are indexed.

    Raises:
        MissingDependencyError: the model or the store is not installed.
        OSError: the folder cannot be written.
    """
    from jclip_connectors.edge.store import QdrantEdgeStore  # here, because it needs an extra

    folder = folder.resolve()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    gallery = {str(folder / "pictures" / f"{index:03}.png"): picture for index, picture in enumerate(_gallery())}
    for path, picture in gallery.items():
        _save(picture.draw(), Path(path))
    query_image = folder / "query.png"
    _save(draw_scene(Scene(objects=(PICTURE_QUESTION,)), seed=_SEED).image, query_image)

    config = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=_TILES_PER_SIDE**2))
    embedder = LocalEmbedder(config, local_files_only=True)
    # One collection per revision of the model, so that a later version of the demo starts with an empty one.
    place = folder / f"nano-{REVISION}.jclip"
    with QdrantEdgeStore.open(place, config) as store:
        collection = MultimodalCollection(embedder, store)
        indexed = index_files(collection, [Path(path) for path in gallery], progress=progress)
        answers = []
        for language, item, kind in QUESTIONS:
            asked = _describe(item, placed=kind == "scene")
            text = write(asked, language)
            right = {path for path, picture in gallery.items() if picture.shows(asked)}
            answers.append(Section(heading=text, hits=collection.search(text, limit=_LIMIT), right_ids=right))
        asked = _describe(PICTURE_QUESTION, placed=True)
        answers.append(
            Section(
                heading=f"[a picture of {write(asked, 'en')}]",
                query_image=query_image,
                hits=collection.search(image=query_image, limit=_LIMIT),
                right_ids={path for path, picture in gallery.items() if picture.shows(asked)},
            )
        )
    sheet = folder / "contact-sheet.html"
    write_contact_sheet(sheet, "jclip demo", answers)
    captions = {path: picture.caption for path, picture in gallery.items()}
    return DemoResult(indexed=indexed, answers=answers, captions=captions, sheet=sheet, collection=place)


def _gallery() -> list[_Picture]:
    rng = np.random.default_rng(_SEED)
    scenes = [random_scene(rng, num_objects=1 + index % MAX_OBJECTS) for index in range(_SCENES)]
    canvases = [Scene(objects=(random_object(rng),)) for _ in range(_CANVASES)]
    scenes += [Scene(objects=(item,)) for _, item, kind in QUESTIONS if kind == "scene"]
    scenes.append(Scene(objects=(PICTURE_QUESTION,)))
    canvases += [Scene(objects=(item,)) for _, item, kind in QUESTIONS if kind == "canvas"]
    drawn = [(scene, False) for scene in scenes] + [(scene, True) for scene in canvases]
    order = rng.permutation(len(drawn))  # so that the answers are not the last pictures
    return [_Picture(scene=drawn[at][0], on_canvas=drawn[at][1], seed=1000 + int(at)) for at in order]


def _describe(item: SceneObject, *, placed: bool) -> Description:
    place = item.place if placed else None
    return Description(mentions=(Mention(shape=item.shape, colour=item.colour, size=item.size, place=place),))


def _save(image: Image.Image, path: Path) -> None:
    encoded = BytesIO()
    image.save(encoded, "PNG", compress_level=1)  # a quarter of the time for the same size: the texture is noise
    if not path.exists() or path.read_bytes() != encoded.getvalue():
        replace_file(path, encoded.getvalue())
