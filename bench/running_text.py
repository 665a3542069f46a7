"""Running text in many languages, out of packages: message catalogues, manuals, sayings, a declaration; and
words, out of the lists of spelling checkers.

A line is a paragraph, or a sentence of a long one, each once. It is no prose, and left out, if it has
placeholders, markup or addresses, few letters, or many English words; or if it is long and has no mark at
all in a language that cannot do without (it was typed without them, or is another language).
"""

from __future__ import annotations

import functools
import gzip
import io
import random
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import packages
from texts import messages

LONGEST = 500  # characters of a line; a longer paragraph is cut into sentences
ALWAYS_MARKED = {"cs", "pl", "ro", "vi"}
LONG_WITHOUT_MARKS = 60  # letters
NOT_LATIN = {
    "am", "ar", "be", "bg", "bn", "el", "fa", "gu", "he", "hi", "hy", "ja", "ka", "kn", "ko", "ku", "lo",
    "ml", "mr", "or", "pa", "ru", "sr", "ta", "te", "th", "uk", "ur", "zh",
}  # fmt: skip
# How packages call a language, if not by its two letters, a country after them or not.
LOCALES = {
    "nb": "no", "nb_NO": "no", "nb-NO": "no", "ckb": "ku", "ku_IQ": "ku", "C": "en", "nn": "", "ku": "",
}  # fmt: skip
# The declaration's files, by language; there is none in Kurdish with Arabic letters.
DECLARATIONS = {
    "am": "amh", "ar": "arb", "az": "azj_latn", "be": "bel", "bg": "bul", "bn": "ben", "ca": "cat",
    "cs": "ces", "da": "dan", "de": "deu_1996", "el": "ell_monotonic", "en": "eng", "es": "spa",
    "et": "est", "eu": "eus", "fa": "pes_1", "fi": "fin", "fr": "fra", "gu": "guj", "he": "heb",
    "hi": "hin", "hr": "hrv", "hu": "hun", "hy": "hye", "is": "isl", "it": "ita", "ja": "jpn", "ka": "kat",
    "kn": "kan", "ko": "kor", "lo": "lao", "lt": "lit", "lv": "lav", "ml": "mal", "mr": "mar",
    "ms": "mly_latn", "nl": "nld", "no": "nob", "pa": "pan", "pl": "pol", "pt": "por_PT", "ro": "ron_2006",
    "ru": "rus", "sk": "slk", "sl": "slv", "sq": "als", "sr": "srp_cyrl", "sv": "swe", "ta": "tam",
    "te": "tel", "th": "tha", "tl": "tgl", "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "yo": "yor",
    "zh": "cmn_hans",
}  # fmt: skip
ENGLISH = {
    "the", "and", "with", "that", "this", "you", "your", "from", "which", "when", "have", "has", "been",
    "should", "into", "used", "these", "their", "not", "will", "be", "by", "are", "for", "is", "of", "it",
}  # fmt: skip
# Paths of what is read, each with the language as packages call it.
CATALOGUE = re.compile(r"(?:locale|resource)/([\w@-]+)/LC_MESSAGES/[^/]+\.mo$")
PAGE = re.compile(
    r"(?:share/help|debian-handbook/html|installation-guide-\w+|libreoffice/help|gimp/2.0/help)/([\w-]+)/.*\.(?:html|page)$"
)
MANUAL = re.compile(r"share/man/([\w@-]+)/man\d/[^/]+\.gz$")
# Those in Czech have Slovak ones among them.
SAYING = re.compile(r"games/fortunes/(?:.*/)?[^./]+(?<!-sk)(?:\.u8)?$")
# A zip of Fluent files; and what has a list's encoding, or is one.
LANGUAGE_PACK = re.compile(r"langpack-([\w-]+)@[\w.-]+\.xpi$")
WORD_LIST = re.compile(r"share/hunspell/([a-z]{2})(?:_[A-Z]{2})?\.(aff|dic)$")
WORDS_OF_A_LINE = 12
NO_PROSE = re.compile(r"[%{}<>\\|=$@#^*_~\ufffd\x00]|://|www\.")


@dataclass
class Source:
    """What was taken of a package for a language."""

    package: str
    version: str
    licence: str = ""
    lines: list[str] = field(default_factory=list)


# --- from packages to paragraphs -------------------------------------------------------------------


def by_language(archive: Path, package: str, wanted: Iterable[str]) -> dict[str, Source]:
    """The clean lines in a package, by language."""
    wanted = set(wanted)
    found: dict[str, Source] = {}
    licence = "see the package"
    for path, content in packages.members(archive):
        if path.endswith(f"share/doc/{package}/copyright") or path == "package/license":
            licence = _licence(content.decode("utf-8", "replace"))
            continue
        language, paragraphs = _paragraphs(path, content, package)
        if language in wanted:
            source = found.setdefault(language, Source(package, packages.version(archive)))
            for paragraph in paragraphs:
                source.lines += clean(paragraph, language)
    for source in found.values():
        source.licence = licence
    return found


