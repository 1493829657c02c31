"""`dynamix train --plan`: what a training would use, how many steps, how much memory and how much time.

Time is measured on this machine in half a minute or so: a few steps of the very encoder and decoding of a few
of the very images, on the threads that the training has; nothing is written.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynamix import data, encoders
from dynamix.config import Config
from dynamix.data import images as imagery
from dynamix.data.table import Table
from dynamix.data.views import normalize
from dynamix.experiments import job as jobs
from dynamix.experiments import starts
from dynamix.experiments.datasets import sides, variant
from dynamix.experiments.job import Job
from dynamix.experiments.records import provenance
from dynamix.methods.dynamix import VIEWS

PROBE = 4  # images of a timed step on a CPU at least, a whole batch at most
WORK = 5e10  # operations of one forward pass of the images between: seconds for a step
BUSY = 2.0  # slowest of the steps / fastest: alone on a machine they are more alike
SHARE = 0.9  # of the time that a core worked on the step, where nothing else wanted it
GB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a training costs here; seconds for one whole batch, images per second."""

    step: float  # the encoder forward and backward, the momentum encoder forward
    load: float  # reading a batch and making its views, with one loader process
    embed: float  # images/s through the momentum encoder
    read: float  # images/s from disk, with one loader process
    memory: int  # bytes: networks, gradients, optimizer, centroids; on a GPU the measured peak of a step
    images: int = PROBE  # of the timed step; a whole batch's time is scaled from it
    busy: str = ""  # what tells that other work was in the way; "" where nothing does


def plan(job: Job) -> list[str]:
    """The dry run, as lines of text. Raises what the training itself would raise on its data."""
    config, table = job.config, job.table()
    data.check_trainable(table, config.batch, clustered=config.clusters)
    cost = measure(config, table)
    embedded = refreshed(table, config)
    first, epoch = seconds(config, cost, len(table), embedded)
    return [
        f"DynaMix, profile {config.profile}, seed {config.seed}"
        + (f", {job.protocol}" if job.protocol else ""),
        "",
        "trains on",
        *(f"  {line}" for line in jobs.describe(table)),
        "tests on",
        *(f"  {line}" for line in _targets(job)),
        "",
        f"encoder  {_encoder(job)}",
        f"steps    {config.epochs} epochs x {config.iterations} = {config.epochs * config.iterations:,} of "
        f"{config.batch.size} images ({_batch(config)})",
        f"refresh  {embedded:,} images embedded at the start of each epoch ({_drawn_how(config)})",
        f"memory   networks, optimizer, centroids {cost.memory / GB:.2f} GB; "
        f"table {_bytes(table) / GB:.2f} GB; {_kept(table, config)}",
        f"time     measured on {provenance()['device']}, {torch.get_num_threads()} threads, in steps of "
        f"{cost.images} images: a step {time_text(cost.step)} "
        f"(reading and augmenting its batch {time_text(cost.load)} per loader, {_loaders(config)} of them), "
        f"embedding {rate_text(cost.embed)} images/s, reading {rate_text(cost.read)} images/s per loader",
        f"         about {time_text(epoch)} an epoch, {time_text(first + config.epochs * epoch)} in all",
        *([f"         {cost.busy}"] if cost.busy else []),
    ]


def seconds(config: Config, cost: Cost, images: int, embedded: int) -> tuple[float, float]:
    """Of what comes before the first epoch, and of an epoch.

    `images` are decoded first where they fit in memory; `embedded` are at the start of each epoch.
    """
    loaders = _loaders(config)
    if images * _image_bytes(config) <= config.memory_gb * GB:
        return images / (cost.read * loaders), config.iterations * cost.step + embedded / cost.embed
    step = max(cost.step, cost.load / loaders)
    return 0.0, config.iterations * step + embedded / min(cost.embed, cost.read * loaders)


def _loaders(config: Config) -> int:
    return max(1, min(config.workers, imagery.cores()))


