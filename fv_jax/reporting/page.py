"""The report as a static page: tables, figures and playing clips, with nothing from elsewhere."""

import html
import math
import re
from collections.abc import Sequence
from typing import Any

from fv_jax.reporting.tables import Table, figure_6_cells

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left }
tr.ours { background: #fdf6e3; font-weight: 600 }
p.note { color: #555; font-size: 90%; margin: .2rem 0 }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 290px } figcaption { font-size: 85%; color: #555 }
.clip { width: 140px; image-rendering: pixelated } img.wide { max-width: 100% }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #18181c } tr.ours { background: #3a331c }
  td, th { border-color: #444 } p.note, figcaption { color: #aaa } }
"""
_COLORS = ("#c0392b", "#2471a3", "#7d3c98", "#1e8449", "#d68910", "#5d6d7e", "#a04000", "#117a65")
_WIDE, _HIGH, _LEFT, _BOTTOM = 520, 300, 60, 40  # px of the plot and its margins


def page(title: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A whole HTML document of sections, each a heading and parts made by the functions below."""
    body = "\n".join(
        f"<h2>{html.escape(heading)}</h2>\n" + "\n".join(parts) for heading, parts in sections
    )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    small = '<meta name="viewport" content="width=device-width">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}{small}</head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(values: Table) -> str:
    """A table with its title and notes."""
    out = []
    if values.rows:
        cells = lambda row, tag: "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row)
        rows = [
            f"<tr{' class=ours' if i in values.ours else ''}>{cells(row, 'td')}</tr>"
            for i, row in enumerate(values.rows)
        ]
        out += [f"<h3>{_text(values.title)}</h3>", f"<table><tr>{cells(values.header, 'th')}</tr>"]
        out += [*rows, "</table>"]
    out += [note(line) for line in values.notes]
    return "\n".join(out)


def heading(text: str) -> str:
    """Above a part of a section."""
    return f"<h3>{html.escape(text)}</h3>"


def note(text: str) -> str:
    """A line of small print; what is between backquotes is code."""
    return f'<p class="note">{_text(text)}</p>'


def picture(path: str, what: str) -> str:
    """An image by its path from the page."""
    return f'<img class="wide" src="{html.escape(path)}" alt="{html.escape(what)}">'


def pairs(clips: Sequence[dict[str, str]]) -> str:
    """Clips that play in a loop, ours beside the real one: dicts of `text`, `fake`, `real`."""
    figures = []
    for clip in clips:
        both = "".join(_clip(clip[kind]) for kind in ("fake", "real"))
        caption = f"{html.escape(clip['text'])}<br>left ours, right real"
        figures.append(f"<figure>{both}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="pairs">{"".join(figures)}</div>'


def efficiency_plot(result: dict[str, Any]) -> str:
    """Fig. 6 as SVG: ms per frame over the frames' side, logarithmic."""
    cells = figure_6_cells(result)
    lines: dict[str, list[tuple[int, float]]] = {}
    for cell in cells:
        for name, way in cell["ways"].items():
            lines.setdefault(name, []).append((cell["pixels"], 1e3 * way["seconds_per_frame"]))
    values = [value for points in lines.values() for _, value in points]
    low, high = (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))))
    pixels = [cell["pixels"] for cell in cells]
    across = max(pixels) - min(pixels) or 1
    x = lambda px: _LEFT + (_WIDE - _LEFT - 20) * (px - min(pixels)) / across
    y = lambda ms: (_HIGH - _BOTTOM) * (high - math.log10(ms)) / max(high - low, 1) + 10
    out = [f'<svg viewBox="0 0 {_WIDE + 260} {_HIGH}" width="{_WIDE + 260}" font-size="12">']
    for power in range(low, high + 1):
        at = y(10.0**power)
        out.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDE - 20}" stroke="#8886"/>')
        out.append(_word(_LEFT - 6, at + 4, f"{10.0**power:g}", "end"))
    for px in pixels:
        out.append(_word(x(px), _HIGH - 12, f"{px} px", "middle"))
    for i, (name, points) in enumerate(lines.items()):
        color = _COLORS[i % len(_COLORS)]
        path = "L".join(f"{x(px):.1f} {y(ms):.1f}" for px, ms in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [
            f'<circle cx="{x(px):.1f}" cy="{y(ms):.1f}" r="3" fill="{color}"/>' for px, ms in points
        ]
        out.append(f'<rect x="{_WIDE}" y="{20 + 20 * i}" width="12" height="12" fill="{color}"/>')
        out.append(_word(_WIDE + 18, 31 + 20 * i, name, "start"))
    out.append(_word(_LEFT, _HIGH - 30 + 28, "ms per frame", "end"))
    return "".join([*out, "</svg>"])


def _word(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"'
    return f"<text {place}>{html.escape(text)}</text>"


def _clip(path: str) -> str:
    source = html.escape(path)
    if path.endswith(".gif"):
        return f'<img class="clip" src="{source}" alt="">'
    return f'<video class="clip" src="{source}" autoplay loop muted playsinline controls></video>'


def _text(markdown: str) -> str:
    """Text with Markdown's code marks as tags."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(markdown))
