"""DynaMix Tables 3, 5, 7-9, 11 and 12: the ladder, and one setting after another.

Tables 5 and 7 have Data Sampling and Relabeling off, Tables 8 and 9 Relabeling: their chosen rows are steps
of Table 3, and so are the runs.
"""

from collections.abc import Mapping
from typing import Any, Literal

from dynamix.experiments.printed import printed
from dynamix.experiments.tables.kinds import Data, PaperTable, Row, Setting, pair
from dynamix.experiments.tables.shared import (
    ABLATION,
    CHECKS,
    ECM_ALONE,
    NAIVE,
    RM_ALONE,
    STAND_INS,
    WITHOUT_RM,
    cells,
    short,
    titled,
    unseen,
    vary,
)

# Of the profiles that draw all images of an identity each epoch.
ALL_IMAGES = "where + ECM differs from naive centroids by alpha alone"
SCORES = pair(("station", "hall"), ("market1501",))


def ablation(number: str, claim: str, rows: tuple[Row, ...], *notes: str) -> PaperTable:
    """A table of one setting, with the controls and the bound that belong to every ablation."""
    return titled(
        f"table{number}",
        printed("dynamix", number),
        claim=claim,
        columns=SCORES,
        rows=(*rows, *CHECKS),
        data=ABLATION,
        ranked_by="mAP",
        notes=(*notes, STAND_INS),
    )


def table3() -> PaperTable:
    """The main table: from ReMix to DynaMix, a step at a time."""
    of = printed("dynamix", "3")

    def step(
        name: str,
        changes: Mapping[str, Any],
        done: int,
        encoder: Literal["cnn", "vit"] = "vit",
        note: str = "",
    ) -> Row:
        steps: dict[str, Any] = {part: i < done for i, part in enumerate(("ViT", "ECM", "DSM", "RM"))}
        return Row(name=name, changes=changes, encoder=encoder, printed=cells(of, **steps), note=note)

    given = {"method": "remix", "remix__labels": "given"}
    own = "profile encoder: "
    return ablation(
        "3",
        "Every step helps: the larger encoder, centroids from few images, batches of median similarity, and, "
        "most of all, refining the labels.",
        (
            step("ReMix, given labels", {**given, "recipe": "remix"}, 0, "cnn", "the tracker's labels"),
            step("+ ViT", given, 1),
            step("+ ECM", ECM_ALONE, 2),
            step("+ DSM", WITHOUT_RM, 3),
            step("+ RM", {}, 4, note="the full method"),
            Row(name=f"{own}naive centroids", kind="ours", changes=NAIVE, note="raw labels, all images"),
            Row(name=f"{own}+ ECM", kind="ours", changes=ECM_ALONE),
            Row(name=f"{own}+ DSM", kind="ours", changes=WITHOUT_RM),
            Row(name=f"{own}+ RM", kind="ours", note="the full method"),
            Row(name=f"{own}RM alone", kind="ours", changes=RM_ALONE, note="naive centroids, random batches"),
        ),
        "Row 2 is trained like DynaMix's own rows: the paper does not say with which optimizer.",
        "The same steps follow on the profile's own encoder, on which the other ablations run; controls and "
        "bound too.",
        f"In tiny and mini every epoch draws all images of an identity, {ALL_IMAGES}.",
    )


def table5() -> PaperTable:
    """K, the images of a PID that its centroid is made of each epoch."""
    return ablation(
        "5",
        "A few images of an identity are enough for its centroid: twice as many gain little.",
        (
            *vary(printed("dynamix", "5"), "K", lambda k: {**ECM_ALONE, "ecm__K": k}),
            Row(name="K=all", kind="ours", changes={**ECM_ALONE, "ecm__K": "all"}),
            Row(name="naive", kind="ours", changes=NAIVE, note="all images, and nothing of the last epoch"),
        ),
        "Data Sampling and Relabeling are off: Table 3's step is the row K=4 where the profile draws 4 "
        f"images (gpu, paper) and K=all in tiny and mini, {ALL_IMAGES}.",
    )


