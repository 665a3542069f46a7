"""What all networks share: parameters, and passes of modules over windows on several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from charrnn.config import ModelConfig
from charrnn.errors import CharrnnError
from charrnn.kernels.machine.jit import JIT_DISABLED
from charrnn.kernels.products import gemm
from charrnn.nn.modules.dropout import BoundDropout
from charrnn.nn.modules.module import Bound, Sequential, Stateful
from charrnn.nn.modules.stream import Characters, Ids
from charrnn.nn.modules.writing.memory import BoundMemory
from charrnn.nn.operands import Columns, Share
from charrnn.nn.parameters import Array, Parameters
from charrnn.nn.window import Window
from charrnn.nn.workers import Phase, Workers

Then = Callable[[int, int], Phase]  # what follows the gradient of a stage for one of several sums


class Passes:
    """A network bound to windows of T steps and B columns, of V different characters."""

    def __init__(self, network: Sequential, V: int, window: Window) -> None:
        self.window, self.ids = window, Ids(window.T, window.B, V, window.parts)
        self.characters = Characters(window, self.ids, V)
        self.modules = network.bind(window, self.characters)
        self.bind_loss()
        self.flat = list(self.modules.flat())
        self.layers = [bound for bound in self.flat if isinstance(bound, Stateful)]
        self.dropouts = [bound for bound in self.flat if isinstance(bound, BoundDropout)]
        for bound in self.flat:
            bound.connect()
        self.stages = [self.modules.inner[stage] for stage in network.stages()]
        self.transposes = gemm.wants_transposed(window.arithmetic.unit)

    def bind_loss(self) -> None:
        """Choose the buffer of the output's gradient, unless the last module does."""

    def drop(self, *seeds: tuple[int, int, int]) -> None:
        """Decide what dropout drops in columns, from a first to before a last, by their seed."""
        for k, dropout in enumerate(self.dropouts):
            dropout.keys = tuple((first, last, mix(seed, k)) for first, last, seed in seeds)

    def prepare_share(self, share: Share) -> None:
        """Compute a share of what depends on characters and parameters alone."""
        for bound in self.flat:
            bound.prepare_share(share)
        for weight in self.window.weights:
            weight.refresh(share)

    def after_columns(self) -> list[Phase]:
        """The phases that follow when all columns are done: the gradients that are sums over all rows."""
        return self._gradients_of(self.modules.inner, self.window.parts.all)

    def backward(self, sums: Sequence[Columns], then: Then) -> Iterator[Phase]:
        """The phases of the backward pass and the gradients, one stage after another, from the last one on.

        Those of a stage are computed for each of the ranges of parts in `sums`, one after another; after the
        n-th, then(k, n) follows for stage k.
        """
        for k, stage in reversed(list(enumerate(self.stages))):
            yield partial(self._back, stage)
            for n, parts in enumerate(sums):
                yield from self._gradients_of(stage, parts, again=n > 0)
                yield then(k, n)

    def _back(self, modules: Sequence[Bound], share: Share) -> None:
        """The backward pass of some modules over a share of the columns."""
        for bound in reversed(modules):
            bound.backward(*share.of(self.window.B))

    def _gradients_of(self, modules: Sequence[Bound], parts: Columns, *, again: bool = False) -> list[Phase]:
        """The phases that compute the gradients of some modules, the sums over these parts of the window."""
        flat, own = [part for bound in modules for part in bound.flat()], self.window.parts

        def transpose(share: Share) -> None:  # for units that compute weight gradients from transposes
            for bound in modules:
                for operand in bound.own_inputs:
                    operand.transpose(share)

        def compute(share: Share) -> None:
            own.first, own.last = parts  # the same in all threads
            for bound in flat:
                bound.parameter_gradients(share)

        def compute_late(share: Share) -> None:
            for bound in flat:
                bound.late_gradients(share)

        return [*([transpose] if self.transposes and not again else []), compute, compute_late]


AnyPasses = TypeVar("AnyPasses", bound=Passes)


