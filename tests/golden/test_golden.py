"""What no change of the experiments' code may move: the runs behind every row, every number of a table.

`keys.json` holds, of every table, row and seed that was recorded, the key of its run; the tables' numbers are
those of the CSV files in figures/tables. `compare.py` beside this file does the same for bits, between two
work trees.
"""

import csv
import io
import json
from pathlib import Path

import pytest

from dynamix.experiments import tables
from dynamix.experiments.ledger import RESULTS, Ledger, ledger
from dynamix.experiments.report import text
from dynamix.experiments.reproduce import found_of

ROOT = Path(__file__).parents[2]
KEYS: dict[str, dict[str, dict[str, str]]] = json.loads((Path(__file__).parent / "keys.json").read_text())
NUMBERS = ("paper", "mean", "std", "n", "values", "seeds")
TRAINED = [name for name, table in tables.TABLES.items() if not table.measured]


@pytest.fixture(scope="module")
def recorded() -> Ledger:
    return ledger(tuple(tables.TABLES), "mini", 1, results=ROOT / RESULTS)


def test_every_result_stands_behind_a_row():
    keys = {key for rows in KEYS.values() for seeds in rows.values() for key in seeds.values()}
    files = {path.stem.removeprefix("mini-") for path in (ROOT / RESULTS).glob("mini-*.json")}
    assert len(keys) == 359 and keys == files


def test_every_row_has_the_runs_that_were_recorded(recorded):
    found: dict[str, dict[str, dict[str, str]]] = {}
    for (table, row), keys in recorded.rows.items():
        entries = [recorded.entries[key] for key in keys if recorded.entries[key].result is not None]
        if entries:
            seeds = {str(each.spec.config.seed): each.spec.key.removeprefix("mini-") for each in entries}
            found.setdefault(table, {})[row] = seeds
    assert found == KEYS


@pytest.mark.parametrize("name", TRAINED)
def test_every_number_is_the_recorded_one(name, recorded):
    """Byte for byte as they are written."""
    written = text.table_csv(
        tables.table(name), "mini", found_of(tables.table(name), recorded), absent=recorded.why(name)
    )
    kept = (ROOT / "figures" / "tables" / f"{name}.mini.csv").read_text(encoding="utf-8")
    columns = ("row", "column", *NUMBERS)
    ours, theirs = (
        [[line[column] for column in columns] for line in csv.DictReader(io.StringIO(each))]
        for each in (written, kept)
    )
    assert ours == theirs and len(ours) > 1
