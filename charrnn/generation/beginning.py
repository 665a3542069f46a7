"""What a text begins with: the state and the characters that are read before the first one is drawn."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.config import DEFAULT_SAMPLE_LENGTH, MAX_LINE_LENGTH, SampleConfig, TextConfig
from charrnn.generation.rejection import Ending, Outlet, Rules, Text
from charrnn.inference import sampling
from charrnn.inference.engines import Cursor, Network
from charrnn.vocabulary import END, Vocabulary

Ids = npt.NDArray[np.int64]

# Characters that end a sentence: the full stops of most scripts.
SENTENCE_ENDS = ".。।۔።"
# A newline at least this probable is one that the corpus has in such places.
USUAL = 0.03


def longest(text: TextConfig, config: SampleConfig) -> int:
    """The most characters of a text, END included."""
    default = MAX_LINE_LENGTH if text.records else DEFAULT_SAMPLE_LENGTH
    return (default if config.length is None else config.length) + (text.end == END)


def beginning(
    network: Network, vocabulary: Vocabulary, text: TextConfig, prompt: Ids
) -> tuple[Cursor, Ids, str]:
    """The cursor of a text that has read nothing yet, the ids that it has yet to read, and the prompt among
    these as text."""
    document = opening(network, vocabulary, prompt, text.end)
    before = vocabulary.decode(document[1:]) if len(prompt) else ""
    return Cursor(int(document[0]), network.initial_state()), document[1:], before


def new_text(text: TextConfig, config: SampleConfig, rules: Rules, index: int, before: str) -> Text:
    """Text number `index`, which continues `before`."""
    line = before.rpartition(text.end or "\n")[2]
    outlet = Outlet(
        config.stops if config.drop_until else (),
        # An expression says where a text ends.
        whole_characters=text.bytes and config.match is None,
        before=line,
    )
    return Text(index, Ending(text.end, config.stops), outlet, longest(text, config), rules, line)


def opening(network: Network, vocabulary: Vocabulary, prompt: Ids, end: str) -> Ids:
    """The ids that the network reads before it writes: START, then the prompt or its replacement.

    `end` is the character that ends the model's texts, if any; the prompt's last text is read.
    """
    if end:
        ends = np.flatnonzero(prompt == vocabulary.find(end))
        prompt = prompt[ends[-1] + 1 :] if len(ends) else prompt
    elif not len(prompt):
        prompt = lead(network, vocabulary)
    return np.concatenate([np.array([len(vocabulary)], np.int64), prompt])


_leads: weakref.WeakKeyDictionary[Network, Ids] = weakref.WeakKeyDictionary()


def lead(network: Network, vocabulary: Vocabulary) -> Ids:
    """The ids that stand in for a missing prompt of prose: a full stop, a newline, and an empty line.

    They make a text begin with a sentence. After a newline alone it would often begin in mid-sentence, since
    many corpora wrap paragraphs into lines. The network decides what is usual: no empty line where it expects
    none, and a newline alone where it expects none after a full stop.
    """
    if network not in _leads:
        _leads[network] = np.array(_lead(network, vocabulary), np.int64)
    return _leads[network]


def _lead(network: Network, vocabulary: Vocabulary) -> list[int]:
    newline = vocabulary.characters.find("\n")
    if newline < 0:
        return []
    state: Any = network.initial_state()
    start: Any
    _, start = network.step(len(vocabulary), state)
    ends: list[tuple[float, int, Any]] = []
    for character in filter(vocabulary.characters.__contains__, SENTENCE_ENDS):
        read = vocabulary.characters.index(character)
        logits, state = network.step(read, start)
        ends.append((_probability(logits, newline), read, state))
    p, read, state = max(ends, key=lambda end: end[0], default=(0.0, -1, start))
    if p < USUAL:
        return [newline]
    logits, _ = network.step(newline, state)
    return [read, newline, newline] if _probability(logits, newline) >= USUAL else [read, newline]


def _probability(logits: npt.NDArray[np.floating[Any]], character: int) -> float:
    p = [0.0] * len(logits)
    sampling.probabilities(p, logits.tolist(), 1.0)
    return p[character]
