"""Notebook 07: whom the rules of Data Sampling choose in a scene, who rests, and who pushes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamix.config import change
from dynamix.experiments.contribution import push
from dynamix.experiments.pictures.dynamix_figures import pairs_of
from dynamix.experiments.pictures.scene import Scene
from dynamix.plots import pushes
from dynamix.plots import sampling as plots
from dynamix.plots.batches import signed
from dynamix.sampling import MixedBatches

RULES = {
    "hard": "most similar in sum",
    "soft": "least similar in sum",
    "random": "whoever is free",
    "mean": "nearest to the mean",
    "median": "nearest to the median",
}


def planned(scene: Scene, mode: str, fraction: float, queue: Sequence[int] = ()) -> MixedBatches:
    """The scene's epoch with a queue as long as `fraction` of the pool, which holds `queue` at the start."""
    done = scene.refreshed
    config = change(scene.config, dsm__mode=mode, dsm__queue_fraction=fraction, dsm__queue_epochs=None)
    return MixedBatches(
        scene.table, done.labels, done.removed, done.single, done.multi, config,
        seed=config.seed, epoch=config.epochs, queue=queue,
    )  # fmt: skip


def typical(scene: Scene, labels: np.ndarray) -> Tensor:
    """Of every identity (n,) the image nearest to the mean of its features, (n, 3, H, W)."""
    rows = []
    for label in labels.tolist():
        own = np.flatnonzero((scene.refreshed.labels == label) & ~scene.refreshed.removed)
        features = scene.features[torch.from_numpy(own)]
        rows.append(own[int((features @ features.mean(0)).argmax())])
    return scene.crops(np.array(rows))


def choices(scene: Scene) -> Figure:
    """The first batch's labeled people and whom each rule chooses for them: nobody rests yet."""
    found = {mode: pairs_of(scene, mode) for mode in RULES}
    people = next(iter(found.values()))[0][0]
    rows = [
        plots.Choice(
            mode, RULES[mode], typical(scene, single[0]), scene.similarity(multi[0], single[0]).diagonal()
        )
        for mode, (multi, single) in found.items()
    ]
    return plots.strangers(
        typical(scene, people), rows,
        title="Hard takes look-alikes, soft opposites, median whoever is in the middle",
        note="Mannequins. The number below a crop: cosine similarity of its identity's centroid and that of "
        "the labeled person above.",
    )  # fmt: skip


def contested(scene: Scene, people: int = 3, strangers: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the first people of the first batch in which two want the same of some spread strangers."""
    single = scene.pool[np.linspace(0, len(scene.pool) - 1, strangers).astype(int)]
    everyone = pairs_of(scene, "median")[0][:, :people]
    for multi in everyone:
        similarity = scene.similarity(multi, single).numpy()
        if len(set(np.abs(similarity - np.median(similarity)).argmin(1).tolist())) < people:
            return multi, single
    return everyone[0], single


def matrix(scene: Scene, multi: np.ndarray, single: np.ndarray, chosen: Any, **more: Any) -> Figure:
    """The similarities of labeled people and strangers, with the chosen cells framed."""
    similarity = scene.similarity(multi, single)
    cost = np.abs(similarity.numpy() - np.median(similarity.numpy()))
    people = typical(scene, multi), typical(scene, single)
    target = signed(float(np.median(similarity.numpy())))
    note = f"Numbers: cosine of two centroids; the target, their median, is {target}. Cost: distance from it."
    return plots.assignment(similarity, chosen, *people, cost=cost, note=note, **more)


def resting(scene: Scene, fractions: Sequence[float], mode: str = "median") -> Figure:
    """Who is drawn and who rests in the scene's epoch, for several lengths of the queue."""
    panels = []
    for fraction in fractions:
        length, picks = round(fraction * len(scene.pool)), planned(scene, mode, fraction).pairs[..., 1]
        chosen = np.stack([np.isin(scene.pool, batch) for batch in picks])
        panels.append(plots.Rest(f"queue of {length}", chosen, barred(picks, scene.pool, length)))
    return plots.queues(
        panels,
        title="The longer the queue, the more strangers get their turn",
        note=f"Median batches of one epoch; the queue as a share of the {len(scene.pool)} identities: "
        + ", ".join(f"{fraction:g}" for fraction in fractions)
        + ".",
    )


def barred(picks: np.ndarray, pool: np.ndarray, length: int) -> np.ndarray:
    """(T, P): who could not be drawn at each iteration, given the picks (T, S) and the queue's length."""
    queue: list[int] = []
    out = np.zeros((len(picks), len(pool)), bool)
    for t, batch in enumerate(picks.tolist()):
        while len(pool) - len(queue) < len(batch):
            queue.pop(0)
        out[t] = np.isin(pool, queue)
        queue = [*queue, *batch][-length:] if length else []
    return out


def pushed(scene: Scene, modes: Sequence[str], step: int = 0) -> Figure:
    """Push of the strangers of one batch on its labeled people, as each rule composes it."""
    return pushes.push_matrix(
        [(mode, between(scene, mode, step)) for mode in modes],
        title="A rule arranges the diagonal, an anchor feels the whole row",
        note="Numbers: percent of all the push on a labeled person (A, B, ...) that comes from a stranger "
        "(a, b, ...); below 10 they are left out. Framed: the stranger chosen for that person.",
    )


def between(scene: Scene, mode: str, step: int) -> Tensor:
    """(N_P, N_P): share of the push on labeled identity i of a batch that single-camera identity k sends."""
    rows, size = torch.tensor(list(scene.batches(mode))[step]), scene.config.batch
    labels, single = torch.from_numpy(scene.refreshed.labels)[rows], torch.from_numpy(scene.table.videos >= 0)
    sent, _ = push(scene.features[rows], labels, single[rows], scene.config.ins.tau_multi)
    people = sent.view(size.ids_multi, size.images_multi, -1).sum(1)
    theirs = people[:, single[rows]].view(size.ids_multi, size.ids_single, size.images_single).sum(2)
    return theirs / people.sum(1, keepdim=True)


def recorded(path: Path, partners: int) -> tuple[dict[str, dict[str, float]], Figure]:
    """The recorded contributions in `path`: means over runs by rule, and their picture."""
    rows = json.loads(path.read_text())["rows"]
    order = sorted({row["mode"] for row in rows} & RULES.keys(), key=list(RULES).index)
    runs = {mode: [row for row in rows if row["mode"] == mode] for mode in order}
    means = {
        mode: {key: float(np.mean([row[key] for row in found])) for key in ("push", "single", "partner")}
        for mode, found in runs.items()
    }
    bars = [
        pushes.Push(mode, np.array([r["single"] for r in found]), np.array([r["partner"] for r in found]))
        for mode, found in runs.items()
    ]
    count = len(next(iter(runs.values())))
    figure = pushes.push_shares(
        bars, partners,
        title="All rules but hard leave the strangers about the same share of the push",
        note=f"Mannequins, profile mini, {count} finished median runs without relabeling: their next epoch "
        "as each rule would compose it.",
    )  # fmt: skip
    return means, figure
