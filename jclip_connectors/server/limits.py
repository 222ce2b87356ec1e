"""Limits on requests and on the work that waits."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from core_encoder.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Limits on one request, and on the work that waits.

    Attributes:
        max_body_bytes: of one request.
        max_buffered_bytes: of all the requests that are being read or prepared.
        max_items: of one request.
        max_text_chars: of one text; tokenizing more takes long, even if the text is then truncated.
        max_request_chars: of all texts of one request.
        max_image_bytes: of one encoded image.
        max_image_urls: of one request; each one causes a request to another server.
        max_pixels: of one image; each decoding thread holds one image at a time, at 4 bytes per pixel.
        max_decode_s: of processor time for decoding one image.
        max_fetch_s: for fetching one image, if image URLs are allowed.
        max_waiting_requests: that wait for the model or are being computed; at this limit, new requests are refused.
        max_waiting_tokens: of work that waits for the model, likewise.
        max_wait_s: estimated from the model's measured speed, for the work in front of a new request, likewise.
        body_timeout_s: for a whole body to arrive.

    Raises:
        ConfigError: a limit is not a positive integer.
    """

    max_body_bytes: int = 64 * 2**20
    max_buffered_bytes: int = 512 * 2**20
    max_items: int = 2048
    max_text_chars: int = 2**18
    max_request_chars: int = 2**22
    max_image_bytes: int = 8 * 2**20
    max_image_urls: int = 256
    max_pixels: int = 2**26
    max_decode_s: int = 20
    max_fetch_s: int = 10
    max_waiting_requests: int = 512
    max_waiting_tokens: int = 2**18
    max_wait_s: int = 30
    body_timeout_s: int = 60

    def __post_init__(self) -> None:
        """Refuse a value that would switch a limit off by accident."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"`{field.name}` must be an integer from 1 up, not {value!r}")


def read_limits(settings: Iterable[str]) -> ServerLimits:
    """Read limits from texts such as "max_items=64"; the others keep their defaults.

    Raises:
        ConfigError: a name is not a limit, a limit is set twice, or a value is not a positive integer.
    """
    known, limits = [field.name for field in fields(ServerLimits)], dict[str, int]()
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise ConfigError(f"{setting!r} sets no limit: give NAME=VALUE, where NAME is one of {', '.join(known)}")
        if name in limits:
            raise ConfigError(f"`{name}` is set twice: set it once")
        if not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise ConfigError(f"`{name}` must be an integer from 1 up, not {value!r}")
        limits[name] = int(value)
    return ServerLimits(**limits)
