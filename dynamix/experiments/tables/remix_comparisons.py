"""ReMix Tables 1, 6, 7, 13 and 14: data, comparisons with other methods, and tracking as printed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dynamix.experiments.printed import Printed, printed
from dynamix.experiments.tables.dynamix_comparisons import (
    LEFT_OUT,
    ONE_EACH,
    OTHERS,
    leave_out_row,
    left_out_printed,
)
from dynamix.experiments.tables.kinds import Column, PaperTable, Row
from dynamix.experiments.tables.remix import NO_SINGLE, REMIX
from dynamix.experiments.tables.shared import (
    ABLATION,
    about,
    cells,
    counted,
    cross,
    leave_out,
    left_out_columns,
    printed_only,
    standing_for,
    titled,
    unseen,
)

WITHOUT = "ReMix (w/o s-cam.)"
STARTS = (
    "ReMix without single-camera data (w/o s-cam.) has no pre-training either: on MSMT17-merged its numbers "
    "are those of Table 4's first row. The two rows differ in both."
)


def table1() -> PaperTable:
    """What the datasets hold."""
    of = printed("remix", "1")
    return titled(
        "remix.table1",
        of,
        claim="Single-camera videos show tens of thousands of scenes, the labeled datasets 2 to 15.",
        columns=(counted("images", "images"), counted("PIDs", "ids"), counted("scenes", "scenes")),
        rows=tuple(
            Row(name=row[0], data=about(row[0]), printed=cells(of, dataset=row[0]), note=standing_for(row[0]))
            for row in of.rows
        ),
        data=ABLATION,
        measured="statistics",
        notes=("On Mannequins a row counts the world that stands for the dataset.",),
    )


def _ours(method: str, of: Printed, train: str, tests: tuple[str, ...], name: str, **where: Any) -> Row:
    """A row of ReMix itself, with single-camera data or without."""
    with_single = method == "ReMix"
    return Row(
        name=name,
        changes={} if with_single else NO_SINGLE,
        encoder="cnn",
        start="pretrained" if with_single else "scratch",
        data=cross(train, tests, "luperson"),
        printed=cells(of, method=method, **where),
    )


def _one_source(number: str, train: str, test: str) -> PaperTable:
    """Tables 6a and 6b: one dataset to one other."""
    of = printed("remix", number)
    columns = unseen(test)
    rows = tuple(
        _ours(row[0], of, train, (test,), row[0]) if "ReMix" in row[0] else printed_only(of, row)
        for row in of.rows
    )
    return titled(
        f"remix.table{number}",
        of,
        claim="With single-camera data ReMix is ahead of the others, without it about level with them.",
        columns=columns,
        rows=rows,
        data=cross(train, (test,), "luperson"),
        ranked_by=columns[1].title,
        base=REMIX,
        notes=(OTHERS, STARTS),
    )


def table6a() -> PaperTable:
    """DukeMTMC-reID to Market-1501."""
    return _one_source("6a", "DukeMTMC-reID", "Market-1501")


def table6b() -> PaperTable:
    """Market-1501 to DukeMTMC-reID."""
    return _one_source("6b", "Market-1501", "DukeMTMC-reID")


def table6c() -> PaperTable:
    """MSMT17, all of MSMT17, and RandPerson to three others."""
    of, tests = printed("remix", "6c"), ("CUHK03-NP", "Market-1501", "DukeMTMC-reID")
    rows = (
        replace(_ours(row[0], of, row[2], tests, f"{row[0]}, {row[2]}", train_set=row[2]), group=row[2])
        if "ReMix" in row[0]
        else printed_only(of, row, "train_set")
        for row in of.rows
    )
    return titled(
        "remix.table6c",
        of,
        claim="Whatever the labeled dataset, single-camera data help on others, past most compared methods.",
        columns=tuple(column for name in tests for column in unseen(name)),
        rows=tuple(rows),
        data=cross("MSMT17", tests, "luperson"),
        ranked_by="Market-1501 / plaza, mAP",
        base=REMIX,
        notes=(
            OTHERS,
            STARTS,
            "Tested on CUHK03-NP's detected boxes, as DynaMix is; the paper counts the labeled ones.",
            "The order is compared within each training set.",
        ),
    )


def table7() -> PaperTable:
    """Three labeled datasets to the fourth."""
    of = printed("remix", "7")
    return titled(
        "remix.table7",
        of,
        claim="With three labeled datasets and single-camera data ReMix leads on the fourth.",
        columns=left_out_columns(),
        rows=tuple(
            row
            for test, head in LEFT_OUT.items()
            if test != "MSMT17"
            for row in (
                *left_out_printed(of, test, head),
                leave_out_row(of, "ReMix", test, head, "luperson", encoder="cnn"),
            )
        ),
        data=leave_out("Market-1501", "luperson"),
        base=REMIX,
        notes=(
            OTHERS,
            ONE_EACH,
            "The runs are those of DynaMix Table 2b.",
        ),
    )


def table13() -> PaperTable:
    """Training and test images of the same dataset."""
    of, tests = printed("remix", "13"), ("Market-1501", "DukeMTMC-reID", "MSMT17")
    return titled(
        "remix.table13",
        of,
        claim="Single-camera data help on the dataset trained on as well, up to about the level of the best.",
        columns=tuple(column for name in tests for column in unseen(name)),
        rows=(
            *(printed_only(of, row) for row in of.rows if "ReMix" not in row[0]),
            *(row for test in tests for row in _same_dataset(of, test)),
        ),
        data=cross("Market-1501", ("Market-1501",), "luperson"),
        base=REMIX,
        notes=(OTHERS, STARTS, "Every pair of columns is a training of its own, with a row for each."),
    )


def _same_dataset(of: Printed, test: str) -> Iterator[Row]:
    for method in (WITHOUT, "ReMix"):
        found = {
            key: number for key, number in cells(of, method=method).items() if key.startswith(f"{test}:")
        }
        yield Row(
            name=f"{method} on {test}",
            changes={} if method == "ReMix" else NO_SINGLE,
            encoder="cnn",
            start="pretrained" if method == "ReMix" else "scratch",
            data=cross(test, (test,), "luperson"),
            printed=found,
        )


def table14() -> PaperTable:
    """Tracking: printed numbers only."""
    of = printed("remix", "14")
    rows = tuple(
        Row(
            name=f"{hz} Hz {'with' if single else 'without'}",
            kind="printed",
            printed=cells(of, hz=hz, single_camera=single),
        )
        for hz, single, *_ in of.rows
    )
    columns = tuple(
        Column(
            title=key.replace(":", " "),
            key=key,
            read=lambda row, result: None,
            unit="%" if key.endswith("MOTA") else "",
            digits=1 if key.endswith("MOTA") else 0,
        )
        for key in of.columns[2:]
    )
    return titled(
        "remix.table14",
        of,
        claim="A tracker loses fewer identities with embeddings that were trained on single-camera data too.",
        columns=columns,
        rows=rows,
        data=ABLATION,
        notes=("Tracking is out of this package's scope: printed numbers only, nothing is run.",),
    )
