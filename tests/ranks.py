"""What each process of tests/test_distributed.py does: `python -m tests.ranks WHAT OUT [PLAZA VIDEOS]`.

The functions run in one process as well, which is what the others are compared with.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynamix import data, distributed, encoders, trainer
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, change, tiny
from dynamix.data.table import Table
from dynamix.methods import dynamix as method

IMAGE, DIM = (64, 32), 5


class Small(nn.Module):
    """Mean colors of 8 cells, two linear layers, LayerNorm: no statistics over the batch."""

    def __init__(self, seed: int):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.AdaptiveAvgPool2d((4, 2)), nn.Flatten(), nn.Linear(24, 12), nn.LayerNorm(12), nn.Tanh(),
                nn.Linear(12, DIM),
            )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Normed(Small):
    """With batch norm as well, whose statistics every rank takes from its own share on a CPU."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.norm = nn.BatchNorm1d(DIM, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(super().forward(images))


@contextmanager
def encoder_is(kind: type[Small]) -> Iterator[None]:
    """Train this encoder, and embed in chunks small enough for every rank to have some."""
    build, chunk = encoders.build, trainer.CHUNK
    encoders.build, trainer.CHUNK = lambda settings: kind(settings.seed), 16
    try:
        yield
    finally:
        encoders.build, trainer.CHUNK = build, chunk


# ---- one step in double precision

SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "two encoder views": {"aug__views": "C"},
    "all centroids": {"cen__scope": "all", "cen__feature": "unit", "cc__reduction": "camera_sum"},
    "multi-camera anchors": {
        "ins__use_single": False,
        "aug__use_single": False,
        "cen__use_single": "centroids_only",
        "cc__exclude_own": True,
        "cc__denominator": "per_positive",
    },
    "few negatives": {"ins__negatives": "same_type", "ins__denominator": "all_pos", "cc__hard_negatives": 2},
}
TERMS = ("ins", "aug", "cen", "cc")


def minibatch() -> tuple[dict[str, Tensor], Tensor, method.EpochTensors]:
    """6 + 6 identities of 2 images; views of the whole batch, its rows, what the epoch knows."""
    g = torch.Generator().manual_seed(3)
    ids = torch.arange(12).repeat_interleave(2)
    rows = torch.randperm(24, generator=g)
    labels, cameras = torch.empty_like(ids), torch.empty_like(ids)
    labels[rows], cameras[rows] = ids, torch.arange(2).repeat(12).where(ids < 6, torch.tensor(-1))
    multi = MultiCentroids(
        torch.arange(6), torch.randn(6, DIM, generator=g, dtype=torch.float64),
        torch.arange(6).repeat_interleave(2), torch.arange(2).repeat(6),
        F.normalize(torch.randn(12, DIM, generator=g, dtype=torch.float64), dim=1),
    )  # fmt: skip
    memory = CentroidsMemory(torch.arange(6, 14), torch.randn(8, DIM, generator=g, dtype=torch.float64))
    views = {name: torch.randn(24, 3, 8, 4, generator=g, dtype=torch.float64) for name in ("v0", "v1", "v2")}
    return views, rows, method.EpochTensors(labels, labels >= 6, cameras, multi, memory)


