"""Data for tasks of mteb in a folder: which forms are taken, and the conversion of the others to a hub repository's.

A task reads a folder in the form of its repository on the hub: a README.md with `configs:`, and files of Parquet or
JSON. Three more forms are converted to it, once: BEIR's (`corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`), folders
of `save_to_disk`, and for classification a folder of pictures for each class.
"""

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
from mteb.abstasks import AbsTask, AbsTaskZeroShotClassification

from core_encoder.file_hash import file_hash
from jclip_connectors.errors import EvaluationError

# (configuration, split) -> rows
Tables = Mapping[tuple[str, str], datasets.Dataset]

_READ = frozenset({".parquet", ".json", ".jsonl", ".csv", ".tsv", ".gz"})
_SAVED = ("dataset_info.json", "dataset_dict.json")  # one of them is in every folder of save_to_disk


def revision_of(folder: Path, limit: int | None) -> str:
    """A hash of all files of a folder and of the limit on their number: 16 hex digits."""
    digest = hashlib.sha256(str(limit).encode())
    for path in _files(folder):
        digest.update(f"\n{path.relative_to(folder).as_posix()} {file_hash(path)}".encode())
    return digest.hexdigest()[:16]


def repository(folder: Path, task: AbsTask, *, split: str, revision: str, converted: Path) -> Path:
    """The folder that a task can read: `folder` itself, or one below `converted` with the same data.

    Args:
        folder: of the data set.
        task: of mteb.
        split: of the task, for forms that do not say it.
        revision: of the data, `revision_of`.
        converted: where converted data are kept.

    Raises:
        EvaluationError: the folder has none of the forms that are taken, or a file in it is damaged.
    """
    if _has_configurations(folder):
        return folder
    target = converted / f"{task.metadata.name}-{revision}"
    if target.is_dir():
        return target
    if (folder / "corpus.jsonl").is_file():
        tables = _beir(folder, task, split)
    elif _saved_folders(folder):
        tables = _saved(folder, split)
    elif isinstance(task, AbsTaskZeroShotClassification) and _class_folders(folder, split):
        tables = _pictures(folder, task, split)
    elif any(path.suffix in _READ for path in _files(folder)):
        return folder  # `datasets` finds the splits by the names of the files
    else:
        raise EvaluationError(
            f"{str(folder)!r} holds no data of {task.metadata.name}: it needs a README.md with `configs:` and Parquet "
            f"files, the files of BEIR, folders of save_to_disk, or, for classification, {split}/CLASS/PICTURE"
        )
    write_repository(target, tables)
    return target


def write_repository(target: Path, tables: Tables) -> None:
    """Write tables in the form of a repository on the hub: Parquet files and a README.md that names them.

    Args:
        target: the folder; it appears under its name once it is whole.
        tables: for each configuration and split the rows; pictures are in the files.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.parent / f".{target.name}-{uuid.uuid4().hex}.tmp"
    configurations: dict[str, list[dict[str, str]]] = {}
    for (configuration, split), rows in tables.items():
        path = f"{configuration}/{split}.parquet"
        (written / configuration).mkdir(parents=True, exist_ok=True)
        rows.to_parquet(written / path)
        configurations.setdefault(configuration, []).append({"split": split, "path": path})
    listed = [{"config_name": name, "data_files": files} for name, files in configurations.items()]
    head = json.dumps({"configs": listed}, ensure_ascii=False, indent=1)  # which is YAML too
    (written / "README.md").write_text(f"---\n{head}\n---\n", encoding="utf-8")
    written.replace(target)


def _files(folder: Path) -> list[Path]:
    """All files in a folder but hidden ones, such as those that a download leaves beside the data."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _has_configurations(folder: Path) -> bool:
    """Whether the folder has a README.md that names its configurations."""
    readme = folder / "README.md"
    if not readme.is_file():
        return False
    parts = readme.read_text(encoding="utf-8", errors="replace").split("---", 2)
    return len(parts) == 3 and not parts[0].strip() and "configs" in parts[1]


