"""Guesses the encoding of bytes that are invalid in the expected one. Used only for hints in messages."""

from __future__ import annotations

SAMPLE = 1 << 16  # the most bytes examined

_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# Encodings common in files from Windows and the web; rarer ones would match almost any bytes.
_NARROW = (
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874",
    "cp866", "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15", "koi8-r",
    "koi8-u", "mac-roman", "gb18030", "big5", "shift_jis", "cp932", "euc-jp", "euc-kr", "cp949",
)  # fmt: skip
# Detected superset -> the familiar encoding, from which most texts cannot tell it apart.
_USUAL = {"cp932": "shift_jis", "big5hkscs": "big5", "euc_jis_2004": "euc-jp", "koi8-u": "koi8-r"}


def likely_encoding(data: bytes) -> str | None:
    """The likely encoding of a text's beginning, or of whole lines of it; None if none fits.

    Windows code pages come before ISO's, which have invisible controls in place of quotes and dashes.
    """
    wide = b"\0" in data
    # Only non-ASCII lines are evidence, and only whole ones: a truncated character would mislead.
    data = data[: SAMPLE & ~3] if wide else _telling_lines(data)
    if not data:
        return None
    from chardet import detect  # not at the top: large, and rarely needed

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
