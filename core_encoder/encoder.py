"""JinaClipEncoder: the whole path from a text or an image to its vector."""

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.checkpoint import find_checkpoint
from core_encoder.config import MAX_TOKENS, read_config, read_json
from core_encoder.errors import ConfigError, ImageDecodeError, TextTooLongError
from core_encoder.features import Progress, image_features, text_features, to_vectors
from core_encoder.image_input import ImageInput, LoadedImage, image_reader
from core_encoder.image_limits import ImageLimits
from core_encoder.image_notes import CENTRE_ONLY, ImageNote
from core_encoder.image_preprocess import (
    PreprocessConfig,
    Resampling,
    ResizeMode,
    check_resampling,
    check_resize_mode,
    is_mostly_cropped,
    squares,
)
from core_encoder.item_list import as_iterator, as_list
from core_encoder.matryoshka import check_dim
from core_encoder.models import AttentionChoice, Precision, RuntimeChoice, known_model
from core_encoder.origin import Origin
from core_encoder.rendering import Rendering
from core_encoder.runtime import Runtime
from core_encoder.runtimes import load_runtime
from core_encoder.tiling import TileEmbeddings, Tiling, check_tiling, cut_tiles
from core_encoder.tokenization import TextTokenizer, TokenizedText, task_prefix

QUERY_TASK = "retrieval.query"
_WINDOW_TEXTS = 4096  # tokenized and sorted by length together: limits memory and the time to the first batch


