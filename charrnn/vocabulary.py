"""Characters <-> ids: a model's characters sorted by code point; a character's position is its id."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charrnn.config import END as END
from charrnn.config import TextConfig
from charrnn.errors import VocabularyError

OnUnknown = Literal["error", "skip"]
RARE = "\ufffd"  # stands for all characters that a vocabulary leaves out because they are rare
IdArray = npt.NDArray[np.unsignedinteger[Any]]


def id_dtype(size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned integer type that holds the ids 0 .. size-1."""
    return np.min_scalar_type(max(size - 1, 0))


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character, (len(text),). Lone surrogates are allowed."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def text_of(points: npt.NDArray[np.unsignedinteger[Any]]) -> str:
    """The text of code points (n,), the inverse of `code_points`."""
    return str(points.astype("<u4", copy=False).tobytes(), "utf-32-le", "surrogatepass")


def describe(character: str) -> str:
    """A character's name in errors: `'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)`.

    Control characters and lone surrogates are escaped, as by `repr`.
    """
    if character == END:
        return "the end of a text"
    name = unicodedata.name(character, "")
    return f"{character!r} (U+{ord(character):04X}{' ' if name else ''}{name})"


def unknown_character(character: str, where: str) -> VocabularyError:
    """The error for a character that the model has never seen, with its place, `where`."""
    return VocabularyError(
        f"the model has never seen the character {describe(character)}, {where}",
        "leave it out, or drop all such characters with --on-unknown skip",
    )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The V characters that a model knows, distinct and sorted by code point.

    With `rare`, one of them, RARE, stands for all others: it is read, but never written. Immutable and
    hashable; vocabularies with the same characters are equal.

    Raises:
        VocabularyError: `characters` is empty, unsorted, or holds a duplicate or a lone surrogate.
    """

    characters: str
    rare: bool = field(default=False, compare=False)
    code_points: npt.NDArray[np.uint32] = field(init=False, repr=False, compare=False)  # (V,)

    def __post_init__(self) -> None:
        points = code_points(self.characters)
        if not len(points):
            raise VocabularyError("the vocabulary is empty")
        if not np.all(points[1:] > points[:-1]):
            raise VocabularyError("the vocabulary's characters are not distinct and sorted by code point")
        if np.any((points >= 0xD800) & (points <= 0xDFFF)):
            raise VocabularyError("the vocabulary holds half of a surrogate pair")
        points.flags.writeable = False
        object.__setattr__(self, "code_points", points)

    @classmethod
    def build(cls, text: str) -> Vocabulary:
        """The vocabulary of the characters in `text`."""
        return cls("".join(sorted(set(text))))

    @classmethod
    def from_code_points(cls, points: npt.ArrayLike) -> Vocabulary:
        """The vocabulary of these code points, which must be distinct and sorted."""
        values = np.asarray(points)
        if values.size and (values.min() < 0 or values.max() > 0x10FFFF):
            raise VocabularyError("the vocabulary holds a number that is no code point")
        return cls("".join(map(chr, values.tolist())))

    @classmethod
    def of_text(cls, characters: str, text: TextConfig) -> Vocabulary:
        """The vocabulary of a text, with END if it holds records, from its sorted characters."""
        end = END if text.split is not None and not characters.endswith(END) else ""
        return cls(characters + end, text.min_count > 1 and RARE in characters)

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and len(character) == 1 and character in self.characters

    def find(self, character: str) -> int:
        """The character's id; -1 for one that is unknown, and for ""."""
        return self.characters.find(character) if character else -1

    @property
    def unknown(self) -> int:
        """The id of a character that is not in the vocabulary, or -1: there is none."""
        return self.characters.find(RARE) if self.rare else -1

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest type for ids: uint8 up to 256 characters, uint16 up to 65,536, else uint32."""
        return id_dtype(len(self))

    def encode(self, text: str, on_unknown: OnUnknown = "error") -> IdArray:
        """The id of each character, (n,) of `dtype`; with "skip", of each known character.

        Raises:
            VocabularyError: a character is unknown, and `on_unknown` is "error".
        """
        points = code_points(text)
        ids = positions(self.code_points, points)
        ids[ids < 0] = self.unknown
        unknown = np.flatnonzero(ids < 0)
        if len(unknown) and on_unknown == "error":
            first = int(unknown[0])
            raise unknown_character(text[first], f"at position {first}")
        return ids[ids >= 0].astype(self.dtype)

    def encode_all(self, texts: Sequence[str]) -> tuple[IdArray, npt.NDArray[np.int64]]:
        """The ids of texts' known characters, one after the other, and where each text ends (R,)."""
        ids = positions(self.code_points, code_points("".join(texts)))
        ids[ids < 0] = self.unknown
        kept = ids >= 0
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        ends = before[np.cumsum([len(text) for text in texts], dtype=np.int64)]
        return ids[kept].astype(self.dtype), ends

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text that these ids (n,) stand for.

        Raises:
            VocabularyError: an id is not in 0 .. V-1.
        """
        indices = np.asarray(ids)
        if not indices.size:
            return ""
        if indices.min() < 0 or indices.max() >= len(self):
            raise VocabularyError(
                f"the ids {indices.min()} to {indices.max()} are not all in 0 .. {len(self) - 1}"
            )
        return str(self.code_points[indices].astype("<u4").tobytes(), "utf-32-le")

    def merged(self, other: Vocabulary) -> Vocabulary:
        """The union of both vocabularies, which like this one has an id for rare characters, or none."""
        return replace(self, characters="".join(sorted({*self.characters, *other.characters})))

    def positions_in(self, other: Vocabulary) -> npt.NDArray[np.int64]:
        """For each id (V,), the same character's id in `other`, or -1.

        For moving rows of weights between models: [0, 2] for "ac" in "abc".
        """
        return positions(other.code_points, self.code_points)


def positions(table: npt.NDArray[np.uint32], points: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """The position of each of `points` in the sorted `table`, or -1."""
    at = np.searchsorted(table, points).astype(np.int64)
    at[at == len(table)] = 0
    at[table[at] != points] = -1
    return at
