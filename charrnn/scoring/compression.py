"""Any bytes <-> a smaller file, compressed with a model's predictions.

A symbol of probability p costs -log2 p bits: the arithmetic coding of Witten, Neal and Cleary (1987), here
with the entropy coder of charrnn.scoring.rans.

The file (numbers are little-endian; a varint has 7 bits a byte, the lowest first; the eighth bit says that
another byte follows):

    header      MAGIC, the format's version (1 byte: ADAPTIVE if the model learns), its fingerprint (8)
                of a model that looks back, version LOOKING: then the version without that (1 byte), how many
                characters the cache holds (varint), and its theta, weight and doubt (8 bytes each)
    frames      each of up to FRAME bytes of the input, cut after a newline where there is one
      kind      1 byte: 0 the end, 1 stored, 2 coded
      size      varint: bytes of the payload
      payload   stored: the input. Coded: see _coded
      check     8 bytes: BLAKE2b of all input up to here

A frame's text is decoded, CRLF becomes LF, and characters that the model does not know are stored separately.
The rest is cut into blocks, which are coded side by side: each begins from the network's initial state, which
costs a few dozen bits. A model that learns what it has coded, see charrnn.counts.growing, takes a frame as
one block, one after another. All of this, every frequency included, depends on the bytes and the model alone:
numpy_network and products.exact_gemm compute the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import MOST_REMEMBERED, CacheConfig, TextConfig
from charrnn.errors import CompressionError, ConfigError
from charrnn.scoring.block_coder import DAMAGED, BlockCoder, Ids
from charrnn.vocabulary import code_points, positions, text_of

Report = Callable[[int], None]  # takes the number of input bytes done

MAGIC = b"\x93crnn"
VERSION, ADAPTIVE, LOOKING = 1, 2, 3
FRAME = 1 << 22  # bytes of input
BLOCK = 1 << 16  # characters: a new start costs about 0.1 % of it
END, STORED, CODED = range(3)
CRLF, OWN_ENCODING = 1, 2  # flags of a coded frame
CHECK = 8  # bytes

_CUT = "it is cut short", "get it anew: its end is missing"
_FOREIGN = "it is no file that charrnn compress wrote", "give one that it wrote"


def fingerprint(checkpoint: Checkpoint) -> bytes:
    """8 bytes, a hash of everything that the model's predictions depend on, but a cache."""
    config = checkpoint.config.to_dict()
    del config["dropout"]  # which only training uses
    about = {
        "model": config,
        "vocabulary": checkpoint.vocabulary.characters,
        "text": checkpoint.text.to_dict(),
    }
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8)
    for name in checkpoint.config.parameter_shapes():
        digest.update(np.ascontiguousarray(checkpoint.tensors[name], "<f4").data)
    if checkpoint.counts is not None:
        for name, tensor in checkpoint.counts.tensors().items():
            digest.update(name.encode() + tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
    return digest.digest()


def compress(
    checkpoint: Checkpoint,
    chunks: Iterable[bytes],
    threads: int | None = None,
    report: Report = lambda done: None,
    *,
    adaptive: bool = False,
) -> Iterator[bytes]:
    """The compressed file, in pieces; it does not depend on the chunks or the threads."""
    version, cache = bytes([ADAPTIVE if adaptive else VERSION]), checkpoint.cache
    if cache is None:
        yield MAGIC + version + fingerprint(checkpoint)
    else:
        numbers = struct.pack("<3d", cache.theta, cache.weight, cache.doubt)
        yield MAGIC + bytes([LOOKING]) + fingerprint(checkpoint) + version + _varint(cache.size) + numbers
    coder = BlockCoder(checkpoint, threads, adaptive=adaptive)
    seen = hashlib.blake2b(digest_size=CHECK)
    done = 0
    for data in _frames(chunks):
        seen.update(data)
        coder.report = _within(report, done, len(data))
        payload = _coded(data, checkpoint, coder, first=done == 0)
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
    """The original bytes, frame by frame, each once its check has passed.

    Raises:
        CompressionError: this is no such file, it is damaged or cut short, or was made with another model.
    """
    source = _Source(chunks)
    if source.take(len(MAGIC), _FOREIGN) != MAGIC:
        raise CompressionError(*_FOREIGN)
    if (version := source.byte()) not in (VERSION, ADAPTIVE, LOOKING):
        raise CompressionError(f"it was made by a newer charrnn (its format is {version})", "upgrade charrnn")
    wanted, own = source.take(8), fingerprint(checkpoint)
    if wanted != own:
        raise CompressionError(
            f"it was compressed with another model (fingerprint {wanted.hex()}, not {own.hex()})",
            "give that model with -m",
        )
    checkpoint = replace(checkpoint, cache=None)
    if version == LOOKING:
        version = source.byte()
        checkpoint = replace(checkpoint, cache=_cache(source))
        if version not in (VERSION, ADAPTIVE):
            raise CompressionError(*DAMAGED)
    coder = BlockCoder(checkpoint, threads, adaptive=version == ADAPTIVE)
    seen = hashlib.blake2b(digest_size=CHECK)
    first = True
    while (kind := source.byte()) != END:
        if kind not in (STORED, CODED):
            raise CompressionError(*DAMAGED)
        payload = source.take(source.varint(FRAME))
        coder.report = _within(report, source.taken - len(payload), len(payload))
        check = source.take(CHECK)
        data = payload if kind == STORED else _decoded(payload, checkpoint, coder, first)
        seen.update(data)
        if seen.digest() != check:
            raise CompressionError(*DAMAGED)
        yield data
        first = False
    if not source.at_end():
        raise CompressionError("something follows its end", "get it anew, or cut that off")


def _within(report: Report, done: int, size: int) -> Callable[[float], None]:
    """Turn the share done of the next `size` bytes into a number of bytes for `report`."""
    return lambda share: report(done + int(share * size))


def _frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) > FRAME:
            cut = buffer.rfind(b"\n", FRAME // 2, FRAME) + 1 or FRAME
            while cut > FRAME - 3 and buffer[cut] & 0xC0 == 0x80:
                cut -= 1  # not within a UTF-8 sequence
            yield bytes(buffer[:cut])
            del buffer[:cut]
    if buffer:
        yield bytes(buffer)


class _Source:
    """A reader of bytes that come in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self.taken = 0  # bytes

    def take(self, count: int, otherwise: tuple[str, str] = _CUT) -> bytes:
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise CompressionError(*otherwise)
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.taken += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int) -> int:
        value = 0
        for shift in range(0, 35, 7):
            last = self.byte()
            value |= (last & 0x7F) << shift
            if last < 0x80:
                break
        if value > most:
            raise CompressionError(*DAMAGED)
        return value

    def at_end(self) -> bool:
        return not self._buffer and not any(self._chunks)


def _cache(source: _Source) -> CacheConfig:
    """The cache that a header describes."""
    try:
        return CacheConfig(source.varint(MOST_REMEMBERED), *struct.unpack("<3d", source.take(3 * 8)))
    except ConfigError:
        raise CompressionError(*DAMAGED) from None


def _varint(value: int) -> bytes:
    """300 is 10101100 00000010."""
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _coded(data: bytes, checkpoint: Checkpoint, coder: BlockCoder, first: bool) -> bytes | None:
    """The payload of a coded frame, or None if the model does not know more than half of the text:

    flags     1 byte: CRLF, OWN_ENCODING
    unknown   varint: the number of bytes that follow, compressed by zlib; see _pack_unknown
    blocks    varint: their number; then, for each, two varints: its characters and its words
    then, for each block, the coder's state (8 bytes) and its words (4 each)
    """
    text, flags = _text(data, checkpoint.text)
    points = code_points(text)
    characters = checkpoint.vocabulary.code_points[: checkpoint.config.vocab_size]  # without END
    ids = positions(characters, points).astype(np.int32)
    where, known = np.flatnonzero(ids < 0), ids[ids >= 0]
    if len(where) > len(known):
        return None
    blocks = [known[low:high] for low, high in itertools.pairwise(_cuts(known, coder))]
    coded = coder.encode(blocks, first)
    unknown = _pack_unknown(where, "".join(map(chr, points[where].tolist()))) if len(where) else b""
    parts = [bytes([flags]), _varint(len(unknown)), unknown, _varint(len(blocks))]
    for block, (_, words) in zip(blocks, coded, strict=True):
        parts += [_varint(len(block)), _varint(len(words))]
    for state, words in coded:
        parts += [struct.pack("<Q", state), words.astype("<u4").tobytes()]
    return b"".join(parts)


def _decoded(payload: bytes, checkpoint: Checkpoint, coder: BlockCoder, first: bool) -> bytes:
    """The bytes that were coded. Damage raises, or gives other bytes, which the check detects."""
    source, longest = _Source([payload]), _block(coder)
    try:
        flags = source.byte()
        where, unknown = _unpack_unknown(source.take(source.varint(len(payload))))
        sizes = [
            (source.varint(2 * longest), source.varint(2 * longest + 1))
            for _ in range(source.varint(FRAME // longest + 1))
        ]
        blocks = [
            (n, *struct.unpack("<Q", source.take(8)), np.frombuffer(source.take(4 * words), "<u4"))
            for n, words in sizes
        ]
        ids = np.concatenate([np.empty(0, np.int32), *coder.decode(blocks, first)])
        known = np.ones(len(ids) + len(where), np.bool_)
        known[where] = False
        points = np.empty(len(known), "<u4")
        points[where] = code_points(unknown)
        points[known] = checkpoint.vocabulary.code_points[ids]
        text = text_of(points)
        if source.at_end():
            return _bytes(text, flags, checkpoint.text)
    except (ValueError, IndexError, zlib.error) as error:
        raise CompressionError(*DAMAGED) from error
    raise CompressionError(*DAMAGED)


def _text(data: bytes, config: TextConfig) -> tuple[str, int]:
    """The text of these bytes, and the flags that `_bytes` needs to restore them exactly."""
    if config.bytes:
        return data.decode("latin-1"), 0
    text, flags = data.decode("utf-8", "surrogateescape"), 0  # lossless for any bytes
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


def _pack_unknown(where: npt.NDArray[np.int64], characters: str) -> bytes:
    """zlib's bytes of: the number of characters (4 bytes), the width of a gap (1), the gaps between their
    positions (1, 2 or 4 bytes each), the characters in UTF-8."""
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


def _block(coder: BlockCoder) -> int:
    """The characters of a block, about."""
    return FRAME if coder.adaptive else BLOCK


def _cuts(ids: Ids, coder: BlockCoder) -> list[int]:
    """The boundaries of blocks, after a newline where one is near."""
    block = _block(coder)
    count = max(1, round(len(ids) / block))
    cuts = [0]
    for n in range(1, count):
        wanted = len(ids) * n // count
        near = np.flatnonzero(ids[wanted : wanted + block // 4] == coder.newline)
        cuts.append(wanted + int(near[0]) + 1 if len(near) else wanted)
    return [*cuts, len(ids)] if len(ids) else [0]
