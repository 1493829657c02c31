"""Notebook 06: who owns a label, one clip step by step, strangers in one component, recorded gains."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from scipy.sparse.csgraph import breadth_first_order
from torch import Tensor

from dynamix.centroids import CentroidsMemory
from dynamix.experiments.paired import by_seed, over_seeds
from dynamix.experiments.pictures.scene import Scene, Stage
from dynamix.experiments.report.cells import Failure, Found, ranked
from dynamix.experiments.tables.kinds import PaperTable
from dynamix.plots.stages import Stage as ClipStage
from dynamix.plots.stages import stages
from dynamix.relabeling import Relabeled

RULES = (
    ("The tracker's labels", "cuts, switches and junk as they came", "tracker"),
    ("Filter", "removed: no centroid of the clip as similar as {0:g}", "removed"),
    ("Relabel", "moved to the most similar centroid, above {1:g}", "relabeled"),
    ("Merge", "labels joined: centroids as similar as {2:g}", "merged"),
)


def owners(labels: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> dict[int, int]:
    """Label -> the person who has most of its images; -1: it holds nothing but junk (truth -1).

    Of two with equally many the smaller one.
    """
    found = {}
    for label in labels.unique().tolist():
        people = truth[(labels == label) & (truth >= 0)]
        found[label] = int(people.mode().values) if len(people) else -1
    return found


def eventful_clip(scene: Scene) -> np.ndarray:
    """Rows of the first clip in which every step changes something; of the busiest if there is none."""
    stages = scene.refined.stages
    for clip in np.unique(scene.table.videos[scene.table.videos >= 0]).tolist():
        rows = np.flatnonzero(scene.table.videos == clip)
        if all(_changed(a, b, rows) for a, b in zip(stages[:-1], stages[1:], strict=True)):
            frames = [int(scene.table.paths[int(row)].rsplit("_", 2)[-2]) for row in rows]
            return rows[np.argsort(frames, kind="stable")]
    return scene.clip.rows


def _changed(before: Stage, after: Stage, rows: np.ndarray) -> bool:
    kept = rows[~after.removed[rows]]
    return bool(
        (before.removed[rows] != after.removed[rows]).any()
        or (before.labels[kept] != after.labels[kept]).any()
    )


def step_by_step(scene: Scene) -> Figure:
    """The eventful clip through filter, relabel and merge: features, centroids, the crops that changed."""
    rows, refined = eventful_clip(scene), scene.refined
    steps = []
    for stage, (name, rule, change) in zip(refined.stages, RULES, strict=True):
        known = np.isin(stage.memory.labels.numpy(), np.unique(stage.labels[rows]))
        steps.append(
            ClipStage(
                name,
                rule.format(*refined.thresholds),
                change,  # type: ignore[arg-type]
                stage.labels[rows],
                stage.removed[rows],
                stage.memory.labels.numpy()[known],
                stage.memory.centroids.numpy()[known],
            )  # fmt: skip
        )
    people = np.unique(scene.truth[rows][scene.truth[rows] >= 0])
    before = len(np.unique(refined.tracker.labels[rows]))
    after = len(np.unique(refined.merged.labels[rows][~refined.merged.removed[rows]]))
    return stages(
        scene.crops(rows), scene.features[rows], scene.truth[rows], steps,
        title=f"One clip, {len(people)} people: from {before} labels to {after}",
        note=f"The first clip in which every step changes something: {len(rows)} boxes. Features by PCA; "
        "dotted: a true person's images, outside lies junk.",
    )  # fmt: skip


def farthest_walk(similar: Float[Tensor, "P P"], tau: float) -> list[int]:
    """The least similar two of the largest component of `similar` >= `tau`, and a shortest way between them.

    Of several walks and components the first.
    """
    near = (similar >= tau).numpy()
    largest: np.ndarray = np.empty(0, int)
    for i in range(len(near)):
        reached = breadth_first_order(near, i, directed=False, return_predecessors=False)
        largest = reached if len(reached) > len(largest) else largest
    members = torch.from_numpy(np.sort(largest))
    start, end = divmod(int(similar[members][:, members].argmin()), len(members))
    _, came = breadth_first_order(near, int(members[start]), directed=False)
    walk = [int(members[end])]
    while walk[-1] != int(members[start]):
        walk.append(int(came[walk[-1]]))
    return walk[::-1]


def portraits(
    scene: Scene, result: Relabeled, memory: CentroidsMemory, pids: list[int]
) -> UInt8[Tensor, "p 3 H W"]:
    """Of each of the memory's PIDs (by row) the kept image nearest to its centroid.

    `result` is about the scene's single-camera rows.
    """
    clips = np.flatnonzero(scene.table.videos >= 0)
    rows = []
    for pid in pids:
        mine = torch.nonzero((result.labels == memory.labels[pid]) & ~result.removed)[:, 0]
        fit = scene.features[clips[mine.numpy()]] @ memory.centroids[pid]
        rows.append(clips[int(mine[int(fit.argmax())])])
    return scene.crops(np.array(rows))


def mean_scores(table: PaperTable, found: Found) -> tuple[dict[str, float], dict[str, float]]:
    """Row -> the paper's number, and our mean over seeds, in the column that ranks; nan: there is none."""
    column, nan = ranked(table), float("nan")
    printed = {row.name: row.printed.get(column.key) for row in table.rows}
    scores = by_seed(table, found, column)
    paper = {name: nan if number is None else float(number) for name, number in printed.items()}
    return paper, {name: fmean(scores[name].values()) if scores.get(name) else nan for name in printed}


def label_gains(table: PaperTable, found: Found, rows: Sequence[str]) -> str:
    """A line per row: its score over seeds, and the F1 of its labels before and after relabeling."""
    column, lines = ranked(table), []
    scores = by_seed(table, found, column)
    for name in rows:
        values = list(scores.get(name, {}).values())
        if len(values) < 2:
            lines.append(f"{name:26} {'one seed' if values else 'not run'}")
            continue
        ended = [each for each in found[name] if not isinstance(each, Failure)]
        before, after = (
            100 * fmean(each[f"quality_{when}"]["f1"] for each in ended) for when in ("before", "after")
        )
        shown = over_seeds(values, column.title)
        lines.append(f"{name:26} {shown}, F1 of the labels {before:.0f} -> {after:.0f} %")
    return "\n".join(lines)
