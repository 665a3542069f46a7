"""Forms of texts: Unicode's normal forms and lower case; conversion to them, whole or in pieces.

é is one character in NFC, as keyboards produce it, and e followed by a combining accent in NFD, as in file
names on macOS. To a model these are different characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from itertools import chain

from charrnn.config import END, NORMAL_FORMS, Form, NormalForm, TextConfig

LONGEST = 1 << 12  # the most characters held back: no text has so many combining marks in a row


def normalised(text: str, form: Form) -> str:
    """The text in this form."""
    if form.lowercase:
        # Not the final sigma of str.lower, which depends on what follows.
        text = text.replace("\u03a3", "\u03c3").lower()
    return text if form.normal is None or text.isascii() else unicodedata.normalize(form.normal, text)


def joins(character: str) -> bool:
    """Whether normalisation may combine or reorder it with the character before it."""
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"


def separating(text: str, config: TextConfig) -> str:
    """What stands between records or fields, as it occurs in texts that are read like this."""
    return text.encode().decode("latin-1") if config.bytes else normalised(text, config.form)


def as_trained(text: str, config: TextConfig) -> str:
    """A user's text in the form of the model's own. It has no END."""
    text = text if config.split is None else text.replace(END, "\ufffd")
    return normalised(text, config.form)


def expression_as_trained(expression: str, config: TextConfig) -> str:
    """The same for an expression, but not to NFD, where `é+` would become `e` and a repeated accent."""
    return as_trained(expression, config) if config.normal_form == "NFC" else expression


class Whole:
    """Cuts a text that comes in pieces anew, where normalisation combines nothing across a cut.

    A piece that ends in a line end, or where a record ends, is never held back.
    """

    def __init__(self) -> None:
        self._rest = ""

    def add(self, piece: str, *, last: bool = False) -> str:
        """The text that is complete so far; all of it if this is the `last` piece."""
        text = self._rest + piece
        cut = len(text)
        if not last and not text.endswith(("\n", END)):
            while cut > 0 and len(text) - cut < LONGEST:
                cut -= 1
                if not joins(text[cut]):
                    break
            else:
                cut = len(text) if cut else 0  # 0: all of it may combine with what follows
        self._rest = text[cut:]
        return text[:cut]


class Normaliser:
    """Converts a text that comes in pieces to a form."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._whole = Whole()
        self.changed = False

    def add(self, piece: str, *, last: bool = False) -> str:
        """The text that is complete so far, in the form; all of it if this is the `last` piece."""
        text = piece if self._form.normal is None else self._whole.add(piece, last=last)
        result = normalised(text, self._form)
        self.changed = self.changed or (result is not text and result != text)
        return result


def form_of(characters: str, pieces: Callable[[], Iterable[str]]) -> NormalForm | None:
    """The normal form of a text with these distinct characters, whose pieces `pieces()` yields.

    None: the text is in neither form, or in both, since none of its characters can be written in two ways.
    The text is read only if some of its characters combine with others.
    """
    left = [f for f in NORMAL_FORMS if all(unicodedata.is_normalized(f, c) for c in characters)]
    if left and any(map(joins, characters)):
        whole = Whole()
        for piece in chain(pieces(), "\n"):
            text = whole.add(piece)
            left = [form for form in left if unicodedata.is_normalized(form, text)]
    return left[0] if len(left) == 1 else None
