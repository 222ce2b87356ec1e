"""Small data for tasks of mteb, in the form of their repositories on the hub: scenes and captions that nano knows."""

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import numpy as np
from mteb.abstasks import AbsTask, AbsTaskRetrieval, AbsTaskSTS, AbsTaskZeroShotClassification
from PIL import Image

from core_encoder.nano.captions import ATTRIBUTES, Description, full_description, mention_of, write
from core_encoder.nano.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, SceneObject, draw_scene, random_scene
from core_encoder.nano.wording import Language
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.evaluation.mteb_data import Tables, fixed_labels, write_repository
from jclip_connectors.evaluation.synthetic import LABELLINGS, Sample, synthetic_objects, synthetic_samples

_LANGUAGES = 6  # of a task: mteb reads the list of all for each of them
_SETS = 3  # of pictures, which the tasks share
_ROWS = 32  # documents, queries, pairs or pictures of a task and language
_ISO: Mapping[str, Language] = MappingProxyType(
    {"deu": "de", "eng": "en", "fra": "fr", "spa": "es", "zho": "zh", "cmn": "zh"}
)
_VALUES = MappingProxyType({"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES})


def write_synthetic(folder: Path, task: AbsTask, *, split: str) -> None:
    """Write a small data set for a task, in some of its languages; the same arguments write the same bytes.

    Args:
        folder: of the data set; nothing is written if it exists.
        task: of mteb.
        split: of the task.

    Raises:
        EmbedInputError: the task is of a kind for which no data are made.
    """
    if folder.is_dir():
        return
    writer = _writer(task)
    if writer is None:
        raise EmbedInputError(f"there are no synthetic data for {task.metadata.name}: name a folder with its data")
    write_repository(folder, writer(task, split, synthetic_languages(task, task.metadata.hf_subsets)))


def synthetic_languages(task: AbsTask, languages: Sequence[str]) -> list[str]:
    """Those of a task's languages that its synthetic data have: first the ones that nano knows, and a few others.

    Raises:
        EmbedInputError: the data have none of `languages`.
    """
    codes = task.metadata.hf_subsets_to_langscripts

    def strangeness(language: str) -> tuple[bool, bool]:
        return not all(code.partition("-")[0] in _ISO for code in codes[language]), len(set(codes[language])) > 1

    chosen = sorted(codes, key=strangeness)[:_LANGUAGES]
    found = [language for language in languages if language in chosen]
    if not found:
        raise EmbedInputError(f"the synthetic data of {task.metadata.name} have only the languages {', '.join(chosen)}")
    return found


def _writer(task: AbsTask) -> Callable[[Any, str, Sequence[str]], Tables] | None:
    """The function for the form of a task's repository."""
    for beginning, writer in _OF_THEIR_OWN.items():
        if task.metadata.name.startswith(beginning):
            return writer
    if isinstance(task, AbsTaskRetrieval):
        return _retrieval
    if isinstance(task, AbsTaskSTS):
        return _pairs
    return _classes if isinstance(task, AbsTaskZeroShotClassification) else None


def _retrieval(task: AbsTaskRetrieval, split: str, languages: Sequence[str]) -> Tables:
    """Corpus, queries and judgements for each language."""
    tables: dict[tuple[str, str], datasets.Dataset] = {}
    for language in languages:
        made = _texts(task, language) if task.metadata.modalities == ["text"] else _captioned(task)
        prefix = f"{language}-" if task.metadata.is_multilingual else ""
        tables.update({(f"{prefix}{name}", split): rows for name, rows in made.items()})
    return tables


def _texts(task: AbsTask, language: str) -> Mapping[str, datasets.Dataset]:
    """Full descriptions of scenes as documents; a query says less, and several documents may be right."""
    of_documents, of_queries = _languages(task, language)
    rng = _rng(task, language)
    scenes = [random_scene(rng, num_objects=2) for _ in range(_ROWS)]
    said = [_partial(scene, rng) for scene in scenes]
    return {
        "corpus": datasets.Dataset.from_list(
            [
                {"_id": f"d{number}", "title": "", "text": write(full_description(scene), of_documents)}
                for number, scene in enumerate(scenes)
            ]
        ),
        "queries": datasets.Dataset.from_list(
            [{"_id": f"q{number}", "text": write(one, of_queries)} for number, one in enumerate(said)]
        ),
        "qrels": _judgements(
            (f"q{query}", f"d{number}")
            for query, one in enumerate(said)
            for number, scene in enumerate(scenes)
            if one.fits(scene)
        ),
    }


def _captioned(task: AbsTask) -> Mapping[str, datasets.Dataset]:
    """Pictures with five captions each, in both columns that a repository of pictures and texts has."""
    samples = _samples(_seed(task) % _SETS)
    pictures = [
        {"id": f"image-{number}", "modality": "image", "text": None, "image": _file(one.picture)}
        for number, one in enumerate(samples)
    ]
    captions = [
        {"id": f"text-{number}-{index}", "modality": "text", "text": caption, "image": None}
        for number, one in enumerate(samples)
        for index, caption in enumerate(one.captions["en"])
    ]
    pairs = [
        (f"image-{number}", f"text-{number}-{index}")
        for number, one in enumerate(samples)
        for index in range(len(one.captions["en"]))
    ]
    features = _features("id", "modality", "text", image=datasets.Image())
    from_pictures = task.metadata.category == "i2t"
    queries, corpus = (pictures, captions) if from_pictures else (captions, pictures)
    return {
        "corpus": datasets.Dataset.from_list(corpus, features=features),
        "queries": datasets.Dataset.from_list(queries, features=features),
        "qrels": _judgements((image, text) if from_pictures else (text, image) for image, text in pairs),
    }


def _belebele(task: AbsTaskRetrieval, split: str, languages: Sequence[str]) -> Tables:
    """A configuration for each language: passages and questions about them."""
    tables = {}
    for language in dict.fromkeys(code for pair in languages for code in task.metadata.eval_langs[pair]):  # type: ignore[call-overload]
        rng = np.random.default_rng(_seed(task))  # the languages say the same
        scenes = [random_scene(rng, num_objects=2) for _ in range(_ROWS)]
        rows = [
            {
                "link": f"https://example.org/{number}",
                "flores_passage": write(full_description(scene), _known(language)),
                "question": write(_partial(scene, rng), _known(language)),
            }
            for number, scene in enumerate(scenes)
        ]
        tables[language.replace("-", "_"), split] = datasets.Dataset.from_list(rows)
    return tables


def _crossmodal(task: AbsTaskRetrieval, split: str, languages: Sequence[str]) -> Tables:  # noqa: ARG001 (its splits are languages)
    """A split for each language: pictures, each with two captions."""
    samples = _samples(_seed(task) % _SETS)
    features = _features("image_id", "image_locale", image=datasets.Image())
    for name in ("captions", "captions_tokenized", "captions_tokenized_lowercase"):
        features[name] = datasets.List(datasets.Value("string"))
    tables = {}
    for language in languages:
        captions = [_captions(task, language, one)[:2] for one in samples]
        rows = [
            {
                "image_id": f"{number:04}",
                "image_locale": language,
                "image": _file(one.picture),
                "captions": said,
                "captions_tokenized": said,
                "captions_tokenized_lowercase": [text.lower() for text in said],
            }
            for number, (one, said) in enumerate(zip(samples, captions, strict=True))
        ]
        tables["default", language] = datasets.Dataset.from_list(rows, features=features)
    return tables


def _flickr_languages(task: AbsTaskRetrieval, split: str, languages: Sequence[str]) -> Tables:  # noqa: ARG001 (the same)
    """A split for each language: pictures, each with one caption."""
    samples = _samples(_seed(task) % _SETS)
    features = _features("id", "sentences", image=datasets.Image())
    return {
        ("default", language): datasets.Dataset.from_list(
            [
                {"id": str(number), "sentences": _captions(task, language, one)[0], "image": _file(one.picture)}
                for number, one in enumerate(samples)
            ],
            features=features,
        )
        for language in languages
    }


def _documents(task: AbsTaskRetrieval, split: str, languages: Sequence[str]) -> Tables:
    """Pages as pictures, and questions in several languages in one table."""
    samples = _samples(_seed(task) % _SETS)
    queries: list[dict[str, object]] = []
    judged: list[dict[str, int]] = []
    for language in languages:
        for number, one in enumerate(samples):
            query = {"query-id": len(queries), "query": _captions(task, language, one)[0], "language": language}
            judged.append({"query-id": len(queries), "corpus-id": number, "score": 1})
            queries.append(query)
    pages = [{"corpus-id": number, "image": _file(one.picture)} for number, one in enumerate(samples)]
    features = datasets.Features({"corpus-id": datasets.Value("int64"), "image": datasets.Image()})
    return {
        ("queries", split): datasets.Dataset.from_list(queries),
        ("corpus", split): datasets.Dataset.from_list(pages, features=features),
        ("qrels", split): datasets.Dataset.from_list(judged),
    }


def _pairs(task: AbsTaskSTS, split: str, languages: Sequence[str]) -> Tables:
    """Pairs of captions or pictures; the fewer words differ, the higher the score."""
    of_pictures = task.metadata.modalities == ["image"]
    value = datasets.Image() if of_pictures else datasets.Value("string")
    features = datasets.Features(
        {**{str(name): value for name in task.column_names}, "score": datasets.Value("float64")}
    )
    tables = {}
    for language in languages:
        rng, (first, second) = _rng(task, language), _languages(task, language)
        rows = []
        for number in range(_ROWS):
            scene = random_scene(rng, num_objects=1)
            other, changed = _changed(scene, number % (len(ATTRIBUTES) + 1), rng)
            score = task.max_score - (task.max_score - task.min_score) * changed / len(ATTRIBUTES)
            sides = (
                [_file(draw_scene(one, seed=int(rng.integers(2**32))).image) for one in (scene, other)]
                if of_pictures
                else [write(full_description(one), said) for one, said in ((scene, first), (other, second))]
            )
            rows.append({**dict(zip(map(str, task.column_names), sides, strict=True)), "score": score})
        tables[language, split] = datasets.Dataset.from_list(rows, features=features)
    if task.fast_loading:  # all languages in one table
        marked = [table.add_column("lang", [name] * len(table)) for (name, _), table in tables.items()]
        return {("default", split): datasets.concatenate_datasets(marked)}
    return tables


def _classes(task: AbsTaskZeroShotClassification, split: str, languages: Sequence[str]) -> Tables:  # noqa: ARG001 (it has one)
    """Pictures of one object, in the classes that nano knows, or in the task's own classes by number."""
    labelling = LABELLINGS["shape"]
    column, label = str(task.input_column_name), task.label_column_name
    fixed = fixed_labels(task)
    names = [f"/{name[0]}/{name}" if task.metadata.name.startswith("SUN397") else name for name in labelling.classes]
    rows = [
        {column: _file(picture), label: labelling.label(item) % len(fixed or names)}
        for picture, item in synthetic_objects(_ROWS, _seed(task) % _SETS)
    ]
    kind = datasets.ClassLabel(names=names) if fixed is None else datasets.Value("int64")
    features = datasets.Features({column: datasets.Image(), label: kind})
    return {("default", split): datasets.Dataset.from_list(rows, features=features)}


_OF_THEIR_OWN: Mapping[str, Callable[[Any, str, Sequence[str]], Tables]] = MappingProxyType(
    {
        "BelebeleRetrieval": _belebele,
        "XM3600": _crossmodal,
        "XFlickr30kCo": _flickr_languages,
        "Vidore2": _documents,
    }
)


def _partial(scene: Scene, rng: np.random.Generator) -> Description:
    """Say two things about each object."""
    return Description(
        mentions=tuple(mention_of(item, rng.choice(ATTRIBUTES, 2, replace=False)) for item in scene.objects)
    )


def _changed(scene: Scene, count: int, rng: np.random.Generator) -> tuple[Scene, int]:
    """A scene that differs in so many attributes of its object, and their number."""
    [item] = scene.objects
    values: dict[str, Any] = {}
    for name in rng.permutation(ATTRIBUTES)[:count]:
        others = [value for value in _VALUES[name] if value != getattr(item, name)]
        values[str(name)] = others[int(rng.integers(len(others)))]
    changed: SceneObject = replace(item, **values)
    return Scene(objects=(changed,)), len(values)


@cache
def _samples(seed: int) -> list[Sample]:
    return synthetic_samples(_ROWS, seed)


def _judgements(pairs: Iterator[tuple[str, str]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"query-id": query, "corpus-id": document, "score": 1} for query, document in pairs]
    )


def _features(*texts: str, **others: Any) -> datasets.Features:  # noqa: ANN401 (features of `datasets`)
    return datasets.Features({**{name: datasets.Value("string") for name in texts}, **others})


def _file(picture: Image.Image) -> dict[str, bytes | None]:
    """A picture as a repository holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _captions(task: AbsTask, language: str, sample: Sample) -> list[str]:
    return list(sample.captions[_languages(task, language)[0]])


def _languages(task: AbsTask, language: str) -> tuple[Language, Language]:
    """The languages of documents and queries, or of the two sides of a pair."""
    codes = task.metadata.hf_subsets_to_langscripts[language]
    return _known(codes[0]), _known(codes[-1])


def _known(code: str) -> Language:
    """The language of the captions for a code such as "deu-Latn"; English where nano does not know it."""
    return _ISO.get(code.partition("-")[0], "en")


def _seed(task: AbsTask) -> int:
    return zlib.crc32(task.metadata.name.encode())


def _rng(task: AbsTask, language: str) -> np.random.Generator:
    return np.random.default_rng((_seed(task), zlib.crc32(language.encode())))
