"""Names of sources: those that stand for several, {000..099} and {train,test}, and those that are no text."""

import re

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(name: str) -> list[str]:
    """All names that a name with ranges or choices in braces stands for, in order.

    A range keeps the zeros in front: {08..10} is 08, 09, 10. A name without such braces stands for itself.
    """
    for found in _BRACES.finditer(name):
        choices = _choices(found[1])
        if choices is not None:
            ends = expand_braces(name[found.end() :])
            return [name[: found.start()] + choice + end for choice in choices for end in ends]
    return [name]


def printable_name(name: str) -> str:
    """The name with escapes in the place of bytes that are not Unicode text, as names of files may have them."""
    return name.encode("utf-8", "backslashreplace").decode()


def _choices(inside: str) -> list[str] | None:
    numbers = _RANGE.fullmatch(inside)
    if numbers is not None:
        first, last = numbers[1], numbers[2]
        step = 1 if int(first) <= int(last) else -1
        width = max(len(first), len(last)) if first[0] == "0" or last[0] == "0" else 0
        return [f"{number:0{width}}" for number in range(int(first), int(last) + step, step)]
    return inside.split(",") if "," in inside else None
