"""Texts that show nothing."""

import unicodedata

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it has only white space, controls and characters without a shape."""
    return all(unicodedata.category(c) in _INVISIBLE or c in _INVISIBLE_LETTERS for c in text)
