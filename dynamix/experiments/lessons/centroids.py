"""Notebook 05: who is drawn, and made-up identities that move."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from dynamix.centroids import CentroidsMemory
from dynamix.config import Config, change
from dynamix.data.table import Table
from dynamix.experiments.figures import crops
from dynamix.methods.dynamix import draw_images
from dynamix.plots import centroids as plots
from dynamix.similarity import nearest


def who_is_drawn(videos: Table, config: Config, *, people: int = 3, epochs: int = 3) -> Figure:
    """The largest identities, one of a video (the first of each), and who of them is drawn in each epoch."""
    pids, first, count = np.unique(videos.labels, return_index=True, return_counts=True)
    large = count == count.max()
    _, chosen = np.unique(videos.videos[first[large]], return_index=True)
    shown = pids[large][chosen[:people]]
    rows = np.stack([np.flatnonzero(videos.labels == pid) for pid in shown])  # (P, n)
    everyone = np.ones(len(videos), dtype=bool)
    drawn = [np.isin(rows, draw_images(videos.labels, everyone, config, epoch)) for epoch in range(epochs)]
    return plots.draws(
        crops(videos, config.mannequins.image, rows),
        np.stack(drawn),
        names=[f"identity {k + 1}" for k in range(len(shown))],
        title=f"{config.ecm.K} of {count.max()} images an epoch, drawn afresh each time",
    )


def around_a_bend(alphas: Mapping[str, float], *, K: int = 1, n: int = 24, epochs: int = 16) -> Figure:
    """An identity in the plane that walks around a bend, and the centroids that Eq. 3 keeps of K images."""
    generator = torch.Generator().manual_seed(4)
    turn = torch.linspace(np.pi, 0, epochs)
    center = torch.stack([2.4 * turn.cos(), 3.2 * turn.sin()], dim=1)  # (T, 2)
    images = center[:, None] + 0.6 * torch.randn(n, 2, generator=generator)  # (T, n, 2)
    labels, config = torch.zeros(n, dtype=torch.int64), change(Config(), ecm__K=K)
    paths = {name: follow(images, labels, alpha, config)[:, 0] for name, alpha in alphas.items()}
    around = float((images - images.mean(1, keepdim=True)).norm(dim=2).mean())
    return plots.pursuit(
        images, images.mean(1), paths,
        title="Without memory the centroid jumps, with too much it comes late",
        note=f"One made-up identity of {n} images in the plane, {epochs} epochs from left to right, "
        f"{K} drawn in each. An image lies {around:.2f} from the mean on average.",
        exact_name=f"mean of all {n} images",
    )  # fmt: skip


def follow(
    snapshots: Float[Tensor, "T N D"], labels: Int[Tensor, " N"], alpha: float, config: Config
) -> Float[Tensor, "T P D"]:
    """The centroids of every epoch: images drawn afresh by `config.ecm.K`, blended by Eq. 3."""
    memory = CentroidsMemory.empty(labels.unique(), snapshots.shape[2])
    everyone, path = np.ones(len(labels), dtype=bool), []
    for epoch, features in enumerate(snapshots):
        rows = torch.from_numpy(draw_images(labels.numpy(), everyone, config, epoch))
        memory.update(features[rows], labels[rows], alpha if epoch else 0.0)  # nothing to keep at first
        path.append(memory.centroids.clone())
    return torch.stack(path)


def lost(
    P: int, noise: float, K: int | Literal["all"], alpha: float = 0.0, *, n: int = 24, D: int = 64
) -> float:
    """Percent of new images that lie nearer to a stranger's centroid: P made-up identities that stand still.

    `noise` is the length of an image's noise beside its identity's place on the unit sphere.
    """
    generator = torch.Generator().manual_seed(0)
    places = F.normalize(torch.randn(P, 1, D, generator=generator), dim=2)
    around = noise * torch.randn(P, n + 1, D, generator=generator) / D**0.5
    images = F.normalize(places + around, dim=2)
    seen, new = images[:, :n].flatten(0, 1), images[:600, n]  # (P n, D), (600, D)
    epochs = 8 if alpha else 1  # long enough for the average to settle
    labels, config = torch.arange(P).repeat_interleave(n), change(Config(), ecm__K=K)
    kept = follow(seen.expand(epochs, -1, -1), labels, alpha, config)[-1]
    found = nearest(new, kept).index
    return 100 * float((found != torch.arange(len(new))).float().mean())
