"""The errors that this package raises; catch `JinaClipError` for all of them."""

from collections.abc import Sequence


class JinaClipError(Exception):
    """Base of every error of `core_encoder`."""


class ConfigError(JinaClipError, ValueError):
    """An option, or a field of a checkpoint's configuration, has a value that is not supported."""


class CheckpointError(JinaClipError):
    """A checkpoint is absent, incomplete or does not match its configuration."""


class MissingWeightsError(CheckpointError):
    """The tensors in the file are not the ones that the configuration asks for.

    Attributes:
        missing: names that the model needs and the file lacks.
        unexpected: names that the file has and the model does not know.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), unexpected: Sequence[str] = ()) -> None:
        """Keep the two lists beside the message."""
        super().__init__(message)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)


class WeightShapeError(CheckpointError):
    """A tensor in the file has another shape than the configuration asks for."""


class InputError(JinaClipError, ValueError):
    """An input cannot be encoded; the message names its position."""


class ImageDecodeError(InputError):
    """An image is unreadable, truncated, too large or not an image at all."""


class ImageLimitError(ImageDecodeError):
    """An image is over a limit; whoever calls may raise the limit.

    Attributes:
        found: what is over which limit, without a remedy.
        limit: the limit's name in `ImageLimits`.
    """

    def __init__(self, found: str, *, limit: str) -> None:
        """Add the remedy of a caller of the encoder."""
        super().__init__(f"{found}; scale it down first, or raise the limit: `limits=ImageLimits({limit}=...)`")
        self.found = found
        self.limit = limit


class TextTooLongError(InputError):
    """A text has more tokens than allowed, and the call does not allow truncation."""


class EmbeddingDimError(JinaClipError, ValueError):
    """A number of dimensions that the model does not offer."""
