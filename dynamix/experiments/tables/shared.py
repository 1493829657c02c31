"""What several tables share: the data of a row, the controls and the bound, rows made of printed cells."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from dynamix.experiments.printed import Printed
from dynamix.experiments.protocols import protocol
from dynamix.experiments.tables.kinds import (
    Column,
    Data,
    PaperTable,
    Reader,
    Result,
    Row,
    Setting,
    mean_of,
    pair,
)
from dynamix.experiments.tables.roles import STANDS_FOR

# The papers' names of datasets, as `data.DATASETS` knows them.
REAL = {
    "Market-1501": "market1501",
    "DukeMTMC-reID": "dukemtmc",
    "CUHK03-NP": "cuhk03_detected",
    "MSMT17": "msmt17",
    "MSMT17-merged": "msmt17_merged",
    "RandPerson": "randperson",
    "RandPerson (part)": "randperson",
    "LUPerson-NL": "luperson_nl",
    "LUPerson": "luperson",
}
# Of tables that leave one out: every row has a dataset of its own.
LEFT_OUT_COLUMN = "the dataset left out / the world left out, mAP"
APART = "-"  # group of rows that are shown and not compared in their order
# Ablations train on one labeled world and report on two never seen; campus is left for choosing.
ABLATION = Data(
    worlds=Setting(sources=("plaza",), single=("videos",), targets=("station", "hall")),
    real=Setting(sources=("msmt17_merged",), single=("luperson_nl",), targets=("market1501",)),
)
STAND_INS = (
    "On Mannequins the columns are the mean over station and hall, after training on plaza and videos."
)

# The steps of DynaMix Table 3, each as what it leaves out of the full method.
WITHOUT_RM: Mapping[str, Any] = {"rm__on": False}
ECM_ALONE: Mapping[str, Any] = {"rm__on": False, "dsm__mode": "off"}
NAIVE: Mapping[str, Any] = {**ECM_ALONE, "ecm__naive": True}
RM_ALONE: Mapping[str, Any] = {"dsm__mode": "off", "ecm__naive": True}
# Without single-camera data the two methods are the same training: under one name they share their runs.
NO_SINGLE: Mapping[str, Any] = {"batch__ids_single": 0, "method": "dynamix"}

MULTI = Row(name="multi-camera only", kind="control", changes=NO_SINGLE)
MULTI_64 = Row(
    name="multi-camera only, same batch size",
    kind="control",
    changes={**NO_SINGLE, "batch__ids_multi": 16},
    note="all 64 images of a batch are multi-camera",
)
TRUTH = Row(
    name="true identities",
    kind="bound",
    changes=NAIVE,
    labels="truth",
    note="single-camera labels without error, junk left out: only where the truth is known",
)
CHECKS = (MULTI, MULTI_64, TRUTH)


def world_of(dataset: str) -> str:
    """The world that stands for a dataset; all of its images where the dataset merges its splits."""
    world = STANDS_FOR[dataset.removesuffix(" (part)")]
    return f"{world}:all" if dataset == "MSMT17-merged" else world


def standing_for(dataset: str) -> str:
    """What our numbers beside a dataset's name are of."""
    world, _, whole = world_of(dataset).partition(":")
    return f"on Mannequins, the world {world}" + (", training and test images" if whole else "")


def cross(train: str, tests: Collection[str], single: str) -> Data:
    """Train on one dataset (and `single`), test on `tests`; merged splits leave nothing to test on."""
    tests = [name for name in tests if (train, name) != ("MSMT17-merged", "MSMT17")]
    return Data(
        worlds=Setting(
            sources=(world_of(train),), single=("videos",), targets=tuple(world_of(name) for name in tests)
        ),
        real=Setting(sources=(REAL[train],), single=(single,), targets=tuple(REAL[name] for name in tests)),
    )


def leave_out(test: str, single: str) -> Data:
    """Train on three of the four large datasets (and `single`), test on the fourth."""
    real = protocol(f"leave-out-{REAL[test].removesuffix('_detected')}")
    named = {REAL[name]: name for name in ("Market-1501", "DukeMTMC-reID", "CUHK03-NP", "MSMT17")}
    worlds = tuple(world_of(named[source]) for source in real.sources)
    return Data(
        worlds=Setting(sources=worlds, single=("videos",), targets=(world_of(test),)),
        real=Setting(sources=real.sources, single=(single,), targets=real.targets),
    )