def gradients(missing: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Value and gradient of every term under every setting; the last rank lacks its `missing` last rows."""
    views, rows, epoch = minibatch()
    at = np.arange(24)[distributed.share()]
    if distributed.ranks() == 1 and missing:  # the rows that the last of two ranks would lack
        at = np.delete(at, at[1::2][-missing:])
    elif distributed.rank() == distributed.ranks() - 1:
        at = at[: len(at) - missing]
    own = {name: view[at] for name, view in views.items()}
    whole, counts = distributed.collect(rows[at], 24 // distributed.ranks())
    found = {}
    for name, changes in SETTINGS.items():
        for term in (*TERMS, "total"):
            encoder, momentum = Small(1).double(), Small(2).double()
            called = DistributedDataParallel(encoder) if distributed.ranks() > 1 else encoder
            config = change(Config(), **changes)
            terms = method.objective(called, momentum, own, whole, epoch, config, counts).terms
            parts = [method.weights(config)[t] * value for t, value in terms.items()]
            value = torch.stack(parts).sum() if term == "total" else terms[term]
            value.backward()
            found[f"{name}: {term}"] = (
                value.detach(),
                torch.cat([p.grad.flatten() for p in encoder.parameters()]),
            )
    return found


# ---- small exchanges, and how failures travel


def exchanges() -> dict[str, Any]:
    r, n = distributed.rank(), distributed.ranks()
    rows = np.arange(r * 10, r * 10 + 2 * r)  # rank 0 has none
    joined = distributed.join(rows, rows * 2, rows.astype(np.float32) / 2 if r else np.empty(0))
    mean = [torch.full((2, 2), float(r)), torch.tensor(10.0 * r)]
    distributed.average_(mean)
    x = torch.full((3 - (r == 1), 2), float(r)).requires_grad_()
    counts = tuple(2 if k == 1 else 3 for k in range(n))
    whole = distributed.gather(x, counts)
    weight = torch.arange(whole.numel(), dtype=torch.float32).view_as(whole)
    (whole * weight).sum().backward()
    return {
        "joined": joined,
        "sum": distributed.sum_(torch.full((3,), r + 1)),
        "mean": mean,
        "gathered": whole.detach(),
        "gradient": x.grad,
        "everyone": distributed.everyone({"rank": r}),
    }


def failure(work: Any) -> str:
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def failures() -> dict[str, str]:
    """What each rank says when something is wrong on the last one only."""
    last = distributed.rank() == distributed.ranks() - 1

    def loader() -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        yield {}, torch.arange(4)
        if last:
            raise ValueError("cannot read image 7.jpg")
        yield {}, torch.arange(4)

    def embedding() -> None:
        with distributed.all_or_none():
            if last:
                raise ValueError("the feature of row 3 is not finite")

    def unreadable() -> None:
        distributed.collect(torch.arange(0 if last else 4), 4)

    ranks, divides = distributed.ranks(), distributed.check_divides
    return {
        "loader": failure(lambda: list(trainer._shared(loader(), 4 * ranks))),
        "embedding": failure(embedding),
        "unreadable": failure(unreadable),
        "same": failure(lambda: distributed.same("give the same data", "two" if last else "one")),
        "divides": failure(lambda: divides(6, 6)) + failure(lambda: divides(6 * ranks, 7)),
    }


# ---- whole trainings


def configuration(**changes: Any) -> Config:
    short = change(
        tiny, epochs=2, iterations=4, workers=0, encoder__image=IMAGE, encoder__dim=DIM, opt__name="sgd",
        opt__lr=0.05, opt__warmup_epochs=0.0, batch__ids_multi=6, batch__ids_single=6, batch__images_multi=2,
        batch__images_single=2,
    )  # fmt: skip
    return change(short, **changes)


TRAININGS: dict[str, tuple[type[Small], dict[str, Any]]] = {
    "plain": (Small, {}),
    "from disk": (Small, {"memory_gb": 0.0, "workers": 2, "epochs": 1}),
    "two views": (Small, {"aug__views": "C", "opt__ema_buffers": "own", "epochs": 1}),
    "ReMix": (Small, {"method": "remix", "remix__eps": 0.2, "remix__min_samples": 2, "epochs": 1}),
    "batch norm": (Normed, {"opt__ema_buffers": "own"}),
}


def table_of(plaza: str, videos: str) -> Table:
    return data.concat([data.load("plaza", plaza, "train"), data.load("videos", videos, "train")])


def trained(name: str, table: Table, out: Path) -> list[tuple[Tensor, Tensor]]:
    """Train; returns per step the rows of the whole batch and the sums of this rank's views."""
    kind, changes = TRAININGS[name]
    seen: list[tuple[Tensor, Tensor]] = []
    objective = trainer.objective

    def spy(encoder: Any, momentum: Any, views: dict[str, Tensor], rows: Tensor, *rest: Any) -> Any:
        seen.append((rows, views["v1"].double().sum((1, 2, 3))))
        return objective(encoder, momentum, views, rows, *rest)

    trainer.objective = spy
    try:
        with encoder_is(kind):
            for _ in trainer.train(configuration(**changes), table, out, device="cpu"):
                pass
    finally:
        trainer.objective = objective
    return seen


def everything(out: Path, plaza: str, videos: str) -> None:
    """All of the above in one process after another start of torch; one file per rank."""
    table = table_of(plaza, videos)
    found: dict[str, Any] = {"gradients": gradients(), "exchanges": exchanges(), "failures": failures()}
    if distributed.ranks() < 3:
        found["missing"] = gradients(missing=2)
    for name in TRAININGS:
        found[name] = trained(name, table, out / f"{distributed.ranks()} {name}")
    torch.save(found, out / f"{distributed.ranks()}-{distributed.rank()}.pt")


def killed(out: Path, plaza: str, videos: str) -> None:
    """The plain training, whose last process is killed in its second epoch, once."""
    table, first = table_of(plaza, videos), os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    with encoder_is(Small):
        for count, _ in enumerate(trainer.train(configuration(), table, out / "killed", device="cpu")):
            if first and count == 6 and distributed.rank() == distributed.ranks() - 1:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.started():
        {"everything": everything, "killed": killed}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
