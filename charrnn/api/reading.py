"""What models that read both ways say of the lines of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.api.models import Paths, checkpoint_of, paths_of, place_of, shares_of
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import ConfigError

if TYPE_CHECKING:
    from charrnn.tasks.reading.classify import LineClasses
    from charrnn.tasks.reading.rewrite import LineRewritings
    from charrnn.tasks.reading.tag import LineTags
    from charrnn.tasks.restoring.restorer import Restored
    from charrnn.text.lines import Lines

READ_TOGETHER = 1 << 17  # characters, by networks that read whole texts
MOST_REWRITTEN = 1000  # beginnings, targets of a line, or characters of one


def classified(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    by: str | None = None,
    prior: Sequence[float] | None = None,
    threads: int | None = None,
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
    from charrnn.tasks.reading.classify import Classifier

    checkpoint = checkpoint_of(model, "classifier")
    place = 0 if by is None else place_of(checkpoint, by)
    classifier = Classifier(checkpoint, threads)
    if prior is not None:
        classifier.expect(place, shares_of(prior, len(checkpoint.columns[place].labels), "labels"))
    return classifier.lines(*_lines(checkpoint, corpus, before_waiting, reading))


def restored(
    model: Checkpoint | str | Path,
    corpus: Paths,
    *,
    redo: bool = False,
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[Restored]]:
    """The lines of files, to which a model puts back what texts of its kind have lost.

    The lines are those that have arrived meanwhile; long ones come in parts. What a text has already is kept
    or, with `redo`, chosen anew. Nothing else changes: line ends and bytes that are no text, too, are as they
    were. With `nul`, NULs separate texts; otherwise `reading` is as in `classify`.
    """
    from charrnn.tasks.restoring.restorer import Restorer
    from charrnn.text import lines

    restorer = Restorer(checkpoint_of(model, "restorer"), threads, redo=redo)
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
    threads: int | None = None,
    before_waiting: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Iterator[list[LineTags]]:
    """The tags of each line, in lists of lines, and if `probable` their probabilities; see `classify`.

    Unknown characters are tagged by what is around them. Of very long lines only the beginning is tagged.
    """
    from charrnn.tasks.reading.tag import Tagger

    tagger = Tagger(checkpoint_of(model, "tagger"), threads)
    lines, end = _lines(tagger.checkpoint, corpus, before_waiting, reading)
    return tagger.lines(lines, end, probable=probable)


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
    from charrnn.tasks.reading.rewrite import Rewriter

    for name, value in (("beam", beam), ("n", count), ("length", length)):
        if value is not None and not 1 <= value <= MOST_REWRITTEN:
            raise ConfigError(f"{name} is {value}", f"give a whole number from 1 to {MOST_REWRITTEN:,}")
    rewriter = Rewriter(checkpoint_of(model, "rewriter"), reading.pop("threads", None))
    lines, end = _lines(rewriter.checkpoint, corpus, before_waiting, reading)
    return rewriter.lines(lines, end, Wanted(max(beam, count), count, align), length)


def _lines(
    model: Checkpoint, corpus: Paths, before_waiting: Callable[[], None], reading: dict[str, Any]
) -> tuple[Iterator[Lines], str]:
    """Lines or other records for a model that reads whole ones, and their end."""
    from charrnn.text.lines import read_lines

    text = model.text.of_commands(**reading)
    return read_lines(paths_of(corpus), text, READ_TOGETHER, before_waiting), text.end or "\n"
