"""LocalEmbedder: an `Embedder` that runs the model in this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from core_encoder.errors import ConfigError, ImageDecodeError, InputError
from core_encoder.image_notes import ImageNote
from core_encoder.image_preprocess import check_resampling
from core_encoder.item_list import as_iterator
from core_encoder.models import RuntimeChoice, default_revision, find_folder
from core_encoder.tiling import TileEmbeddings
from jclip_connectors.config import EmbeddingConfig, image_problem
from jclip_connectors.errors import EmbedInputError, MissingDependencyError, PartialFailureError
from jclip_connectors.port import FloatArray, ImageSource

if TYPE_CHECKING:
    from core_encoder.encoder import JinaClipEncoder

__all__ = ["LocalEmbedder"]

_SPECIAL_TOKENS = 4  # at the start and the end of a text, with room for a mark of a word's beginning


class LocalEmbedder:
    """Embeds texts and images with a jina-clip model in this process; thread-safe."""

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        device: str | None = None,
        runtime: RuntimeChoice | None = None,
        local_files_only: bool = False,
        encoder: "JinaClipEncoder | None" = None,
        on_note: Callable[[Any, str, str], None] | None = None,
    ) -> None:
        """Load the model of `config`, or use a loaded encoder.

        Args:
            config: which model makes the vectors, and with which options.
            device: "cpu", "cuda", ...; `None` uses CUDA if it is available.
            runtime: "onnx", "torch" or "auto": which library runs the model; `None` is "auto", torch on CUDA and ONNX
                Runtime on a CPU where it is installed.
            local_files_only: use the local cache and never the network.
            encoder: a loaded encoder of the same model, to use instead of loading the model.
            on_note: called with (item, kind, text) for each item of which only a part counts, or which was mended: the
                text or image as it was passed, a word that is equal for all such items, and a phrase for people.

        Raises:
            MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
            ConfigError: `encoder` is of another model or revision, its files have changed since it was loaded, or the
                model does not have an option, or `resampling` is "fast" without its package.
            CheckpointError: the weights are absent or damaged.
        """
        check_resampling(config.resampling)
        if encoder is None:
            encoder = _load(config, device=device, runtime=runtime, local_files_only=local_files_only)
        elif device is not None or runtime is not None or local_files_only:
            raise ConfigError("`encoder` is already loaded: leave out `device`, `runtime` and `local_files_only`")
        else:
            _check_same_model(config, encoder)
        _check_options(config, encoder)
        self._config = config
        self._encoder = encoder
        self._on_note = on_note
        self._truncate_dim = None if config.dimensions == encoder.embedding_dim else config.dimensions

    def with_config(self, config: EmbeddingConfig) -> "LocalEmbedder":
        """Make an embedder with other options that shares the loaded model.

        Args:
            config: a configuration of the same model with other options.

        Raises:
            ConfigError: `config` has another model, revision or precision, or an option that the model does not have.
        """
        own = self._config
        revisions = [default_revision(each.model) if each.revision is None else each.revision for each in (config, own)]
        precision = own.precision if config.precision != self._encoder.precision else config.precision
        for name, asked, loaded in (
            ("model", config.model, own.model),
            ("revision", *revisions),
            ("precision", config.precision, precision),
        ):
            if asked != loaded:
                raise ConfigError(f"`{name}` is {asked!r}, but {loaded!r} is loaded: make another `LocalEmbedder`")
        return LocalEmbedder(config, encoder=self._encoder, on_note=self._on_note)

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return self._config

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""
        return self._encoder.embedding_dim if self._truncate_dim is None else self._truncate_dim

    @property
    def device(self) -> str:
        """Where the model runs: "cpu", "cuda", ..."""
        return self._encoder.device

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        vectors = self._encode_text(texts, task=None)
        self._tell_cut_texts(texts)
        return vectors

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query, with the model's query prefix: (E,)."""
        return np.asarray(self.embed_queries([text])[0])

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several queries, with the model's query prefix: (B, E)."""
        return self._encode_text(texts, task=self._encoder.query_task)

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed whole images: (B, E).

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the (E,) rows of the readable images.
        """
        failed: dict[int, ImageDecodeError] = {}
        with _input_errors(), self._telling(images) as notes:
            rows = self._encoder.encode_image(images, failed=failed, notes=notes, **self._image_options())
        _raise_failed(failed, rows)
        return rows

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles.

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the `TileEmbeddings` of the readable images.
            EmbedInputError: the configuration has no tiling.
        """
        tiling = self._config.tiling
        if tiling is None:
            raise EmbedInputError("`embed_image_tiles` needs a configuration with `tiling`")
        failed: dict[int, ImageDecodeError] = {}
        with _input_errors(), self._telling(images) as notes:
            embedded = self._encoder.encode_image_tiles(
                images, tiling=tiling, failed=failed, notes=notes, **self._image_options()
            )
        _raise_failed(failed, embedded)
        return embedded

    def stream_images(
        self, images: Iterable[ImageSource], *, at_once: int
    ) -> Generator[FloatArray | TileEmbeddings | EmbedInputError, None, None]:
        """Embed any number of images, in tiles if the configuration has them; the next ones are read meanwhile.

        Args:
            images: each is asked for when its reading begins.
            at_once: the most images that the model sees together.

        Yields:
            For each image, in order: its row (E,); or its `TileEmbeddings`; or why it cannot be read.

        Raises:
            EmbedInputError: `images` is one image.
            ConfigError: `at_once` is below 1.
        """
        notes: dict[int, list[ImageNote]] = {}
        asked: deque[ImageSource] = deque()
        options = {**self._image_options(), "tiling": self._config.tiling, "at_once": at_once, "notes": notes}
        with _input_errors():
            remembered = _remembered(as_iterator(images, "images"), asked)
        with _input_errors(), closing(self._encoder.stream_images(remembered, **options)) as results:
            for position, result in enumerate(results):
                image = asked.popleft()
                for note in notes.pop(position, ()):
                    if self._on_note is not None:
                        self._on_note(image, note.kind, note.text)
                yield _unreadable(result, position) if isinstance(result, ImageDecodeError) else result

    def _encode_text(self, texts: Sequence[str], *, task: str | None) -> FloatArray:
        with _input_errors():
            return self._encoder.encode_text(
                texts,
                task=task,
                truncate_dim=self._truncate_dim,
                normalize=self._config.normalize,
                max_tokens=self._config.max_tokens,
            )

    def _tell_cut_texts(self, texts: Sequence[str]) -> None:
        if self._on_note is None:
            return
        limit = self._encoder.max_tokens if self._config.max_tokens is None else self._config.max_tokens
        long = [text for text in texts if len(text.encode()) + _SPECIAL_TOKENS > limit]  # a token has a byte or more
        for text, count in zip(long, self._encoder.count_tokens(long), strict=True):
            if count > limit:
                self._on_note(text, "text_cut", f"longer than {limit} tokens, of which only the beginning counts")

    @contextmanager
    def _telling(self, images: Sequence[ImageSource]) -> Iterator[dict[int, list[ImageNote]] | None]:
        """Give a dict for the notes of a call, if somebody listens, and pass them on in the order of the images."""
        if self._on_note is None:
            yield None
            return
        notes: dict[int, list[ImageNote]] = {}
        yield notes
        for position, found in sorted(notes.items()):
            for note in found:
                self._on_note(images[position], note.kind, note.text)

    def _image_options(self) -> dict[str, Any]:
        return {
            "truncate_dim": self._truncate_dim,
            "normalize": self._config.normalize,
            "resize_mode": self._config.resize_mode,
            "rendering": self._config.rendering,
            "resampling": self._config.resampling,
            "limits": self._config.image_limits,
        }


