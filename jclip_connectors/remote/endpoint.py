"""The code that both remote embedders share: all except sending and waiting."""

import os
from typing import Any, NoReturn

import httpx

from core_encoder.errors import ConfigError
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.port import FloatArray
from jclip_connectors.remote.errors import refusal
from jclip_connectors.remote.requests import Batch, Requests
from jclip_connectors.store_kit.keys import is_key
from jclip_connectors.store_kit.retry import retry_options
from jclip_connectors.store_kit.validation import check_count

HOSTED_URL = "https://api.jina.ai/v1"
_KEY_VARIABLE = "JINA_API_KEY"
_LONGEST_TOLD_WAIT_S = 60.0  # a longer `Retry-After` raises instead of waiting


class Endpoint:
    """One endpoint: its options, its requests, and the reading of its answers."""

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        base_url: str,
        api_key: str | None,
        timeout_s: float,
        max_concurrency: int,
        max_items: int,
        max_request_bytes: int,
        max_image_bytes: int,
        attempts: int,
        truncate: bool,
    ) -> None:
        """Check the options, which `RemoteEmbedder` explains.

        Raises:
            ConfigError: an option has a bad value, or cannot be sent to an endpoint.
        """
        check_count(max_concurrency, name="max_concurrency", error=ConfigError)
        check_count(attempts, name="attempts", error=ConfigError)
        if not 0 < timeout_s < float("inf"):
            raise ConfigError(f"`timeout_s` must be a positive number of seconds, not {timeout_s!r}")
        self._base_url = _check_url(base_url)
        self._config = config
        self._requests = Requests(
            config,
            max_items=max_items,
            max_request_bytes=max_request_bytes,
            max_image_bytes=max_image_bytes,
            truncate=truncate,
        )
        self._max_concurrency = max_concurrency
        self._retrying = retry_options(attempts, longest_told_wait_s=_LONGEST_TOLD_WAIT_S)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = _read_key(api_key, self._base_url)
        self._post: dict[str, Any] = {
            "url": f"{self._base_url}/embeddings",
            "headers": headers if key is None else headers | {"Authorization": f"Bearer {key}"},
            "timeout": float(timeout_s),
            "follow_redirects": False,  # the key is only for this endpoint
        }

    @property
    def config(self) -> EmbeddingConfig:
        """The options that determine the vectors, if the endpoint follows them; see the class."""
        return self._config

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""
        return self._requests.dimensions

    def __repr__(self) -> str:
        """Name the endpoint and the configuration; never the key."""
        return f"{type(self).__name__}({self._config!r}, base_url={self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse: the key would go into the pickle."""
        raise TypeError(f"a {type(self).__name__} holds a key and connections: make one in each process")

    def _read(self, response: httpx.Response, batch: Batch) -> FloatArray:
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise refusal(response, batch, self._base_url) from error
        return self._requests.rows(response.content, batch)

    def _unreachable(self, error: httpx.RequestError) -> StoreUnavailableError:
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        return StoreUnavailableError(f"the endpoint {self._base_url} {what}: {type(error).__name__}")


def _check_url(base_url: str) -> str:
    """The URL without a slash at its end; parts that may be secret are refused, because errors show the URL."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigError("`base_url` is not a URL: write 'https://host/v1'") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"`base_url` has the scheme {url.scheme!r}: write 'https://host/v1'")
    if url.userinfo or url.query or url.fragment:
        raise ConfigError("`base_url` has a user, a query or a fragment: leave it out, and give the key as `api_key`")
    return str(url).rstrip("/")


def _read_key(api_key: str | None, base_url: str) -> str | None:
    hosted = httpx.URL(base_url).host == httpx.URL(HOSTED_URL).host and base_url.startswith("https:")
    key = os.environ.get(_KEY_VARIABLE) if api_key is None and hosted else api_key
    key = None if key is None else key.strip()
    if key and not is_key(key):
        raise ConfigError("`api_key` has characters that a key cannot have: give only the key")  # never the key itself
    return key or None