def refreshed(table: Table, config: Config) -> int:
    """Images embedded at the start of an epoch: all multi-camera ones, of the others those of `drawn`."""
    clips = table.videos >= 0
    multi = int((~clips & (table.labels >= 0)).sum())
    return multi + drawn(config, int(clips.sum()), np.bincount(table.labels[clips & (table.labels >= 0)]))


def drawn(config: Config, images: int, counts: Int[np.ndarray, " P"]) -> int:
    """Single-camera images embedded at the start of an epoch, of so many; `counts`: of each PID.

    ReMix embeds videos until it has labels for all images of an epoch: at least as many as these.
    """
    if config.batch.ids_single == 0:
        return 0
    if config.method == "remix":
        return min(images, config.batch.size * config.iterations)
    if config.ecm.K == "all" or config.ecm.naive:
        return int(counts.sum())
    return int(np.minimum(counts, int(config.ecm.K)).sum())


def _drawn_how(config: Config) -> str:
    if config.batch.ids_single == 0:
        return "multi-camera ones"
    if config.method == "remix":
        return "of the videos at least as many as an epoch needs"
    return "K = all" if config.ecm.naive else f"K = {config.ecm.K}"


def measure(config: Config, table: Table) -> Cost:
    """Time a few steps and a few batches; see `Cost`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = np.unique(np.linspace(0, len(table) - 1, 2 * config.batch.size).astype(np.int64))
    images = imagery.Images.of(table, config.encoder.image, memory_gb=0.0, on_bad_image=config.on_bad_image)
    batch = np.resize(rows, config.batch.size)
    step, embed, memory, count, in_the_way = networks(config, device, _distinct(table))
    with starts.one_thread() if config.workers else contextlib.nullcontext():  # loaders have one each
        load = _timed(
            lambda: list(imagery.train_batches(images, [batch.tolist()], config.aug.views, seed=0, epoch=0))
        )
        read = _timed(lambda: list(imagery.chunks(images, rows, len(rows))))
    return Cost(step, load, embed, len(rows) / read, memory, count, in_the_way)


def networks(config: Config, device: torch.device, pids: int) -> tuple[float, float, int, int, str]:
    """Seconds a step, images/s embedded, bytes, images it was timed with, whether the machine was busy.

    Of a batch without its losses, on made-up images.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # of other work: this one begins
    encoder = encoders.build(config.encoder).to(device)
    momentum = encoders.momentum_copy(encoder)
    views, count = VIEWS[config.aug.views], config.batch.size
    shape = (count, 3, *config.encoder.image)
    levels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ready = normalize(levels.to(device), config.encoder.normalization)
    bf16 = config.opt.amp == "bf16" or (config.opt.amp == "auto" and device.type == "cuda")

    def step(count: int) -> None:
        encoder.train()
        momentum.train(config.opt.ema_buffers == "own")  # as the trainer does
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = torch.stack([encoder(ready[:count]).square().mean() for _ in views.encoder]).sum()
            with torch.no_grad():
                for _ in views.momentum:
                    momentum(ready[:count])
        encoder.zero_grad(set_to_none=True)
        loss.backward()

    def embed() -> None:
        momentum.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            momentum(ready[:count])

    if device.type == "cpu":
        # Each operation has a price whatever its size, on a busy machine most of its time: scaled from few
        # images to a batch it would be paid many times. So few are timed only where they are work enough.
        count = min(count, max(PROBE, int(WORK / max(1.0, operations(momentum, ready[:1])))))
    else:
        torch.cuda.reset_peak_memory_stats(device)
    worked, began = time.thread_time(), time.perf_counter()
    took = _times(partial(step, count), device)
    share = (time.thread_time() - worked) / (time.perf_counter() - began) if device.type == "cpu" else 1.0
    seconds, rate = float(np.median(took)) * config.batch.size / count, count / _timed(embed, device)
    return seconds, rate, _memory(config, encoder, device, pids), count, busy(load, share, took)


