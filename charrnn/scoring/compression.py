"""Any bytes <-> a smaller file, by what a model expects of them.

A model predicts, and a coder spends -log2 p bits on what comes: the arithmetic coding of Witten, Neal and
Cleary (1987), here with the coder of charrnn.scoring.rans.

The file (numbers are little-endian; a varint has 7 bits a byte, the lowest first; the eighth: it goes on):

    header      MAGIC, the format's version (1 byte), the model's fingerprint (8)
    frames      each of up to FRAME bytes of the input, cut behind a line end where there is one
      kind      1 byte: 0 the end, 1 stored, 2 coded
      size      varint: bytes of the payload
      payload   stored: the input. Coded: see _Frame
      check     8 bytes: BLAKE2b of all input up to here

A frame's text is decoded, CRLF becomes LF, and the characters that the model does not know are taken out and
travel beside it. What is left is cut into blocks, which are coded side by side: the network reads each from
its start, which costs a few dozen bits. All of this depends on the bytes and the model alone, and so does
every frequency: numpy_network and products.exact_gemm compute the same bits everywhere.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import TextConfig
from charrnn.errors import CompressionError
from charrnn.inference.engines import compiled_arrays
from charrnn.inference.numpy_network import PlainNetwork
from charrnn.scoring import rans
from charrnn.vocabulary import Vocabulary, code_points

Ids = npt.NDArray[np.int32]
Report = Callable[[int], None]  # is told how many bytes of the input are done

MAGIC = b"\x93crnn"
VERSION = 1
FRAME = 1 << 22  # bytes of input
BLOCK = 1 << 16  # characters: to begin anew costs about 0.1 % of it
END, STORED, CODED = range(3)
CRLF, OWN_ENCODING = 1, 2  # flags of a coded frame
CHECK = 8  # bytes
PLAIN = 1 << 17  # frequencies that plain Python has found before the compiled loop would be imported
WEIGHTS_A_CALL = 2**28  # that one call of the compiled loop may pass over: a fraction of a second

_DAMAGED = "it is damaged", "get it anew: nothing from there on can be read"
_CUT = "it is cut short", "get it anew: its end is missing"


def fingerprint(checkpoint: Checkpoint) -> bytes:
    """8 bytes that stand for all that a model's predictions depend on."""
    config = checkpoint.config.to_dict()
    del config["dropout"]  # it is for training
    about = {
        "model": config,
        "vocabulary": checkpoint.vocabulary.characters,
        "text": checkpoint.text.to_dict(),
    }
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8)
    for name in checkpoint.config.parameter_shapes():
        digest.update(np.ascontiguousarray(checkpoint.tensors[name], "<f4").data)
    return digest.digest()


def compress(
    checkpoint: Checkpoint,
    chunks: Iterable[bytes],
    threads: int | None = None,
    report: Report = lambda done: None,
) -> Iterator[bytes]:
    """The file that holds these bytes, piece by piece; the same whatever the chunks and the threads."""
    yield MAGIC + bytes([VERSION]) + fingerprint(checkpoint)
    coder = _Coder(checkpoint, threads)
    seen = hashlib.blake2b(digest_size=CHECK)
    done = 0
    for data in _frames(chunks):
        seen.update(data)
        coder.report = _within(report, done, len(data))
        payload = _Frame.of(data, checkpoint).coded(coder, first=done == 0)
        kind = CODED
        if payload is None or len(payload) >= len(data):
            kind, payload = STORED, data
        yield bytes([kind]) + _varint(len(payload)) + payload + seen.digest()
        done += len(data)
    yield bytes([END])


def decompress(
    checkpoint: Checkpoint,
    chunks: Iterable[bytes],
    threads: int | None = None,
    report: Report = lambda done: None,
) -> Iterator[bytes]:
    """The bytes that `compress` was given, each frame when its check agrees.

    Raises:
        CompressionError: it is no such file, is damaged or cut short, or was made with another model.
    """
    source = _Source(chunks)
    if source.take(len(MAGIC), "it is no file that charrnn compress wrote") != MAGIC:
        raise CompressionError("it is no file that charrnn compress wrote", "give one that it wrote")
    if (version := source.byte()) != VERSION:
        raise CompressionError(f"it was made by a newer charrnn (its format is {version})", "upgrade charrnn")
    wanted, own = source.take(8), fingerprint(checkpoint)
    if wanted != own:
        raise CompressionError(
            f"it was compressed with another model (fingerprint {wanted.hex()}, not {own.hex()})",
            "give that model with -m",
        )
    coder = _Coder(checkpoint, threads)
    seen = hashlib.blake2b(digest_size=CHECK)
    first = True
    while (kind := source.byte()) != END:
        if kind not in (STORED, CODED):
            raise CompressionError(*_DAMAGED)
        payload = source.take(source.varint(FRAME))
        coder.report = _within(report, source.taken - len(payload), len(payload))
        check = source.take(CHECK)
        data = payload if kind == STORED else _Frame.decoded(payload, coder, first, checkpoint)
        seen.update(data)
        if seen.digest() != check:
            raise CompressionError(*_DAMAGED)
        yield data
        first = False
    if not source.at_end():
        raise CompressionError("something follows its end", "get it anew, or cut that off")