def _load(
    config: EmbeddingConfig, *, device: str | None, runtime: RuntimeChoice | None, local_files_only: bool
) -> "JinaClipEncoder":
    try:
        from core_encoder.encoder import JinaClipEncoder  # imported here: it needs packages of an extra

        return JinaClipEncoder.load(
            config.model,
            revision=config.revision,
            device=device,
            precision=config.precision,
            runtime="auto" if runtime is None else runtime,
            local_files_only=local_files_only,
        )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local" if error.name == "torch" else "onnx") from error


def _check_same_model(config: EmbeddingConfig, encoder: "JinaClipEncoder") -> None:
    """Refuse an encoder of another model than the configuration's, whose fingerprint would not tell the truth."""
    folder, origin = None if config.model == "nano" else find_folder(config.model), encoder.origin
    if origin is not None and folder is not None and folder.resolve() == origin.folder:
        if not origin.is_unchanged():
            raise ConfigError(f"the files in {config.model!r} have changed since `encoder` was loaded: load it again")
        return
    if encoder.name != config.model:
        raise ConfigError(f"`encoder` is {encoder.name!r}, but `config.model` is {config.model!r}: use one of them")
    wanted = default_revision(config.model) if config.revision is None else config.revision
    if origin is not None and None not in (origin.revision, wanted) and origin.revision != wanted:
        raise ConfigError(
            f"`encoder` was loaded from the revision {origin.revision!r} of {config.model!r}, and the configuration "
            f"has {wanted!r}: write `revision={origin.revision!r}`, or load the other revision"
        )


def _check_options(config: EmbeddingConfig, encoder: "JinaClipEncoder") -> None:
    """Check the options against the model now, before a store is made with them."""
    if config.dimensions is not None and config.dimensions > encoder.embedding_dim:
        raise ConfigError(f"`dimensions` is {config.dimensions}, but {config.model!r} has only {encoder.embedding_dim}")
    if config.precision not in ("auto", encoder.precision):
        raise ConfigError(f"`precision` is {config.precision!r}, but the `encoder` was loaded in {encoder.precision!r}")
    if encoder.precision in ("int8", "fp16") and config.fingerprint()["precision"] != encoder.precision:
        raise ConfigError(
            f"the `encoder` was loaded in {encoder.precision!r}, which moves vectors: write "
            f"`precision={encoder.precision!r}` in the configuration too"
        )
    encoder.encode_text([], max_tokens=config.max_tokens)


def _raise_failed(failed: Mapping[int, ImageDecodeError], readable: Sequence[Any] | FloatArray) -> None:
    """Raise a `PartialFailureError` if some images could not be read."""
    if failed:
        positions = [position for position in range(len(failed) + len(readable)) if position not in failed]
        raise PartialFailureError(
            "images",
            failed={at: _unreadable(error, at) for at, error in failed.items()},
            kept=dict(zip(positions, readable, strict=True)),
        )


def _unreadable(error: ImageDecodeError, position: int) -> EmbedInputError:
    return EmbedInputError("the image" + image_problem(error).removeprefix(f"item {position}"))


def _remembered(images: Iterable[ImageSource], asked: deque[ImageSource]) -> Iterator[ImageSource]:
    for image in images:
        asked.append(image)
        yield image


@contextmanager
def _input_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise EmbedInputError(str(error)) from error
