"""From an endpoint's refusal to one of our errors. No message repeats a key or any sent content."""

import email.utils
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from jclip_connectors.errors import ConnectorError, EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.remote.requests import Batch

_BUSY = frozenset({408, 425, 429})  # and every 5xx: the same request may succeed later
_ABOUT_ITEMS = frozenset({400, 413, 422})  # may be about the items in the request
_TOO_LONG = "INPUT_TOKEN_LIMIT_EXCEEDED"
_WORD = re.compile(r"[\w.-]{1,64}", re.ASCII)
_FIELD = re.compile(r"[\w.\[\]]{1,64}", re.ASCII)
_ITEM = re.compile(r"\binput[.\[](\d{1,6})\b|\bitem (\d{1,6})\b")


@dataclass(frozen=True, kw_only=True)
class _Said:
    """The codes and numbers from an error's body; its sentences are not used, because they may repeat content."""

    code: str | None
    request_id: str | None
    fields: tuple[str, ...]
    index: int | None

    def __str__(self) -> str:
        parts = [self.code, *(f"field `{name}`" for name in self.fields)]
        parts += [self.request_id and f"request {self.request_id}"]
        return ", ".join(filter(None, parts))


def refusal(response: httpx.Response, batch: Batch, base_url: str) -> ConnectorError:
    """Our error for an answer that is not a success; the endpoint's full answer is in its `__cause__.response`."""
    status, said = response.status_code, _read(response.content)
    answer = f"the endpoint {base_url} answers {status}" + (f" ({said})" if str(said) else "")
    if status in _BUSY or status >= 500:
        return StoreUnavailableError(f"{answer}: try again later", retry_after_s=_retry_after_s(response))
    if status in (401, 403):
        return StoreRequestError(
            f"{answer}: give a key that it accepts as `api_key`, or check what your account may use"
        )
    if status in _ABOUT_ITEMS and _is_about_items(status, said):
        return _bad_item(answer, said, batch)
    if status < 400:
        return StoreRequestError(f"{answer}: it has moved; give the new URL as `base_url`")
    return StoreRequestError(f"{answer}: it does not accept this request; check `base_url` and the configuration")


def _read(body: bytes) -> _Said:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raw = None
    raw = raw if isinstance(raw, dict) else {}
    errors = raw.get("errors")
    fields = [each.get("field") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    names = [field for field in fields if isinstance(field, str) and _FIELD.fullmatch(field)]
    named = next(filter(None, map(_ITEM.search, (*names, str(raw.get("detail"))))), None)
    return _Said(
        code=_word(raw.get("code")),
        request_id=_word(raw.get("request_id")),
        fields=tuple(name for name in names if not _ITEM.search(name))[:3],
        index=None if named is None else int(named[1] or named[2]),
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _is_about_items(status: int, said: _Said) -> bool:
    """Whether other items might be accepted: the error names an item, or names no other cause."""
    if said.index is not None or status == 413:
        return True
    return not said.fields and (said.code or "").startswith("INPUT_") and said.code != "INPUT_MODEL_NOT_FOUND"


def _bad_item(answer: str, said: _Said, batch: Batch) -> EmbedInputError:
    hint = "; shorten it, or pass `truncate=True`" if said.code == _TOO_LONG else ""
    first, last = batch.positions[0], batch.positions[-1]
    if said.index is not None and said.index < len(batch.positions):
        first = last = batch.positions[said.index]
    where = f"{batch.what} {first}" if first == last else f"one of {batch.what}s {first}..{last}"
    return EmbedInputError(f"{where} is refused: {answer}{hint}")


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from `Retry-After`, which is a number of seconds or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
