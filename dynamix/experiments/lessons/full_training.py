"""Notebook 08: what to note down of a training, recorded trainings as curves, the profiles side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dynamix import encoders, plots
from dynamix.config import PROFILES, Config
from dynamix.data.table import Table
from dynamix.experiments.datasets import score
from dynamix.experiments.ledger import ledger
from dynamix.experiments.run import label_state
from dynamix.experiments.spec import TEST_WORLDS
from dynamix.relabeling import RelabelingReport
from dynamix.trainer import Epoch

LOSSES = {
    "ins": "instance", "aug": "augmentation", "cen": "centroids", "cc": "0.5 × camera centroids",
}  # fmt: skip
FULL = ("profile encoder: + RM", "+ RM")  # rows of Table 3 that are the full method, ours first
SETTINGS = {
    "encoder": lambda c: f"{c.encoder.name}, {c.encoder.image[0]} × {c.encoder.image[1]}, D {c.encoder.dim}",
    "epochs × steps": lambda c: f"{c.epochs} × {c.iterations}",
    "batch, multi + single": lambda c: " + ".join(f"{ids} · {n}" for ids, n in _batch(c)),
    "optimizer": lambda c: f"{c.opt.name}, {c.opt.lr:g}, {c.opt.schedule}",
    "λ (Eq. 2)": lambda c: f"{c.opt.ema:g}" + (", ramped" if c.opt.ema_ramp else ""),
    "views": lambda c: c.aug.views,
    "K, α (Eq. 3)": lambda c: f"{c.ecm.K}, {c.ecm.alpha:g}",
    "relabeling scope": lambda c: c.rm.scope,
    "labels": lambda c: "refined afresh" if c.rm.reset_labels_each_epoch else "kept from epoch to epoch",
    "queue holds": lambda c: _queue(c),
    "feature in the centroids loss": lambda c: c.cen.feature,
}


def distance(momentum: nn.Module, encoder: nn.Module) -> float:
    """How far the momentum encoder's weights are from the encoder's, in percent of their length."""
    ours, theirs = (torch.cat([p.detach().ravel() for p in net.parameters()]) for net in (momentum, encoder))
    return 100 * float((ours - theirs).norm() / theirs.norm())


def noted(
    terms: Mapping[str, Tensor],
    weights: Mapping[str, float],
    optimizer: torch.optim.Optimizer,
    momentum: nn.Module,
    encoder: nn.Module,
) -> dict[str, float]:
    """A step for the diary: weighted losses, the learning rate, how far the momentum encoder is behind."""
    losses = {name: weights[name] * float(value.detach()) for name, value in terms.items()}
    return losses | {"rate": optimizer.param_groups[0]["lr"], "distance": distance(momentum, encoder)}


def drawn(
    diary: Sequence[Mapping[str, float]], reports: Sequence[RelabelingReport | None], identities: int
) -> Figure:
    """A training's diary, and the report that each epoch began with (None: the tracker's `identities`)."""

    def all_of(name: str, times: float = 1.0) -> list[float]:
        return [times * line[name] for line in diary]

    def of_reports(name: str, before: str | int) -> list[str | int]:
        return [before if each is None else getattr(each, name) for each in reports]

    return plots.rhythm(
        {name: all_of(key) for key, name in LOSSES.items()},
        {
            "centroids loss alone": all_of("cen"),
            "learning rate, thousandths": all_of("rate", 1000.0),
            "distance of the momentum encoder, %": all_of("distance"),
        },
        {
            "images moved": of_reports("relabeled", "–"),
            "images removed": of_reports("removed", "–"),
            "identities merged": of_reports("merged", "–"),
            "identities left": of_reports("pids_after", identities),
        },
        title="Labels and centroids change once an epoch, the networks with every step",
        note=f"Mannequins, profile tiny: {len(reports)} epochs of {len(diary) // len(reports)} steps. "
        "The counts are of the videos.",
    )


def observed(
    record: Epoch, table: Table, truth: np.ndarray, roots: Mapping[str, Path], config: Config
) -> dict[str, Any]:
    """An epoch as `plots.training_curves` reads it: loss, F1 of the labels, mAP on the unseen worlds.

    `truth` (N,) holds the true identities of the single-camera rows, -1 = junk.
    """
    single, nothing = table.videos >= 0, np.zeros(len(table), dtype=bool)
    scores = {
        world: {"mAP": score(record.momentum, config, roots[world], world, torch.device("cpu")).mAP}
        for world in TEST_WORLDS
    }
    return {
        "epoch": record.epoch,
        "terms": record.terms,
        "quality_before": label_state(table.labels, nothing, truth, single),
        "quality_after": label_state(record.labels, record.removed, truth, single),
        "scores": scores,
    }


def recorded(profile: str, results: Path) -> dict[str, list[dict[str, Any]]]:
    """Seed by seed the epochs of the recorded trainings of the full method; empty where none has run."""
    for name in FULL:
        made = ledger(("table3",), profile, 3, rows=(name,), results=results)
        found = [made.entries[key].result for key in made.rows.get(("table3", name), ())]
        runs = {f"seed {each['seed']}": list(_points(each)) for each in found if each is not None}
        if runs:
            return runs
    return {}


def _points(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A result's thinned epochs with the names that curves have."""
    for line in result["epochs"]:
        point: dict[str, Any] = {"epoch": line["epoch"], "terms": {"total": line["loss"]}}
        if "f1" in line:
            point["quality_before"] = result["quality_before"]
            point["quality_after"] = {"f1": line["f1"]}
        if "mAP" in line:
            point["scores"] = {w: {"mAP": line["mAP"][w]} for w in TEST_WORLDS if w in line["mAP"]}
        yield point


def profiles(names: Sequence[str] = tuple(PROFILES)) -> str:
    """The settings that differ between profiles, side by side as a Markdown table."""
    lines = [f"| | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for what, read in SETTINGS.items():
        lines.append(f"| {what} | {' | '.join(read(PROFILES[name]) for name in names)} |")
    return "\n".join(lines)


def _batch(config: Config) -> tuple[tuple[int, int], tuple[int, int]]:
    batch = config.batch
    return (batch.ids_multi, batch.images_multi), (batch.ids_single, batch.images_single)


def _queue(config: Config) -> str:
    if config.dsm.queue_fraction is not None:
        return f"{config.dsm.queue_fraction:.0%} of the identities"
    assert config.dsm.queue_epochs is not None
    return f"{config.dsm.queue_epochs:g} epochs of batches"


def parameters(config: Config) -> int:
    """Numbers that the encoder learns; nothing is allocated for counting them."""
    with torch.device("meta"):
        return sum(each.numel() for each in encoders.build(config.encoder).parameters())


def flat_gradient(loss: Tensor, encoder: nn.Module) -> Tensor:
    """The gradient of `loss` by all weights of `encoder` as one vector; the graph is kept."""
    found = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).ravel()
            for p, g in zip(encoder.parameters(), found, strict=True)
        ]
    )
