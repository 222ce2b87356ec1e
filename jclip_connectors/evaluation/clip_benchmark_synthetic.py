"""Small data sets in the formats that clip-benchmark reads, with drawn pictures: an evaluation without data.

All data sets for retrieval have the same pictures. Of a language that the bundled model does not know, the captions are
English. All data sets for classification have the same pictures of one object each, and ask for its shape, its colour,
its place, or two of these; those with few classes in reality ask for its size.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from core_encoder.nano.scenes import SceneObject
from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.clip_benchmark_folders import (
    CLASSES_FILE,
    SHARDS_FILE,
    TEMPLATES_FILE,
    WEBDATASET,
    folder_name,
)
from jclip_connectors.evaluation.job import TaskRequest
from jclip_connectors.evaluation.synthetic import (
    LABELLINGS,
    Labelling,
    Sample,
    known_language,
    synthetic_objects,
    synthetic_samples,
)

_FEW_CLASSES = frozenset({"vtab/pcam", "renderedsst2", "vtab/kitti_closest_vehicle_distance"})
_MANY_CLASSES = tuple(name for name in LABELLINGS if name != "size")
_SHARDS = 2
_JPEG_QUALITY = 95


def write_synthetic(folder: Path, tasks: Iterable[TaskRequest], *, seed: int = 0, pictures: int = 64) -> None:
    """Write the data sets of tasks, each in the folder where an evaluation looks for it.

    The same arguments give the same files, byte for byte.

    Args:
        folder: is made; what it has of these data sets is written again.
        tasks: of clip-benchmark.
        seed: of the pictures, at least 0.
        pictures: how many each data set has, at least 10 for every metric to be defined.

    Raises:
        EvaluationError: there is no writer for the format of a task.
    """
    tasks = list(tasks)
    known = [task for task in tasks if task.task in _WRITERS]
    labelled = [task for task in tasks if task.task.startswith(WEBDATASET)]
    if unknown := [task.task for task in tasks if task not in known and task not in labelled]:
        raise EvaluationError(f"there are no drawn pictures for the data set {unknown[0]!r}")
    samples = [(sample, _jpeg(sample.picture)) for sample in synthetic_samples(pictures, seed)] if known else []
    for task in known:
        root = folder / folder_name(task.task)
        root.mkdir(parents=True, exist_ok=True)
        _WRITERS[task.task](root, task, samples)
    objects = [(_png(picture), item) for picture, item in synthetic_objects(pictures, seed)] if labelled else []
    for task in labelled:
        _write_webdataset(folder / folder_name(task.task), task.split, _labelling(task.task), objects)


_Drawn = Sequence[tuple[Sample, bytes]]


def _write_flickr30k(root: Path, task: TaskRequest, samples: _Drawn) -> None:
    lines = ["image,caption"]
    for number, (sample, jpeg) in enumerate(samples):
        name = f"{number + 1000000}.jpg"
        (root / name).write_bytes(jpeg)
        lines += [f"{name},{caption}" for caption in sample.captions["en"]]
    _write_text(root / f"flickr30k_{task.split}_karpathy.txt", lines)


def _write_coco(root: Path, task: TaskRequest, samples: _Drawn) -> None:
    (root / "val2014").mkdir(exist_ok=True)
    images, annotations = [], []
    for number, (sample, jpeg) in enumerate(samples):
        name = f"COCO_val2014_{number:012}.jpg"
        (root / "val2014" / name).write_bytes(jpeg)
        width, height = sample.picture.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [{"image_id": number, "caption": caption} for caption in sample.captions["en"]]
    numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations)]
    _write_json(root / f"coco_{task.split}_karpathy.json", {"images": images, "annotations": numbered})


def _write_by_language(pictures: str, pattern: str) -> Callable[[Path, TaskRequest, _Drawn], None]:
    """A file with one caption a picture for each language; the pictures are in the folder `pictures`."""

    def write(root: Path, task: TaskRequest, samples: _Drawn) -> None:
        (root / pictures).mkdir(parents=True, exist_ok=True)
        paths = [root / pictures / f"{number:04}.jpg" for number in range(len(samples))]
        for path, (_, jpeg) in zip(paths, samples, strict=True):
            path.write_bytes(jpeg)
        for language in task.languages:
            content = {
                "image_paths": [str(path) for path in paths],
                "annotations": [sample.captions[known_language(language)][0] for sample, _ in samples],
                "indicies": list(range(len(samples))),  # as the harness spells it
            }
            _write_json(root / pattern.format(language), content)

    return write


_WRITERS: Mapping[str, Callable[[Path, TaskRequest, _Drawn], None]] = MappingProxyType(
    {
        "flickr30k": _write_flickr30k,
        "mscoco_captions": _write_coco,
        "crossmodal3600": _write_by_language("xm3600/images", "crossmodal3600_captions-{}.json"),
        "multilingual_mscoco_captions": _write_by_language(
            "multilingual_mscoco/images", "multilingual_mscoco_captions-{}.json"
        ),
        "xtd10": _write_by_language("xtd10/images", "xtd10-{}.json"),
    }
)


def _labelling(task: str) -> Labelling:
    """What a data set asks, the same whichever other data sets are written."""
    few = task.removeprefix(WEBDATASET) in _FEW_CLASSES
    return LABELLINGS["size" if few else _MANY_CLASSES[sum(task.encode()) % len(_MANY_CLASSES)]]


def _write_webdataset(
    root: Path, split: str, labelling: Labelling, objects: Sequence[tuple[bytes, SceneObject]]
) -> None:
    (root / split).mkdir(parents=True, exist_ok=True)
    for shard in range(_SHARDS):
        with tarfile.open(root / split / f"{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(shard, len(objects), _SHARDS):
                png, item = objects[number]
                for suffix, content in (("png", png), ("cls", str(labelling.label(item)).encode())):
                    member = tarfile.TarInfo(f"s{number:07}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    _write_text(root / split / SHARDS_FILE, [str(_SHARDS)])
    _write_text(root / CLASSES_FILE, labelling.classes)
    _write_text(root / TEMPLATES_FILE, labelling.templates)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _write_text(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
