"""The page stands on its own: nothing from elsewhere, every text escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path

from fv_jax.reporting import page, tables
from fv_jax.reporting.tables import Table

CLIPS = [{"text": "<b> & a", "fake": "clips/0.mp4", "real": "clips/0.gif"}]
VOID = ("meta", "img", "br")


class Balanced(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def whole():
    table = page.table(Table("T", ["a"], [["<x>"], ["2"]], (1,), ("run `fv`",)))
    bench = tables.read_results([Path("experiments/results")], "efficiency")[0]
    parts = [table, page.picture("p.png", "q"), page.pairs(CLIPS), page.efficiency_plot(bench)]
    return page.page("Title & more", [("Heading", parts)])


def test_it_is_html_with_relative_links_only():
    text = whole()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert parser.links == ["p.png", "clips/0.mp4", "clips/0.gif"]
    assert "<script" not in text
    assert not re.search(r"https?://", text)


def test_texts_are_escaped_and_ours_is_marked():
    text = whole()
    assert "&lt;x&gt;" in text
    assert "&lt;b&gt; &amp; a" in text
    assert "<tr class=ours><td>2</td></tr>" in text
    assert "run <code>fv</code>" in text


def test_clips_play_and_the_plot_has_a_line_for_every_way():
    text = whole()
    assert '<video class="clip" src="clips/0.mp4" autoplay loop muted' in text
    assert '<img class="clip" src="clips/0.gif"' in text
    assert text.count('fill="none" stroke=') == 7
