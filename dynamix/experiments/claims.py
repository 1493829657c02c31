"""What the papers conclude, each as one difference of two rows: theirs as printed, ours seed by seed."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from dynamix import plots
from dynamix.experiments import tables
from dynamix.experiments.ledger import Ledger
from dynamix.experiments.paired import REFERENCE, by_seed, differences, noise
from dynamix.experiments.report import Found
from dynamix.experiments.reproduce import found_of
from dynamix.experiments.tables.kinds import Column
from dynamix.experiments.tables.shared import LEFT_OUT_COLUMN


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`row` leads `without` (or trails it) under `column`; `printed`: the paper's rows where others."""

    says: str
    table: str
    row: str
    without: str
    printed: tuple[str, str] | None = None
    column: str = "mAP"

    @property
    def paper(self) -> float:
        """The printed difference, in points."""
        table, key = tables.table(self.table), _column(self).key
        row, without = self.printed or (self.row, self.without)
        return tables.row(table, row).printed[key] - tables.row(table, without).printed[key]


MARKET = "Market-1501 / station, mAP"
CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "DynaMix, step by step": (
        Claim(says="a larger encoder", table="table3", row="+ ViT", without="ReMix, given labels"),
        Claim(
            says="centroids of a few images, kept (ECM)",
            table="table3",
            row="profile encoder: + ECM",
            without="profile encoder: naive centroids",
            printed=("+ ECM", "+ ViT"),
        ),
        Claim(
            says="batches of median similarity, queue (DSM)",
            table="table3",
            row="profile encoder: + DSM",
            without="profile encoder: + ECM",
            printed=("+ DSM", "+ ECM"),
        ),
        Claim(
            says="relabeling (RM)",
            table="table3",
            row="profile encoder: + RM",
            without="profile encoder: + DSM",
            printed=("+ RM", "+ DSM"),
        ),
        Claim(says="relabeling, on the transformer", table="table3", row="+ RM", without="+ DSM"),
    ),
    "DynaMix, its settings": (
        Claim(says="8 images per centroid instead of 2", table="table5", row="K=8", without="K=2"),
        Claim(says="alpha .3 instead of .7", table="table7", row="alpha=.3", without="alpha=.7"),
        Claim(says="median pairs instead of random", table="table8", row="median", without="random"),
        Claim(says="hardest pairs instead of random", table="table8", row="hard", without="random"),
        Claim(says="a queue of 30 epochs instead of none", table="table9", row="queue=30", without="queue=0"),
        Claim(
            says="filtering at .5 instead of .3",
            table="table10",
            row="tau_remove=.5 video",
            without="tau_remove=.3 video",
        ),
        Claim(
            says="merging at .8 instead of none",
            table="table10",
            row="tau_merge=.8 video",
            without="tau_remove=.5 video",
        ),
        Claim(
            says="ViT-B instead of ViT-S, station",
            table="table11",
            row="ViT-base",
            without="ViT-small",
            column=MARKET,
        ),
        Claim(
            says="ViT-B instead of ViT-S, hall",
            table="table11",
            row="ViT-base",
            without="ViT-small",
            column="CUHK03-NP / hall, mAP",
        ),
        Claim(says="batches of 64 instead of 256", table="table12", row="64", without="256"),
    ),
    "DynaMix instead of ReMix, leaving one labeled set out": tuple(
        Claim(
            says=f"tested on {dataset} / {world}",
            table="table2b",
            row=f"DynaMix to {dataset}",
            without=f"ReMix to {dataset}",
            column=LEFT_OUT_COLUMN,
        )
        for dataset, world in (("CUHK03-NP", "hall"), ("Market-1501", "plaza"), ("DukeMTMC-reID", "campus"))
    ),
    "ReMix": (
        Claim(
            says="single-camera data in training",
            table="remix.table4",
            row="joint training",
            without="neither",
            column=MARKET,
        ),
        Claim(
            says="and in pre-training",
            table="remix.table4",
            row="both",
            without="joint training",
            column=MARKET,
        ),
        Claim(
            says="single-camera data in every loss",
            table="remix.table5",
            row="+ in L_cen",
            without="w/o single-camera data",
        ),
        Claim(
            says="32 labeled images a batch instead of 16",
            table="remix.table9a",
            row="B_m=32",
            without="B_m=16",
        ),
        Claim(
            says="2 images a person instead of 8",
            table="remix.table10a",
            row="N_K_m=2",
            without="N_K_m=8",
        ),
    ),
}

TABLES = (*sorted({claim.table for each in CLAIMS.values() for claim in each} | {REFERENCE}),)


def ours(claim: Claim, found: Found) -> tuple[float, ...]:
    """Points for each seed that both rows of `claim` have, of what its table has `found`; () before that."""
    scores = by_seed(tables.table(claim.table), found, _column(claim))
    return differences(scores.get(claim.row, {}), scores.get(claim.without, {}))


def _called(table: str) -> str:
    """table3 -> Table 3, remix.table4 -> ReMix 4."""
    return table.replace("remix.table", "ReMix ").replace("table", "Table ")


def _column(claim: Claim) -> Column:
    return next(each for each in tables.table(claim.table).columns if each.title == claim.column)


def figure(made: Ledger) -> Figure:
    """Every claim on one page: the printed difference, and ours with how far seeds alone may move it.

    `made`: the trainings of `TABLES`, or of more. Raises ValueError where no row of Table 3 has two seeds.
    """
    found = {name: found_of(tables.table(name), made) for name in TABLES}
    spread = noise(found[REFERENCE])
    groups = {
        head: [
            plots.Claimed(claim.says, _called(claim.table), claim.paper, ours(claim, found[claim.table]))
            for claim in each
        ]
        for head, each in CLAIMS.items()
    }
    size = "" if made.profile == "paper" else " on Mannequins: sizes are not comparable, signs are"
    return plots.claims(
        groups,
        noise=spread,
        unit="points of mAP",
        title="What the papers conclude, and what shows here",
        note=f"Here: profile {made.profile}{size}. A line through a mark is how far seeds alone may move it: "
        f"two standard errors, seeds of one row spreading by {spread:.1f} points, or more where they do.",
    )
