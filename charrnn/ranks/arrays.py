"""Long arrays of which each rank holds a part, so that no machine needs the memory for all.

Blocks are dealt to the ranks in turn while the array grows, so its length need not be known. The leader alone
uses the array, and reads it like any other: ranks send what it looks up.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.ranks.ranks import ALONE, Array, Ranks
from charrnn.system.growing import GrowingArray

BLOCK = 2**18  # numbers that lie together
LEAST = 2**22  # numbers of the shortest array that is shared out; a shorter one stays with the leader

Numbers = npt.NDArray[Any]
_NUMBERS = itertools.count(1)  # of arrays: none is used twice


class Shared:
    """Something of which each rank holds a part, at `number` in its `arrays`, while the leader has this."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.number = ranks, next(_NUMBERS)
        ranks.arrays[self.number] = None
        weakref.finalize(self, ranks.arrays.pop, self.number, None)

    def ask(self, what: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What `what(ranks, *parts[rank])` comes to on each rank."""
        living = list(self.ranks.arrays)
        with self.ranks.asking(_follow, [(living, what, part) for part in parts]):
            return self.ranks.gather(what(self.ranks, *parts[0]))


class SharedArray:
    """An array (n,) of numbers, or a part of one. It changes only by `each`."""

    def __init__(self, blocks: _Blocks, first: int, length: int) -> None:
        self._blocks, self._first, self._length = blocks, first, length

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""
        return self._blocks.dtype

    @property
    def ranks(self) -> Ranks:
        """Those that share it."""
        return self._blocks.ranks

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: Any) -> Any:
        """What NumPy gives for a number, a slice without a step, or an array of numbers; always a copy."""
        if isinstance(key, slice):
            low, high, _ = key.indices(self._length)
            return self._blocks.between(self._first + low, self._first + max(low, high))
        places = np.asarray(key, np.int64)
        places = np.where(places < 0, places + self._length, places) + self._first
        found = self._blocks.at(places.reshape(-1)).reshape(places.shape)
        return found if places.ndim else found[()]

    def view(self, low: int, high: int) -> SharedArray:
        """The part from low to high, which is not copied."""
        low, high, _ = slice(low, high).indices(self._length)
        return SharedArray(self._blocks, self._first + low, max(low, high) - low)

    def each(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `function(part, *arguments)` returns for the parts of all ranks. It may change its part."""
        blocks = self._whole()
        blocks.stripe = None
        return blocks.ask(_call, [(blocks.number, function, arguments)] * blocks.ranks.size)

    def made(self, function: Callable[..., Numbers], *arguments: Any) -> SharedArray:
        """The array of the parts that `function(part, *arguments)` makes, of the same lengths."""
        blocks = self._whole()
        made = _Blocks(blocks.ranks, self.dtype)
        made.length = blocks.length
        call = made.number, blocks.number, function, arguments
        made.dtype = blocks.ask(_make, [call] * blocks.ranks.size)[0]
        return SharedArray(made, 0, self._length)

    def _whole(self) -> _Blocks:
        if self._first or self._length != self._blocks.length:
            raise ValueError("this is a part of an array")
        return self._blocks


def ranks_of(array: Any) -> Ranks:
    """The ranks that share an array."""
    return array.ranks if isinstance(array, SharedArray) else ALONE


def view(array: Any, low: int, high: int) -> Any:
    """The part of an array, shared or not, from low to high, which is not copied."""
    return array.view(low, high) if isinstance(array, SharedArray) else array[low:high]


def each(array: Any, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(part, *arguments)` returns for the parts of an array, one if it is not shared."""
    if isinstance(array, SharedArray):
        return array.each(function, *arguments)
    return [function(array, *arguments)]


def made(array: Any, function: Callable[..., Numbers], *arguments: Any) -> Any:
    """The array of what `function(part, *arguments)` makes of the parts of an array, shared or not."""
    if isinstance(array, SharedArray):
        return array.made(function, *arguments)
    return function(array, *arguments)


class SharedBuffer:
    """A growing array, see GrowingArray, that is shared out to ranks when it becomes long."""

    def __init__(self, dtype: np.dtype[Any], ranks: Ranks) -> None:
        self._ranks, self._length = ranks, 0
        self._waiting = GrowingArray(dtype)  # what is not dealt yet
        self._blocks: _Blocks | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""
        return self._waiting.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the numbers take on the leader's machine."""
        hosts = self._ranks.hosts
        whole = self._length * self.dtype.itemsize
        return whole if self._blocks is None else whole * hosts.count(hosts[0]) // self._ranks.size

    def append(self, numbers: Numbers) -> None:
        """Adds numbers (n,), which fit `dtype`."""
        self._waiting.append(numbers)
        self._length += len(numbers)
        stripe = _stripe(self._ranks)
        enough = max(stripe, LEAST) if self._blocks is None else stripe
        if self._ranks.size > 1 and len(self._waiting) >= enough:
            self._deal(len(self._waiting) // stripe * stripe)

    def widen(self, dtype: np.dtype[Any]) -> None:
        """Converts the numbers to a wider type; on other ranks, when the next ones come."""
        self._waiting.widen(dtype)

    def finish(self) -> Any:
        """All numbers (n,), a SharedArray if there are many. Nothing may be added afterwards."""
        if self._blocks is None:
            return self._waiting.finish()
        self._deal(len(self._waiting))
        blocks = self._blocks
        blocks.dtype, blocks.length = self.dtype, self._length
        blocks.ask(_finish, [(blocks.number, self.dtype)] * self._ranks.size)
        return SharedArray(blocks, 0, self._length)

    def _deal(self, count: int) -> None:
        """Deal the first numbers of those that wait."""
        if self._blocks is None:
            self._blocks = _Blocks(self._ranks, self.dtype)
        waiting, self._waiting = self._waiting.finish(), GrowingArray(self.dtype)
        stripe = _stripe(self._ranks)
        for start in range(0, count, stripe):
            blocks = waiting[start : min(start + stripe, count)]
            self._blocks.grow(np.split(blocks, range(BLOCK, stripe, BLOCK)))
        self._waiting.append(waiting[count:])


class _Blocks(Shared):
    """What the leader knows of an array: stripes, of which each rank has a block, after those before."""

    def __init__(self, ranks: Ranks, dtype: np.dtype[Any]) -> None:
        super().__init__(ranks)
        self.dtype, self.length = dtype, 0
        self.stripe: tuple[int, Numbers] | None = None  # the last that was read, a block of each rank's

    def grow(self, parts: Sequence[Numbers]) -> None:
        self.ask(_grow, [(self.number, part) for part in parts])

    def between(self, low: int, high: int) -> Numbers:
        """The numbers from low to high."""
        stripe = _stripe(self.ranks)
        found = [np.zeros(0, self.dtype)]
        for n in range(low // stripe, -(-high // stripe)) if low < high else ():
            found.append(self._stripe(n)[max(0, low - n * stripe) : high - n * stripe])
        return np.concatenate(found)

    def _stripe(self, n: int) -> Numbers:
        if self.stripe is None or self.stripe[0] != n:
            found = self.ask(_slice, [(self.number, BLOCK * n, BLOCK * (n + 1))] * self.ranks.size)
            self.stripe = n, np.concatenate(found)
        return self.stripe[1]

    def at(self, places: npt.NDArray[np.int64]) -> Numbers:
        """The numbers at places (n,)."""
        if not len(places):
            return np.zeros(0, self.dtype)
        size, low, high = self.ranks.size, int(places.min()), int(places.max()) + 1
        stripe = _stripe(self.ranks)
        stripes = {low // stripe, (high - 1) // stripe}
        if high - low <= 2 * len(places) or (self.stripe is not None and stripes == {self.stripe[0]}):
            return self.between(low, high)[places - low]
        n, inside = np.divmod(places, stripe)
        owners, within = np.divmod(inside, BLOCK)
        within += n * BLOCK
        order = np.argsort(owners, kind="stable")
        cuts = np.cumsum(np.bincount(owners, minlength=size))[:-1]
        parts = np.split(within[order], cuts)
        result = np.empty(len(places), self.dtype)
        result[order] = np.concatenate(self.ask(_take, [(self.number, part) for part in parts]))
        return result


def _stripe(ranks: Ranks) -> int:
    """The length of a stripe, a block of each rank."""
    return BLOCK * ranks.size


# --- what the leader asks all ranks for, itself as well -----------------------------------------


def _follow(ranks: Ranks, held: Any, living: list[int], what: Callable[..., Any], part: Any) -> Any:
    """Do as the leader does, and forget arrays that it has forgotten; what is held stays."""
    for number in ranks.arrays.keys() - set(living):
        del ranks.arrays[number]
    ranks.gather(what(ranks, *part))
    return held


def _grow(ranks: Ranks, number: int, part: Numbers) -> None:
    own = ranks.arrays.get(number)
    if own is None:
        own = ranks.arrays[number] = GrowingArray(part.dtype)
    own.widen(part.dtype)
    own.append(part)


def _finish(ranks: Ranks, number: int, dtype: np.dtype[Any]) -> None:
    own = ranks.arrays[number]
    own.widen(dtype)
    ranks.arrays[number] = own.finish()


def _slice(ranks: Ranks, number: int, low: int, high: int) -> Array:
    found: Array = ranks.arrays[number][low:high]
    return found


def _take(ranks: Ranks, number: int, places: Array) -> Array:
    found: Array = ranks.arrays[number][places]
    return found


def _call(ranks: Ranks, number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(ranks.arrays[number], *arguments)


def _make(
    ranks: Ranks, number: int, of: int, function: Callable[..., Numbers], arguments: tuple[Any, ...]
) -> np.dtype[Any]:
    ranks.arrays[number] = function(ranks.arrays[of], *arguments)
    dtype: np.dtype[Any] = ranks.arrays[number].dtype
    return dtype