def _beir(folder: Path, task: AbsTask, split: str) -> Tables:
    """The three files of a data set of BEIR."""
    if task.metadata.is_multilingual:
        raise EvaluationError(
            f"{str(folder)!r} is in BEIR's form, which has one language; {task.metadata.name} has more"
        )
    judged = folder / "qrels" / f"{split}.tsv"
    for path in (folder / "queries.jsonl", judged):
        if not path.is_file():
            raise EvaluationError(f"{str(path)!r} is missing: data in BEIR's form have it beside corpus.jsonl")
    corpus = [
        {"_id": str(row["_id"]), "title": row.get("title") or "", "text": row["text"]}
        for row in _json_lines(folder / "corpus.jsonl", ("_id", "text"))
    ]
    queries = [
        {"_id": str(row["_id"]), "text": row["text"]} for row in _json_lines(folder / "queries.jsonl", ("_id", "text"))
    ]
    tables = {"corpus": corpus, "queries": queries, "qrels": list(_judgements(judged))}
    return {(name, split): datasets.Dataset.from_list(rows) for name, rows in tables.items()}


def _json_lines(path: Path, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise EvaluationError(f"{str(path)!r}, line {number}: not JSON") from error
            absent = [name for name in fields if not isinstance(row, dict) or name not in row]
            if absent:
                raise EvaluationError(f"{str(path)!r}, line {number}: {absent[0]!r} is missing")
            yield row


def _judgements(path: Path) -> Iterator[dict[str, str | int]]:
    """The rows of a file of TREC's judgements, with a head."""
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, delimiter="\t"), start=2):
            try:
                yield {"query-id": row["query-id"], "corpus-id": row["corpus-id"], "score": int(row["score"])}
            except (KeyError, TypeError, ValueError) as error:
                raise EvaluationError(
                    f"{str(path)!r}, line {number}: the columns query-id, corpus-id and score are needed, with a head"
                ) from error


def _saved_folders(folder: Path) -> Mapping[str, Path]:
    """The folders of `save_to_disk` by configuration: `folder` itself, or those in it."""
    if any((folder / name).is_file() for name in _SAVED):
        return {"default": folder}
    return {path.name: path for path in sorted(folder.iterdir()) if any((path / name).is_file() for name in _SAVED)}


def _saved(folder: Path, split: str) -> Tables:
    """What `save_to_disk` wrote; one data set without splits is that of the task."""
    tables: dict[tuple[str, str], datasets.Dataset] = {}
    for configuration, path in _saved_folders(folder).items():
        try:
            saved = datasets.load_from_disk(str(path))
        except (OSError, ValueError, KeyError) as error:
            raise EvaluationError(f"{str(path)!r} is damaged: `datasets` cannot load it from disk") from error
        by_split = saved if isinstance(saved, datasets.DatasetDict) else {split: saved}
        tables.update({(configuration, name): rows for name, rows in by_split.items()})
    return tables


def _class_folders(folder: Path, split: str) -> list[Path]:
    """One folder for each class: below the split's, or where there is none directly below the data set's."""
    place = folder / split if (folder / split).is_dir() else folder
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path, task: AbsTaskZeroShotClassification, split: str) -> Tables:
    """The pictures of a folder for each class; their labels are the names of the folders, or numbers."""
    folders = _class_folders(folder, split)
    labels = fixed_labels(task)
    if labels is None:
        names = [path.name for path in folders]
    else:  # the task has its own words for the classes, by number
        names = [str(number) for number in range(len(labels))]
        unknown = [path.name for path in folders if path.name not in names]
        if unknown:
            raise EvaluationError(
                f"{str(folder)!r}: {task.metadata.name} numbers its {len(names)} classes, so folders are called 0 to "
                f"{len(names) - 1}; {unknown[0]!r} is none of these"
            )
    column, label = str(task.input_column_name), task.label_column_name
    rows = [
        {column: {"bytes": path.read_bytes(), "path": path.name}, label: names.index(place.name)}
        for place in folders
        for path in _files(place)
    ]
    features = datasets.Features({column: datasets.Image(), label: datasets.ClassLabel(names=names)})
    return {("default", split): datasets.Dataset.from_list(rows, features=features)}


def fixed_labels(task: AbsTaskZeroShotClassification) -> list[str] | None:
    """The sentences of a task that has them in its code; `None` for one that reads the classes' names from the data."""
    try:
        return task.get_candidate_labels()
    except TypeError:  # it looks into data that are not loaded
        return None
