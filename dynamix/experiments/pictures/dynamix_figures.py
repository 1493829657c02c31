"""DynaMix's figures 1, 3 and 4: what to show is chosen by rules that do not look at any result."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dynamix.experiments.pictures.scene import Context, Scene, Stage
from dynamix.experiments.printed import Printed, printed
from dynamix.plots.batches import Mode, batches
from dynamix.plots.methods import Benchmark, methods
from dynamix.plots.stages import Stage as ClipStage
from dynamix.plots.stages import stages

ITERATIONS, PAIRS = 3, 4  # of figure 4: the first ones
MODES = {
    "hard": "most similar in sum",
    "soft": "least similar in sum",
    "random": "whoever is not resting",
    "median": "nearest to the median",
}


def figure1(context: Context) -> Figure:
    """Rank-1 of methods on cross-dataset benchmarks, as Table 2a prints it; ours beside (Fig. 1)."""
    note = "Single labeled source, another dataset tested. "
    if context.results:
        note += (
            "The embedded benchmark's numbers (right) have a scale of their own: the two are not comparable."
        )
    return methods(
        cross_dataset(printed("dynamix", "2a")), dict(context.results),
        title="Rank-1 of methods on datasets they were not trained on", note=note.strip(),
    )  # fmt: skip


def cross_dataset(table: Printed) -> list[Benchmark]:
    """Test set by test set, training set by training set: rank-1 of every method that prints one."""
    found = []
    for column in (name for name in table.columns if name.endswith(":R1")):
        tested = column.removesuffix(":R1")
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for trained in dict.fromkeys(row["train_set"] for row in rows):
            rank1 = {
                r["method"]: r[column] for r in rows if r["train_set"] == trained and r[column] is not None
            }
            if trained.removesuffix("-merged") != tested and rank1:
                found.append(Benchmark(trained, tested, rank1))
    return found


def figure3(context: Context) -> Figure:
    """The busiest clip through the stages of relabeling (Fig. 3)."""
    scene = context.scene
    rows, refined = scene.clip.rows, scene.refined
    remove, rel, merge = refined.thresholds
    words = (
        ("The tracker's labels", "cuts, switches and junk as they came", "tracker"),
        ("Filtering", f"removed: no centroid as similar as {remove:g}", "removed"),
        ("Relabeling", f"moved to a more similar centroid, above {rel:g}", "relabeled"),
        ("Merging", f"labels joined: centroids as similar as {merge:g}", "merged"),
    )
    steps = [_clip_stage(scene, stage, *each) for stage, each in zip(refined.stages, words, strict=True)]
    before = len(np.unique(refined.tracker.labels[rows]))
    after = len(np.unique(refined.merged.labels[rows][~refined.merged.removed[rows]]))
    return stages(
        scene.crops(rows), scene.features[rows], scene.truth[rows], steps,
        title=f"Relabeling stage by stage: from {before} labels of a clip to {after}",
        note=f"The clip of Mannequins with most tracking errors: {len(rows)} boxes, "
        f"{len(np.unique(scene.clip.truth[scene.clip.truth >= 0]))} people. "
        "Features by PCA; dotted: a true person's images, outside lies junk.",
    )  # fmt: skip


def _clip_stage(scene: Scene, stage: Stage, *words: Any) -> ClipStage:
    rows = scene.clip.rows
    labels = np.unique(stage.labels[rows])
    known = np.isin(stage.memory.labels.numpy(), labels)
    name, rule, change = words
    return ClipStage(
        name, rule, change, stage.labels[rows], stage.removed[rows],
        stage.memory.labels.numpy()[known], stage.memory.centroids.numpy()[known],
    )  # fmt: skip


def figure4(context: Context) -> Figure:
    """Mini-batches of consecutive iterations under each rule of Data Sampling (Fig. 4, Table 8)."""
    scene = context.scene
    every = scene.similarity(np.unique(scene.multi.labels.numpy()), scene.pool).numpy().ravel()
    modes = [composed(scene, mode) for mode in MODES]
    return batches(
        modes, every, float(np.median(every)),
        title="Which strangers join the batch: four rules, the same multi-camera people",
        note=f"Mannequins. The first {PAIRS} of {scene.config.batch.ids_multi} pairs; "
        "numbers: cosine similarity of the two centroids.",
    )  # fmt: skip


def composed(scene: Scene, mode: str) -> Mode:
    """The first pairs of the first iterations of the scene's epoch, as `mode` composes them."""
    multi, single = pairs_of(scene, mode)
    steps, shown = min(ITERATIONS, len(multi)), min(PAIRS, multi.shape[1])
    values = np.stack([scene.similarity(m, s).diagonal().numpy() for m, s in zip(multi, single, strict=True)])
    batch, rows = scene.config.batch, np.array(list(scene.batches(mode)))[:steps]
    cut = batch.ids_multi * batch.images_multi
    left = rows[:, :cut].reshape(steps, batch.ids_multi, batch.images_multi)[:, :shown, 0]
    right = rows[:, cut:].reshape(steps, batch.ids_single, batch.images_single)[:, :shown, 0]
    return Mode(
        mode, MODES[mode], scene.crops(left), scene.crops(right), values[:steps, :shown], values.ravel()
    )


def pairs_of(scene: Scene, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Multi- and single-camera labels (iterations, pairs) that stand side by side in the epoch's batches."""
    batch, rows = scene.config.batch, np.array(list(scene.batches(mode)))
    cut, labels = batch.ids_multi * batch.images_multi, scene.refreshed.labels
    pairs = min(batch.ids_multi, batch.ids_single)
    multi = labels[rows[:, : cut : batch.images_multi]][:, :pairs]
    return multi, labels[rows[:, cut :: batch.images_single]][:, :pairs]
