"""The kinds of networks, as compositions of modules."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from charrnn.nn import modules
from charrnn.nn.modules.dropout import Dropout
from charrnn.nn.modules.embedding import Embedding
from charrnn.nn.modules.layer_norm import LayerNorm
from charrnn.nn.modules.linear import Linear
from charrnn.nn.modules.module import Module, Sequential
from charrnn.nn.modules.recurrent import Recurrent
from charrnn.nn.modules.residual import Residual

if TYPE_CHECKING:
    from charrnn.config import ModelConfig


def network(config: ModelConfig) -> Sequential:
    """The network of a configuration."""
    return KINDS[config.kind](config)


def writer(config: ModelConfig) -> Sequential:
    """Reads a character and tells the next one."""
    if config.recurrence.is_made:
        from charrnn.nn.modules.writing.reservoir import Reservoir

        V, N, L = config.vocab_size, config.hidden_size, config.num_layers
        reservoir = Reservoir(config.recurrence, V, N, L, config.echo, config.labels, config.given)
        return Sequential(reservoir, Linear(reservoir.S, config.outputs, "decoder"))
    if config.has_memory:
        return Sequential(*_remembering(config, config.outputs))
    H, back = config.hidden_size, []
    if config.span:
        from charrnn.nn.modules.writing.retrospection import Retrospection

        back = [Retrospection(H, config.span)]
    return Sequential(*layers(config), *back, Linear(H, config.outputs, "decoder"))


def classifier(config: ModelConfig) -> Sequential:
    """Reads in both directions, pools by attention, and tells the classes of a text, one of each column."""
    from charrnn.nn.modules.reading.heads import Classes
    from charrnn.nn.modules.reading.pooling import AttentionPooling

    H, sizes = config.hidden_size, config.targets
    pooled = AttentionPooling(2 * H, H), Linear(2 * H, sum(sizes), "decoder"), Classes(*sizes)
    return Sequential(*both_ways(config), *pooled)


def restorer(config: ModelConfig) -> Sequential:
    """Reads in both directions, and tells a label of each character."""
    return _told_of_each(config, *config.targets)


def tagger(config: ModelConfig) -> Sequential:
    """The same for labels that depend on those beside them."""
    from charrnn.nn.modules.reading.crf import CRF

    H, (N,) = config.hidden_size, config.targets
    return Sequential(*both_ways(config), Linear(2 * H, N, "decoder"), CRF(N))


def rewriter(config: ModelConfig) -> Sequential:
    """Reads a source in both directions, and writes a target of V characters and an end, whose id is V.

    With a memory, it reads the source once, and then writes.
    """
    from charrnn.nn.modules.reading.decoder import Decoder
    from charrnn.nn.modules.reading.heads import Positions

    if config.has_memory:
        V = config.targets[0]
        return Sequential(*_remembering(config, V + 1), Positions(V + 1))
    H, D, (V,) = config.hidden_size, config.embedding_size or config.hidden_size, config.targets
    decoder: list[Module] = [
        Decoder(config.recurrence, (V, D), 2 * H, H, _biases(config), config.attention),
        *_dropout(config),
        Linear(H, V + 1, "decoder"),
    ]
    return Sequential(*both_ways(config), *decoder, Positions(V + 1))


def filler(config: ModelConfig) -> Sequential:
    """Reads in both directions, and tells the character at each position, which it may not have read."""
    return _told_of_each(config, config.vocab_size)


def _told_of_each(config: ModelConfig, N: int) -> Sequential:
    """One of N things at each position."""
    from charrnn.nn.modules.reading.heads import Positions

    return Sequential(*both_ways(config), Linear(2 * config.hidden_size, N, "decoder"), Positions(N))


KINDS = {
    "writer": writer,
    "classifier": classifier,
    "restorer": restorer,
    "tagger": tagger,
    "rewriter": rewriter,
    "filler": filler,
}


def layers(config: ModelConfig) -> list[Module]:
    """The modules that read characters, each of H outputs."""
    return _layers(config, both_ways=False)


def both_ways(config: ModelConfig) -> list[Module]:
    """The same in both directions, whose outputs stand side by side."""
    return _layers(config, both_ways=True)


def _layers(config: ModelConfig, *, both_ways: bool) -> list[Module]:
    from charrnn.nn.modules.reading.bidirectional import Bidirectional

    H, cell, biases = config.hidden_size, config.recurrence, _biases(config)
    parts = _embedding(config)
    D, width = config.input_size, 2 * H if both_ways else H
    for k in range(config.num_layers):
        if k:
            names = [f"between_l{k - 1}.{n}" for n in range(len(config.between))]
            parts += map(modules.build, config.between, repeat(width), names)
        one_way = Recurrent(cell, D, H, k, biases, labels=config.labels)
        layer: list[Module] = [Bidirectional(cell, D, H, k, biases) if both_ways else one_way]
        if config.norm:
            layer.append(LayerNorm(width, f"norm_l{k}"))
        parts += [Residual(*layer)] if config.residual and width == D else layer
        parts += _dropout(config)
        D = width
    return parts


def _remembering(config: ModelConfig, outputs: int) -> list[Module]:
    """A memory and its controller, which read characters, and so many logits."""
    from charrnn.nn.modules.writing.memory import Memory

    H, N, M = config.hidden_size, config.memory_rows, config.memory_width
    memory = Memory(config.recurrence, config.input_size, H, N, M, _biases(config))
    decoder = Linear(H + M, outputs, "decoder")
    return [*_embedding(config), memory, *_dropout(config), decoder]


def _embedding(config: ModelConfig) -> list[Module]:
    return [Embedding(config.vocab_size, config.embedding_size)] if config.embedding_size else []


def _dropout(config: ModelConfig) -> list[Module]:
    return [Dropout(config.dropout)] if config.dropout else []


def _biases(config: ModelConfig) -> dict[str, float]:
    """The initial biases: where outputs are normed, they learn faster from 0."""
    return {} if config.norm else dict(config.recurrence.biases)