def table7() -> PaperTable:
    """alpha, the weight of the old centroid in Eq. 3."""
    return ablation(
        "7",
        "A centroid should keep a little of its past: about a third.",
        vary(printed("dynamix", "7"), "alpha", lambda alpha: {**ECM_ALONE, "ecm__alpha": alpha}),
        "Data Sampling and Relabeling are off: the row alpha=.3 equals a step of Table 3.",
    )


def table8() -> PaperTable:
    """Which single-camera identities are put beside the multi-camera ones."""
    without = {**WITHOUT_RM, "queue": (0.0, 0.0)}
    return ablation(
        "8",
        "The best batch has neither the most nor the least similar identities, but those in between.",
        (
            *vary(
                printed("dynamix", "8"), "method", lambda mode: {**WITHOUT_RM, "dsm__mode": mode}, name=str
            ),
            Row(name="random, no queue", kind="ours", changes=ECM_ALONE, note="Data Sampling off"),
            Row(name="hard, no queue", kind="ours", changes={**without, "dsm__mode": "hard"}),
            Row(name="median, no queue", kind="ours", changes=without),
        ),
        "Relabeling is off. All printed rows are read as having the queue: random scores above Data Sampling "
        "off (Table 3), and median without the queue (Table 9) below it.",
    )


def table9() -> PaperTable:
    """How long a sampled identity rests."""
    fraction = {0: 0.0, 1: 0.007, 10: 0.07, 20: 0.15, 30: 0.22, 40: 0.29}
    return ablation(
        "9",
        "Sampled identities should rest long, but not so long that too few are left to choose from.",
        vary(
            printed("dynamix", "9"),
            "queue_epochs",
            lambda epochs: {**WITHOUT_RM, "queue": (float(epochs), fraction[epochs])},
            name=lambda epochs: f"queue={epochs}",
        ),
        "Relabeling is off. Thirty epochs of 400 batches hold .22 of LUPerson-NL's identities: on Mannequins "
        "the queue is that share of the identities there are, "
        + ", ".join(short(share) for share in fraction.values())
        + " in the order of the rows. A queue longer than the pool would leave nothing to choose.",
        "In mini queue=1 (.007 of about 750 identities) holds about 5, fewer than the 8 of a batch: it is "
        "nearly queue=0.",
    )


def table11() -> PaperTable:
    """The size of the encoder."""
    of = printed("dynamix", "11")
    return titled(
        "table11",
        of,
        claim="The larger ViT is better by far on data it has not seen.",
        columns=(*unseen("CUHK03-NP"), *unseen("Market-1501", "station")),
        rows=(
            Row(name="ViT-small", encoder="small", printed=cells(of, backbone="ViT-small")),
            Row(name="ViT-base", encoder="base", printed=cells(of, backbone="ViT-base")),
        ),
        data=Data(
            worlds=ABLATION.worlds,
            real=Setting(
                sources=("msmt17_merged",), single=("luperson_nl",), targets=("market1501", "cuhk03_detected")
            ),
        ),
        ranked_by="Market-1501 / station, mAP",
        notes=(
            "On Mannequins trained on plaza, so that station stands in Market-1501's column; tiny and "
            "mini vary the width of a small hybrid of convolutions and attention.",
        ),
    )


def table12() -> PaperTable:
    """The size of the mini-batch, and the same number of images seen."""

    def composed(size: int) -> dict[str, Any]:  # N_K = 4 images an identity, half of them multi-camera
        return {"batch__ids_multi": size // 8, "batch__ids_single": size // 8}

    of = printed("dynamix", "12")
    fair = tuple(
        Row(
            name=f"{size}, same images seen",
            kind="control",
            changes={**composed(size), "iterations_times": 64 / size},
        )
        for size in (32, 128, 256)
    )
    return ablation(
        "12",
        "Small batches are enough; large ones do worse.",
        (*vary(of, "batch_size", composed, name=str), *fair),
        "N_K stays 4 and N_P grows with the size. The number of iterations stays too, so that larger batches "
        "see more images: the controls even this out.",
    )
