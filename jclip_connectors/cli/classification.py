"""What `jclip classify` does: find the pictures, load the model, and classify one picture after another."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.errors import ImageDecodeError
from core_encoder.image_notes import ImageNote
from core_encoder.models import RuntimeChoice
from jclip_connectors.config import EmbeddingConfig, image_problem
from jclip_connectors.errors import EmbedInputError, MissingDependencyError
from jclip_connectors.indexing import TEXT_SUFFIXES, BadFile, Found
from jclip_connectors.indexing.files import describe_file
from jclip_connectors.indexing.first_bytes import is_picture, is_pointer, read_head, what_it_is

if TYPE_CHECKING:
    from core_encoder.zero_shot import LabelClassifier, LabelScore


@dataclass(frozen=True, kw_only=True)
class Classified:
    """One picture.

    Attributes:
        path: its path.
        label: the nearest label; `None` where no label is near enough.
        scores: the nearest labels, nearest first.
    """

    path: str
    label: str | None
    scores: "Sequence[LabelScore]"


@dataclass(kw_only=True)
class Account:
    """What is to be said at the end of a run.

    Attributes:
        failed: the pictures that cannot be read.
        notes: for each thing to say about pictures, their number.
        classified: how many pictures have labels.
    """

    failed: list[BadFile] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    classified: int = 0


def pictures_of(found: Found) -> list[str]:
    """The paths of the pictures among the files of a walk; the others are texts."""
    return [path for path in found.files if not _is_text(Path(path))]


def load_classifier(
    config: EmbeddingConfig,
    labels: Sequence[str],
    templates: Sequence[str],
    *,
    device: str | None,
    runtime: RuntimeChoice,
) -> "LabelClassifier":
    """Load the model of a configuration, and encode the labels.

    Raises:
        MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
        CheckpointError, ConfigError, EmbeddingDimError: as for `JinaClipEncoder.load` and `LabelClassifier`.
    """
    try:
        from core_encoder.encoder import JinaClipEncoder  # imported here: it needs packages of an extra
        from core_encoder.zero_shot import LabelClassifier

        encoder = JinaClipEncoder.load(
            config.model, revision=config.revision, device=device, precision=config.precision, runtime=runtime
        )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local" if error.name == "torch" else "onnx") from error
    return LabelClassifier(encoder, labels, templates, truncate_dim=config.dimensions)


def classify_files(
    classifier: "LabelClassifier",
    paths: Sequence[str],
    config: EmbeddingConfig,
    account: Account,
    *,
    top: int,
    probabilities: bool,
    least: float | None,
    progress: Callable[[int, int], None],
) -> Generator[Classified, None, None]:
    """Classify pictures one after another; only some of them are in memory.

    Args:
        classifier: the labels.
        paths: of the pictures.
        config: how pictures are read.
        account: gets what is to be said at the end.
        top: how many labels of each picture.
        probabilities: whether to compute probabilities.
        least: a picture whose best cosine is smaller has no label; `None` gives every picture a label.
        progress: called with the number of pictures that are done, and of all.

    Yields:
        The pictures that can be read, in order.
    """
    asked: deque[str] = deque()
    before = len(account.failed)  # folders, and files of another kind
    notes: dict[int, list[ImageNote]] = {}
    stream = classifier.stream(
        _readable(paths, asked, account),
        top=top,
        probabilities=probabilities,
        resize_mode=config.resize_mode,
        rendering=config.rendering,
        resampling=config.resampling,
        limits=config.image_limits,
        notes=notes,
    )
    with closing(stream) as results:
        for position, result in enumerate(results):
            path = asked.popleft()
            account.notes.update(note.text for note in notes.pop(position, ()))
            if isinstance(result, ImageDecodeError):
                problem = image_problem(result).removeprefix(f"item {position}")
                account.failed.append(BadFile(path=path, error=f"the image{problem}"))
            else:
                account.classified += 1
                near = least is None or result[0].score >= least
                yield Classified(path=path, label=result[0].label if near else None, scores=result)
            progress(account.classified + len(account.failed) - before, len(paths))


def _readable(paths: Sequence[str], asked: deque[str], account: Account) -> Iterator[Path]:
    """The pictures that may be opened; what is no regular file would be waited for."""
    for path in paths:
        problem = _problem(Path(path))
        if problem is None:
            asked.append(path)
            yield Path(path)
        else:
            account.failed.append(BadFile(path=path, error=problem))


def _problem(path: Path) -> str | None:
    try:
        describe_file(path)
    except EmbedInputError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    head = read_head(path)
    return f"it is {what_it_is(head)}" if is_pointer(head) else None


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_SUFFIXES and not is_picture(read_head(path))
