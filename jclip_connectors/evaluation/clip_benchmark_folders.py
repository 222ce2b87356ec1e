"""Where clip-benchmark's data sets lie below the folder of `--data`, which files each needs, and their revision.

    flickr30k/                     the pictures and flickr30k_test_karpathy.txt
    mscoco_captions/               val2014/ and coco_test_karpathy.json
    crossmodal3600/                crossmodal3600_captions-LL.json, or xm3600/captions.jsonl and xm3600/images/
    multilingual_mscoco_captions/  multilingual_mscoco_captions-LL.json
    xtd10/                         xtd10-LL.json
    wds_vtab-cifar10/              a webdataset, as in the repository clip-benchmark/wds_vtab-cifar10 of the hub

These are the harness' own names and formats: with `--dataset_root "DATA/{dataset}"`, for webdatasets with
`--dataset_root "DATA/wds_{dataset_cleaned}"`, its own command reads the same files.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from core_encoder.file_hash import file_hash
from jclip_connectors.errors import EvaluationError

WEBDATASET = "wds/"
CLASSES_FILE, TEMPLATES_FILE, SHARDS_FILE = "classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt"
_WITH_PATHS = frozenset({"crossmodal3600", "multilingual_mscoco_captions", "xtd10"})
_HUB = "https://huggingface.co/datasets/clip-benchmark/{}/tree/main"

_JSON_FORMAT = "JSON with two lists of equal length, `image_paths` and `annotations` (one caption a picture)"
_WEBDATASET_FORMAT = "a webdataset as in https://huggingface.co/datasets/clip-benchmark/{}"


def folder_name(task: str) -> str:
    """The name of a data set's folder."""
    name = task.removeprefix(WEBDATASET)
    return name if name == task else "wds_" + name.replace("/", "-")


def hub_address(task: str) -> str:
    """Where the harness reads a webdataset that is not on disk."""
    return _HUB.format(folder_name(task))


@dataclass(frozen=True, kw_only=True)
class DataFolder:
    """The folder of a data set.

    Attributes:
        task: the harness' name of the data set.
        split: of the data.
        root: the folder.
    """

    task: str
    split: str
    root: Path

    def check(self, language: str) -> None:
        """Look for every file that the harness opens before the first picture.

        Raises:
            EvaluationError: one is missing; it is named, with its format.
        """
        for path, content in self._needed(language):
            if not path.exists():
                raise EvaluationError(
                    f"the data set {self.task!r} has no {str(path)!r}: put it there ({content}), or allow --download"
                )

    def revision(self, language: str, limit: int | None) -> str:
        """A hash of the captions, or of the pictures and labels of a webdataset, and of the limit on their number.

        It does not depend on where the folder is.
        """
        digest = hashlib.sha256()
        if self.task.startswith(WEBDATASET):
            paths = [*self._shards(), self.root / CLASSES_FILE, self.root / TEMPLATES_FILE]
            digest.update(json.dumps([file_hash(path) for path in paths]).encode())
        elif self.task in _WITH_PATHS:
            digest.update(_without_folders(self._captions(language)))
        else:
            digest.update(self._captions(language).read_bytes())
        return limited(digest.hexdigest(), limit)

    def _needed(self, language: str) -> Iterable[tuple[Path, str]]:
        root = self.root
        if self.task.startswith(WEBDATASET):
            form = _WEBDATASET_FORMAT.format(folder_name(self.task))
            yield root / self.split / SHARDS_FILE, f"{form}; this file has the number of tars"
            yield from ((path, f"{form}; {SHARDS_FILE} counts it") for path in self._shards())
            yield root / CLASSES_FILE, f"{form}; this file has the name of a class a line"
            yield root / TEMPLATES_FILE, f"{form}; this file has a template a line, with {{c}} for the class"
        elif self.task == "flickr30k":
            yield root, "the folder with the pictures"
            yield self._captions(language), "lines of NAME.jpg,CAPTION behind a first line, which is not read"
        elif self.task == "mscoco_captions":
            yield root / ("train2014" if self.split == "train" else "val2014"), "the folder with the pictures"
            yield self._captions(language), "JSON with COCO's lists `images` and `annotations`"
        elif self.task == "crossmodal3600" and (root / "xm3600").is_dir() and not self._captions(language).exists():
            yield root / "xm3600" / "captions.jsonl", "as in captions.zip of Crossmodal-3600"
            yield root / "xm3600" / "images", "the folder with the pictures, as in its images.tgz"
        else:
            yield self._captions(language), _JSON_FORMAT

    def _captions(self, language: str) -> Path:
        name = {
            "flickr30k": f"flickr30k_{self.split}_karpathy.txt",
            "mscoco_captions": f"coco_{self.split}_karpathy.json",
            "crossmodal3600": f"crossmodal3600_captions-{language}.json",
        }.get(self.task, f"{self.task}-{language}.json")
        return self.root / name

    def _shards(self) -> list[Path]:
        path = self.root / self.split / SHARDS_FILE
        try:
            count = int(path.read_text())
        except ValueError as error:
            raise EvaluationError(f"{str(path)!r} does not hold a number, which would be that of the tars") from error
        return [path.parent / f"{number}.tar" for number in range(count)]


def limited(digest: str, limit: int | None) -> str:
    """The revision of data: runs on a part of them are not comparable with runs on all."""
    return digest[:16] if limit is None else f"{digest[:16]}-first-{limit}"


def _without_folders(path: Path) -> bytes:
    """The content of a file with `image_paths`, which hold the folder where they were written."""
    try:
        content = json.loads(path.read_bytes())
        pairs = list(zip(content["image_paths"], content["annotations"], strict=True))
        names = [[PurePath(picture).name, caption] for picture, caption in pairs]
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{str(path)!r} is not {_JSON_FORMAT}") from error
    return json.dumps(names).encode()
