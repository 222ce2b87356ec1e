"""Turn texts into token ids, and token ids into one packed batch."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as _Tokenizer

from core_encoder.errors import CheckpointError, ConfigError, InputError
from core_encoder.forks import is_forked


@dataclass(frozen=True)
class PackedTexts:
    """B texts one after another, without padding.

    Attributes:
        input_ids: (N,) int64.
        positions: (N,) int64, each token's place in its own text.
        lengths: tokens of each text; their sum is N.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: tuple[int, ...]


def pack(rows: Sequence[Sequence[int]], *, pad_token_id: int) -> PackedTexts:
    """Pack rows of token ids.

    Every pad token is removed, and the tokens after it keep their positions: the models ignore every token with the
    pad id, also a literal "<pad>" in a text.

    Raises:
        InputError: a row has nothing but pad tokens.
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.fromiter(chain.from_iterable(rows), np.int64, count=int(lengths.sum()))  # (N,)
    owners = np.arange(len(rows)).repeat(lengths)  # (N,) which text a token is from
    positions = np.arange(len(ids)) - (lengths.cumsum() - lengths)[owners]  # (N,)
    keep = ids != pad_token_id
    if not keep.all():
        ids, positions = ids[keep], positions[keep]
        lengths = np.bincount(owners[keep], minlength=len(rows))
    if len(rows) and int(lengths.min()) == 0:
        raise InputError(f"item {int(lengths.argmin())}: the text has no tokens other than padding")
    return PackedTexts(ids, positions, tuple(lengths.tolist()))


class TextTokenizer:
    """The checkpoint's tokenizer.json, without its padding and truncation settings."""

    def __init__(self, tokenizer: _Tokenizer, *, vocab_size: int) -> None:
        """Wrap `tokenizer`; every id that it can give must have a row in the model's embedding.

        Raises:
            CheckpointError: the tokenizer has more tokens than the model.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= vocab_size:
            raise CheckpointError(f"tokenizer.json has token id {largest}, but the model has {vocab_size} tokens")
        self._tokenizer = tokenizer
        self._num_special = tokenizer.num_special_tokens_to_add(is_pair=False)

    @staticmethod
    def load(folder: Path, *, vocab_size: int) -> "TextTokenizer":
        """Read `tokenizer.json`.

        Raises:
            CheckpointError: the file is not a tokenizer, or does not fit the model.
        """
        path = folder / "tokenizer.json"
        try:
            tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every fault
            raise CheckpointError(f"{str(path)!r} is not a tokenizer: {error}") from error
        return TextTokenizer(tokenizer, vocab_size=vocab_size)

    def check_max_tokens(self, max_tokens: int) -> None:
        """Refuse a length that leaves room only for special tokens.

        Raises:
            ConfigError: `max_tokens` leaves no room for a token of text.
        """
        if max_tokens <= self._num_special:
            raise ConfigError(f"`max_tokens` is {max_tokens}: {self._num_special} are taken by special tokens")

    def encode(
        self, texts: Sequence[str], *, max_tokens: int | None, prefix: str = "", first_index: int = 0
    ) -> list["TokenizedText"]:
        """Tokenize texts, special tokens included.

        Args:
            texts: any strings; the empty one has special tokens only.
            max_tokens: longer texts are cut at the end but keep the closing special token; `None` keeps everything.
            prefix: put before every text; it counts towards `max_tokens`.
            first_index: position of `texts[0]` in the caller's list, for messages.

        Raises:
            InputError: an item is not a str, or holds half of a surrogate pair.
            ConfigError: `max_tokens` leaves no room for a token of text.
        """
        if max_tokens is not None:
            self.check_max_tokens(max_tokens)
        for index, text in enumerate(texts, start=first_index):
            _check_text(text, index)
        if len(texts) == 1 or is_forked():
            # Without threads: waking them takes longer than tokenizing a query, and a forked process has none.
            encodings = [self._tokenizer.encode(prefix + text, add_special_tokens=False) for text in texts]
        else:
            encodings = self._tokenizer.encode_batch([prefix + text for text in texts], add_special_tokens=False)
        result = []
        for encoding in encodings:
            num_tokens = len(encoding) + self._num_special
            if max_tokens is not None and num_tokens > max_tokens:
                encoding.truncate(max_tokens - self._num_special)
            result.append(TokenizedText(self._tokenizer.post_process(encoding).ids, num_tokens))
        return result


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text after truncation, and how many tokens it had before."""

    ids: list[int]
    num_tokens: int


def _check_text(text: object, index: int) -> None:
    if not isinstance(text, str):
        raise InputError(f"item {index}: a text must be a str, found {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"item {index}: the text holds half of a surrogate pair at position {error.start}, which is not Unicode"
        ) from error


def task_prefix(task: str | None, instructions: Mapping[str, str], *, name: str) -> str:
    """Give the text that a model wants in front of a text for a task; "" for documents.

    Args:
        task: as for `JinaClipEncoder.encode_text`.
        instructions: the prefix of each task of the model.
        name: the model's name, for messages.

    Raises:
        ConfigError: the model has other tasks.
    """
    if task is None:
        return ""
    if not instructions:
        warnings.warn(f"{name!r} has no tasks: `task` {task!r} is ignored", category=UserWarning, stacklevel=3)
        return ""
    if task not in instructions:
        raise ConfigError(f"`task` is {task!r}: {name!r} has {sorted(instructions)}; for documents leave it out")
    return instructions[task]