class JinaClipEncoder:
    """Encode texts and images as vectors in one shared space; create an encoder with `load`.

    A call changes no state, so several threads may share an encoder. The parts `runtime`, `tokenizer` and
    `preprocessing` are public for hosts that move the model or prepare its inputs.
    """

    def __init__(
        self, runtime: Runtime, tokenizer: TextTokenizer, preprocessing: PreprocessConfig, *, name: str
    ) -> None:
        """Build an encoder from its parts; usually call `load` instead.

        Args:
            runtime: both towers, on their device and in their precision.
            tokenizer: from the same checkpoint.
            preprocessing: from the same checkpoint.
            name: the hub id, folder or name that it was loaded from.

        Raises:
            ConfigError: preprocessing makes images of another size than the model takes.
        """
        if preprocessing.size != runtime.config.vision.image_size:
            raise ConfigError(
                f"preprocessor_config.json makes images of {preprocessing.size} px, the model takes "
                f"{runtime.config.vision.image_size} px"
            )
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.name = name
        self.origin: Origin | None = None  # the files that `load` has read, with their commit

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        attention: AttentionChoice = "auto",
        runtime: RuntimeChoice = "auto",
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        local_files_only: bool = False,
    ) -> "JinaClipEncoder":
        """Load a checkpoint from the hub, from a folder, or the small one that comes with this package.

        No code is executed from the checkpoint and no pickle is read.

        Args:
            source: "jinaai/jina-clip-v2", "jinaai/jina-clip-v1", another hub id, a folder with a checkpoint or with
                what `jclip export onnx` wrote, or "nano".
            revision: commit, branch or tag on the hub; the two known models are pinned if `None`.
            device: "cpu", "cuda", "cuda:1", ...; `None` is CUDA if available, else the CPU.
            precision: "fp32", "bf16" (torch), "fp16" or "int8" (ONNX Runtime); "auto" is bf16 on CUDA with torch, what
                was exported for an exported folder, and else fp32.
            attention: "sdpa", "varlen" or "xformers" for torch's text tower; "auto" takes the fastest that works here.
            runtime: "onnx" (extra "onnx") or "torch" (extra "local"); "auto" is torch on CUDA, and ONNX Runtime on a
                CPU where it is installed.
            providers: of ONNX Runtime, in order of preference, such as "CUDAExecutionProvider"; the CPU if `None`.
            threads: that ONNX Runtime uses for one call; its own choice if `None`. torch has one number of threads for
                the process, `torch.set_num_threads`.
            local_files_only: use the local cache and never the network.

        Raises:
            CheckpointError: files are absent or damaged; `MissingWeightsError` and `WeightShapeError` name tensors.
            ConfigError: an option or a field of config.json is not supported, or options exclude each other.
            ImportError: the runtime is not installed; the message names the extra.
        """
        folder = find_checkpoint(source, revision=revision, local_files_only=local_files_only)
        origin = Origin.of(source, folder)
        config = read_config(folder)
        preprocessing = PreprocessConfig.from_json(read_json(folder / "preprocessor_config.json"))
        towers = load_runtime(
            folder,
            config,
            preprocessing,
            runtime=runtime,
            device=device,
            precision=precision,
            attention=attention,
            providers=providers,
            threads=threads,
        )
        tokenizer = TextTokenizer.load(folder, vocab_size=config.text.vocab_size)
        encoder = cls(towers, tokenizer, preprocessing, name=str(source))
        encoder.origin = origin
        return encoder

    @property
    def embedding_dim(self) -> int:
        """Length E of a full vector."""
        return self.runtime.config.embedding_dim

    @property
    def image_size(self) -> int:
        """Side of the square that the image tower sees, and of a tile, in pixels."""
        return self.preprocessing.size

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest text that is not truncated, special tokens included."""
        return MAX_TOKENS

    @property
    def matryoshka_dims(self) -> tuple[int, ...]:
        """Shortened vector lengths that the model was trained for; empty if there are none."""
        return self.runtime.config.matryoshka_dims

    @property
    def query_task(self) -> str | None:
        """The `task` for search queries, or `None` if the model has none."""
        return QUERY_TASK if QUERY_TASK in self.runtime.config.text.task_instructions else None

    @property
    def license(self) -> str | None:
        """SPDX identifier of the weights' licence, or `None` if the checkpoint is not a known one."""
        model = known_model(self.name)
        return None if model is None else model.license

    @property
    def device(self) -> str:
        """Where the model computes: "cpu", "cuda:0", ..."""
        return self.runtime.device

    @property
    def attention_backend(self) -> str:
        """How the text tower computes attention."""
        return self.runtime.attention

    @property
    def precision(self) -> str:
        """The towers' precision: "fp32", "bf16", "fp16" or "int8"."""
        return self.runtime.precision

    def __repr__(self) -> str:
        """Name, runtime, device, precision and attention backend."""
        return (
            f"JinaClipEncoder({self.name!r}, embedding_dim={self.embedding_dim}, runtime={self.runtime.name!r}, "
            f"device={self.device!r}, precision={self.precision!r}, attention={self.attention_backend!r})"
        )

    def encode_text(
        self,
        texts: Iterable[str],
        *,
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        max_tokens: int | None = None,
        overflow: Literal["truncate", "error"] = "truncate",
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: B strings, in any order of length.
            task: "retrieval.query" for search queries (v2); `None` for documents and captions.
            truncate_dim: keep this many values of each vector; all of them if `None`.
            normalize: scale every row to unit length, after truncation.
            max_tokens: cut longer texts to this length, special tokens and task prefix included; 8192 if `None`.
            overflow: "truncate" with one warning that counts the texts, or "error".
            progress: called with (done, total) after every batch.

        Returns:
            (B, E) float32, or (B, truncate_dim); the same text gives the same row in any batch.

        Raises:
            InputError: an item is not a str; its position is named. `TextTooLongError` with `overflow="error"`.
            ConfigError: an unknown task, or a `max_tokens` that the model does not allow.
            EmbeddingDimError: `truncate_dim` is not in 1..E.
        """
        items = as_list(texts, "texts")
        self._check_dim(truncate_dim)
        limit = self._check_max_tokens(max_tokens)
        prefix = task_prefix(task, self.runtime.config.text.task_instructions, name=self.name)
        if overflow not in {"truncate", "error"}:
            raise ConfigError(f"`overflow` is {overflow!r}: choose 'truncate' or 'error'")
        features = np.empty((len(items), self.embedding_dim), np.float32)
        done, too_long = 0, 0
        for start in range(0, len(items), _WINDOW_TEXTS):
            window = items[start : start + _WINDOW_TEXTS]
            tokenized = self.tokenizer.encode(window, max_tokens=limit, prefix=prefix, first_index=start)
            long = [i for i, text in enumerate(tokenized, start=start) if text.num_tokens > limit]
            if long and overflow == "error":
                raise TextTooLongError(
                    f"item {long[0]}: the text has {tokenized[long[0] - start].num_tokens} tokens, "
                    f"{limit} are allowed; shorten it or use `overflow='truncate'`"
                )
            too_long += len(long)
            for batch, rows in text_features(self.runtime, tokenized):
                features[[start + i for i in batch]] = rows
                done += len(batch)
                if progress is not None:
                    progress(done, len(items))
        if too_long:
            warnings.warn(
                f"{too_long} of {len(items)} texts were cut to {limit} tokens", category=UserWarning, stacklevel=2
            )
        return self._finish(features, truncate_dim, normalize=normalize)

    def encode_image(
        self,
        images: Iterable[ImageInput],
        *,
        truncate_dim: int | None = None,
        normalize: bool = True,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
        limits: ImageLimits | None = None,
        failed: dict[int, ImageDecodeError] | None = None,
        notes: dict[int, list[ImageNote]] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Encode images.

        Args:
            images: B paths, bytes, data URIs, base64 strings, PIL images or uint8 arrays; never URLs.
            truncate_dim: keep this many values of each vector; all of them if `None`.
            normalize: scale every row to unit length, after truncation.
            resize_mode: "shortest" (centre crop), "longest" (padding) or "squash"; the checkpoint's own if `None`.
            rendering: "as_stored" is the published model's reading; "as_seen" is the picture in a viewer: upright,
                transparency on white, colours in sRGB.
            resampling: "exact" resizes to the published model's pixels; "fast" takes less time for large pictures, and
                moves vectors a little.
            limits: on the size and decoding time of an image; `ImageLimits()` if `None`.
            failed: gets the errors of unreadable images, by position; the result has no row for these images. `None`
                raises the first error.
            notes: gets what there is to say about images that were taken, by position.
            progress: called with (done, total) after every batch.

        Returns:
            (B, E) float32, or (B, truncate_dim).

        Raises:
            ImageDecodeError: an image is unreadable or too large; its position is named. Not with `failed`.
            EmbeddingDimError: `truncate_dim` is not in 1..E.
            ConfigError: an unknown `resize_mode`, `rendering` or `resampling`, or "fast" without its package.
        """
        items = as_list(images, "images")
        read = image_reader(items, rendering=rendering, limits=limits, notes=notes)
        self._check_dim(truncate_dim)
        check_resize_mode(resize_mode)
        check_resampling(resampling)

        found = image_features(
            self.runtime,
            range(len(items)),
            self._whole(read, resize_mode, resampling, notes),
            failed=failed,
            progress=None if progress is None else lambda done: progress(done, len(items)),
        )
        with closing(found):
            features = [np.empty((0, self.embedding_dim), np.float32), *(rows for _, rows in found)]
        return self._finish(np.concatenate(features), truncate_dim, normalize=normalize)

    def encode_image_tiles(
        self,
        images: Iterable[ImageInput],
        *,
        tiling: Tiling | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
        limits: ImageLimits | None = None,
        failed: dict[int, ImageDecodeError] | None = None,
        notes: dict[int, list[ImageNote]] | None = None,
        progress: Progress | None = None,
    ) -> list[TileEmbeddings]:
        """Encode each image as an overview and tiles, so that small things in large images are found.

        Args:
            images: as for `encode_image`.
            tiling: how many tiles at most; `Tiling()` if `None`.
            resize_mode: for the overview; tiles are square already.
            rendering: as for `encode_image`; boxes are in pixels of the rendering.
            resampling: as for `encode_image`.
            truncate_dim: as for `encode_image`, like the other options.
            normalize: the same.
            limits: the same.
            failed: the same.
            notes: the same.
            progress: called with (done, total) images after every batch.

        Returns:
            One `TileEmbeddings` per image, the overview first.

        Raises:
            ImageDecodeError, EmbeddingDimError, ConfigError: as for `encode_image`.
        """
        items = as_list(images, "images")
        read = image_reader(items, rendering=rendering, limits=limits, notes=notes)
        self._check_dim(truncate_dim)
        check_resize_mode(resize_mode)
        check_resampling(resampling)
        boxes: dict[int, NDArray[np.int64]] = {}
        found = image_features(
            self.runtime,
            range(len(items)),
            self._tiles(read, resize_mode, resampling, check_tiling(tiling), boxes),
            failed=failed,
            progress=None if progress is None else lambda done: progress(done, len(items)),
        )
        with closing(found):
            return [
                TileEmbeddings(self._finish(vectors, truncate_dim, normalize=normalize), boxes[index])
                for index, vectors in found
            ]

    def stream_images(
        self,
        images: Iterable[ImageInput],
        *,
        tiling: Tiling | None = None,
        at_once: int | None = None,
        truncate_dim: int | None = None,
        normalize: bool = True,
        resize_mode: ResizeMode | None = None,
        rendering: Rendering = "as_stored",
        resampling: Resampling = "exact",
        limits: ImageLimits | None = None,
        notes: dict[int, list[ImageNote]] | None = None,
    ) -> Generator[NDArray[np.float32] | TileEmbeddings | ImageDecodeError, None, None]:
        """Encode any number of images one after another; the next ones are read while the model computes.

        Args:
            images: as for `encode_image`; each is asked for when its reading begins, in the caller's thread. Close the
                result if not all of it is wanted.
            tiling: gives each image an overview and tiles; whole images if `None`.
            at_once: the most images in a batch of the model; any number if `None`.
            truncate_dim: as for `encode_image`, like the other options.
            normalize: the same.
            resize_mode: the same.
            rendering: the same.
            resampling: the same.
            limits: the same.
            notes: the same; they are there when the image is yielded.

        Yields:
            For each image, in order: its vector (E,) float32; or, with `tiling`, its `TileEmbeddings`; or the error
            that says why it cannot be read.

        Raises:
            InputError: `images` is one image.
            EmbeddingDimError, ConfigError: as for `encode_image`, or `at_once` is below 1.
        """
        source = as_iterator(images, "images")
        number: object = at_once  # the caller may pass any type
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
            raise ConfigError(f"`at_once` is {at_once!r}: None, or an int of at least 1 is needed")
        self._check_dim(truncate_dim)
        check_resize_mode(resize_mode)
        check_resampling(resampling)
        given: dict[int, ImageInput] = {}  # images on their way, by position

        def positions() -> Iterator[int]:
            for position, image in enumerate(source):
                given[position] = image
                yield position

        read = image_reader(given, rendering=rendering, limits=limits, notes=notes)
        boxes: dict[int, NDArray[np.int64]] = {}
        squares_of = (
            self._whole(read, resize_mode, resampling, notes)
            if tiling is None
            else self._tiles(read, resize_mode, resampling, check_tiling(tiling), boxes)
        )
        failed: dict[int, ImageDecodeError] = {}
        due = 0
        with closing(image_features(self.runtime, positions(), squares_of, failed=failed, at_once=at_once)) as found:
            for index, rows in found:
                for position in range(due, index):
                    del given[position]
                    yield failed.pop(position)
                due = index + 1
                del given[index]
                vectors = self._finish(rows, truncate_dim, normalize=normalize)
                yield vectors[0] if tiling is None else TileEmbeddings(vectors, boxes.pop(index))
        yield from (failed[position] for position in sorted(failed))

    def _whole(
        self,
        read: Callable[[int], LoadedImage],
        resize_mode: ResizeMode | None,
        resampling: Resampling,
        notes: dict[int, list[ImageNote]] | None,
    ) -> Callable[[int], NDArray[np.uint8]]:
        """The function that reads an image as one picture: (1, S, S, 3)."""

        def read_squares(index: int) -> NDArray[np.uint8]:
            loaded = read(index)
            if notes is not None and is_mostly_cropped(loaded.full_size, self.preprocessing, resize_mode):
                notes.setdefault(index, []).append(CENTRE_ONLY)
            return squares([loaded.picture], self.preprocessing, resize_mode, resampling=resampling)

        return read_squares

    def _tiles(
        self,
        read: Callable[[int], LoadedImage],
        resize_mode: ResizeMode | None,
        resampling: Resampling,
        tiling: Tiling,
        boxes: dict[int, NDArray[np.int64]],
    ) -> Callable[[int], NDArray[np.uint8]]:
        """The function that reads an image as an overview and tiles: (T, S, S, 3); their boxes are put into `boxes`."""

        def read_squares(index: int) -> NDArray[np.uint8]:
            loaded = read(index)
            tiles, cut = cut_tiles(loaded.picture, size=self.image_size, tiling=tiling)
            boxes[index] = loaded.full_boxes(cut)
            return squares(tiles, self.preprocessing, resize_mode, resampling=resampling)

        return read_squares

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text, special tokens included, before any truncation.

        Args:
            texts: B texts; an item that is not a str is an `InputError`.
        """
        return [text.num_tokens for text in self.tokenizer.encode(as_list(texts, "texts"), max_tokens=None)]

    def tokenize(
        self, texts: Iterable[str], *, task: str | None = None, max_tokens: int | None = None
    ) -> list[TokenizedText]:
        """Tokenize texts as `encode_text` does; `encode_tokens` can encode the results later.

        Args:
            texts: strings.
            task: as for `encode_text`.
            max_tokens: as for `encode_text`; each result has the number of tokens before the cut.

        Raises:
            InputError, ConfigError: as for `encode_text`.
        """
        limit = self._check_max_tokens(max_tokens)
        prefix = task_prefix(task, self.runtime.config.text.task_instructions, name=self.name)
        return self.tokenizer.encode(as_list(texts, "texts"), max_tokens=limit, prefix=prefix)

    def encode_tokens(
        self, texts: Sequence[TokenizedText], *, truncate_dim: int | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Encode the results of `tokenize`; one call may mix queries and documents.

        Args:
            texts: B tokenized texts.
            truncate_dim: as for `encode_text`.
            normalize: as for `encode_text`.

        Returns:
            (B, E) float32, or (B, truncate_dim); the same rows as from `encode_text`.

        Raises:
            EmbeddingDimError: `truncate_dim` is not in 1..E.
        """
        self._check_dim(truncate_dim)
        features = np.empty((len(texts), self.embedding_dim), np.float32)
        for batch, rows in text_features(self.runtime, texts):
            features[batch] = rows
        return self._finish(features, truncate_dim, normalize=normalize)

    def _check_max_tokens(self, max_tokens: int | None) -> int:
        if max_tokens is None:
            return self.max_tokens
        given: object = max_tokens  # the caller may pass any type
        if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= self.max_tokens:
            raise ConfigError(f"`max_tokens` is {max_tokens!r}: an int in 1..{self.max_tokens} is needed")
        self.tokenizer.check_max_tokens(max_tokens)
        return max_tokens

    def _check_dim(self, truncate_dim: int | None) -> None:
        if truncate_dim is None:
            return
        check_dim(truncate_dim, self.embedding_dim)
        if not self.matryoshka_dims:
            warnings.warn(
                f"{self.name!r} was not trained for shortened vectors: `truncate_dim` {truncate_dim} loses more "
                "quality than with a model that was",
                category=UserWarning,
                stacklevel=3,
            )

    def _finish(
        self, features: NDArray[np.float32], truncate_dim: int | None, *, normalize: bool
    ) -> NDArray[np.float32]:
        return to_vectors(features, truncate_dim, normalize=normalize, precision=self.precision)
