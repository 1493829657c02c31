"""ReMix Tables 2, 3, 9 and 10: temperatures, iterations, and what a mini-batch is made of.

Tables 2, 9a and 10a start from scratch (their numbers match rows 1 and 3 of Table 4), the others from
pre-trained weights.
"""

from typing import Any

from dynamix.experiments.printed import printed
from dynamix.experiments.tables.kinds import Column, PaperTable, Result, Row
from dynamix.experiments.tables.remix import SCORES, ablation
from dynamix.experiments.tables.shared import NO_SINGLE, cells, short, vary


def table2a() -> PaperTable:
    """Temperatures of the instance and augmentation losses, without single-camera data."""
    of = printed("remix", "2a")
    rows = tuple(
        Row(
            name=f"tau_ins_m={short(ins)} tau_aug={short(aug)}",
            changes={**NO_SINGLE, "ins__tau_multi": ins, "aug__tau": aug},
            encoder="cnn",
            printed=cells(of, tau_ins_m=ins, tau_aug=aug),
        )
        for ins, aug, *_ in of.rows
    )
    return ablation("2a", "Both temperatures are best at .1, and matter little near it.", rows)


def table2b() -> PaperTable:
    """Temperature of the instance loss for single-camera images."""
    rows = vary(
        printed("remix", "2b"),
        "tau_ins_s",
        lambda tau: {"ins__tau_single": tau, "cen__use_single": "off"},
        encoder="cnn",
    )
    return ablation(
        "2b",
        "Single-camera labels are noisy: a temperature above that of multi-camera images is best for them.",
        rows,
        "Single-camera data in the instance and augmentation losses alone, as its row .2 equals Table 5's.",
    )


def table2c() -> PaperTable:
    """Temperature of the centroids loss for single-camera images."""
    rows = vary(printed("remix", "2c"), "tau_cen_s", lambda tau: {"cen__tau_single": tau}, encoder="cnn")
    return ablation("2c", "The same holds for the centroids loss: .6 is best, above .5.", rows)


def table3() -> PaperTable:
    """Iterations in an epoch."""
    hours = Column(title="training", key="train_hours_approx", read=_hours, unit="h", digits=2)
    rows = vary(
        printed("remix", "3"), "iterations", lambda count: {"iterations_times": count / 400}, encoder="cnn"
    )
    return ablation(
        "3",
        "More than 400 iterations an epoch cost time and gain little or nothing.",
        rows,
        "The profile's number of iterations times 3/4, 1, 3/2 and 2.",
        "Hours are of the machine at hand, and vary with its load.",
        start="pretrained",
        columns=(*SCORES, hours),
    )


def _hours(row: Row, result: Result) -> float | None:
    seconds = result.get("seconds")
    return None if seconds is None else seconds / 3600


def table9a() -> PaperTable:
    """Multi-camera images in a batch, without single-camera data."""
    rows = vary(
        printed("remix", "9a"),
        "B_m",
        lambda size: {**NO_SINGLE, "batch__ids_multi": size // 4},
        encoder="cnn",
    )
    return ablation("9a", "Thirty-two multi-camera images are enough, sixteen are not.", rows)


def table9b() -> PaperTable:
    """Single-camera images in a batch."""
    rows = vary(printed("remix", "9b"), "B_s", lambda size: {"batch__ids_single": size // 4}, encoder="cnn")
    return ablation("9b", "As many single- as multi-camera images are best.", rows, start="pretrained")


def table10a() -> PaperTable:
    """Images of a multi-camera identity, in a batch of 32 without single-camera data."""

    def shared(images: int) -> dict[str, Any]:
        return {**NO_SINGLE, "batch__images_multi": images, "batch__ids_multi": 32 // images}

    rows = vary(printed("remix", "10a"), "N_K_m", shared, encoder="cnn")
    return ablation("10a", "Few identities with many images each are worse than more with fewer.", rows)


def table10b() -> PaperTable:
    """Images of a single-camera identity, in 32 of a batch of 64."""

    def shared(images: int) -> dict[str, Any]:
        return {"batch__images_single": images, "batch__ids_single": 32 // images}

    rows = vary(printed("remix", "10b"), "N_K_s", shared, encoder="cnn")
    return ablation(
        "10b", "Single-camera identities bear many images each, unlike the others.", rows, start="pretrained"
    )
