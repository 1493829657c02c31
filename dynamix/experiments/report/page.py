"""All tables and figures on one self-contained HTML page: nothing is fetched, nothing runs."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from dynamix import disk
from dynamix.experiments.report.agreement import agreement, sentence
from dynamix.experiments.report.cells import MARKS, Absent, Cell, Found, Measured, cells
from dynamix.experiments.report.text import basis, notes, ours_head, runs
from dynamix.experiments.tables.kinds import Column, PaperTable, Row

BUDGET = 10_000_000  # bytes of the page
NARROW = 1200  # pixels of figures that have to give way
STYLE = """
:root { color-scheme: light dark; --ink: #20242c; --muted: #5b6270; --paper: #fbfaf6; --card: #f0eee7;
  --line: #d9d6cc; --printed: #8a5a1c; --link: #1f5fb0; --wrong: #b02722; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e0; --muted: #a9aeb8; --paper: #16181d;
  --card: #20242c; --line: #3a3f4a; --printed: #e0b06a; --link: #8db8ee; --wrong: #f08a84; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 0 0 .3rem; }
a { color: var(--link); } .muted { color: var(--muted); font-size: .9rem; }
nav ul { columns: 20rem; padding-left: 1.2rem; } section { border-top: 1px solid var(--line);
  margin-top: 2.2rem; padding-top: 1.2rem; }
.verdict { border-left: 4px solid var(--link); padding: .2rem 0 .2rem .8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; width: 100%; }
caption { text-align: left; color: var(--muted); padding-bottom: .3rem; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th[scope=row] { text-align: left; white-space: normal; min-width: 9rem; font-weight: 600; }
thead th { background: var(--card); } thead th:first-child, td.runs, th.runs { text-align: left; }
.prose td, .prose th { text-align: left; white-space: normal; vertical-align: top; min-width: 9rem; }
td.runs, td.trouble { white-space: normal; min-width: 6rem; }
td.printed, th.printed { color: var(--printed); } td.trouble { color: var(--wrong); }
tr:not(.paper) th[scope=row] { font-weight: 400; } .mark { color: var(--muted); font-style: italic; }
figure { margin: 1rem 0; } figure img { display: block; width: 100%; max-width: 850px; height: auto;
  border-radius: 6px; } li { margin: .2rem 0; }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. `html` goes in as it is; all other texts are escaped."""

    name: str  # its anchor
    title: str
    claim: str = ""
    html: str = ""  # the table
    figures: tuple[Path, ...] = ()
    sentence: str = ""
    notes: tuple[str, ...] = ()


def section(
    table: PaperTable,
    profile: str,
    found: Found | Measured,
    figures: Sequence[Path] = (),
    *,
    absent: Absent | None = None,
) -> Section:
    """The section of a table, with its pictures; `absent` holds rows that cannot run here, and why."""
    return Section(
        name=table.name,
        title=table.title,
        claim=table.claim,
        html=table_html(table, profile, found),
        figures=tuple(figures),
        sentence=sentence(agreement(table, profile, found), table),
        notes=tuple(notes(table, found, absent)),
    )


def table_html(table: PaperTable, profile: str, found: Found | Measured) -> str:
    """The table with headers that a screen reader can tell; the column of names stays a header."""
    groups = "".join(
        f'<th scope="colgroup" colspan="2">{escape(_titled(column))}</th>' for column in table.columns
    )
    ours = escape(ours_head(table, profile))
    pairs = f'<th scope="col" class="printed">paper</th><th scope="col">{ours}</th>' * len(table.columns)
    rows = "\n".join(_row(row, across) for row, across in cells(table, found))
    label = escape(f"{table.title}: paper and ours", quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>'
        f"<caption>{escape(basis(table, profile))}</caption>\n<thead>"
        f'<tr><th scope="col" rowspan="2">row</th>{groups}'
        '<th scope="col" rowspan="2" class="runs">runs</th></tr>'
        f"\n<tr>{pairs}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _titled(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit not in ("", "%") else column.title


def _row(row: Row, across: Sequence[Cell]) -> str:
    mark = f' <span class="mark">({MARKS[row.kind]})</span>' if MARKS[row.kind] else ""
    numbers = "".join(_pair(each) for each in across)
    return (
        f'<tr class="{row.kind}"><th scope="row">{escape(row.name)}{mark}</th>{numbers}'
        f'<td class="runs">{escape(runs(across))}</td></tr>'
    )


def _pair(each: Cell) -> str:
    trouble = ' class="trouble"' if each.failures else ""
    return f'<td class="printed">{escape(each.paper)}</td><td{trouble}>{escape(each.text)}</td>'


def page(
    sections: Sequence[Section], out: Path, *, title: str = "DynaMix, reproduced", intro: str = ""
) -> Path:
    """Write the sections with a table of contents to `out`; large pictures are narrowed to stay below 10 MB.

    Raises:
        FileNotFoundError: a figure that is not there.
        ValueError: no sections, two of one name, a section's html that fetches something, a page too large.
    """
    _check(sections)
    body = _write(sections, title, intro, narrow=False)
    if len(body) > BUDGET:
        body = _write(sections, title, intro, narrow=True)
    if len(body) > BUDGET:
        raise ValueError(f"{out} would have {len(body):,} bytes, more than {BUDGET:,}: leave figures out")
    with disk.replacing(out) as temporary:
        temporary.write_bytes(body)
    return out


def _check(sections: Sequence[Section]) -> None:
    names = [each.name for each in sections]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"the page has several sections {twice}" if twice else "the page has no sections")
    for each in sections:
        for tag in re.findall(r"<[a-zA-Z][^>]*>", each.html):
            if _fetches(tag):
                raise ValueError(f"html of section {each.name!r} has {tag}: the page must fetch nothing")
        for path in each.figures:
            if not path.is_file():
                raise FileNotFoundError(f"section {each.name!r} has no figure {path}: draw it first")


def _fetches(tag: str) -> bool:
    """Whether a browser asks the network because of this tag."""
    if re.match(r"<(script|link|iframe|object|embed|base|style)\b", tag, re.IGNORECASE):
        return True
    for name, value in re.findall(r"""([\w:-]+)\s*=\s*["']?([^"'>]*)""", tag):
        here = value.startswith(("#", "data:")) or (name == "href" and tag.startswith("<a "))
        if name in ("src", "srcset", "poster", "href", "xlink:href", "action") and not here:
            return True
        if name == "style" and "url(" in value:
            return True
    return False


def _write(sections: Sequence[Section], title: str, intro: str, *, narrow: bool) -> bytes:
    links = "\n".join(
        f'<li><a href="#{_anchor(each.name)}">{escape(each.title)}</a></li>' for each in sections
    )
    parts = "\n".join(_section(each, narrow) for each in sections)
    start = f"<p>{escape(intro)}</p>\n" if intro else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{escape(title)}</h1>\n{start}</header>\n"
        f'<nav aria-label="Contents">\n<ul>\n{links}\n</ul>\n</nav>\n'
        f"<main>\n{parts}\n</main>\n</body>\n</html>\n"
    ).encode()


def _section(each: Section, narrow: bool) -> str:
    anchor = _anchor(each.name)
    parts = [f'<section id="{anchor}" aria-labelledby="{anchor}-title">']
    parts.append(f'<h2 id="{anchor}-title">{escape(each.title)}</h2>')
    if each.claim:
        parts.append(f"<p>{escape(each.claim)}</p>")
    if each.sentence:
        parts.append(f'<p class="verdict">{escape(each.sentence)}</p>')
    parts += [each.html] if each.html else []
    parts += [_figure(each, path, narrow) for path in each.figures]
    if each.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in each.notes)
        parts.append(f'<ul class="muted">{items}</ul>')
    return "\n".join([*parts, "</section>"])


def _figure(each: Section, path: Path, narrow: bool) -> str:
    data, kind, (width, height) = _picture(path, narrow)
    told = f"{each.title}: {each.sentence or each.claim or path.stem}"
    code = base64.b64encode(data).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{code}" width="{width}" height="{height}" '
        f'alt="{escape(told, quote=True)}"></figure>'
    )


def _picture(path: Path, narrow: bool) -> tuple[bytes, str, tuple[int, int]]:
    """The file's bytes, or fewer: whichever of them and a narrow JPEG is smaller."""
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
        if narrow:
            height = max(1, round(size[1] * min(1, NARROW / size[0])))
            small = io.BytesIO()
            image.convert("RGB").resize((min(NARROW, size[0]), height)).save(small, "jpeg", quality=82)
            if len(small.getvalue()) < len(data):
                return small.getvalue(), "jpeg", size
    return data, "png", size


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
