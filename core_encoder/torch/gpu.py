"""How both towers compute on a GPU: bytes are uploaded, short queries are recorded, long jobs are compiled."""

import logging
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from core_encoder.forks import ForkSafeLock
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.tokenization import PackedTexts
from core_encoder.torch.attention import AlibiBias, Packing
from core_encoder.torch.folded_vision import FoldedVision
from core_encoder.torch.long_jobs import BEFORE_COMPILING, Compiler, LongJobs
from core_encoder.torch.model import JinaClip
from core_encoder.torch.recorded import Record, Recorded, pinned, record_graph
from core_encoder.torch.text_tower import EAGER, LayerSteps, TextTower
from core_encoder.torch.vision_tower import VisionBlock

_LOG = logging.getLogger(__package__)

# Tokens of a recorded text. To read v2's weights takes as long as to multiply them with some hundred tokens, so a text
# of 5 tokens takes no longer in a place for 16.
QUERY_LENGTHS = (16, 32, 64, 128)


class GpuTowers:
    """Both towers of a model on a GPU; threads may share it.

    At most one computation is recorded for each of `QUERY_LENGTHS`, and one for a single picture. They and the derived
    weights are made when they are first needed, and dropped when the model has been moved.
    """

    def __init__(
        self,
        model: JinaClip,
        preprocessing: PreprocessConfig,
        *,
        tokens_per_batch: int,
        record: Record = record_graph,
        backend: Compiler = "inductor",
        before_compiling: int = BEFORE_COMPILING,
    ) -> None:
        """Make nothing yet.

        Args:
            model: both towers, on their device and in their precision.
            preprocessing: of the same checkpoint.
            tokens_per_batch: of a full batch; half of it is a large one.
            record: how a short query is recorded.
            backend: of `torch.compile`.
            before_compiling: tokens in large batches that each tower computes before it is compiled.
        """
        self._model, self._preprocessing, self._record = model, preprocessing, record
        self._text_jobs, self._image_jobs = (
            LongJobs(functions, large_batch=tokens_per_batch // 2, backend=backend, before_compiling=before_compiling)
            for functions in (tuple(EAGER), (VisionBlock.forward,))
        )
        self._lock = ForkSafeLock()
        self._moves = model.moves
        self._folded: FoldedVision | None = None
        self._recorded: dict[int | None, Recorded] = {}  # by the length of a text; `None` for a picture
        self._may_record = True

    @torch.inference_mode()
    def text_features(self, batch: PackedTexts) -> NDArray[np.float32]:
        """Run the text tower on B texts: (B, E) raw features, not normalised."""
        model, device = self._model, self._model.place()
        if (length := _query_length(batch)) is not None:
            ids = np.full(length, model.config.text.pad_token_id, np.int64)
            ids[: len(batch.input_ids)] = batch.input_ids
            with self._lock:
                self._forget_if_moved()
                row = self._replay(length, ids, device, lambda: _padded_text(model.text, length, device))
            if row is not None:
                return row
        ids_there, positions = torch.from_numpy(batch.input_ids).to(device), torch.from_numpy(batch.positions)
        features = self._text_jobs.run(
            len(batch.input_ids), lambda steps: model.text(ids_there, batch.lengths, positions, LayerSteps(*steps))
        )
        return np.asarray(features.cpu().numpy())

    @torch.inference_mode()
    def image_features(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the image tower on (B, S, S, 3) pictures in RGB: (B, E) raw features, not normalised."""
        model, device = self._model, self._model.place()
        tokens = 1 + model.config.vision.grid**2  # of a picture
        with self._lock:
            self._forget_if_moved()
            if self._folded is None:
                self._folded = FoldedVision(model.vision, self._preprocessing)
            folded = self._folded
            row = self._replay(None, squares, device, lambda: folded.features) if len(squares) == 1 else None
        if row is not None:
            return row
        pictures = pinned(squares, device).to(device, non_blocking=True)
        features = self._image_jobs.run(len(squares) * tokens, lambda run: folded.features(pictures, *run))
        return np.asarray(features.cpu().numpy())

    def _replay(
        self,
        key: int | None,
        values: NDArray[np.generic],
        device: torch.device,
        make: Callable[[], Callable[[Tensor], Tensor]],
    ) -> NDArray[np.float32] | None:
        """Compute by what is recorded for this key; `None` where nothing can be recorded. Needs the lock."""
        if not self._may_record:
            return None
        if key not in self._recorded:
            try:
                self._recorded[key] = Recorded(make(), values, device, self._record)
            except RuntimeError as error:
                self._may_record = False
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                _LOG.warning("a CUDA graph cannot be recorded, short queries are computed without: %s", reason)
                return None
        return self._recorded[key](values)

    def _forget_if_moved(self) -> None:
        """Drop what was made from weights that are no longer where they were."""
        if self._moves != self._model.moves:
            self._recorded.clear()
            self._folded, self._moves = None, self._model.moves


def _query_length(batch: PackedTexts) -> int | None:
    """The recorded length that this batch fits in; `None` for several texts, a long one, or one with a gap."""
    count = len(batch.input_ids)
    if len(batch.lengths) != 1 or int(batch.positions[-1]) != count - 1:
        return None
    return next((length for length in QUERY_LENGTHS if count <= length), None)


def _padded_text(tower: TextTower, length: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Give the function from (length,) token ids, pad tokens last, to the (1, D) raw features of the text.

    Everything that does not depend on the ids is computed here, since nothing may be uploaded in a recording.
    """
    config = tower.config
    packing = Packing.of([length], None, device)
    rotary: tuple[Tensor, ...] = ()
    bias = torch.zeros(1, 1, length, length, dtype=tower.word_embedding.dtype, device=device)
    if config.rotary_base is None:
        bias = AlibiBias(packing, config.num_heads, bias.dtype).of(slice(0, length), 1, slice(0, length))
    else:
        rotary = tower.rotary(packing.device_positions, length)

    def compute(ids: Tensor) -> Tensor:
        kept = ids != config.pad_token_id  # (L,)
        mask = bias.masked_fill(~kept, float("-inf"))  # (1, H or 1, L, L)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, L, d)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1).flatten(1)

        hidden = tower.run_layers(ids, rotary, attend).float()  # (L, D)
        return (hidden * kept[:, None]).sum(0, keepdim=True) / kept.sum()

    return compute
