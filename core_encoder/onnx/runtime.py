"""The runtime on ONNX Runtime: each tower is a session, which is opened when it is first used."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from core_encoder.config import ModelConfig
from core_encoder.errors import CheckpointError, ConfigError
from core_encoder.exported import TOWERS, OnnxPrecision
from core_encoder.forks import ForkSafeLock, abandon_after_fork, check_process, is_forked, model_was_loaded
from core_encoder.image_preprocess import PreprocessConfig, pixel_values
from core_encoder.onnx.rectangle import split_long, text_inputs
from core_encoder.tokenization import PackedTexts

_CPU = "CPUExecutionProvider"
_TOKENS_PER_BATCH = {"cpu": 2048, "gpu": 16384}
_DAMAGED = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)


class OnnxRuntime:
    """Both towers of a converted model; several threads may call it."""

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        preprocessing: PreprocessConfig,
        *,
        precision: OnnxPrecision,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Use the graphs in a folder; a tower is loaded when it is first used.

        Args:
            folder: with the graphs, from `conversion.converted` or `conversion.export`.
            config: the sizes of the model.
            preprocessing: of the same checkpoint; its mean and standard deviation normalise the pictures.
            precision: of the graphs.
            providers: execution providers of ONNX Runtime, in order of preference; the CPU if `None`.
            threads: for one call; if `None` the number in `OMP_NUM_THREADS`, else one for each core.

        Raises:
            ConfigError: `threads` is not a positive number, or a provider is not installed.
        """
        given: object = threads  # the caller may pass any type
        if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
            raise ConfigError(f"`threads` is {threads!r}: an int of at least 1 is needed, or None")
        self._folder = folder
        self._config = config
        self._preprocessing = preprocessing
        self._precision = precision
        self._providers = _check_providers(providers)
        self._threads = threads if threads is not None else _usual_threads()
        self._process = os.getpid()
        self._lock = ForkSafeLock()
        self._sessions: dict[str, tuple[onnxruntime.InferenceSession, bool]] = {}  # by tower; is it the last one?
        model_was_loaded()
        abandon_after_fork(self)

    def abandon(self) -> None:
        """Leave the sessions of the process that this one was forked from: to free them would wait for its threads."""
        for session, _ in self._sessions.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session._sess))
        self._sessions = {}

    @property
    def name(self) -> Literal["onnx"]:
        """Which library computes."""
        return "onnx"

    @property
    def config(self) -> ModelConfig:
        """The sizes of the model."""
        return self._config

    @property
    def device(self) -> str:
        """Where the towers compute: "cpu", or the preferred execution provider in lower case, such as "cuda"."""
        return self._providers[0].removesuffix("ExecutionProvider").lower()

    @property
    def precision(self) -> OnnxPrecision:
        """The number format of the matrices."""
        return self._precision

    @property
    def attention(self) -> str:
        """How the text tower computes attention: by ONNX Runtime's fused operator."""
        return "fused"

    @property
    def tokens_per_batch(self) -> int:
        """The most tokens, or patches, that are computed together."""
        return _TOKENS_PER_BATCH["cpu" if self.device == "cpu" else "gpu"]

    def check_process(self) -> None:
        """Raise a `ConfigError` if the model is on a GPU and this process was forked after it was loaded."""
        check_process(self._process, self.device)

    def text_features(self, batch: PackedTexts) -> NDArray[np.float32]:
        """Run the text tower on B texts: (B, E) raw features, not normalised."""
        features = np.empty((len(batch.lengths), self._config.embedding_dim), np.float32)
        whole_blocks = self._config.text.position == "alibi"
        for texts, part in split_long(batch):
            features[texts] = self._session("text").run(None, text_inputs(part, whole_blocks=whole_blocks))[0]
        return features

    def image_features(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the image tower on (B, S, S, 3) pictures in RGB: (B, E) raw features, not normalised."""
        return self.pixel_features(pixel_values(squares, self._preprocessing))

    def pixel_features(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the image tower on (B, 3, S, S) normalised pixels: (B, E) raw features."""
        return np.asarray(self._session("image").run(None, {"pixel_values": pixel_values})[0])

    def _session(self, tower: str) -> onnxruntime.InferenceSession:
        """The session for one call.

        On a CPU the first call in int8 leaves the weights in their mapped file: a program with one question has its
        answer before they would be copied. The second call has them copied into the order in which the processor takes
        them, which doubles the speed of short texts. Sums of integers are the same in any order: no vector moves.
        """
        with self._lock:
            session, is_last = self._sessions.get(tower, (None, False))
            if session is None or not is_last:
                is_last = session is not None or self._precision != "int8" or self._providers != (_CPU,)
                session = self._open(self._folder / TOWERS[tower], copied=is_last)
                self._sessions[tower] = (session, is_last)
            return session

    def _open(self, path: Path, *, copied: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if is_forked() else self._threads
        if not copied:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if self._providers == (_CPU,):  # the graph has the fused operators already, and loads in half of the time
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # errors; warnings tell which nodes a provider leaves to the CPU
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=list(self._providers))
        except _DAMAGED as error:
            raise CheckpointError(
                f"{str(path)!r} cannot be loaded; remove its folder and convert or export the model again: {error}"
            ) from error
        if (used := session.get_providers()[0]) != self._providers[0]:
            raise ConfigError(
                f"`providers` begins with {self._providers[0]!r}, which cannot be used on this machine: ONNX Runtime "
                f"took {used!r}; its libraries may be missing"
            )
        return session


def _usual_threads() -> int:
    """The number that `OMP_NUM_THREADS` asks for; 0 lets ONNX Runtime choose."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else 0


def _check_providers(providers: Sequence[str] | None) -> tuple[str, ...]:
    if providers is None:
        return (_CPU,)
    known = onnxruntime.get_available_providers()
    if isinstance(providers, str) or not providers:
        raise ConfigError(f"`providers` is {providers!r}: write a list of names, such as {known!r}")
    if absent := [name for name in providers if name not in known]:
        raise ConfigError(f"`providers` has {absent!r}, which this ONNX Runtime does not have: it has {known!r}")
    return tuple(providers)