def _licence(text: str) -> str:
    """The licences that a copyright file names."""
    if "MIT License" in text:
        return "MIT"
    names = dict.fromkeys(re.findall(r"^License: *([^\n,]+)", text, re.MULTILINE))
    if not names:
        names = dict.fromkeys(re.findall(r"(?:Lesser )?General\s+Public\s+License|Creative Commons", text))
    return " | ".join([" ".join(name.split()) for name in names][:5]) or "see the package"


def _paragraphs(path: str, content: bytes, package: str) -> tuple[str, Iterable[str]]:
    """A file's language, "" if it is none that is read, and its paragraphs."""
    if found := CATALOGUE.search(path):
        return _code(found[1]), map(_without_mnemonics, messages(content))
    if found := LANGUAGE_PACK.search(path):
        return _code(found[1]), _of_language_pack(content)
    if found := PAGE.search(path):
        return _code(found[1]), _of_page(content.decode("utf-8", "replace"))
    if found := MANUAL.search(path):
        return _code(found[1]), _of_manual(gzip.decompress(content).decode("utf-8", "replace"))
    if found := SAYING.search(path):
        return package.removeprefix("fortunes-"), _of_sayings(content)
    if path.startswith("package/declaration/"):
        name = path.rpartition("/")[2].removesuffix(".html")
        language = next((code for code, file in DECLARATIONS.items() if file == name), "")
        return language, _of_page(content.decode("utf-8"))
    return "", ()


def _code(locale: str) -> str:
    """Two letters; "" for a variant in other letters, which a name with an @ is."""
    plain = re.fullmatch(r"([a-z]{2})(?:[-_][A-Z]{2})?", locale)
    return LOCALES.get(locale, plain[1] if plain else "")


def _without_mnemonics(message: str) -> str:
    """A label without the mark before the letter of its short cut, and without its tags."""
    return re.sub(r"(?<![\w])[_~&](?=\w)|(?<=\w)[~&](?=\w)", "", re.sub(r"<[^<>]{1,80}>", "", message))


class _Page(HTMLParser):
    """The paragraphs of an HTML or Mallard page."""

    BLOCKS: ClassVar = {
        "p", "li", "dd", "dt", "td", "th", "h1", "h2", "h3", "h4", "h5", "title", "desc", "div", "item",
        "section", "tr", "ul", "ol", "dl", "table", "br", "body", "header", "article", "note", "page",
        "steps", "list",
    }  # fmt: skip
    # Classes; LibreOffice's help has both names of a menu, that on a Mac and the other.
    UNWANTED: ClassVar = {"MAC", "navheader", "navfooter"}
    SKIPPED: ClassVar = {"script", "style", "pre", "screen", "code", "head", "nav", "footer", "info", "svg"}

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._skipped: list[str] = []  # the tag that is skipped, as often as it is open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        unwanted = tag in self.SKIPPED or self.UNWANTED & set((dict(attrs).get("class") or "").split())
        if tag in self._skipped or (not self._skipped and unwanted):
            self._skipped.append(tag)
        elif tag in self.BLOCKS:
            self.flush()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if tag == self._skipped[-1]:
                self._skipped.pop()
        elif tag in self.BLOCKS:
            self.flush()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def flush(self) -> None:
        self.paragraphs.append("".join(self._text))
        self._text.clear()


def _of_page(text: str) -> list[str]:
    page = _Page()
    page.feed(text)
    page.close()
    page.flush()
    return page.paragraphs


def _of_manual(text: str) -> list[str]:
    """The paragraphs of a page in roff; what is filled as it stands is left out."""
    paragraphs: list[list[str]] = [[]]
    verbatim = False
    for line in text.splitlines():
        request, *words = line.split() or [""]
        if request in (".nf", ".EX", ".fi", ".EE"):
            verbatim = request in (".nf", ".EX")
        if verbatim or line.startswith((r".\"", "'", r"\"")):
            continue
        if request in (".B", ".I"):
            paragraphs[-1].append(" ".join(words))
        elif re.fullmatch(r"\.[BIR]{2}", request):  # of two fonts in turn, without a space between
            paragraphs[-1].append("".join(words))
        elif request.startswith(".") or not request:
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    joined = ("\n".join(lines) for lines in paragraphs)
    marks = {r"\-": "-", r"\(aq": "'", r"\(lq": "“", r"\(rq": "”", r"\(dq": '"', r"\~": " ", r"\ ": " "}
    found = []
    for paragraph in joined:
        paragraph = re.sub(r"\\f(?:\(..|\[.*?\]|.)|\\[&,/:%^|]", "", paragraph)
        for mark, character in marks.items():
            paragraph = paragraph.replace(mark, character)
        found.append(paragraph)
    return found


