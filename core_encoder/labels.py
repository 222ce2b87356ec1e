"""The labels and templates of a classifier: what is refused, and how a label is put into a template."""

import re
import unicodedata
from collections.abc import Sequence

from core_encoder.errors import InputError

_PLACE = re.compile(r"\{c?\}")  # where a template has the label
_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def check_labels(labels: Sequence[str], places: Sequence[str]) -> None:
    """Check labels: each is a text, shows something, and is there once.

    Args:
        labels: the labels.
        places: for each label a phrase that says where it is, for the message.

    Raises:
        InputError: see above; or there are none.
    """
    _check_texts(labels, places, "label", "labels")


def check_templates(templates: Sequence[str], places: Sequence[str]) -> None:
    """Check templates: each is a text, is there once, and has a place for the label.

    Args:
        templates: the templates.
        places: for each template a phrase that says where it is, for the message.

    Raises:
        InputError: see above; or there are none.
    """
    _check_texts(templates, places, "template", "templates")
    for template, place in zip(templates, places, strict=True):
        if _PLACE.search(template) is None:
            raise InputError(f"{place} is {template!r}: it needs {{}} or {{c}} where the label is put")


def _check_texts(texts: Sequence[object], places: Sequence[str], one: str, several: str) -> None:
    if not texts:
        raise InputError(f"there are no {several}: one at least is needed")
    seen: dict[str, str] = {}
    for text, place in zip(texts, places, strict=True):
        if not isinstance(text, str):
            raise InputError(f"{place} is {type(text).__name__}: a str is needed")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place} holds half of a surrogate pair, which is not Unicode") from error
        key = unicodedata.normalize("NFC", text.strip())  # as it looks
        if all(unicodedata.category(c) in _INVISIBLE for c in key):
            raise InputError(f"{place} is blank: write a {one}, or remove it")
        if key in seen:
            raise InputError(f"{place} is {text!r}, which is {seen[key]} already: remove one of them")
        seen[key] = place


def fill(template: str, label: str) -> str:
    """Put a label into a template; braces in the label, and other braces in the template, stay as they are."""
    return _PLACE.sub(lambda _: label, template)