def operations(encoder: nn.Module, image: Float[Tensor, "1 3 H W"]) -> float:
    """Of a forward pass of one image, a multiplication and an addition as two."""
    encoder.eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        encoder(image)
    return float(counted.get_total_flops())


def busy(load: float, share: float, took: Sequence[float]) -> str:
    """What tells that other work was in the way of timed steps; "" where nothing does.

    The load average before them, the share of their time in which a core worked on them, or how their seconds
    differ.
    """
    cores = os.cpu_count() or 1
    if load <= cores / 2 and share >= SHARE and max(took) < BUSY * min(took):
        return ""
    return (
        f"the machine was busy (load {load:.1f} on {cores} cores, steps of {time_text(min(took))} to "
        f"{time_text(max(took))}): on an idle one it takes less"
    )


def _memory(config: Config, encoder: nn.Module, device: torch.device, pids: int) -> int:
    each = sum(parameter.numel() for parameter in encoder.parameters()) * 4
    slots = 2 if config.opt.name in ("adam", "adamw") else 1
    centroids = 2 * pids * config.encoder.dim * 4  # the memory and its sums
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) + slots * each + centroids
    return (3 + slots) * each + centroids  # encoder, momentum encoder, gradients, optimizer


def _timed(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of one call: the median of several after a first one."""
    return float(np.median(_times(work, device)))


def _times(work: Callable[[], object], device: torch.device | None = None) -> list[float]:
    """Seconds of several calls after a first one, which warms up: three of long ones, ten of short ones."""
    _seconds(work, device)
    took: list[float] = []
    while len(took) < 3 or (sum(took) < 1.0 and len(took) < 10):
        took.append(_seconds(work, device))
    return took


def _seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    began = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _targets(job: Job) -> Iterator[str]:
    if not job.targets:
        yield "nothing: name --targets to have it scored"
    roots = job.roots()
    for part in job.targets:
        query, gallery = sides(part.name, roots[part.name], on_bad_image=job.config.on_bad_image)
        trials = data.dataset(part.name).trials
        about = [variant(query), f"mean of {trials} divisions" if trials > 1 else ""]
        counts = f"{part.name:16}{len(query):>12,} queries {len(gallery):>8,} gallery images"
        yield f"{counts}  {', '.join(filter(None, about))}".rstrip()


def _encoder(job: Job) -> str:
    settings = job.config.encoder
    start = "from scratch" if job.weights is None else f"from {job.weights.name} ({settings.weights})"
    size = f"{settings.image[0]} x {settings.image[1]}"
    return f"{settings.name}, {settings.stem} stem, {size}, {settings.dim}-d, {start}"


def _batch(config: Config) -> str:
    batch = config.batch
    return (
        f"{batch.ids_multi} x {batch.images_multi} multi-camera, "
        f"{batch.ids_single} x {batch.images_single} single-camera"
    )


def _kept(table: Table, config: Config) -> str:
    size = len(table) * _image_bytes(config)
    if size <= config.memory_gb * GB:
        return f"decoded images {size / GB:.2f} GB"
    return f"images read from disk as needed ({size / GB:,.0f} GB decoded, memory_gb = {config.memory_gb:g})"


def _image_bytes(config: Config) -> int:
    return 3 * config.encoder.image[0] * config.encoder.image[1]  # decoded


def _bytes(table: Table) -> int:
    columns = (table.pids, table.labels, table.camids, table.videos, table.sources)
    paths = table.paths
    return sum(array.nbytes for array in (*columns, paths.buffer, paths.starts, paths.lengths, paths.within))


def _distinct(table: Table) -> int:
    return len(np.unique(table.labels[(table.videos >= 0) & (table.labels >= 0)]))


def rate_text(value: float) -> str:
    """A number of things a second, in two digits or whole."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def time_text(value: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