def about(dataset: str) -> Data:
    """A dataset alone, for tables that count and do not train."""
    world, real = (world_of(dataset),), (REAL[dataset],)
    if dataset.startswith("LUPerson"):
        return Data(
            worlds=Setting(sources=(), single=world, targets=()),
            real=Setting(sources=(), single=real, targets=()),
        )
    return Data(
        worlds=Setting(sources=world, single=(), targets=()),
        real=Setting(sources=real, single=(), targets=()),
    )


def unseen(dataset: str, world: str = "", key: str = "") -> tuple[Column, Column]:
    """Rank-1 and mAP on one dataset, beside the world that stands for it (or `world`)."""
    world = world or world_of(dataset)
    return pair((world,), (REAL[dataset],), dataset=key or dataset, title=f"{dataset} / {world},")


def left_out_columns() -> tuple[Column, Column]:
    """Rank-1 and mAP on the dataset that a row leaves out, and on nothing else that it was scored on."""

    def read(metric: str) -> Reader:
        def of(row: Row, result: Result) -> float | None:
            sides = (row.data.worlds, row.data.real) if row.data else ()
            found = (mean_of(metric, side.targets, ())(row, result) for side in sides if side)
            return next((score for score in found if score is not None), None)

        return of

    rank1 = LEFT_OUT_COLUMN.replace("mAP", "rank-1")
    return (
        Column(title=rank1, key="R1", read=read("rank1")),
        Column(title=LEFT_OUT_COLUMN, key="mAP", read=read("mAP")),
    )


def value(field: str) -> Reader:
    """A column that shows a number of the result as it stands."""
    return lambda row, result: result.get(field)


def quality(when: str, name: str) -> Reader:
    """Percent: of the labels before training or after it (`when`), against the true identities."""

    def read(row: Row, result: Result) -> float | None:
        share = (result.get(when) or {}).get(name)
        return None if share is None else 100 * share

    return read


def counted(title: str, field: str) -> Column:
    """A column of whole numbers."""
    return Column(title=title, key=field, read=value(field), unit="", digits=0)


def cells(of: Printed, group: str = "", **where: Any) -> dict[str, float]:
    """Numbers printed in the row that `where` singles out, by column; only columns of `group:`, if given."""
    return {
        name: float(number)
        for name, number in of.row(**where).items()
        if name not in where and _is_number(number) and name.startswith(f"{group}:" if group else "")
    }


def vary(
    of: Printed,
    key: str,
    changes: Callable[[Any], Mapping[str, Any]],
    *,
    encoder: Literal["profile", "cnn"] = "profile",
    name: Callable[[Any], str] | None = None,
) -> tuple[Row, ...]:
    """A row for every printed value of column `key`; `changes` says what the value means in the config."""
    values = [row[of.columns.index(key)] for row in of.rows]
    return tuple(
        Row(
            name=name(each) if name else f"{key}={short(each)}",
            changes=changes(each),
            encoder=encoder,
            printed=cells(of, **{key: each}),
        )
        for each in values
    )


def printed_only(of: Printed, row: tuple[Any, ...], *named_by: str) -> Row:
    """A method that this package does not implement: its printed numbers, and where they were published."""
    cell = dict(zip(of.columns, row, strict=True))
    return Row(
        name=", ".join(str(cell[name]) for name in ("method", *named_by)),
        kind="printed",
        printed={name: float(number) for name, number in cell.items() if _is_number(number)},
        note=f"{cell['reference']}; not implemented here",
    )


def titled(name: str, of: Printed, **rest: Any) -> PaperTable:
    """A table under its printed number and title, with the notes on its numbers below our own."""
    paper = {"dynamix": "DynaMix", "remix": "ReMix"}[of.paper]
    title = f"{paper} Table {of.table}: {of.title}"
    return PaperTable(name=name, title=title, notes=(*rest.pop("notes", ()), *of.notes), **rest)


def short(number: int | float | str) -> str:
    """0.07 -> .07, as the papers' text has it."""
    return number if isinstance(number, str) else f"{number:g}".removeprefix("0") or "0"


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)
