"""How much the single-camera half of a batch does to the multi-camera half, by loss and by choice of pairs.

`python -m dynamix.experiments.contribution runs/KEY` prints it for the next epoch of a run. In a softmax loss
a negative k sends to anchor i a gradient of its probability p_ik (over the temperature): the sum of p_ik over
single-camera negatives is all that Data Sampling can change for a multi-camera anchor.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dynamix import checkpoint
from dynamix.experiments import records
from dynamix.experiments.pictures.dynamix_figures import pairs_of
from dynamix.experiments.pictures.scene import Scene, scene
from dynamix.experiments.spec import Spec

MODES = ("hard", "soft", "random", "median", "mean", "off")
EDGES = (-1.0, 0.0, 0.3, 0.6, 1.0)  # of the similarity of a pair


@dataclass(frozen=True)
class Contribution:
    """Means over the multi-camera anchors of an epoch's batches."""

    mode: str
    push: float  # sum of p over all negatives: what the loss has left to push away
    single: float  # of that, the share that single-camera negatives send
    partner: float  # of the single-camera share: what the identity chosen for the anchor sends
    by_similarity: tuple[float, ...]  # of the single-camera share: by the pair's similarity, between EDGES
    pair: float  # mean similarity of the paired centroids


def push(
    features: Float[Tensor, "B D"], labels: Int[Tensor, " B"], single: Bool[Tensor, " B"], tau: float
) -> tuple[Float[Tensor, "m B"], Float[Tensor, "m B"]]:
    """p_ik of the instance loss (ReMix Eqs. 4-5) for multi-camera anchors, mean over positives, and cosines.

    Features are unit rows, keys the same rows; zero for positives.
    """
    cosines = features[~single] @ features.T
    same = labels[~single, None] == labels[None]
    logits = cosines / tau
    positives = logits[same].view(len(logits), -1)  # every identity has as many images in a batch
    negatives = logits.masked_fill(same, -torch.inf)
    # One softmax per positive, over it and all negatives.
    norms = torch.logaddexp(positives, negatives.logsumexp(1, keepdim=True))
    return (negatives[:, None] - norms[:, :, None]).exp().mean(1), cosines


def contribution(scene: Scene, mode: str, tau: float | None = None) -> Contribution:
    """What single-camera negatives contribute in the scene's epoch under a `dsm.mode`."""
    tau = scene.config.ins.tau_multi if tau is None else tau
    labels, single = torch.from_numpy(scene.refreshed.labels), torch.from_numpy(scene.table.videos >= 0)
    edges, size = torch.tensor(EDGES[1:-1], dtype=scene.features.dtype), scene.config.batch
    total, own, mass = [], [], torch.zeros(len(EDGES) - 1, dtype=torch.float64)
    for batch in scene.batches(mode):
        rows = torch.tensor(batch)
        sent, cosines = push(scene.features[rows], labels[rows], single[rows], tau)
        total.append(sent.sum(1).mean())
        theirs, at = sent[:, single[rows]], torch.bucketize(cosines[:, single[rows]], edges)
        mass += torch.bincount(at.flatten(), theirs.flatten().double(), len(mass)) / len(sent)
        blocks = theirs.view(size.ids_multi, size.images_multi, size.ids_single, size.images_single)
        own.append(blocks.sum((1, 3)).diagonal().sum() / len(sent))
    everything = float(torch.stack(total).sum())
    from_single = float(mass.sum())
    return Contribution(
        mode,
        everything / len(total),
        from_single / everything,
        float(torch.stack(own).sum()) / from_single,
        tuple((mass / from_single).tolist()),
        _pair_similarity(scene, mode),
    )


def _pair_similarity(scene: Scene, mode: str) -> float:
    multi, single = pairs_of(scene, mode)
    return float(
        np.mean([scene.similarity(m, s).diagonal().mean() for m, s in zip(multi, single, strict=True)])
    )


def lines(found: Iterable[Contribution]) -> list[str]:
    """A table for a terminal, percent."""
    bins = [f"{low:g}..{high:g}" for low, high in zip(EDGES, EDGES[1:], strict=False)]
    out = [
        f"{'pairs':8} {'cosine':>7} {'push':>6} {'single':>7} {'partner':>8}   by cosine: {'  '.join(bins)}"
    ]
    for each in found:
        shares = "  ".join(f"{100 * share:6.1f}" for share in each.by_similarity)
        numbers = (
            f"{each.pair:7.2f} {100 * each.push:6.1f} {100 * each.single:7.1f} {100 * each.partner:8.1f}"
        )
        out.append(f"{each.mode:8} {numbers}   {'':10}{shares}")
    return out


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    modes: tuple[str, ...] = MODES,
    record: Path | None = None,
) -> None:
    """Print the contributions in the next epoch of some folders' runs; keep them in the file `record`."""
    kept = []
    for run in runs:
        config = checkpoint.load(run, ("epoch.",)).config
        shown = scene(run, Spec(name="DynaMix", config=config).roots())
        found = [contribution(shown, mode) for mode in modes]
        print(f"{run.name}, seed {config.seed}", *lines(found), sep="\n")
        kept += [asdict(each) | {"run": run.name, "seed": config.seed} for each in found]
    if record is not None:
        records.write(record, {"rows": kept, "edges": EDGES, "provenance": records.provenance()})


if __name__ == "__main__":
    tyro.cli(main)
