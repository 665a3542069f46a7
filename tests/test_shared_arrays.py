"""Arrays of which each rank holds a part: they read as one does that a process has for itself."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.threaded_ranks import ThreadedRanks, led

from charrnn.config import TextConfig, TrainConfig
from charrnn.ranks import arrays
from charrnn.ranks.ranks import ALONE
from charrnn.text import reading
from charrnn.text.corpus import Corpus
from charrnn.text.documents import Documents, Pieces
from charrnn.text.files.decoding import tally
from charrnn.text.validation import split, unseen

BLOCK = 64
SIZES = (2, 3)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK", BLOCK)
    monkeypatch.setattr(arrays, "LEAST", 2 * BLOCK)


def shared(ranks: Any, values: Any) -> Any:
    """The values, which came in pieces, and of which the last need a wider type."""
    buffer = arrays.SharedBuffer(np.dtype(np.uint8), ranks)
    for piece in np.array_split(values, 7):
        buffer.widen(np.promote_types(buffer.dtype, np.min_scalar_type(piece.max())))
        buffer.append(piece)
    assert len(buffer) == len(values)
    return buffer.finish()


@pytest.mark.parametrize("size", SIZES)
def test_a_shared_array_is_read_like_any_other(size: int) -> None:
    values = np.random.default_rng(1).integers(0, 256, 1000).astype(np.uint16)
    values[-50:] += 300
    places = np.random.default_rng(2).integers(-1000, 1000, (3, 40))

    def lead(ranks: ThreadedRanks) -> None:
        array = shared(ranks, values)
        assert isinstance(array, arrays.SharedArray)
        assert array.dtype == np.uint16
        for key in (
            slice(None),
            slice(5, 700),
            slice(990, 2000),
            slice(7, 3),
            slice(-3, None),
            places,
            -1,
            999,
        ):
            np.testing.assert_array_equal(array[key], values[key])
        np.testing.assert_array_equal(array.view(100, 900).view(3, 333)[10:], values[113:433])
        np.testing.assert_array_equal(array.view(100, 900)[places // 2], values[100:900][places // 2])
        np.testing.assert_array_equal(array.made(np.add, np.uint32(7))[:], values + np.uint32(7))
        assert tally(array, 600).tolist() == np.bincount(values, minlength=600).tolist()

    led(size, lead)


def test_each_rank_holds_a_part_and_none_of_what_is_no_longer_used() -> None:
    values, size = np.arange(10 * BLOCK, dtype=np.uint16), 3  # three stripes, and a block

    def lead(ranks: ThreadedRanks) -> list[list[int]]:
        before = shared(ranks, values)
        after = before.made(np.add, 1)
        del before
        return [sorted(map(len, own)) for own in after.each(_arrays_of, *[])] and held(ranks, after)

    def held(ranks: ThreadedRanks, array: Any) -> list[list[int]]:
        array[0]
        with ranks.asking(_held, [()] * size):
            return ranks.gather(_lengths(ranks))

    assert led(size, lead) == [[4 * BLOCK], [3 * BLOCK], [3 * BLOCK]]


def _arrays_of(part: Any) -> list[Any]:
    return [part]


def _held(ranks: Any, held: Any) -> Any:
    ranks.gather(_lengths(ranks))
    return held


def _lengths(ranks: Any) -> list[int]:
    return [len(array) for array in ranks.arrays.values()]


def test_a_short_array_stays_with_the_leader() -> None:
    assert type(led(2, lambda ranks: shared(ranks, np.arange(2 * BLOCK - 1)))) is np.ndarray
    assert type(shared(ALONE, np.arange(1000))) is np.ndarray


PROSE = "".join(f"Line {n * n} of it, é{'!' * (n % 7)}\n{chr(10) * (n % 5 == 0)}" for n in range(90)) + "ж\n"


def write(folder: Path) -> list[Path]:
    (folder / "a.txt").write_text(PROSE)
    (folder / "b.txt.gz").write_bytes(gzip.compress(PROSE[::-1].encode()))
    return [folder]


def facts(found: Corpus, train: TrainConfig) -> list[Any]:
    """What is learned of a corpus, with all ids."""
    documents, newline = found.documents, found.vocabulary.find("\n")
    own, held = split(documents, train, newline)
    result = [
        found.fingerprint(),
        found.text,
        found.notes,
        found.parts,
        found.records(),
        "".join(found.pieces()),
    ]
    for part in (documents, own, held, own.head(100)):
        result += [part.starts.tolist(), part.cuts.tolist(), len(part)]
        result += [array.tolist() for array in part.look_up(np.arange(len(part)))]
    return [*result, unseen(documents, held, apart=False), documents.records().tolist()]


@pytest.mark.parametrize(
    "text",
    [
        TextConfig(),
        TextConfig(lines=True),
        TextConfig(lines=True, max_chars=20, min_count=3),
        TextConfig(split="blank", lowercase=True),
        TextConfig(bytes=True),
    ],
)
@pytest.mark.parametrize("end", ["scattered", "end"])
def test_a_text_that_ranks_share_is_the_text_of_one_process(
    tmp_path: Path, text: TextConfig, end: Any
) -> None:
    paths, train = write(tmp_path), TrainConfig(steps=1, val_split=end, val_fraction=0.2)
    alone = facts(reading.read(paths, text), train)

    def lead(ranks: ThreadedRanks) -> list[Any]:
        found = reading.read_together(ranks, paths, text)
        assert isinstance(found.documents.ids, arrays.SharedArray)
        return facts(found, train)

    assert led(3, lead) == alone


@pytest.mark.parametrize("order", [np.sort, np.random.default_rng(4).permutation])
def test_a_passage_with_an_array_of_its_own_reads_as_before(order: Callable[[Any], Any]) -> None:
    random = np.random.default_rng(3)
    bounds = np.unique(random.integers(0, 300, 20))
    chosen = order(np.arange(len(bounds) - 1))[::2]
    pieces = Pieces.between(bounds[:-1][chosen], bounds[1:][chosen])
    starts = np.array([0, 30, 41])
    documents = Documents(
        random.integers(0, 9, 300).astype(np.uint8), 9, starts, 4, pieces, np.array([17, 50])
    )
    plain = Documents(documents.ids, 9, starts)
    for whole in (documents, plain):
        for low, high in ((0, len(whole)), (0, 5), (13, 60), (30, 31), (41, 55)):
            for own, wanted in zip(
                whole.between(low, high).look_up(np.arange(high - low)),
                whole.look_up(np.arange(low, high)),
                strict=True,
            ):
                np.testing.assert_array_equal(own, wanted)
