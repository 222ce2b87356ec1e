"""The tables: which tasks, metrics and languages each has, so that its means are the published means."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.evaluation.figures import Harness


@dataclass(frozen=True, kw_only=True)
class TableTask:
    """A data set or task, by the harness' own names; no languages stand for all that the task has.

    The first of the metrics is the table's own.
    """

    name: str
    split: str = "test"
    languages: tuple[str, ...] = ()
    metrics: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LanguageSet:
    """Languages over which a mean is taken.

    Attributes:
        name: as it stands in the report, such as "26 languages".
        languages: the harness' own names.
        published: whether the published mean is known to be over these.
    """

    name: str
    languages: tuple[str, ...]
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the release notes.

    Attributes:
        name: as the command takes it.
        title: for people.
        harness: what computes it.
        tasks: in the order of the table.
        language_sets: the means over languages that are shown; none for a table of one language.
        mean_of_tasks: whether the table's own value is the mean of its tasks.
        note: what a reader must know, or `None`.
    """

    name: str
    title: str
    harness: Harness
    tasks: tuple[TableTask, ...]
    language_sets: tuple[LanguageSet, ...] = ()
    mean_of_tasks: bool = False
    note: str | None = None


# "text": captions are found for a picture; "image": pictures are found for a caption.
_RETRIEVAL_METRICS = tuple(f"{found}_retrieval_recall@{k}" for k in (5, 1, 10) for found in ("text", "image"))
_CLASSIFICATION_METRICS = ("acc1", "acc5", "mean_per_class_recall")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Source: SUPPORTED_LANGUAGES of clip_benchmark 1.6.2 for each data set.
_CROSSMODAL = _words(
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
_COCO = _words("de en es fr it jp ko pl ru tr zh")
# Those of the 30 languages of jina-embeddings-v3's tuning that Crossmodal-3600 has. With them, and with all but jp of
# multilingual COCO, the per-language figures that are published for NLLB-CLIP-SigLIP give its published means.
_PUBLISHED_CROSSMODAL = _words("ar bn da de el en es fi fr hi id it ja ko nl no pl pt ro ru sv th tr uk vi zh")

# Source: benchmark/webdatasets.txt of LAION-AI/CLIP_benchmark at c475e1c, without its three retrieval sets.
_CLASSIFICATION = _words(
    "imagenet1k imagenetv2 imagenet_sketch imagenet-a imagenet-r imagenet-o objectnet fer2013 voc2007 sun397 cars "
    "fgvc_aircraft mnist stl10 gtsrb country211 renderedsst2 vtab/caltech101 vtab/cifar10 vtab/cifar100 "
    "vtab/clevr_count_all vtab/clevr_closest_object_distance vtab/diabetic_retinopathy vtab/dmlab "
    "vtab/dsprites_label_orientation vtab/dsprites_label_x_position vtab/dsprites_label_y_position vtab/dtd "
    "vtab/eurosat vtab/kitti_closest_vehicle_distance vtab/flowers vtab/pets vtab/pcam vtab/resisc45 "
    "vtab/smallnorb_label_azimuth vtab/smallnorb_label_elevation vtab/svhn"
)


def _retrieval(name: str, title: str, task: str, languages: Sequence[str], *sets: LanguageSet) -> Table:
    task_of_table = TableTask(name=task, languages=tuple(languages), metrics=_RETRIEVAL_METRICS)
    return Table(name=name, title=title, harness="clip_benchmark", tasks=(task_of_table,), language_sets=sets)


def _all_but(languages: Sequence[str], *left_out: str) -> tuple[str, ...]:
    return tuple(language for language in languages if language not in left_out)


def _classification() -> Table:
    return Table(
        name="classification",
        title="Zero-shot classification, 37 data sets",
        harness="clip_benchmark",
        tasks=tuple(
            TableTask(name=f"wds/{name}", languages=("en",), metrics=_CLASSIFICATION_METRICS)
            for name in _CLASSIFICATION
        ),
        mean_of_tasks=True,
        note="The release notes name 37 sets without a list; these are the sets of the harness' list "
        "`webdatasets.txt` that are not for retrieval.",
    )


def _mteb(name: str, title: str) -> Table:
    """A table of mteb; its tasks are in `task_lists/`."""
    text = files("jclip_connectors.evaluation").joinpath(f"task_lists/{name.replace('-', '_')}.toml").read_text()
    listed = tomllib.loads(text)
    tasks = [
        TableTask(
            name=task["name"],
            split=task["split"],
            languages=tuple(task.get("languages", ())),
            metrics=tuple(task["metrics"]),
        )
        for task in listed["task"]
    ]
    return Table(
        name=name, title=title, harness="mteb", tasks=tuple(tasks), mean_of_tasks=True, note=listed.get("note")
    )


_TABLES: Mapping[str, Callable[[], Table]] = MappingProxyType(
    {
        "flickr30k": lambda: _retrieval("flickr30k", "Flickr30k, Karpathy's test split", "flickr30k", ["en"]),
        "coco": lambda: _retrieval("coco", "MS COCO captions, Karpathy's test split", "mscoco_captions", ["en"]),
        "xm3600": lambda: _retrieval(
            "xm3600",
            "Crossmodal-3600",
            "crossmodal3600",
            _CROSSMODAL,
            LanguageSet(name="26 languages", languages=_PUBLISHED_CROSSMODAL, published=True),
            LanguageSet(name="all 36 languages", languages=_CROSSMODAL),
        ),
        "multilingual-coco": lambda: _retrieval(
            "multilingual-coco",
            "Multilingual MS COCO captions",
            "multilingual_mscoco_captions",
            _COCO,
            LanguageSet(name="10 languages, without jp", languages=_all_but(_COCO, "jp"), published=True),
            LanguageSet(name="all 11 languages", languages=_COCO),
        ),
        # Which of its means was published is not known.
        "xtd10": lambda: _retrieval(
            "xtd10",
            "XTD10",
            "xtd10",
            _COCO,
            LanguageSet(name="all 11 languages", languages=_COCO),
            LanguageSet(name="10 languages, without en", languages=_all_but(_COCO, "en")),
            LanguageSet(name="10 languages, without jp", languages=_all_but(_COCO, "jp")),
        ),
        "classification": _classification,
        "mteb-retrieval-en": lambda: _mteb("mteb-retrieval-en", "MTEB retrieval, English"),
        "mteb-sts-en": lambda: _mteb("mteb-sts-en", "MTEB semantic similarity, English"),
        "mteb-retrieval-multi": lambda: _mteb("mteb-retrieval-multi", "MTEB retrieval, multilingual"),
        "mteb-sts-multi": lambda: _mteb("mteb-sts-multi", "MTEB semantic similarity, multilingual"),
        "mieb": lambda: _mteb("mieb", "MIEB: images and texts in mteb, as a second opinion"),
    }
)

# Names that stand for several tables. The release notes show what is kept at 64 values for these five kinds of tasks.
_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "all": tuple(_TABLES),
        "truncation": ("flickr30k", "coco", "classification", "mteb-retrieval-en", "mteb-sts-en"),
    }
)


@cache
def find_table(name: str) -> Table:
    """The table of a name.

    Raises:
        EmbedInputError: there is none; the message lists all names.
    """
    make = _TABLES.get(name)
    if make is None:
        raise EmbedInputError(f"there is no table {name!r}: choose from {', '.join([*_TABLES, *_GROUPS])}")
    return make()


def find_tables(names: Sequence[str]) -> list[Table]:
    """The tables of names, each once; "all" and "truncation" stand for several.

    Raises:
        EmbedInputError: there is no such table.
    """
    single = dict.fromkeys(one for name in names for one in _GROUPS.get(name, (name,)))
    return [find_table(name) for name in single]
