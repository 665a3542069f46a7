"""Maps of surprise: nothing of the text is lost, nothing of it is markup, each level has its sign."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charrnn.errors import CharrnnError
from charrnn.scoring import heatmap
from charrnn.vocabulary import END

text_and_bits = st.lists(
    st.tuples(
        st.characters(codec="utf-8") | st.sampled_from("<&>'\"\n\t\x1b\x00☃é\u202e\ud83d\udcff"),
        st.floats(0, 40) | st.just(float("nan")),
    ),
    max_size=40,
)


def pieces(pairs, name="file"):
    """The pairs in two pieces."""
    for part in (pairs[:7], pairs[7:]):
        if part:
            yield name, "".join(c for c, _ in part), [bits for _, bits in part]


def shown(character, bits):
    return heatmap.shown(character, plain=heatmap.SURPRISE.level(bits) == 0)


def seen(pairs):
    """The text as it is shown."""
    return "".join(shown(c, b) + "\n" * (c in heatmap.ROW_ENDS) for c, b in pairs)


def test_levels_rise_with_the_bits():
    assert [heatmap.SURPRISE.level(b) for b in (0, 0.99, 1, 2.5, 11.9, 12, 1e9)] == [0, 0, 1, 2, 6, 7, 7]
    assert heatmap.SURPRISE.level(float("nan")) == 7
    assert len(heatmap.COLORS) == len(heatmap.BOUNDS) == len(heatmap.MARKS) - 1


def test_values_have_a_fixed_symmetric_scale():
    scale, bounds = heatmap.values_of("1:3", "tanh(c)"), heatmap.VALUE_BOUNDS
    assert [scale.level(v) for v in (-1, -0.5, -0.09, 0, 0.09, 0.5, 1)] == [0, 2, 4, 4, 4, 6, 8]
    assert bounds == tuple(-bound for bound in reversed(bounds))
    assert len(scale.colors) == len(scale.marks) == len(scale.legend) == len(bounds) + 1
    assert scale.plain == scale.level(0)


def test_colours_darken_and_can_be_read():
    def luminance(colour):  # relative, as WCAG 2 defines it
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    back = [luminance(b) for b, _ in heatmap.COLORS]
    assert back == sorted(back, reverse=True)
    for background, foreground in (*heatmap.COLORS, *filter(None, heatmap.VALUE_COLORS)):
        low, high = sorted((luminance(background), luminance(foreground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@given(text_and_bits)
@example([(END, 1.0), ("0", 1.0)])
def test_a_terminal_gets_the_text_and_no_control_characters(pairs):
    out = "".join(heatmap.painted(pieces(pairs), lambda text, level: f"\x01{level}{text}\x02"))
    body = out.rpartition("\nbits: ")[0]
    plain = re.sub("\x01[0-7]|\x02", "", body)
    assert plain == seen(pairs) + "\n" * bool(pairs and pairs[-1][0] not in heatmap.ROW_ENDS)


@given(text_and_bits)
def test_marks_stand_below_their_characters(pairs):
    out = "".join(heatmap.marked(pieces(pairs)))
    assert all(c == "\n" or c.isprintable() for c in out)
    if not pairs:
        return
    rows = out.rpartition("\nbits: ")[0].split("\n")
    for n in range(0, len(rows) - 1, 2):
        assert heatmap.width(rows[n]) <= heatmap.MARKED_COLUMNS
        assert set(rows[n + 1]) <= set(heatmap.MARKS)
        assert len(rows[n + 1]) <= heatmap.width(rows[n])


def test_an_example_of_marks():
    out = "".join(heatmap.marked([("f", "ab\tc\n", [0.5, 3.5, 20.0, 1.0, 5.0])]))
    assert out.startswith("ab\\tc↵\n ▃██▁▄\n")
    assert "5 characters" in out


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.inside, self.text, self.titles, self.tags = False, "", [], set()

    def handle_starttag(self, tag, attrs):
        self.inside |= tag == "pre"
        self.tags.add(tag)
        self.titles += [value for name, value in attrs if name == "title"]

    def handle_endtag(self, tag):
        self.inside &= tag != "pre"

    def handle_data(self, data):
        self.text += data * self.inside


@given(text_and_bits)
def test_a_page_holds_the_text_with_a_title_for_each_character(pairs):
    page = "".join(heatmap.html(pieces(pairs, "<b>&\n")))
    page.encode()
    parser = Text()
    parser.feed(page)
    assert parser.text.removeprefix("\n") == seen(pairs)
    assert len(parser.titles) == sum(bool(shown(c, b)) for c, b in pairs)
    assert parser.tags <= {
        "html", "head", "meta", "title", "style", "body", "p", "i", "h2", "pre"
    }  # fmt: skip
    assert "http" not in page  # it needs no other file


def test_a_page_of_a_unit_holds_what_comes_next_and_allows_nothing_but_its_style():
    scale = heatmap.values_of("2:7", "tanh(c)")
    page = "".join(heatmap.html([("f", "<\n", [-0.95, 0.0], ["next '</p>' 50%", 'next "a" 1%'])], scale))
    parser = Text()
    parser.feed(page)
    assert parser.titles == ["< (U+003C): -0.950; next '</p>' 50%"], (
        "a plain newline has no place to point at"
    )
    assert parser.text == "\n<\n"
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "Unit 2:7: tanh(c) after each character" in page


@given(text_and_bits)
def test_a_picture_is_whole_xml_with_a_title_for_each_character(pairs):
    picture = "".join(heatmap.svg(pieces(pairs, "<b>&\n")))
    root = ElementTree.fromstring(picture.encode())
    space = "{http://www.w3.org/2000/svg}"
    drawn = root.findall(f"{space}g")[8:-1]  # without the legend and the sum
    assert all(group.find(f"{space}title").text for group in drawn)
    wanted = [shown(c, b) for c, b in pairs]
    kept = [
        w
        for w, (_, b) in zip(wanted, pairs, strict=True)
        if w and (heatmap.SURPRISE.level(b) or not w.isspace())
    ]
    assert [group.find(f"{space}text").text for group in drawn] == kept


def test_a_picture_has_a_limit(monkeypatch):
    monkeypatch.setattr(heatmap, "SVG_LONGEST", 3)
    with pytest.raises(CharrnnError, match="--html"):
        list(heatmap.svg([("f", "abcd", [1.0] * 4)]))


def test_files_are_told_apart():
    two = [("one", "a", [1.0]), ("two", "b\n", [1.0, 0.0]), ("three", "c", [9.0])]
    for out in (heatmap.marked(two), heatmap.painted(two, lambda text, _: text)):
        joined = "".join(out)
        assert "==> two <==" in joined
        assert "==> three <==" in joined
        assert "==> one <==" not in joined
    assert "<h2>two</h2>" in "".join(heatmap.html(two))


def test_a_title_says_what_it_is():
    assert heatmap.SURPRISE.title("<", 3.0) == "< (U+003C): 3.00 bits, 1 in 8"
    assert heatmap.SURPRISE.title("\x1b", 5000.0) == "\\x1b (U+001B): 5000.00 bits, next to impossible"
    assert heatmap.values_of("1:3", "h").title("\U0010ffff", -0.25) == "the end: -0.250"
