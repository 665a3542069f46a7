"""What encoding bytes look like that are no text in the one that was expected. For hints alone."""

from __future__ import annotations

SAMPLE = 1 << 16  # bytes that are looked at, at the most

_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# What people have, since Windows and the web wrote it; of others there is too much that looks like anything.
_NARROW = (
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874",
    "cp866", "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15", "koi8-r",
    "koi8-u", "mac-roman", "gb18030", "big5", "shift_jis", "cp932", "euc-jp", "euc-kr", "cp949",
)  # fmt: skip
# Supersets that are told apart by nothing in most texts, and the name that people know.
_USUAL = {"cp932": "shift_jis", "big5hkscs": "big5", "euc_jis_2004": "euc-jp", "koi8-u": "koi8-r"}


def likely_encoding(data: bytes) -> str | None:
    """Which encoding the beginning of a text, or whole lines of it, may be in; None: they look like nothing.

    Windows' code pages come before ISO's, which have invisible controls where those have quotes and dashes.
    """
    wide = b"\0" in data
    # Only what is no ASCII says anything. A character that is cut off says the wrong thing.
    data = data[: SAMPLE & ~3] if wide else _telling_lines(data)
    if not data:
        return None
    from chardet import detect  # not at the top: it is large, and hardly ever needed

    found: str | None = detect(
        data,
        include_encodings=("ascii", *(_WIDE if wide else _NARROW)),
        no_match_encoding="ascii",
        prefer_superset=True,
        compat_names=False,
    )["encoding"]
    if found is None or found == "ascii":
        return None
    usual = _USUAL.get(found, found)
    return usual if _decoded(data, usual) == _decoded(data, found) else found


def _telling_lines(data: bytes) -> bytes:
    lines: list[bytes] = []
    size = 0
    for line in data.splitlines(keepends=True):
        if not line.isascii() and (not lines or size + len(line) <= SAMPLE):
            lines.append(line[:SAMPLE])
            size += len(line)
    return b"".join(lines)


def _decoded(data: bytes, encoding: str) -> str:
    return data.decode(encoding, "replace")