def _of_sayings(content: bytes) -> list[str]:
    """The paragraphs of sayings between lines of "%"; none if they are not in UTF-8."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return []
    found = []
    for saying in re.split(r"^%.*\n", text, flags=re.MULTILINE):
        kept = [line for line in saying.splitlines() if not re.match(r"\s*(?:--|\[)", line)]  # not by whom
        found += re.split(r"\n\s*\n", "\n".join(kept))
    return found


def _of_language_pack(content: bytes) -> list[str]:
    """The messages of the Fluent files of Firefox."""
    found: list[str] = []
    with zipfile.ZipFile(io.BytesIO(content)) as pack:
        for name in sorted(pack.namelist()):
            if name.endswith(".ftl"):
                found += _of_fluent(pack.read(name).decode("utf-8"))
    return found


def _of_fluent(text: str) -> list[str]:
    """The texts of messages, attributes and variants: "key =", ".title =" and "[one]" begin one."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("#") or line.strip() == "}":  # the end of variants
            continue
        begins = re.match(r"(?:-?[A-Za-z][\w-]* *=|\s+\.[\w-]+ *=|\s+\*?\[[\w-]+\])(.*)", line)
        if begins or not found:
            found.append([begins[1] if begins else line])
        else:
            found[-1].append(line)
    name = re.compile(r"\{ *-[\w-]+(?:\([^()]*\))? *\}")  # the program's, in any of its cases
    return [name.sub("Firefox", "\n".join(lines)) for lines in found]


def word_lists(archive: Path, package: str, wanted: Iterable[str], most: int) -> dict[str, Source]:
    """By language, lines of words of a spelling checker, in a random order, of up to so many characters."""
    wanted, found, encoding, licence = set(wanted), {}, "utf-8", "see the package"
    for path, content in packages.members(archive):
        if path.endswith(f"share/doc/{package}/copyright"):
            licence = _licence(content.decode("utf-8", "replace"))
        elif (match := WORD_LIST.search(path)) and _code(match[1]) in wanted:
            if match[2] == "aff":
                named = re.search(rb"^SET\s+(\S+)", content, re.MULTILINE)
                encoding = named[1].decode().replace("microsoft-", "") if named else "utf-8"
                continue
            source = Source(package, packages.version(archive))
            source.lines = _lines_of_words(content.decode(encoding, "replace"), most)
            found.setdefault(_code(match[1]), source)
    for source in found.values():
        source.licence = licence
    return found


def _lines_of_words(text: str, most: int) -> list[str]:
    """Lines of words drawn from "word/FLAGS" each; the first line is their number."""
    words = [line.partition("/")[0].split()[0] for line in text.splitlines()[1:] if line[:1].isalpha()]
    random.Random(0).shuffle(words)
    lines, length = [], 0
    for n in range(0, len(words), WORDS_OF_A_LINE):
        if length >= most:
            break
        lines.append(unicodedata.normalize("NFC", " ".join(words[n : n + WORDS_OF_A_LINE])))
        length += len(lines[-1])
    return lines


# --- from paragraphs to lines ----------------------------------------------------------------------


def clean(paragraph: str, language: str) -> Iterator[str]:
    """The lines of a paragraph that are prose in the language."""
    text = unicodedata.normalize("NFC", " ".join(paragraph.split()))
    text = re.sub("[\u00ad\u200b-\u200f\u2060\ufeff]", "", text)
    if language == "ro":  # letters with a cedilla were written for want of those with a comma
        text = text.translate(str.maketrans("şţŞŢ", "șțȘȚ"))
    for line in [text] if len(text) <= LONGEST else re.split(r"(?<=[.!?…。।])\s+", text):
        if len(line) <= LONGEST and is_prose(line, language):
            yield line


@functools.cache
def _is_latin(character: str) -> bool:
    return unicodedata.name(character, "").startswith("LATIN")


def is_prose(line: str, language: str) -> bool:
    """Whether a line is text in the language, as far as that is seen without knowing it."""
    letters = [c for c in line if c.isalpha() or unicodedata.category(c)[0] == "M"]
    others = len(line) - line.count(" ") - len(letters)
    if len(letters) < 10 or 3 * others > len(letters) or NO_PROSE.search(line):
        return False
    latin = sum(map(_is_latin, letters))
    if latin > 0.4 * len(letters) if language in NOT_LATIN else latin < 0.9 * len(letters):
        return False
    words = re.findall(r"\w+", line.lower())
    if line.isupper() or (language != "en" and sum(word in ENGLISH for word in words) > 0.12 * len(words)):
        return False
    marked = any(not c.isascii() for c in letters)
    return marked or language not in ALWAYS_MARKED or len(letters) < LONG_WITHOUT_MARKS


def key(line: str) -> str:
    """What two lines share that count as the same: their letters, without marks and case."""
    plain = unicodedata.normalize("NFD", line.casefold()).replace("đ", "d").replace("ł", "l")
    kept = "".join(c for c in plain if c.isalpha())
    return kept or line


def distinct(sources: Iterable[Source], seen: Iterable[str] = ()) -> list[Source]:
    """The sources with each line once, at its first place, and without those that were `seen` elsewhere."""
    had = {key(line) for line in seen}
    kept = []
    for source in sources:
        lines = []
        for line in source.lines:
            if (mark := key(line)) not in had:
                had.add(mark)
                lines.append(line)
        kept.append(Source(source.package, source.version, source.licence, lines))
    return kept
