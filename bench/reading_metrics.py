"""How right readers are: the same functions for charrnn and for its rivals. Standard library only."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

# Letters with a mark that Unicode does not take apart: Polish l, Vietnamese d, ...
BARRED = str.maketrans("đĐłŁøØħĦŧŦ", "dDlLoOhHtT")


@dataclass(frozen=True)
class F1:
    """What was to be found, what was found, and what was found rightly."""

    wanted: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.wanted + self.found) if self.right else 0.0

    def __add__(self, other: F1) -> F1:
        return F1(self.wanted + other.wanted, self.found + other.found, self.right + other.right)


def overlap(wanted: Iterable[object], found: Iterable[object]) -> F1:
    """Of two collections of different things, as positions or spans."""
    w, f = set(wanted), set(found)
    return F1(len(w), len(f), len(w & f))


# --- labels ----------------------------------------------------------------------------------------


def accuracy(truth: Sequence[str], answers: Sequence[str]) -> float:
    """The share of answers that are right."""
    return sum(a == b for a, b in zip(truth, answers, strict=True)) / len(truth)


def macro_f1(truth: Sequence[str], answers: Sequence[str]) -> float:
    """The mean F1 over all labels that are true or answered somewhere, each counting the same.

    No answer, "", is wrong, and is no label.
    """
    wanted, found = Counter(truth), Counter(filter(None, answers))
    right = Counter(a for a, b in zip(truth, answers, strict=True) if a == b)
    labels = sorted(wanted | found)
    return sum(F1(wanted[label], found[label], right[label]).f1 for label in labels) / len(labels)


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 15) -> float:
    """Expected calibration error (Guo et al., ICML 2017): over bins of equal width, how far confidence
    and accuracy lie apart, weighted by the answers in the bin. 1.0 belongs to the last bin."""
    sums = [[0.0, 0.0] for _ in range(bins)]
    for confidence, hit in zip(confidences, right, strict=True):
        number = min(int(confidence * bins), bins - 1)
        sums[number][0] += confidence
        sums[number][1] += hit
    return sum(abs(confidence - hits) for confidence, hits in sums) / len(confidences)


# --- sequences -------------------------------------------------------------------------------------


def edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Levenshtein's: insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))
    for n, left in enumerate(a, 1):
        above, row[0] = row[0], n
        for m, right in enumerate(b, 1):
            above, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, above + (left != right))
    return row[-1]


def word_error(references: Mapping[str, Collection[str]], answers: Mapping[str, str]) -> float:
    """The share of sources of which the answer is none of the references; no answer is wrong."""
    return sum(answers.get(source) not in those for source, those in references.items()) / len(references)


def phoneme_error(references: Mapping[str, Collection[str]], answers: Mapping[str, str]) -> float:
    """Edits to the nearest reference, by the tokens of those references."""
    edits = tokens = 0
    for source, those in references.items():
        answer = answers.get(source, "").split()
        best, length = min((edit_distance(answer, r.split()), len(r.split())) for r in those)
        edits, tokens = edits + best, tokens + length
    return edits / tokens


def spans(tags: str) -> set[tuple[int, int]]:
    """Where the words of BMES tags begin and end; one that is not closed ends where another begins."""
    starts = [n for n, tag in enumerate(tags) if n == 0 or tag in "BS" or tags[n - 1] in "ES"]
    return set(zip(starts, [*starts[1:], len(tags)], strict=True)) if tags else set()


# --- what was lost and put back --------------------------------------------------------------------


def without_marks(text: str) -> str:
    """The text without diacritics, a character for each letter."""
    return "".join(map(_without_mark, unicodedata.normalize("NFC", text)))


def _without_mark(character: str) -> str:
    """Without its marks; nothing of a mark by itself, which stands where no letter has it."""
    return (
        ""
        if unicodedata.combining(character)
        else unicodedata.normalize("NFD", character)[0].translate(BARRED)
    )


@dataclass(frozen=True)
class MarkedWords:
    """Of words with letters, how many are wrong; and of those that have marks."""

    words: int
    wrong: int
    marked: int
    marked_wrong: int

    @property
    def word_error(self) -> float:
        return self.wrong / self.words

    @property
    def marked_accuracy(self) -> float:
        return 1 - self.marked_wrong / self.marked


def marked_words(truth: Iterable[str], answers: Iterable[str]) -> MarkedWords:
    """Compares texts that differ in marks alone, word for word between spaces.

    Raises:
        ValueError: they differ otherwise.
    """
    counts = [0, 0, 0, 0]
    for line, answer in zip(truth, answers, strict=True):
        for a, b in zip(line.split(), answer.split(), strict=True):
            if without_marks(a) != without_marks(b):
                raise ValueError(f"{b!r} is not {a!r} with other marks")
            if any(map(str.isalpha, a)):
                marked = a != without_marks(a)
                wrong = a != b
                for n, count in enumerate((True, wrong, marked, marked and wrong)):
                    counts[n] += count
    return MarkedWords(*counts)


def upper_case(truth: str, answer: str) -> F1:
    """Of upper-case letters, in texts that differ in case alone."""
    if truth.lower() != answer.lower():
        raise ValueError("the texts differ in more than case")
    return overlap(*([n for n, c in enumerate(text) if c.isupper()] for text in (truth, answer)))


def spaces(truth: str, answer: str) -> F1:
    """Of spaces, in texts that differ in spaces alone; each is known by the characters before it."""
    if truth.replace(" ", "") != answer.replace(" ", ""):
        raise ValueError("the texts differ in more than spaces")
    return overlap(_gaps(truth), _gaps(answer))


def _gaps(text: str) -> set[int]:
    found, before = set(), 0
    for character in text:
        if character == " ":
            found.add(before)
        else:
            before += 1
    return found