class Parametrized(Generic[AnyPasses]):
    """The parameters of a network and their gradient, and its passes over windows of any shape.

    `dtype` is float32, or float64 for the gradient checks. With `bfloat16`, the operands of the matrix
    products of training are rounded (charrnn.nn.operands); with `reads_bfloat16`, those of other passes.
    """

    config: ModelConfig
    columns = 0  # of the labels of a text
    windows_kept = 1  # those of the sizes that were used last ..
    bytes_kept = 1 << 28  # .. of which the buffers beside those of the last one have at most so many bytes

    def __init__(
        self, network: Sequential, workers: Workers | None, dtype: Any, bfloat16: bool, reads_bfloat16: bool
    ) -> None:
        if JIT_DISABLED:
            raise CharrnnError(
                "a network learns and reads texts with compiled code, which NUMBA_DISABLE_JIT forbids",
                "unset it; sample, next and enumerate work with it",
            )
        self.network, self.bfloat16, self.reads_bfloat16 = network, bfloat16, reads_bfloat16
        self.dtype = np.dtype(dtype)
        self.parameters = self._parameters()
        self.workers = workers or Workers()
        self._gradients: Parameters | None = None
        self._windows: dict[tuple[Any, ...], AnyPasses] = {}

    def _parameters(self) -> Parameters:
        by_row = [name for module in self.network.flat() for name in module.by_row]
        return Parameters(self.network.shapes(), by_row, self.dtype)

    @property
    def gradients(self) -> Parameters:
        """The gradient of the last `gradient()`, in the layout of `parameters`."""
        if self._gradients is None:
            self._gradients = self._parameters()
        return self._gradients

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Take parameters in PyTorch's names and layout."""
        self.parameters.load(tensors)

    def tensors(self) -> dict[str, Array]:
        """Copies of the parameters in PyTorch's names and layout."""
        return self.parameters.tensors()

    def _bound(self, training: bool, *sizes: int, parts: Sequence[Columns] = ()) -> AnyPasses:
        """The passes over a window of such sizes, of which the first two are T and B."""
        key = (*sizes, training, *parts)
        if key in self._windows:
            self._windows[key] = self._windows.pop(key)  # the last one
        else:
            self._make_room(self._windows)  # first, since windows are large
            rounded = self.bfloat16 if training else self.reads_bfloat16
            gradients = self.gradients if training else None
            window = Window(
                self.parameters, gradients, *sizes[:2], bfloat16=rounded, columns=self.columns, parts=parts
            )
            self._windows[key] = self._bind(window, *sizes[2:])
        return self._windows[key]

    def heads(self, *sizes: int) -> Array:
        """Where a memory's heads looked in the window of these sizes that was read last: (T, B, 2, N)."""
        (memory,) = self._bound(False, *sizes).layers
        assert isinstance(memory, BoundMemory)
        return memory.weights()

    def _make_room(self, kept: dict[Any, Any]) -> None:
        """Drop what was bound to windows first, until there is room for one more."""
        while kept:
            held = sum(bound.window.nbytes for bound in kept.values())
            if len(kept) < self.windows_kept and held <= self.bytes_kept:
                break
            del kept[next(iter(kept))]

    def _bind(self, window: Window, *sizes: int) -> AnyPasses:
        raise NotImplementedError

    def learn(
        self, batch: Any, carry: Any, key: int, then: tuple[Phase, ...], whole: float | None = None
    ) -> tuple[float, Any]:
        """The loss of a batch, whose gradient is computed, and the state after it, if texts continue.

        The key decides what dropout drops. The phases `then` follow on the same threads. Of some columns of a
        batch, the loss and gradient are what they add to those of the batch, whose weight is `whole`.
        """
        raise NotImplementedError

    @property
    def learns_side_by_side(self) -> bool:
        """Whether it has `learn_side_by_side`."""
        return False

    def learn_side_by_side(
        self,
        parts: Sequence[Any],
        carries: Sequence[Any],
        keys: Sequence[int],
        whole: float,
        sums: Sequence[Columns],
        then: Then,
    ) -> list[tuple[float, Any]]:
        """What `learn` says of each of several parts of a batch.

        The gradient of each of the ranges of parts in `sums` is computed, one after another, by stages of the
        network, from the last one on. It is the sum of those of `learn`, in the order of
        charrnn.nn.operands.Parts. What the phases `then(stage, n)` do not take of the n-th one is lost when
        the next one is computed.
        """
        raise NotImplementedError

    def places_of_stages(self) -> list[list[Columns]]:
        """Where the gradient of each stage stands in the flat one: from a first number to before a last."""
        modules, find = self.network.modules, self.parameters.place_of
        return [
            joined(sorted(find(name) for module in modules[stage] for name in module.shapes()))
            for stage in self.network.stages()
        ]

    def weight_of(self, batch: Any) -> float:
        """What the losses of a batch are divided by."""
        raise NotImplementedError

    def columns_of(self, batch: Any, b0: int, b1: int) -> Any:
        """Some columns of a batch."""
        raise NotImplementedError

    def zero_state(self, B: int) -> Any:
        """The state before anything was read, for B columns."""
        raise NotImplementedError

    def try_out_side_by_side(self) -> None:
        """Call the kernels of `learn_side_by_side`, likewise."""
        raise NotImplementedError

    def try_out(self) -> None:
        """Call all kernels but those of the update, with a tiny batch."""
        raise NotImplementedError


def joined(ranges: Sequence[Columns]) -> list[Columns]:
    """Ascending ranges, where those that follow one another are one."""
    found: list[Columns] = []
    for first, last in ranges:
        if found and found[-1][1] == first:
            first = found.pop()[0]
        found.append((first, last))
    return found


def mix(seed: int, number: int) -> int:
    """A key of 63 bits from a seed and a number (the finaliser of SplitMix64)."""
    mask = 2**64 - 1
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1