def _within(report: Report, done: int, size: int) -> Callable[[float], None]:
    """Tells `report` the share of the next `size` bytes, after those that are done."""
    return lambda share: report(done + int(share * size))


def _frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) > FRAME:
            cut = buffer.rfind(b"\n", FRAME // 2, FRAME) + 1 or FRAME
            while cut > FRAME - 3 and buffer[cut] & 0xC0 == 0x80:
                cut -= 1  # not inside a character of UTF-8
            yield bytes(buffer[:cut])
            del buffer[:cut]
    if buffer:
        yield bytes(buffer)


class _Source:
    """Bytes that come in chunks, taken by number."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self.taken = 0  # bytes

    def take(self, count: int, otherwise: str = "") -> bytes:
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise (
                    CompressionError(otherwise, "give one that it wrote")
                    if otherwise
                    else CompressionError(*_CUT)
                )
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.taken += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int) -> int:
        return _read_varint(self.byte, most)

    def at_end(self) -> bool:
        return not self._buffer and not any(self._chunks)


def _varint(value: int) -> bytes:
    """300 is 10101100 00000010."""
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _read_varint(byte: Any, most: int) -> int:
    value = 0
    for shift in range(0, 35, 7):
        last = byte()
        value |= (last & 0x7F) << shift
        if last < 0x80:
            break
    if value > most:
        raise CompressionError(*_DAMAGED)
    return value


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame's text, as it is coded.

    flags     1 byte: CRLF, OWN_ENCODING
    unknown   varint: bytes that follow; they are zlib's, see _pack_unknown
    blocks    varint: how many; for each a varint of its characters and one of its words
    then, for each block, the coder's state (8 bytes) and its words (4 each)
    """

    flags: int
    ids: Ids  # of the characters that the model knows
    where: npt.NDArray[np.int64]  # in the text, the others stand
    unknown: str  # the others

    @classmethod
    def of(cls, data: bytes, checkpoint: Checkpoint) -> _Frame:
        text, flags = _text(data, checkpoint.text)
        points = code_points(text)
        ids = _ids(checkpoint.vocabulary, points)
        where = np.flatnonzero(ids < 0)
        return cls(flags, ids[ids >= 0], where, "".join(map(chr, points[where].tolist())))

    def coded(self, coder: _Coder, first: bool) -> bytes | None:
        """The payload, or None where the model does not know half of the text."""
        if len(self.where) > len(self.ids):
            return None
        cuts = _cuts(self.ids, coder.newline)
        blocks = [self.ids[low:high] for low, high in itertools.pairwise(cuts)]
        coded = coder.encode(blocks, first)
        unknown = _pack_unknown(self.where, self.unknown) if self.unknown else b""
        parts = [bytes([self.flags]), _varint(len(unknown)), unknown, _varint(len(blocks))]
        for ids, (_, words) in zip(blocks, coded, strict=True):
            parts += [_varint(len(ids)), _varint(len(words))]
        for state, words in coded:
            parts += [struct.pack("<Q", state), words.astype("<u4").tobytes()]
        return b"".join(parts)

    @classmethod
    def decoded(cls, payload: bytes, coder: _Coder, first: bool, checkpoint: Checkpoint) -> bytes:
        """The bytes that were coded. What is damaged raises, or gives others, which the check finds."""
        source = _Source([payload])
        try:
            flags = source.byte()
            where, unknown = _unpack_unknown(source.take(source.varint(len(payload))))
            sizes = [
                (source.varint(2 * BLOCK), source.varint(2 * BLOCK + 1))
                for _ in range(source.varint(FRAME // BLOCK + 1))
            ]
            blocks = [
                (n, *struct.unpack("<Q", source.take(8)), np.frombuffer(source.take(4 * words), "<u4"))
                for n, words in sizes
            ]
            ids = np.concatenate([np.empty(0, np.int32), *coder.decode(blocks, first)])
            total = len(ids) + len(where)
            points = np.empty(total, np.uint32)
            known = np.ones(total, np.bool_)
            known[where] = False
            points[where] = code_points(unknown)
            points[known] = checkpoint.vocabulary.code_points[ids]
            text = str(points.astype("<u4").tobytes(), "utf-32-le", "surrogatepass")
            if source.at_end():
                return _bytes(text, flags, checkpoint.text)
        except (ValueError, IndexError, zlib.error) as error:
            raise CompressionError(*_DAMAGED) from error
        raise CompressionError(*_DAMAGED)


def _text(data: bytes, config: TextConfig) -> tuple[str, int]:
    """The text of these bytes and the flags by which `_bytes` makes them of it again, exactly."""
    if config.bytes:
        return data.decode("latin-1"), 0
    text, flags = data.decode("utf-8", "surrogateescape"), 0  # loses nothing, whatever the bytes
    try:
        own = data.decode(config.encoding)
        if own.encode(config.encoding) == data:
            text, flags = own, OWN_ENCODING
    except (UnicodeError, LookupError):
        pass
    if not config.keep_newlines and "\r\n" in text:
        shorter = text.replace("\r\n", "\n")
        if shorter.replace("\n", "\r\n") == text:
            return shorter, flags | CRLF
    return text, flags


def _bytes(text: str, flags: int, config: TextConfig) -> bytes:
    if flags & CRLF:
        text = text.replace("\n", "\r\n")
    if config.bytes:
        return text.encode("latin-1")
    if flags & OWN_ENCODING:
        return text.encode(config.encoding)
    return text.encode("utf-8", "surrogateescape")


def _ids(vocabulary: Vocabulary, points: npt.NDArray[np.uint32]) -> Ids:
    at = np.searchsorted(vocabulary.code_points, points)
    at[at == len(vocabulary)] = 0
    return np.where(vocabulary.code_points[at] == points, at, -1).astype(np.int32)


def _pack_unknown(where: npt.NDArray[np.int64], characters: str) -> bytes:
    """Gaps between the characters' places, as numbers of 1, 2 or 4 bytes, behind how many there are (4 bytes)
    and how wide they are (1), and before the characters in UTF-8."""
    gaps = np.diff(where, prepend=-1) - 1
    width = next(n for n in (1, 2, 4) if gaps.max() < 1 << 8 * n)
    head = struct.pack("<IB", len(where), width) + gaps.astype(f"<u{width}").tobytes()
    return zlib.compress(head + characters.encode("utf-8", "surrogatepass"), 9)


def _unpack_unknown(packed: bytes) -> tuple[npt.NDArray[np.int64], str]:
    if not packed:
        return np.empty(0, np.int64), ""
    unpacked = zlib.decompressobj().decompress(packed, 9 * FRAME)
    if len(unpacked) < 5:
        raise ValueError
    count, width = struct.unpack_from("<IB", unpacked)
    if width not in (1, 2, 4):
        raise ValueError
    gaps = np.frombuffer(unpacked, f"<u{width}", count, 5).astype(np.int64)
    characters = unpacked[5 + count * width :].decode("utf-8", "surrogatepass")
    if len(characters) != count or int(gaps.sum()) > FRAME:
        raise ValueError
    return np.cumsum(gaps + 1) - 1, characters


def _cuts(ids: Ids, newline: int) -> list[int]:
    """Where blocks begin and end: about BLOCK characters apart, behind a line end where one is near."""
    count = max(1, round(len(ids) / BLOCK))
    cuts = [0]
    for n in range(1, count):
        wanted = len(ids) * n // count
        near = np.flatnonzero(ids[wanted : wanted + BLOCK // 4] == newline)
        cuts.append(wanted + int(near[0]) + 1 if len(near) else wanted)
    return [*cuts, len(ids)] if len(ids) else [0]


class _Coder:
    """A model's network that codes blocks of ids, in NumPy alone or compiled: the same words either way."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None) -> None:
        self._network = PlainNetwork(checkpoint)
        self._threads = threads
        self.report: Callable[[float], None] = lambda share: None  # told how much of a frame is done
        self._V = checkpoint.config.vocab_size
        self.newline = checkpoint.vocabulary.characters.find("\n")
        self._line_end = self.newline if checkpoint.text.lines else -1
        start = self._V, self._network.initial_state()
        self._openings = [start, start]  # of the first block, and of the others: a character, and a state
        if not checkpoint.text.lines and self.newline >= 0:
            self._openings[1] = self.newline, self._network.step(*start)[1]

    def encode(self, blocks: Sequence[Ids], first: bool) -> list[tuple[int, npt.NDArray[np.uint32]]]:
        """Each block's state and words, in the order in which they are read."""
        run = self._run([len(block) for block in blocks], first)
        return run.encode(blocks) if run else [self._encode(*pair) for pair in self._opened(blocks, first)]

    def decode(self, blocks: Sequence[tuple[int, int, Any]], first: bool) -> list[Ids]:
        """The ids of each block, from its length, its state and its words.

        Raises:
            CompressionError: they are not those that were written.
        """
        if not all(rans.LOWEST <= state < 1 << 63 for _, state, _ in blocks):
            raise CompressionError(*_DAMAGED)
        run = self._run([length for length, _, _ in blocks], first)
        return run.decode(blocks) if run else [self._decode(*pair) for pair in self._opened(blocks, first)]

    def _opened(self, blocks: Sequence[Any], first: bool) -> Iterator[tuple[Any, tuple[int, Any]]]:
        for n, block in enumerate(blocks):
            yield block, self._openings[0 if first and n == 0 else 1]

    def _run(self, lengths: list[int], first: bool) -> _CompiledRun | None:
        if sum(lengths) * self._V <= PLAIN:
            return None
        from charrnn.kernels.machine.jit import JIT_DISABLED

        if JIT_DISABLED:
            return None
        openings = [opening for _, opening in self._opened(lengths, first)]
        return _CompiledRun(self._network, self._line_end, lengths, openings, self._threads, self.report)

    def _frequencies(self, opening: tuple[int, Any]) -> Any:
        """A generator of frequencies that is sent each character as it becomes known."""
        last, state = opening
        f, p = [0] * self._V, [0.0] * self._V
        while True:
            if last == self._line_end:
                last, state = self._V, self._network.initial_state()
            logits, state = self._network.step(last, state)
            rans.frequencies(f, logits.tolist(), p)
            last = yield f

    def _encode(self, ids: Ids, opening: tuple[int, Any]) -> tuple[int, npt.NDArray[np.uint32]]:
        symbols: list[int] = ids.tolist()
        places = []
        following = self._frequencies(opening)
        f = next(following)
        for symbol in symbols:
            places.append((rans.start_of(f, symbol), f[symbol]))
            f = following.send(symbol)
        words, count, x = [0] * (len(places) + 1), 0, rans.LOWEST
        for start, share in reversed(places):
            x, count = rans.push(x, start, share, words, count)
        return x, np.array(words[:count][::-1], np.uint32)

    def _decode(self, block: tuple[int, int, Any], opening: tuple[int, Any]) -> Ids:
        length, x, words = block
        waiting: list[int] = words.tolist()[::-1]
        symbols = []
        following = self._frequencies(opening)
        f = next(following)
        for _ in range(length):
            symbol = rans.find(f, x & (rans.TOTAL - 1))
            x = rans.pop(x, rans.start_of(f, symbol), f[symbol])
            if x < rans.LOWEST:
                if not waiting:
                    raise CompressionError(*_DAMAGED)
                x = x << rans.WORD | waiting.pop()
            symbols.append(symbol)
            f = following.send(symbol)
        if waiting or x != rans.LOWEST:
            raise CompressionError(*_DAMAGED)
        return np.array(symbols, np.int32)


class _CompiledRun:
    """The blocks of one frame, their columns shared out among threads."""

    def __init__(
        self, network: PlainNetwork, line_end: int, lengths: list[int], openings: list[tuple[int, Any]],
        threads: int | None, report: Callable[[float], None],
    ) -> None:  # fmt: skip
        from charrnn.inference import writing_loop
        from charrnn.nn.workers import available_threads
        from charrnn.scoring import rans_loop as compiled

        self._kernels, self._generate = compiled, writing_loop
        self._network = network
        self._arrays = compiled_arrays(network, writing_loop)
        self._line_end = line_end
        self._openings = openings
        self._V = network.config.vocab_size
        self._threads = available_threads() if threads is None else threads
        self._order = np.argsort(-np.array(lengths), kind="stable")  # the kernel wants the longest first
        self._lengths = np.array(lengths, np.int64)[self._order]
        self._texts = np.zeros((len(lengths), int(self._lengths[0])), np.int32)
        weights = network.recurrent.size + network.inputs.size + network.decoder.size
        self._weights = weights
        self._report = report
        self._stopped = threading.Event()

    def encode(self, blocks: Sequence[Ids]) -> list[tuple[int, npt.NDArray[np.uint32]]]:
        for row, block in enumerate(self._order.tolist()):
            self._texts[row, : len(blocks[block])] = blocks[block]
        starts, shares = np.zeros_like(self._texts), np.zeros_like(self._texts)
        result: list[Any] = [None] * len(blocks)

        def work(low: int, high: int) -> None:
            rows = slice(low, high)

            def call(blocks: Any, scratch: Any, t0: int, t1: int) -> Any:
                measure = self._kernels.measure
                return measure(self._arrays, blocks, t0, t1, starts[rows], shares[rows], scratch)

            self._advance(low, high, call)
            for row in range(low, high):
                length = int(self._lengths[row])
                words = np.empty(length + 1, np.uint32)
                x, count = self._kernels.encode(starts[row, :length], shares[row, :length], words)
                result[self._order[row]] = int(x), words[:count][::-1].copy()

        self._share(work)
        return result

    def decode(self, blocks: Sequence[tuple[int, int, Any]]) -> list[Ids]:
        ordered = [blocks[block] for block in self._order.tolist()]
        x = np.array([state for _, state, _ in ordered], np.int64)
        words = np.concatenate([words for _, _, words in ordered]).astype(np.uint32)
        ends = np.cumsum([len(words) for _, _, words in ordered])
        places = ends - [len(words) for _, _, words in ordered]

        def work(low: int, high: int) -> None:
            rows = slice(low, high)
            coded = self._kernels.Words(x[rows], words, places[rows], ends[rows])

            def call(blocks: Any, scratch: Any, t0: int, t1: int) -> Any:
                return self._kernels.decode(self._arrays, blocks, t0, t1, coded, scratch)

            self._advance(low, high, call)

        self._share(work)
        if np.any(places != ends) or np.any(x != rans.LOWEST):
            raise CompressionError(*_DAMAGED)
        result: list[Any] = [None] * len(blocks)
        for row, block in enumerate(self._order.tolist()):
            result[block] = self._texts[row, : self._lengths[row]]
        return result

    def _advance(self, low: int, high: int, call: Any) -> None:
        """Rows low .. high from their first character to their last, `call` by call."""
        B = high - low
        openings = [self._openings[block] for block in self._order[low:high].tolist()]
        last = np.array([character for character, _ in openings], np.int64)
        state = np.stack([state for _, state in openings], axis=2)  # (L, 1 or 2, B, H)
        rows = slice(low, high)
        blocks = self._kernels.Blocks(
            state, last, self._texts[rows], self._lengths[rows], self._line_end, np.empty(self._V, np.int64)
        )
        scratch = self._generate.scratch(self._arrays, B)[0]
        self._network.learn(self._V)
        steps = max(1, WEIGHTS_A_CALL // (self._weights * B))
        t, length = 0, int(self._lengths[low])
        while t < length and not self._stopped.is_set():
            t1 = min(t + steps, length)
            with np.errstate(all="ignore"):
                for character in set(last.tolist()):
                    self._network.learn(character)  # the loop comes back where it meets a new one
            t = int(call(blocks, scratch, t, t1))
            if t < 0:
                raise CompressionError(*_DAMAGED)
            if low == 0:  # all threads are about as far
                self._report(t / length)

    def _share(self, work: Any) -> None:
        """Call work(low, high) for even shares of the rows, each on a thread of its own."""
        B = len(self._lengths)
        shares = min(self._threads, B)
        cuts = [B * n // shares for n in range(shares + 1)]
        # Not nn.workers, whose threads take denormal numbers as zero, and would give other frequencies.
        with ThreadPoolExecutor(shares, "charrnn-code") as pool:
            try:
                for future in [pool.submit(work, low, high) for low, high in itertools.pairwise(cuts)]:
                    _wait_for(future)
            finally:
                self._stopped.set()


def _wait_for(future: Future[None]) -> None:
    while True:
        try:
            return future.result(timeout=0.2)  # Windows sees Ctrl-C only between waits
        except NotYet:
            if future.done():
                raise
