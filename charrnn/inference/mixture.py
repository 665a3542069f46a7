"""Several models as one: their predictions are mixed, character by character.

The mixture is linear, as in interpolated language models (Jelinek and Mercer 1980):

    p(c | text) = sum over m of w[m] p[m](c | text),   the weights scaled to a sum of 1.

So it writes what any of its models would write, in proportion to the weights. A product of experts would
write only what all of them consider possible, and could not continue where their alphabets are disjoint.

A mixture p may be led away from a further model q: log p becomes log q + strength (log p - log q), up to a
constant. Where q is p without its label, a strength above 1 exaggerates what the label makes of a text
(classifier-free guidance, Ho and Salimans 2022).

Models share characters, not ids. A character outside a model's vocabulary has probability 0 under that model,
which skips it when reading, as with `--on-unknown skip`: its state and its prediction stay as they were.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.kinds import require
from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig, WeightPrecision
from charrnn.errors import ConfigError
from charrnn.inference import sampling
from charrnn.inference.numpy_network import Floats, PlainNetwork
from charrnn.vocabulary import END, Vocabulary

MOST_STRENGTH = 100
# Of each network the state, and the logits that it left: (L, S) and (V of the network,).
State = tuple[tuple[Floats, Floats], ...]


@dataclass(frozen=True, eq=False)
class Blend:
    """Models and their weights, any positive numbers; a blend is used like one model.

    Its alphabet is the union of theirs. If one model is a model of records, so is the blend, and a model of
    prose starts each as after a newline. It ends them if they are lines, but knows nothing of END.

    Raises:
        ConfigError: a weight is not positive, some models read bytes and others characters, or texts end in
            different ways.
    """

    parts: tuple[Checkpoint, ...]
    weights: tuple[float, ...]
    away_from: Checkpoint | None = None  # a model with the vocabulary of the others
    strength: float = 1.0
    vocabulary: Vocabulary = field(init=False)
    text: TextConfig = field(init=False)

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.weights):
            raise ConfigError(f"{len(self.parts)} models have {len(self.weights)} weights", "give each one")
        for part in self.parts if len(self.parts) > 1 else ():
            require(part, "writer")
        for weight in self.weights:
            if not (0 < weight < math.inf):
                raise ConfigError(f"the weight of a model is {weight}", "give a positive number")
        if not 0 <= self.strength <= MOST_STRENGTH:
            raise ConfigError(f"strength is {self.strength}", f"give a number from 0 to {MOST_STRENGTH}")
        texts = [part.text for part in self.parts]
        if any(text.bytes for text in texts) and not all(text.bytes for text in texts):
            raise ConfigError("some of the models write bytes, others characters", "mix models of one kind")
        characters = "".join(sorted(set("".join(part.vocabulary.characters for part in self.parts))))
        object.__setattr__(self, "vocabulary", Vocabulary(characters))
        kinds = {text.end: text for text in texts if text.records}  # by how a record ends
        if len(kinds) > 1:
            raise ConfigError(
                "to some of the models each line is a text, to others texts have an end of their own",
                "mix models of one kind, or either with models of prose",
            )
        (kind,) = kinds.values() or [texts[0]]
        forms = {text.normal_form for text in texts} - {None}
        form = forms.pop() if len(forms) == 1 else None
        lowercase = all(text.lowercase for text in texts)
        text = replace(texts[0], lines=kind.lines, split=kind.split, normal_form=form, lowercase=lowercase)
        object.__setattr__(self, "text", text)


class MixedNetwork:
    """The networks of a blend, in the place of a charrnn.inference.numpy_network.PlainNetwork."""

    def __init__(self, blend: Blend, precision: WeightPrecision = "float32") -> None:
        V = len(blend.vocabulary)
        self.vocab_size = V
        self.precision = precision
        # The last one may be the model that the others are led away from.
        models = [*blend.parts, *([] if blend.away_from is None else [blend.away_from])]
        self.strength = 1.0 if blend.away_from is None else float(blend.strength)
        self.parts = [PlainNetwork(part, precision) for part in models]
        weights = np.array(blend.weights) / max(blend.weights)  # so that their sum does not overflow
        self.mixing = np.zeros(len(models))  # (M,)
        self.mixing[: len(weights)] = weights / weights.sum()
        self.ids: npt.NDArray[np.int64] = np.empty((len(self.parts), V + 1), np.int64)
        state = []
        for ids, checkpoint, network in zip(self.ids, models, self.parts, strict=True):
            ids[:V] = blend.vocabulary.positions_in(checkpoint.vocabulary)
            ids[V] = network.vocab_size
            first = network.initial_state()
            newline = checkpoint.vocabulary.find("\n")
            if blend.text.records and not checkpoint.text.records:
                if blend.text.end == END:
                    ids[V - 1] = -1  # even if the model knows that code point as a character
                if newline >= 0:
                    # For a model of prose, a newline takes the place of START at the beginning of a record.
                    _, first = network.step(network.vocab_size, first)
                    ids[V] = newline
            state.append((first, np.zeros(network.vocab_size, np.float32)))
        self._initial: State = tuple(state)
        self._p = [[0.0] * network.vocab_size for network in self.parts]
        self._ids = self.ids.tolist()  # which Python indexes faster

    @property
    def weights(self) -> int:
        """The number of weights that are read for each character."""
        return sum(network.weights for network in self.parts)

    def initial_state(self) -> State:
        """The state at a document's start."""
        return self._initial

    def fill_table(self, character: int) -> None:
        """Fill the character's rows of the networks' tables, where they are still empty."""
        for ids, network in zip(self._ids, self.parts, strict=True):
            if ids[character] >= 0:
                network.fill_table(ids[character])

    def step(self, character: int, state: State) -> tuple[npt.NDArray[np.float64], State]:
        """Read one character, 0 .. V-1 or V for START: the next one's log p (V,), and the new state.

        A mixture that is led away gives log p plus some number.
        """
        mixed = [0.0] * self.vocab_size
        new: list[tuple[Floats, Floats]] = []
        everything = zip(self._ids, self.parts, self._p, self.mixing.tolist(), state, strict=True)
        for ids, network, p, weight, before in everything:
            if ids[character] >= 0:
                logits, after = network.step(ids[character], before[0])
                new.append((after, logits))
            else:
                new.append(before)
            sampling.probabilities(p, new[-1][1].tolist(), 1.0)
            sampling.add_to_mixture(mixed, p, ids, weight)
        sampling.logarithms(mixed)
        if self.strength != 1.0:
            other = [0.0] * self.vocab_size
            sampling.add_to_mixture(other, self._p[-1], self._ids[-1], 1.0)
            sampling.logarithms(other)
            sampling.lead_away(mixed, other, self.strength)
        return np.array(mixed), tuple(new)

    def put(self, states: Sequence[State], scratch: Any) -> None:
        """Copy the states of B texts into the memory of the compiled loop."""
        for network, part, left, *pairs in zip(self.parts, scratch.parts, scratch.left, *states, strict=True):
            network.put([state for state, _ in pairs], part)
            np.stack([logits for _, logits in pairs], out=left)

    def take(self, scratch: Any, row: int) -> State:
        """A copy of the state of one of them."""
        parts = zip(self.parts, scratch.parts, scratch.left, strict=True)
        return tuple((network.take(part, row), left[row].copy()) for network, part, left in parts)


def blend(models: Sequence[tuple[Checkpoint, float]]) -> Checkpoint | Blend:
    """The models with their weights as one model; a single model is returned as it is.

    Raises:
        ConfigError: see Blend.
    """
    mixed = Blend(tuple(model for model, _ in models), tuple(weight for _, weight in models))
    return mixed.parts[0] if len(models) == 1 else mixed


_networks: weakref.WeakKeyDictionary[Checkpoint | Blend, dict[str, PlainNetwork | MixedNetwork]]
_networks = weakref.WeakKeyDictionary()


def network_of(checkpoint: Checkpoint | Blend, precision: WeightPrecision) -> PlainNetwork | MixedNetwork:
    """The network of a model or of a blend, arranged once for all texts."""
    networks = _networks.setdefault(checkpoint, {})
    if precision not in networks:
        if isinstance(checkpoint, Blend):
            networks[precision] = MixedNetwork(checkpoint, precision)
        else:
            networks[precision] = PlainNetwork(checkpoint, precision)
    return networks[precision]
