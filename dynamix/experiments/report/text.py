"""A table as Markdown, to be read, and as CSV, to be computed with."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

from dynamix.experiments.report.agreement import agreement, sentence
from dynamix.experiments.report.cells import MARKS, Cell, Failure, Found, Measured, cells, one_line
from dynamix.experiments.tables.kinds import PaperTable, Row

FIELDS = (
    "table", "row", "kind", "column", "unit", "paper", "mean", "std", "n", "values", "seeds", "failures",
    "status", "profile",
)  # fmt: skip


def markdown(table: PaperTable, profile: str, found: Found | Measured) -> str:
    """The table with what it claims, on what our numbers stand, how far the order agrees, and its notes."""
    heads = ["row"]
    for column in table.columns:
        unit = f" ({column.unit})" if column.unit and column.unit != "%" else ""
        heads += [f"{column.title}{unit}, paper", ours_head(table, profile)]
    lines = [_line([*heads, "runs"]), _line(["---", *["--:"] * 2 * len(table.columns), "---"])]
    for row, across in cells(table, found):
        numbers = [text for each in across for text in (each.paper, each.text)]
        lines.append(_line([_name(row), *numbers, runs(across)]))
    said = sentence(agreement(table, profile, found), table)
    parts = [
        f"## {_safe(table.title)}",
        _safe(table.claim),
        basis(table, profile),
        "\n".join(lines),
        _safe(said),
    ]
    parts.append("\n".join(f"- {_safe(note)}" for note in notes(table, found)))
    return "\n\n".join(part for part in parts if part) + "\n"


def table_csv(table: PaperTable, profile: str, found: Found | Measured) -> str:
    """One line per row and column (RFC 4180), numbers at full precision.

    `values` and `seeds` are separated by spaces; `failures` is a JSON list of [seed, why].
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for row, across in cells(table, found):
        for each in across:
            failures = [[one.seed, one.why] for one in each.failures]
            writer.writerow(
                [
                    table.name, row.name, row.kind, each.column.title, each.column.unit, _exact(each.printed),
                    _exact(each.mean), _exact(each.std), len(each.values), " ".join(map(_exact, each.values)),
                    " ".join(map(str, each.seeds)), json.dumps(failures) if failures else "", each.status,
                    profile,
                ]
            )  # fmt: skip
    return out.getvalue()


def basis(table: PaperTable, profile: str) -> str:
    """On what our numbers stand."""
    if table.measured:
        where = "on the real data" if profile == "paper" else "on Mannequins and this machine"
        return (
            f"Measured here {where}, without trainings (profile {profile}): not comparable with the paper's."
        )
    if profile == "paper":
        return "Profile paper: real data. Ours: mean ± sample standard deviation over seeds (n seeds)."
    return (
        f"Profile {profile}: numbers on Mannequins are not comparable with the paper's, only their order is. "
        "Ours: mean ± sample standard deviation over seeds (n seeds)."
    )


def ours_head(table: PaperTable, profile: str) -> str:
    """How the column of our numbers is called; ours never bear a real dataset's name on Mannequins."""
    if profile == "paper" or table.measured:
        return "ours"
    return "ours on Mannequins"


def runs(across: Sequence[Cell]) -> str:
    """What was run of a row: 3 seeds; 2 seeds, 1 failed; not run."""
    if across[0].status in (MARKS["printed"], "not run"):
        return across[0].status
    if not any(each.seeds or each.failures for each in across):
        return "measured" if any(each.values for each in across) else "no number"
    ran = max(each.ran for each in across)
    lost = len({one.seed for each in across for one in each.failures})
    said = [f"{ran} seed" + ("s" if ran > 1 else "")] if ran else []
    return ", ".join(said + ([f"{lost} failed"] if lost else []))


def notes(table: PaperTable, found: Found | Measured) -> Iterator[str]:
    """The table's notes, those of its rows, and every failure with its whole reason."""
    yield from table.notes
    for row, across in cells(table, found):
        if row.note:
            yield f"{row.name}: {row.note}"
        for one in _failures(across):
            yield f"{row.name}, seed {one.seed}, failed: {one_line(one.why)}"


def _failures(across: Sequence[Cell]) -> list[Failure]:
    return sorted({one for each in across for one in each.failures}, key=lambda one: (one.seed, one.why))


def _name(row: Row) -> str:
    mark = MARKS[row.kind]
    return row.name if not mark else f"{row.name} ({mark})"


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _safe(text: str) -> str:
    """`text` as Markdown that shows it literally: no HTML, no stray emphasis, no broken table."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]~]|\b_|_\b|^[-+#]|(?<=^\d)[.)](?= ))", r"\\\1", text)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts if set("".join(texts)) <= set("-:") else map(_safe, texts)) + " |"
