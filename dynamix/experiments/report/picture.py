"""A table as a picture: the column that ranks its rows drawn, the other numbers written."""

from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments.report.agreement import agreement, sentence
from dynamix.experiments.report.cells import Absent, Cell, Found, Measured, cells, ranked
from dynamix.experiments.report.text import basis, check_absent, ours_head, reasons
from dynamix.experiments.tables.kinds import Column, PaperTable


def picture(
    table: PaperTable, profile: str, found: Found | Measured, *, absent: Absent | None = None
) -> Figure:
    """The table drawn by `plots.paper_table`, with the sentence on its order as the subtitle.

    `absent` holds the rows that cannot run in this profile, and why; the foot says so.
    """
    check_absent(table, found, absent)
    column = drawn(table)
    at = table.columns.index(column)
    others = [other for other in table.columns if other is not column]
    lines = []
    for _, across in cells(table, found):
        rest = [each for each in across if each.column is not column]
        lines.append(_line(across[at], rest))
    said = sentence(agreement(table, profile, found), table)
    head = ours_head(table, profile)
    return plots.paper_table(
        lines,
        title=table.title,
        metric=_titled(column),
        note=said,
        foot=" ".join([basis(table, profile), *reasons(absent)]),
        ours=head[:1].upper() + head[1:],
        others=[_alone(other, column) if len(others) == 1 else _titled(other) for other in others],
    )


def drawn(table: PaperTable) -> Column:
    """The column that ranks the rows; else the first mAP; else the first share; else the first."""
    if table.ranked_by:
        return ranked(table)
    shares = [column for column in table.columns if column.unit == "%"]
    maps = [column for column in shares if column.title.endswith("mAP")]
    return (maps or shares or list(table.columns))[0]


def _line(main: Cell, rest: list[Cell]) -> plots.TableLine:
    lost = main.failures
    skipped = main.row.kind == "printed" and not main.ran
    trouble = f"{len(lost)} of {len(lost) + main.ran} failed" if main.values and lost else ""
    return plots.TableLine(
        name=main.row.name,
        kind=main.row.kind,
        paper=main.printed,
        paper_text=main.paper,
        values=main.values,
        text=main.number,
        trouble=trouble if main.values else main.status if skipped else main.text,
        others=[(each.paper, "" if skipped else _ours(each)) for each in rest],
    )


def _ours(each: Cell) -> str:
    text = each.number or ("failed" if each.status == "failed" else each.text)
    alone = not any(letter.isdigit() for letter in text)
    return "" if alone and text == each.paper else text  # one dash says that nobody has a number


def _alone(other: Column, drawn: Column) -> str:
    """The only column beside the one drawn; of the same data it needs no more than its metric's name."""
    of, _, metric = other.title.rpartition(", ")
    return metric if of and of == drawn.title.rpartition(", ")[0] else _titled(other)


def _titled(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit not in ("", "%") else column.title
