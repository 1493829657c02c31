"""ReMix Tables 4, 5, 8, 11 and 12: where its single-camera data goes, how they are labeled, its encoder.

Tables 5 and 8 start from scratch (their numbers match rows 1 and 3 of Table 4), as do the rows without
single-camera data of 11 and 12.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from dynamix.experiments.printed import printed
from dynamix.experiments.tables.kinds import Column, Data, PaperTable, Row, Setting, pair
from dynamix.experiments.tables.shared import (
    ABLATION,
    MULTI_64,
    NO_SINGLE,
    STAND_INS,
    cells,
    titled,
    unseen,
    value,
    vary,
)

REMIX: Mapping[str, Any] = {"method": "remix", "recipe": "remix"}
GIVEN: Mapping[str, Any] = {"remix__labels": "given"}
SCORES = pair(("station", "hall"), ("dukemtmc",))
BOTH_SCORES = (*unseen("Market-1501", "station"), *unseen("DukeMTMC-reID", "hall"))
TRAINED = Setting(sources=("msmt17_merged",), single=("luperson",), targets=("dukemtmc",))
TO_DUKE = Data(worlds=ABLATION.worlds, real=TRAINED)
LABELED = Data(worlds=ABLATION.worlds, real=replace(TRAINED, single=("luperson_nl",)))
TO_BOTH = Data(worlds=ABLATION.worlds, real=replace(TRAINED, targets=("market1501", "dukemtmc")))
TWO_WORLDS = (
    "On Mannequins trained on plaza, so that station stands in Market-1501's column and hall in "
    "DukeMTMC-reID's."
)

# What ReMix could have scored at best, and what its batch size alone is worth.
CHECKS = (
    replace(MULTI_64, encoder="cnn"),
    Row(
        name="true identities",
        kind="bound",
        changes=GIVEN,
        encoder="cnn",
        labels="truth",
        note="given labels without error instead of clusters: only where the truth is known",
    ),
)


def ablation(
    number: str,
    claim: str,
    rows: tuple[Row, ...],
    *notes: str,
    start: Literal["scratch", "pretrained"] = "scratch",
    columns: tuple[Column, ...] = SCORES,
    data: Data = TO_DUKE,
) -> PaperTable:
    """A table of ReMix trained on MSMT17-merged (plaza) and tested on unseen data."""
    return titled(
        f"remix.table{number}",
        printed("remix", number),
        claim=claim,
        columns=columns,
        rows=rows,
        data=data,
        start=start,
        ranked_by="mAP" if data is TO_DUKE else "Market-1501 / station, mAP",
        base=REMIX,
        notes=(*notes, STAND_INS if data is TO_DUKE else TWO_WORLDS),
    )


def table4() -> PaperTable:
    """Single-camera data in pre-training, in joint training, in both."""
    of = printed("remix", "4")

    def row(name: str, pretrain: bool, joint: bool) -> Row:
        return Row(
            name=name,
            changes={} if joint else NO_SINGLE,
            encoder="cnn",
            start="pretrained" if pretrain else "scratch",
            printed=cells(of, pretrain=pretrain, joint=joint),
        )

    return ablation(
        "4",
        "Single-camera data help in joint training; with pre-training on them as well they help most.",
        (
            row("neither", False, False),
            row("pre-training", True, False),
            row("joint training", False, True),
            row("both", True, True),
            *CHECKS,
        ),
        "Without pre-training means without that on single-camera images.",
        start="pretrained",
        columns=BOTH_SCORES,
        data=TO_BOTH,
    )


def table5() -> PaperTable:
    """Single-camera data added to one loss after another."""
    of = printed("remix", "5")
    steps: dict[str, Mapping[str, Any]] = {
        "w/o single-camera data": NO_SINGLE,
        "+ in L_aug": {"ins__use_single": False, "cen__use_single": "off"},
        "+ in L_ins": {"cen__use_single": "off"},
        "+ in L_cen only as centroids": {"cen__use_single": "centroids_only"},
        "+ in L_cen": {},
    }
    rows = tuple(
        Row(name=name, changes=changes, encoder="cnn", printed=cells(of, configuration=name))
        for name, changes in steps.items()
    )
    return ablation(
        "5",
        "Every loss gains from single-camera data, and the centroids loss needs it as anchors too.",
        (*rows, *CHECKS),
        "Only as centroids: single-camera identities are negatives there, and no anchors.",
    )


def table8() -> PaperTable:
    """How near images must lie to be one cluster."""
    further = (
        Row(
            name="jaccard eps=.55",
            kind="ours",
            changes={"remix__metric": "jaccard", "remix__eps": 0.55, "neighbors": (30, 10)},
            encoder="cnn",
            note="k-reciprocal neighbors and the eps of ICE; of 10 neighbors instead of 30 on Mannequins, "
            "where 30 of the about 45 images of a video would make nearly all of them mutual",
        ),
        Row(
            name="cosine eps=.8",
            kind="ours",
            changes={"remix__metric": "cosine", "remix__eps": 0.8},
            encoder="cnn",
            note="the other reading of .8, which joins nearly everything",
        ),
        Row(
            name="given labels",
            kind="ours",
            changes=GIVEN,
            encoder="cnn",
            data=LABELED,
            note="the tracker's; on real data those of LUPerson-NL, as LUPerson has none",
        ),
    )
    return ablation(
        "8",
        "A distance of .8 is best, and the result depends little on it.",
        (
            *vary(printed("remix", "8"), "eps", lambda eps: {"remix__eps": eps}, encoder="cnn"),
            *further,
            *CHECKS,
        ),
        "The paper names neither distance nor min_samples: Euclidean on unit vectors, 4.",
    )


def table11() -> PaperTable:
    """The size of the input image."""
    rows = _with_and_without(
        "11",
        "image_size",
        {"256x128": ("cnn", {}), "384x128": ("cnn", {"height_times": 1.5})},
    )
    return ablation(
        "11",
        "Taller images are slower and a little better, with single-camera data and without.",
        tuple(rows),
        "The profile's image, and half as tall again; the worlds are drawn at that size.",
        _TIMED,
        _MIXED,
        start="pretrained",
        columns=(_INFERENCE, *BOTH_SCORES),
        data=TO_BOTH,
    )


def table12() -> PaperTable:
    """Instance normalization in the encoder, or not."""
    kinds: dict[str, Literal["cnn", "plain"]] = {"ResNet50-IBN": "cnn", "ResNet50": "plain"}
    rows = _with_and_without("12", "architecture", {name: (kind, {}) for name, kind in kinds.items()})
    apart = [
        Row(
            name=f"{name}, {where} alone",
            kind="ours",
            changes=NO_SINGLE if where == "pre-training" else {},
            encoder=encoder,
            start="pretrained" if where == "pre-training" else "scratch",
            note="single-camera data there and not elsewhere",
        )
        for name, encoder in kinds.items()
        for where in ("pre-training", "joint training")
    ]
    return ablation(
        "12",
        "Instance normalization helps on unseen data; single-camera data help with it and without.",
        (*rows, *apart),
        "In tiny and mini a small network with and without instance normalization stands for the two.",
        _TIMED,
        _MIXED,
        start="pretrained",
        columns=(_INFERENCE, *BOTH_SCORES),
        data=TO_BOTH,
    )


_INFERENCE = Column(title="inference", key="inference_ms", read=value("inference_ms"), unit="ms", digits=2)
_TIMED = "Inference is of one image, timed on one core of a machine at work."
_MIXED = (
    "The printed rows without single-camera data equal Table 4's first: they lack the pre-training too, and "
    "so do ours. Only Table 4 tells the two apart."
)


def _with_and_without(
    number: str,
    key: str,
    variants: Mapping[str, tuple[Literal["cnn", "plain"], Mapping[str, Any]]],
) -> Iterator[Row]:
    of = printed("remix", number)
    for name, (encoder, changes) in variants.items():
        for single in (False, True):
            yield Row(
                name=f"{name} {'with' if single else 'without'}",
                changes=changes if single else {**changes, **NO_SINGLE},
                encoder=encoder,
                start="pretrained" if single else "scratch",
                printed=cells(of, **{key: name}, single_camera=single),
            )
