"""Our models in clip-benchmark, for users of its own commands: importing this module registers the model type "jclip".

    python -m jclip_connectors.evaluation.clip_benchmark_model eval \
        --model_type jclip --model jinaai/jina-clip-v2 --pretrained full --dataset cifar10 --dataset_root cifar10

`--model` is a hub id, a folder or "nano"; `--pretrained` is "full", or the number of values that are kept.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from clip_benchmark.metrics import zeroshot_classification
from clip_benchmark.models import MODEL_TYPES, TYPE2FUNC
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core_encoder import JinaClipEncoder
from core_encoder.errors import JinaClipError
from core_encoder.image_input import load_image
from core_encoder.image_preprocess import squares
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.evaluation.encoder_loading import load_encoder
from jclip_connectors.evaluation.job import ModelChoice

MODEL_TYPE = "jclip"
_FULL = "full"


class Texts(list[str]):
    """Texts as the harness handles tokens: it moves them to a device, which texts have no use for."""

    def to(self, _device: object) -> Self:
        """Return the texts."""
        return self


class HarnessModel:
    """An encoder as clip-benchmark calls a model: a picture is a square of pixels, and a text is itself."""

    def __init__(self, encoder: JinaClipEncoder, dimensions: int | None) -> None:
        """Encode with `encoder`; vectors have `dimensions` values, or all of them.

        Raises:
            EmbeddingDimError: `dimensions` is not in 1..E.
        """
        self._encoder = encoder
        self._dimensions = dimensions
        encoder.encode_text([], truncate_dim=dimensions)  # a length that the model does not have is refused now

    def eval(self) -> Self:
        """Return the model: it has no other mode."""
        return self

    def square(self, picture: Image.Image) -> Tensor:
        """Resize a picture: (S, S, 3) uint8. The harness stacks them."""
        return torch.from_numpy(squares([load_image(picture, index=0)], self._encoder.preprocessing)[0])

    def encode_image(self, pictures: Tensor) -> Tensor:
        """Encode squares, (B, S, S, 3) uint8.

        Returns:
            (B, E) float32, rows of unit L2 norm.

        Raises:
            EmbedInputError: the harness computes in mixed precision.
        """
        _check_precision(pictures.device.type)
        rows = self._encoder.encode_image(list(pictures.cpu().numpy()), truncate_dim=self._dimensions)
        return torch.from_numpy(rows).to(pictures.device)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, as captions: without the prefix of search queries.

        Returns:
            (B, E) float32, rows of unit L2 norm.

        Raises:
            EmbedInputError: the harness computes in mixed precision.
        """
        device = torch.device(self._encoder.device)
        _check_precision(device.type)
        return torch.from_numpy(self._encoder.encode_text(list(texts), truncate_dim=self._dimensions)).to(device)


def load(model_name: str, pretrained: str, cache_dir: str | None, device: str) -> tuple[HarnessModel, Any, type[Texts]]:
    """Load a model for the harness; what it gives the pictures and texts is what `JinaClipEncoder` gives them.

    Args:
        model_name: `--model`: a hub id, a folder, or "nano".
        pretrained: `--pretrained`: "full", or the number of values that are kept.
        cache_dir: `--model_cache_dir`, which must not be given.
        device: "cpu" or "cuda".

    Returns:
        The model, what makes its input of one picture, and what makes its input of texts.

    Raises:
        EmbedInputError: `pretrained` is something else, or `cache_dir` is given.
        JinaClipError: the model cannot be loaded, or does not have this length.
    """
    if cache_dir is not None:
        raise EmbedInputError(f"`--model_cache_dir` is {cache_dir!r}: set the environment variable HF_HOME instead")
    if pretrained != _FULL and not pretrained.isdecimal():
        raise EmbedInputError(f"`--pretrained` is {pretrained!r}: write {_FULL!r}, or how many values are kept")
    encoder = load_encoder(ModelChoice(source=model_name, device=device))
    model = HarnessModel(encoder, None if pretrained == _FULL else int(pretrained))
    return model, model.square, Texts


def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Compute top-k accuracies, as the harness' function of this name, which fails with numpy 2.4 and later.

    Args:
        output: (N, C) scores of the classes.
        target: (N,) the right class of each picture.
        topk: values of k; more than C are as good as C.

    Returns:
        A share in 0..1 for each k.
    """
    return [float(among_first(output, target, k).mean()) for k in topk]


def among_first(output: Tensor, target: Tensor, k: int) -> NDArray[np.float64]:
    """Tell for each picture, by 1 or 0, whether the right class is among the `k` with the largest scores: (N,)."""
    best = output.topk(min(k, output.shape[1]), dim=1).indices  # (N, k)
    found: NDArray[np.float64] = (best == target[:, None]).any(dim=1).numpy().astype(np.float64)
    return found


def register() -> None:
    """Add the model type to the harness, and mend its accuracy; a second call changes nothing."""
    TYPE2FUNC[MODEL_TYPE] = load
    if MODEL_TYPE not in MODEL_TYPES:
        MODEL_TYPES.append(MODEL_TYPE)
    zeroshot_classification.accuracy = accuracy


def harness_arguments(arguments: Sequence[str]) -> list[str]:
    """Add what our models need to the arguments of the harness' command.

    `--no_amp`, as mixed precision moves vectors; and `--num_workers 0`, as a worker is a copy of this process, in
    which the model's threads do not run. Other model types, and other commands than `eval`, are left as they are.

    Raises:
        EmbedInputError: another number of workers is asked for.
    """
    given = list(arguments)
    if given[:1] != ["eval"] or MODEL_TYPE not in _values(given, "--model_type"):
        return given
    workers = _values(given, "--num_workers")
    if any(number != "0" for number in workers):
        raise EmbedInputError(
            f"`--num_workers` is {workers[-1]}: only 0 is possible, as a worker is a copy of the process, in which the "
            "model's threads do not run"
        )
    return [
        *given,
        *(() if "--no_amp" in given else ("--no_amp",)),
        *(() if workers else ("--num_workers", "0")),
    ]


def main() -> int:
    """Run the harness' command with our models; returns the exit code."""
    from clip_benchmark import cli

    try:
        sys.argv[1:] = harness_arguments(sys.argv[1:])
        cli.main()
    except (ConnectorError, JinaClipError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _values(arguments: Sequence[str], option: str) -> list[str]:
    """Return the values that an option is given, as `--option value` or `--option=value`."""
    behind = [value for name, value in pairwise(arguments) if name == option]
    return behind + [name.partition("=")[2] for name in arguments if name.startswith(f"{option}=")]


def _check_precision(device: str) -> None:
    if torch.is_autocast_enabled(device):
        raise EmbedInputError("mixed precision moves the vectors: run the harness with `--no_amp`")


register()

if __name__ == "__main__":
    sys.exit(main())
