"""The folder that a reader of the documentation is in: a few pictures and a text."""

from core_encoder.nano.scenes import Scene, SceneObject, draw_canvas, draw_scene
from tests.cli.test_store_urls import jclip

_PICTURES = {
    "bicycle.jpg": SceneObject(shape="ring", colour="red", size="large", place="centre"),
    "boat.jpg": SceneObject(shape="moon", colour="blue", size="large", place="left"),
    "cat.jpg": SceneObject(shape="heart", colour="orange", size="large", place="centre"),
}
_STREET = SceneObject(shape="star", colour="yellow", size="small", place="centre")


def fill(folder):
    """Draw the pictures, and write the text."""
    for seed, (name, item) in enumerate(_PICTURES.items()):
        draw_scene(Scene(objects=(item,)), seed=seed, side_px=144).image.save(folder / name)
    draw_canvas(_STREET, seed=9, tiles_per_side=3).image.save(folder / "street.png")
    (folder / "notes.txt").write_text("a large red ring in the centre")


def export(folder):
    """Index the files of the folder with the bundled model, and export the collection into `vectors`."""
    jclip("index", folder, "--collection", folder / "photos.jclip", "--model", "nano", "--tiles", 4)
    jclip("export", folder / "photos.jclip", folder / "vectors")
