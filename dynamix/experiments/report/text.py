"""A table as Markdown, to be read, and as CSV, to be computed with."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

from dynamix.experiments.report.agreement import agreement, sentence
from dynamix.experiments.report.cells import (
    MARKS,
    NOT_RUN,
    Absent,
    Cell,
    Failure,
    Found,
    Measured,
    cells,
    one_line,
)
from dynamix.experiments.tables.kinds import PaperTable, Row

FIELDS = (
    "table", "row", "kind", "column", "unit", "paper", "mean", "std", "n", "values", "seeds", "failures",
    "status", "profile",
)  # fmt: skip


def markdown(
    table: PaperTable, profile: str, found: Found | Measured, *, absent: Absent | None = None
) -> str:
    """The table with what it claims, on what our numbers stand, how far the order agrees, and its notes.

    `absent` holds the rows that cannot run in this profile, and why.
    """
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
    parts.append("\n".join(f"- {_safe(note)}" for note in notes(table, found, absent)))
    return "\n\n".join(part for part in parts if part) + "\n"


def table_csv(
    table: PaperTable, profile: str, found: Found | Measured, *, absent: Absent | None = None
) -> str:
    """One line per row and column (RFC 4180), numbers at full precision.

    `values` and `seeds` are separated by spaces; `failures` is a JSON list of [seed, why]; the status of a
    row in `absent` says why it cannot run.
    """
    check_absent(table, found, absent)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for row, across in cells(table, found):
        why = (absent or {}).get(row.name)
        for each in across:
            status = each.status if why is None else f"{NOT_RUN}: {one_line(why)}"
            failures = [[one.seed, one.why] for one in each.failures]
            writer.writerow(
                [
                    table.name, row.name, row.kind, each.column.title, each.column.unit, _exact(each.printed),
                    _exact(each.mean), _exact(each.std), len(each.values), " ".join(map(_exact, each.values)),
                    " ".join(map(str, each.seeds)), json.dumps(failures) if failures else "", status,
                    profile,
                ]
            )  # fmt: skip
    return out.getvalue()


def basis(table: PaperTable, profile: str) -> str:
    """On what our numbers stand."""
    if table.measured:
        counted = "the real data" if profile == "paper" else f"Mannequins, profile {profile}"
        what = f"Counted on {counted}" if _counts(table) else "Timed on one machine, on made-up features"
        return f"{what}, without trainings: not comparable with the paper's."
    if profile == "paper":
        return "Profile paper: real data. Ours: mean ± sample standard deviation over seeds (n seeds)."
    said = (
        f"Profile {profile}: numbers on Mannequins are not comparable with the paper's, only their order is. "
        "Ours: mean ± sample standard deviation over seeds (n seeds)."
    )
    if table.start != "pretrained":
        return said
    return (
        f"{said} Seeds share one pre-trained start and one drawing of the worlds: ± is of batches and "
        "augmentation."
    )


def ours_head(table: PaperTable, profile: str) -> str:
    """How the column of our numbers is called; ours never bear a real dataset's name on Mannequins."""
    if profile == "paper" or (table.measured and not _counts(table)):
        return "ours"
    return "ours on Mannequins"


def _counts(table: PaperTable) -> bool:
    return table.measured == "statistics"


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


def notes(table: PaperTable, found: Found | Measured, absent: Absent | None = None) -> Iterator[str]:
    """The table's notes, those of its rows, every failure with its whole reason, and what cannot run."""
    check_absent(table, found, absent)
    yield from table.notes
    for row, across in cells(table, found):
        if row.note:
            yield f"{row.name}: {row.note}"
        for one in _failures(across):
            yield f"{row.name}, seed {one.seed}, failed: {one_line(one.why)}"
    yield from reasons(absent)


def reasons(absent: Absent | None) -> Iterator[str]:
    """Why rows cannot run, a sentence for those of one reason."""
    for why in dict.fromkeys((absent or {}).values()):
        names = ", ".join(name for name, other in (absent or {}).items() if other == why)
        yield f"Not run ({one_line(why)}): {names}."


def check_absent(table: PaperTable, found: Found | Measured, absent: Absent | None) -> None:
    """Raises ValueError where `absent` names a row that the table has not, or that has results."""
    there = [row.name for row in table.rows]
    for name in absent or {}:
        if name not in there:
            raise ValueError(f"{table.name} has no row {name!r} to be absent; it has {', '.join(there)}")
        if found.get(name):
            raise ValueError(f"{table.name}, row {name!r}: it has results and cannot run: give one of them")


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
