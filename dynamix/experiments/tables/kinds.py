"""A paper's table: rows of config changes beside printed numbers, columns that read results.

A table is data. `reproduce` finds the runs behind its rows, `report` writes what they scored beside what
the paper printed. One table serves the embedded benchmark (tiny, mini, gpu) and real datasets (paper).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dynamix.experiments.labels import Labels

Result = dict[str, Any]  # of a run, as its result file holds it
Reader = Callable[["Row", Result], float | None]  # what a column shows of a run, in the column's unit


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained on and tested on, by the names of datasets or worlds."""

    sources: tuple[str, ...]
    single: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Data:
    """A setting on the embedded benchmark, and the paper's own on real data; None: it has no stand-in."""

    worlds: Setting | None
    real: Setting | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: `key` names it in the printed table ("" where the paper has none)."""

    title: str
    read: Reader
    key: str = ""
    unit: str = "%"
    digits: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: what it changes, or only what the paper printed.

    kind: "paper" rows are printed and run; "control" (the same cost spent otherwise) and "bound" (true
    identities) are ours; "ours" are further rows the paper has not; "printed" are methods that this package
    does not implement: their numbers stand there alone.
    """

    name: str
    kind: Literal["paper", "control", "bound", "ours", "printed"] = "paper"
    changes: Mapping[str, Any] = field(default_factory=dict)  # as `config.change` takes them
    encoder: Literal["profile", "cnn", "vit", "plain", "small", "base"] = (
        "profile"  # `roles.ENCODERS` says which
    )
    labels: Labels = "tracker"
    start: Literal["table", "scratch", "pretrained"] = "table"  # table: as the table says
    data: Data | None = None  # other than the table's
    printed: Mapping[str, float] = field(default_factory=dict)  # column key -> number
    group: str = ""  # only rows of one group are compared in their order; `shared.APART`: shown, not compared
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of a paper."""

    name: str  # table3, remix.table4
    title: str
    claim: str  # what the paper concludes from it, in a sentence of ours
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    data: Data
    start: Literal["scratch", "pretrained"] = "pretrained"
    ranked_by: str = ""  # title of the column whose order is compared with the paper's; "": none
    base: Mapping[str, Any] = field(default_factory=dict)  # config changes of every row
    measured: str = ""  # tables without trainings: name of the measurement that fills them
    notes: tuple[str, ...] = ()  # said below the table: readings, what differs from the paper
    image: str = ""  # a figure in the report beside it
    profiles: tuple[str, ...] = ()  # those that its settings are written for; (): all


def mean_of(metric: str, worlds: tuple[str, ...], real: tuple[str, ...]) -> Reader:
    """Percent: mean of `metric` over the worlds, or the real datasets, that the column stands for."""

    def read(row: Row, result: Result) -> float | None:
        scores = result["scores"]
        for names in (worlds, real):
            if names and all(name in scores for name in names):
                return 100 * sum(scores[name][metric] for name in names) / len(names)
        return None

    return read


def pair(
    worlds: tuple[str, ...], real: tuple[str, ...], *, dataset: str = "", title: str = ""
) -> tuple[Column, Column]:
    """Rank-1 and mAP columns; printed under `dataset:R1` and `dataset:mAP`, or plain R1 and mAP."""
    prefix, head = (f"{dataset}:" if dataset else ""), (f"{title} " if title else "")
    return (
        Column(title=f"{head}rank-1", key=f"{prefix}R1", read=mean_of("rank1", worlds, real)),
        Column(title=f"{head}mAP", key=f"{prefix}mAP", read=mean_of("mAP", worlds, real)),
    )
