"""What stripping leaves of texts; restoring changes nothing else, whatever the text and the network."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn.checkpoint.model_file import Checkpoint
from charrnn.config import STRIPS, ModelConfig, TextConfig
from charrnn.labels import Column
from charrnn.tasks.restoring.restorer import Restorer
from charrnn.tasks.restoring.stripping import FORCED, LONGEST, Operation, Stripping
from charrnn.vocabulary import Vocabulary, code_points

COMBINATIONS = [kinds for n in range(1, 5) for kinds in itertools.combinations(STRIPS, n)]
# What a network might tell, and what none should.
LABELS = (
    "=", "^", "=\u0301", "^\u0301", "=\u0327", "=\u0335", "=\u0338", "=\u031b\u0301", "=\u05b7", "^\u0307",
    "=|, ", "=|.", "^| ", "=|  ", "=| --", '=|"', "^\u0301|, ", "=|- ",
    "=|x", "=|\n", "=x", "^^", "|", "=||", "=\u0301\u0301\u0301|\u0301", "=|\u0301", "=| \u0301", "=|\ud7b0",
)  # fmt: skip
CHARACTERS = "\n abcdeilmnortu'đñя"

# Texts of what is near to what is stripped, and of anything at all, bytes that are no text among it.
ODD = (
    " \t\u00a0\u3000.,-—\"«¿'_\n\r\0aAeEéÉe\u0301ı İiIłŁøØđĐßẞǅǆΣςσйи\u0306ёЙåÅ\u212b\u212a\u1e9b\u0323ự"
    "\u05d0\u05b7\u0627\u0652が\u3099각\u1100\u1161ﬁ①"
)
texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec=None)), max_size=60)  # type: ignore[arg-type]
runs = st.builds(
    lambda parts: "".join(c * n for c, n in parts),
    st.lists(st.tuples(st.sampled_from(ODD), st.integers(1, 2 * FORCED + 9)), max_size=8),
)


def restorer(kinds: tuple[str, ...], seed: int = 0, *, lines: bool = False, redo: bool = False) -> Restorer:
    """A network of random weights, which is bold."""
    config = ModelConfig(
        len(CHARACTERS), hidden_size=4, num_layers=1, embedding_size=3, kind="restorer",
        targets=(len(LABELS),),
    )  # fmt: skip
    random = np.random.default_rng(seed)
    tensors = {
        name: (3 * random.standard_normal(shape)).astype(np.float32)
        for name, shape in config.parameter_shapes().items()
    }
    tensors["decoder.bias"][:] = 0  # which operation it is depends on the text
    labels = tuple(sorted(LABELS))
    checkpoint = Checkpoint(
        config, Vocabulary("".join(sorted(CHARACTERS))), TextConfig(strip=kinds, lines=lines), tensors,
        columns=(Column("", labels, (1,) * len(labels)),),
    )  # fmt: skip
    return Restorer(checkpoint, threads=1, redo=redo)


WHICH = list(itertools.product(COMBINATIONS, (False, True)))


@functools.cache
def bold(kinds: tuple[str, ...], redo: bool) -> Restorer:
    """A restorer for these, which chooses anew or not."""
    return restorer(kinds, WHICH.index((kinds, redo)), redo=redo)


@pytest.mark.parametrize(
    ("kinds", "text", "left"),
    [
        ("diacritics", "Příliš žluťoučký kůň, Łódź, đặt, Ørsted", "Prilis zlutoucky kun, Lodz, dat, Orsted"),
        ("diacritics", "e\u0301 ǿ Å", "e o A"),
        ("diacritics", "ı İ ёлка й Й ї \u05d1\u05bc\u05b7 أ", "i I елка й Й ї \u05d1 ا"),
        ("diacritics", "が 각 ß æ ½ ﬁ ก่", "が 각 ß æ ½ ﬁ ก่"),  # no marks that people leave out
        ("case", "ÉA ẞß Σς ǅ İ", "éa ẞß σς ǅ İ"),
        ("spaces", "a b\tc\u00a0d\ne", "abcd\ne"),
        ("punctuation", '- So -- it  is, "he said".  \n"Oh," x', "So it is he said\nOh x"),
        ("spaces,punctuation", '- So -- it is.\n"Oh"', "Soitis\nOh"),
        ("diacritics,case,spaces,punctuation", "Ó, Łódź!\n", "olodz\n"),
    ],
)
def test_stripping_leaves_this(kinds: str, text: str, left: str) -> None:
    stripping = Stripping(kinds.split(","))
    assert stripping.strip(text) == left
    assert stripping.strip(left) == left


@given(st.sampled_from(COMBINATIONS), texts)
def test_what_is_stripped_has_nothing_left_to_strip(kinds: tuple[str, ...], text: str) -> None:
    stripping = Stripping(kinds)
    left = stripping.strip(text)
    assert stripping.strip(left) == left


def _gaps(stripping: Stripping, text: str) -> list[str]:
    points = code_points("\n" + text)
    begins = stripping.clusters(points).begins.tolist()
    return [("\n" + text)[a:b] for a, b in zip(begins, [*begins[1:], len(points)], strict=True)]


@given(st.sampled_from(COMBINATIONS), st.one_of(texts, runs))
def test_clusters_are_the_text_and_none_is_long(kinds: tuple[str, ...], text: str) -> None:
    gaps = _gaps(Stripping(kinds), text)
    assert "".join(gaps) == "\n" + text
    assert max(map(len, gaps)) <= 2 * FORCED


@given(st.sampled_from(WHICH), st.one_of(texts, runs))
@example((("diacritics", "case"), False), "ǅ\u0301ßİ")
@example((("punctuation",), False), "a" + "-" * LONGEST + " b -- c" + " " * (FORCED - 2) + "- d")
@example((("punctuation",), True), 'a\t- b\n- "c" -\n\n' + "- " * FORCED)
@example((("diacritics", "spaces"), True), "a" + "\u0301" * (FORCED + 1) + " \u0301 b")
@example((("spaces",), False), " " * 50 * FORCED)
@example((("punctuation",), False), "a -" + " " * 50 * FORCED + "b" + "- " * 25 * FORCED)
@example((("spaces",), False), "x" * 700 + " " + "y" * 300 + "\r\n\r\nz")
def test_only_what_is_stripped_changes_whatever_the_text(
    which: tuple[tuple[str, ...], bool], text: str
) -> None:
    own = bold(*which)
    strip = own.stripping.strip
    assert strip(own.restore(text)) == strip(text)


@pytest.mark.parametrize("kind", STRIPS)
def test_these_networks_do_put_back_each_kind(kind: str) -> None:
    changed = []
    for which in (which for which in WHICH if kind in which[0]):
        own = bold(*which)
        text = own.stripping.strip("on a tin dome le moutarde in a little tune " * 12)
        left = Stripping([other for other in which[0] if other != kind]).strip
        changed.append(left(own.restore(text)) != left(text))
    assert sum(changed) > len(changed) // 2


@given(texts)
@example("'00ì")
def test_what_a_text_has_is_kept(text: str) -> None:
    own = bold(("diacritics", "case"), False)
    stripping, restored = own.stripping, own.restore(text)
    for before, after in zip(_gaps(stripping, text), _gaps(stripping, restored), strict=True):
        had, has = stripping.taken(before), stripping.taken(after)
        if had is not None and has is not None:
            assert has.upper >= had.upper
            assert has.marks == had.marks or not had.marks


@given(st.text("aAeEéÉ łŁđĐüÜ.\n"))
def test_what_a_text_has_is_chosen_anew_where_that_is_asked(text: str) -> None:
    own = bold(("diacritics", "case"), True)
    assert own.restore(text) == own.restore(own.stripping.strip(text))


@given(st.sampled_from(WHICH), st.one_of(texts, runs), st.data())
def test_a_text_is_restored_alike_however_it_arrives(
    which: tuple[tuple[str, ...], bool], text: str, data: st.DataObject
) -> None:
    own = bold(*which)
    text += data.draw(st.sampled_from(("", "", " " * 40 * FORCED, "- " * 30 * FORCED, "a b. " * 300)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    pieces = [("f", part) for part in parts if part] + [("f", None)]
    found = "".join(line.text + line.end for lines in own.lines(pieces) for line in lines)
    assert found == own.restore(text)


@given(st.sampled_from(("é", "Ǿ", "ự", "ł", "đ", "ñ", "Ё", "Å", "ı", "İ")), st.sampled_from(COMBINATIONS))
def test_what_is_taken_from_a_character_puts_it_back(character: str, kinds: tuple[str, ...]) -> None:
    stripping = Stripping(kinds)
    operation = stripping.taken(character)
    assert operation is not None
    assert Operation.of(operation.label) == operation
    assert stripping.put_back(stripping.source(character), operation, loose=False) == character
