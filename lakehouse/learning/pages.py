"""What pages about models share: one HTML file that needs nothing else, in the style of the profile's page, and a few plots as SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

_WIDTH = 640
_LEFT = 150
_ROW = 34
_STYLE = (
    ".verdict{border-left:5px solid var(--amber);font-size:17px}.verdict.good{border-left-color:var(--green)}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}"
    ".big{font-size:30px;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.2}"
    ".figure{width:100%;height:auto;max-width:760px;display:block}.figure text{font-size:12px;fill:var(--ink)}"
    ".figure .quiet{fill:var(--soft)}.figure .end{text-anchor:end}.figure .middle{text-anchor:middle}"
    ".figure .axis{stroke:var(--line)}.figure .zero{stroke:var(--soft);stroke-dasharray:3 3}.figure .asked{stroke:var(--amber);stroke-width:2}"
    ".figure .span{stroke:var(--blue);stroke-width:6;stroke-linecap:round;opacity:.45}.figure .point{fill:var(--blue)}"
    ".figure .before{fill:var(--soft)}.figure .minus{fill:var(--red)}.figure .bar{fill:var(--blue)}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: a name, a number, and how the number is written."""

    name: str
    value: float
    shown: str
    quiet: bool = False


def page(title: str, kind: str, subtitle: str, parts: Iterable[str]) -> str:
    """A whole page; the parts are HTML."""
    style = resources.files("lakehouse.quality.profile").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}{_STYLE}</style></head><body><main>"
        f'<header><div><p class="soft">{escape(kind)}</p><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></div></header>'
        f"{''.join(parts)}</main></body></html>\n"
    )


def card(title: str, *parts: str) -> str:
    """A box with a heading; the parts are HTML."""
    return f'<section class="card"><h3>{escape(title)}</h3>{"".join(parts)}</section>'


def paragraph(text: str, *, soft: bool = False) -> str:
    """Text as a paragraph."""
    return f"<p{' class=how' if soft else ''}>{escape(text)}</p>"


def listed(items: Iterable[str]) -> str:
    """Texts as a list; nothing for none."""
    inside = "".join(f"<li>{escape(one)}</li>" for one in items)
    return f"<ul>{inside}</ul>" if inside else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Texts as a table; the columns in `numbers` are set to the right."""
    titles = "".join(f'<th scope="col"{" class=n" if place in numbers else ""}>{escape(one)}</th>' for place, one in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{escape(cell)}</th>' if place == 0 else f"<td{' class=n' if place in numbers else ''}>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def bars(bars: Sequence[Bar], *, label: str) -> str:
    """Bars from zero, to the left where a number is negative."""
    low, high = min([0.0, *(one.value for one in bars)]), max([0.0, *(one.value for one in bars)])
    scale = (_WIDTH - _LEFT - 90) / ((high - low) or 1.0)
    zero = _LEFT - low * scale
    parts: list[str] = []
    for place, one in enumerate(bars):
        top, width = place * _ROW + 6, abs(one.value) * scale
        start = zero if one.value >= 0 else zero - width
        kind = "before" if one.quiet else "bar" if one.value >= 0 else "minus"
        parts.append(
            f'<text class="end" x="{_LEFT - 10}" y="{top + 15}">{escape(_short(one.name))}</text>'
            f'<rect class="{kind}" x="{start:.1f}" y="{top}" width="{max(width, 1):.1f}" height="20" rx="3"/>'
            f'<text x="{start + width + 8:.1f}" y="{top + 15}">{escape(one.shown)}</text>'
        )
    return _svg(len(bars) * _ROW + 8, label, "".join(parts))


def interval(point: float, low: float, high: float, *, asked: float, shown: tuple[str, str, str], label: str) -> str:
    """A number with the range in which it lies, beside zero and beside what is asked.

    Args:
        point: the number.
        low: lower end of its range.
        high: upper end.
        asked: what is asked for.
        shown: how low end, number and high end are written.
        label: for those who can't see it.
    """
    least, most = min(low, 0.0, asked), max(high, 0.0, asked)
    margin = 0.08 * ((most - least) or 1.0)
    least, most = least - margin, most + margin

    def x(value: float) -> float:
        return 20 + (value - least) / (most - least) * (_WIDTH - 40)

    # What lies close together is written on two lines.
    parts = (
        f'<line class="axis" x1="20" x2="{_WIDTH - 20}" y1="52" y2="52"/>'
        f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="24" y2="80"/><text class="middle quiet" x="{x(0):.1f}" y="16">no difference</text>'
        f'<line class="asked" x1="{x(asked):.1f}" x2="{x(asked):.1f}" y1="36" y2="68"/><text class="middle quiet" x="{x(asked):.1f}" y="96">asked for</text>'
        f'<line class="span" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="52" y2="52"/><circle class="point" cx="{x(point):.1f}" cy="52" r="7"/>'
        f'<text class="middle" x="{x(low):.1f}" y="118">{escape(shown[0])}</text><text class="middle" x="{x(high):.1f}" y="118">{escape(shown[2])}</text>'
        f'<text class="middle" x="{x(point):.1f}" y="36">{escape(shown[1])}</text>'
    )
    return _svg(126, label, parts)


def _svg(height: int, label: str, inside: str) -> str:
    return f'<svg class="figure" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _short(text: str) -> str:
    return text if len(text) <= 22 else f"{text[:21]}…"
