"""Unicode's normal forms: which one a text is in, and texts brought to it, whole or in pieces.

é is one character in NFC, as keyboards write it, and e with a mark behind it in NFD, as macOS writes names of
files. To a model these are different characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from itertools import chain

from charrnn.config import NORMAL_FORMS, NormalForm

LONGEST = 1 << 12  # characters that are kept back: no text has so many marks in a row


def normalised(text: str, form: NormalForm | None) -> str:
    """The text in this form; as it is where there is none."""
    return text if form is None or text.isascii() else unicodedata.normalize(form, text)


def joins(character: str) -> bool:
    """Whether it may be joined to what stands before it, or change places with it."""
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"


class Whole:
    """A text in pieces -> the same in other pieces, none of which joins the one before it.

    What ends in a line end is given out at once.
    """

    def __init__(self) -> None:
        self._rest = ""

    def add(self, piece: str) -> str:
        """What is complete by now."""
        text = self._rest + piece
        cut = len(text)
        if not text.endswith("\n"):
            while cut > 0 and len(text) - cut < LONGEST:
                cut -= 1
                if not joins(text[cut]):
                    break
            else:
                cut = len(text) if cut else 0  # all of it may be joined to what comes
        self._rest = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """The rest; what is added later is another text."""
        rest, self._rest = self._rest, ""
        return rest


class Normaliser:
    """Brings a text that comes in pieces to a form; None leaves it as it is."""

    def __init__(self, form: NormalForm | None) -> None:
        self._form = form
        self._whole = Whole()
        self.changed = False

    def add(self, piece: str, *, last: bool = False) -> str:
        """What is complete by now, in the form; all of it, if it is the `last` piece of a text."""
        if self._form is None:
            return piece
        text = self._whole.add(piece)
        if last:
            text += self._whole.finish()
        result = normalised(text, self._form)
        self.changed = self.changed or result != text
        return result


def form_of(characters: str, pieces: Callable[[], Iterable[str]]) -> NormalForm | None:
    """The form of a text that `pieces()` gives, of these different characters.

    None: it is in none, or in any, as where none of its characters can be written in two ways. The text is
    looked at only if some of them join others.
    """
    left = [f for f in NORMAL_FORMS if all(unicodedata.is_normalized(f, c) for c in characters)]
    if left and any(map(joins, characters)):
        whole = Whole()
        for piece in chain(pieces(), "\n"):
            text = whole.add(piece)
            left = [form for form in left if unicodedata.is_normalized(form, text)]
    return left[0] if len(left) == 1 else None
