"""What models that read both ways say of the lines of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.api.dealing import Process, Threads, dealt, workers_of
from charrnn.api.models import Paths, checkpoint_of, paths_of, place_of, shares_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.tasks.reading.beam import Wanted
    from charrnn.tasks.reading.classify import LineClasses
    from charrnn.tasks.reading.rewrite import LineRewritings
    from charrnn.tasks.reading.tag import LineTags
    from charrnn.tasks.restoring.restorer import Restored
    from charrnn.text.files.lines import Lines

READ_TOGETHER = 1 << 17  # characters, by networks that read whole texts
MOST_REWRITTEN = 1000  # beginnings, targets of a line, or characters of one


def classified(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    by: str | None = None,
    prior: Sequence[float] | None = None,
    threads: Threads = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineClasses]]:
    """The probabilities of each line's labels by a classifier, in lists of lines; see `classify`.

    `prior` says how frequent the labels of the column `by`, or of the first, are where the lines come from;
    None: as in training.

    Raises:
        ConfigError: the prior does not fit the labels.
        VocabularyError: there is no such column.
    """
    checkpoint = checkpoint_of(model, "classifier")
    place = 0 if by is None else place_of(checkpoint, by)
    weights = None
    if prior is not None:
        weights = shares_of(prior, len(checkpoint.columns[place].labels), "labels")
    return _dealt(
        threads,
        _classifying,
        (checkpoint, place, weights),
        *_lines(checkpoint, corpus, before_waiting, reading),
    )


def _classifying(
    threads: int | None, end: str, checkpoint: Checkpoint, place: int, weights: list[float] | None
) -> Process:
    from charrnn.tasks.reading.classify import Classifier

    classifier = Classifier(checkpoint, threads)
    if weights is not None:
        classifier.expect(place, weights)
    return partial(classifier.lines, end=end)


def restored(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    redo: bool = False,
    threads: Threads = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[Restored]]:
    """The lines of files, to which a model puts back what texts of its kind have lost.

    The lines are those that have arrived meanwhile; long ones come in parts. What a text has already is kept
    or, with `redo`, chosen anew. Nothing else changes: line ends and bytes that are no text, too, are as they
    were. With `nul`, NULs separate texts; otherwise `reading` is as in `classify`.
    """
    from charrnn.nn.learning.together import shared
    from charrnn.tasks.restoring.restorer import Restorer
    from charrnn.text.files import lines

    own, ranks = workers_of(threads)
    restorer = Restorer(checkpoint_of(model, "restorer"), own, redo=redo)
    restorer.reader = shared(restorer.reader, ranks)
    nul = reading.pop("nul", False)
    text = restorer.checkpoint.text.of_commands(**reading)
    plain = TextConfig(encoding=text.encoding, encoding_errors=text.encoding_errors, keep_newlines=True)
    found = lines.read_texts(paths_of(corpus), plain, READ_TOGETHER, before_waiting)
    return restorer.lines(found, "\0" if nul else "\n")


def tagged(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    probable: bool = False,
    threads: Threads = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineTags]]:
    """The tags of each line, in lists of lines, and if `probable` their probabilities; see `classify`.

    Unknown characters are tagged by what is around them. Of very long lines only the beginning is tagged.
    """
    checkpoint = checkpoint_of(model, "tagger")
    lines, end = _lines(checkpoint, corpus, before_waiting, reading)
    return _dealt(threads, _tagging, (checkpoint, probable), lines, end)


def _tagging(threads: int | None, end: str, checkpoint: Checkpoint, probable: bool) -> Process:
    from charrnn.tasks.reading.tag import Tagger

    return partial(Tagger(checkpoint, threads).lines, end=end, probable=probable)


def rewritten(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    beam: int = 5,
    count: int = 1,
    length: int | None = None,
    align: bool = False,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineRewritings]]:
    """The `count` most probable targets of each line that beam search finds, in lists of lines.

    `length` limits the characters, or words, of a target; None: twice those of the line, and 20. With
    `align`, each target has the weights with which it attended to the line. `reading` may have `threads`, and
    is otherwise that of `classify`.

    Raises:
        ConfigError: a number is out of range.
    """
    from charrnn.tasks.reading.beam import Wanted

    for name, value in (("beam", beam), ("n", count), ("length", length)):
        if value is not None and not 1 <= value <= MOST_REWRITTEN:
            raise ConfigError(f"{name} is {value}", f"give a whole number from 1 to {MOST_REWRITTEN:,}")
    checkpoint, threads = checkpoint_of(model, "rewriter"), reading.pop("threads", None)
    if align and checkpoint.config.has_memory:
        raise ConfigError(
            "--align is of attention, and the model has a memory",
            "charrnn diagnose shows where its heads look",
        )
    lines, end = _lines(checkpoint, corpus, before_waiting, reading)
    how = checkpoint, Wanted(max(beam, count), count, align), length
    return _dealt(threads, _rewriting, how, lines, end)


def _rewriting(
    threads: int | None, end: str, checkpoint: Checkpoint, wanted: Wanted, most: int | None
) -> Process:
    from charrnn.tasks.reading.rewrite import Rewriter

    return partial(Rewriter(checkpoint, threads).lines, end=end, wanted=wanted, most=most)


def _dealt(
    threads: Threads, begin: Callable[..., Process], how: tuple[Any, ...], lines: Iterator[Lines], end: str
) -> Iterator[list[Any]]:
    """What this process, and others if there are any, begin to make of lines with `begin`."""
    own, ranks = workers_of(threads)
    arguments = own, end, *how
    return dealt(ranks, begin(*arguments), begin, arguments, lines, end)


def _lines(
    model: Checkpoint, corpus: Paths, before_waiting: Callable[[], None], reading: dict[str, Any]
) -> tuple[Iterator[Lines], str]:
    """Lines or other records for a model that reads whole ones, and their end."""
    from charrnn.text.files.lines import read_lines

    text = model.text.of_commands(**reading)
    return read_lines(paths_of(corpus), text, READ_TOGETHER, before_waiting), text.end or "\n"
