"""A report as one HTML file: no script, nothing fetched; it prints well, and is dark where its reader's screen is."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from string import Template

from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.report_document import Cents, Chart, Sheet, Table, Value, is_number, shown, told
from kasoko_cli.cli.parsing import count_of

#: A page with more rows than this is slow to open; CSV, XLSX and JSON have them all.
MOST_ROWS = 2_000

#: More bars than this stand upright, and only some are labelled.
MOST_LYING = 10


def to_html(sheet: Sheet) -> str:
    """The whole page."""
    template = Template(files("kasoko_cli.cli.output").joinpath("report.html").read_text(encoding="utf-8"))
    charts = "\n".join(_chart(one) for one in sheet.charts if any(any(values) for _, values in one.bars))
    return template.substitute(
        title=_text(sheet.title),
        subtitle=_text(sheet.subtitle),
        facts="\n".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(told(value)) or '–'}</dd></div>" for name, value in sheet.facts
        ),
        charts=f'<h2>At a glance</h2>\n<div class="charts">\n{charts}\n</div>' if charts else "",
        tables="\n".join(_table(one) for one in sheet.tables),
        notes="<br>".join(_text(note) for note in sheet.notes),
    )


def _text(text: str) -> str:
    return html.escape(render.clean(text), quote=True)


def _cell(value: Value) -> str:
    return html.escape(shown(value), quote=True) or "–"


def _table(table: Table) -> str:
    rows = table.rows[:MOST_ROWS]
    kinds = [_kind([row[place] for row in rows]) for place in range(len(table.columns))]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for kind, name in zip(kinds, table.columns, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}</td>" for kind, value in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    left = len(table.rows) - len(rows)
    more = f"<p>Left out here: {count_of(left, 'row')}; CSV, XLSX and JSON have all.</p>" if left else ""
    if not rows:
        return f"<h2>{_text(table.title)}</h2>\n<p>None.</p>"
    return (
        f'<h2>{_text(table.title)}</h2>\n<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n{more}"
    )


def _kind(cells: Sequence[Value]) -> str:
    """The class of a column: numbers to the right, times on one line, long texts with room."""
    there = [cell for cell in cells if cell is not None]
    if there and all(is_number(cell) for cell in there):
        return ' class="n"'
    if any(isinstance(cell, datetime) for cell in there):
        return ' class="t"'
    return ' class="w"' if any(isinstance(cell, str) and len(cell) > 40 for cell in there) else ""


def _chart(chart: Chart) -> str:
    drawn = "\n".join(_lying(chart) if len(chart.bars) <= MOST_LYING else _standing(chart))
    key = ""
    if len(chart.series) > 1:
        key = (
            '<div class="key">'
            + "".join(
                f'<span><i class="s{number}"></i>{_text(name)}</span>' for number, name in enumerate(chart.series)
            )
            + "</div>"
        )
    return f"<figure><figcaption>{_text(chart.title)}</figcaption>\n{drawn}\n{key}</figure>"


def _amount(chart: Chart, value: int) -> str:
    return _text(shown(Cents(value) if chart.is_money else value))


def _svg(chart: Chart, width: int, height: int, inside: Sequence[str]) -> Iterator[str]:
    yield f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_text(chart.title)}">'
    yield from inside
    yield "</svg>"


def _lying(chart: Chart) -> Iterator[str]:
    """A bar to the right for each label, with its value at its end."""
    width, label, row, gap = 560, 130, 20, 10
    most = max(value for _, values in chart.bars for value in values)
    inside, top = [], 4
    for name, values in chart.bars:
        middle = top + row * len(values) // 2 + 4
        inside.append(f'<text x="{label - 8}" y="{middle}" text-anchor="end">{_text(_short(name))}</text>')
        for number, value in enumerate(values):
            long = max(1 if value else 0, value * (width - label - 110) // most)
            inside.append(
                f'<rect class="s{number}" x="{label}" y="{top + 2}" width="{long}" height="{row - 4}" rx="2"/>'
            )
            inside.append(
                f'<text x="{label + long + 6}" y="{top + row // 2 + 4}" class="soft">{_amount(chart, value)}</text>'
            )
            top += row
        top += gap
    return _svg(chart, width, top, inside)


def _standing(chart: Chart) -> Iterator[str]:
    """Upright bars in groups, some of them labelled, over a scale of three lines."""
    width, height, left, bottom = 560, 220, 76, 24
    most = max(value for _, values in chart.bars for value in values)
    inside = []
    for step in range(3):
        value, y = most * (2 - step) // 2, 10 + (height - bottom - 10) * step // 2
        inside.append(f'<line x1="{left}" x2="{width}" y1="{y}" y2="{y}"/>')
        inside.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" class="soft">{_amount(chart, value)}</text>')
    room = (width - left) // len(chart.bars)
    each = max(1, (room - 2) // len(chart.series))
    every = -(-len(chart.bars) // 8)
    for place, (name, values) in enumerate(chart.bars):
        x = left + room * place + 1
        if place % every == 0:
            inside.append(f'<text x="{x}" y="{height - 6}" class="soft">{_text(_short(name))}</text>')
        for number, value in enumerate(values):
            tall = max(1 if value else 0, value * (height - bottom - 10) // most)
            y = height - bottom - tall
            says = f"{_text(name)}, {_text(chart.series[number])}: {_amount(chart, value)}"
            inside.append(
                f'<rect class="s{number}" x="{x + each * number}" y="{y}" width="{each}" height="{tall}">'
                f"<title>{says}</title></rect>"
            )
    return _svg(chart, width, height, inside)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
