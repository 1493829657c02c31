"""The numbers that the papers print, as data: `printed("dynamix", "3")`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "paper"


@dataclass(frozen=True)
class Printed:
    """A printed table: `rows` follow `columns`; None where a cell is empty or could not be read."""

    paper: str
    table: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    units: str
    train: str
    test: str
    varied: str
    notes: tuple[str, ...]

    def row(self, **where: Any) -> Mapping[str, Any]:
        """The one row whose columns have the values in `where` (a column `R1` or, with a colon, by dict)."""
        found = [
            dict(zip(self.columns, row, strict=True))
            for row in self.rows
            if all(row[self.columns.index(name)] == value for name, value in where.items())
        ]
        if len(found) != 1:
            raise ValueError(f"{self.paper} table {self.table}: {len(found)} rows have {where}")
        return found[0]


def printed(paper: str, table: str) -> Printed:
    """A table of `dynamix`, `remix`, `isr` or `cdvm`. Raises ValueError listing the tables there are."""
    path = FOLDER / f"{paper}_table{table}.json"
    if not path.is_file():
        there = ", ".join(sorted(each.stem.replace("_table", " ") for each in FOLDER.glob("*.json")))
        raise ValueError(f"no printed table {table!r} of {paper!r}; there are {there}")
    held = json.loads(path.read_text())
    held |= {name: tuple(held[name]) for name in ("columns", "notes")}
    held |= {name: held[name] or "" for name in ("train", "test", "varied", "units")}
    return Printed(**held | {"rows": tuple(tuple(row) for row in held["rows"])})
