"""What this machine can do, on sizes that take seconds: rates, and seconds of every part of an epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from dynamix import encoders
from dynamix.centroids import CentroidsMemory
from dynamix.config import Batch, Config, change
from dynamix.evaluation import evaluate
from dynamix.experiments.bench.count import counted
from dynamix.experiments.bench.made import NOISE, crowd, jpegs, people
from dynamix.experiments.plan import Cost, measure, operations
from dynamix.relabeling import merge_pids, relabel
from dynamix.sampling import MixedBatches
from dynamix.similarity import nearest

KINDS = ("multi", "single")
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} passed, about {remaining} left"
FORMATS = ("float32", "bfloat16", "int8")
LONG = 8.0  # seconds: first calls this long need no second ones
SAME = 1e-5  # cosines closer than this may be ordered either way in float32


@dataclass(frozen=True)
class Timing:
    """Seconds that an amount of work took; other amounts of the same work are scaled from it."""

    seconds: float
    work: float  # counted in what the cost is proportional to
    on: str  # the size measured on, in words

    def scaled(self, work: float | int) -> float:
        """Seconds of another amount of this work."""
        return self.seconds * work / self.work


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured on; `FULL` takes about a minute on two cores."""

    matrix: int = 2048
    copy: int = 2**28  # bytes
    jpegs: int = 64
    features: int = 2048
    pids: int = 43_400  # a tenth of LUPerson-NL's
    merged: int = 16_384
    sampled: int = 21_700
    queries: int = 421  # an eighth of Market-1501's
    gallery: int = 15_913
    probe: bool = False  # one image of each kind a step instead of a whole batch
    times: int = 2

    def batch(self, config: Config) -> Batch:
        """The batch that a step is measured with."""
        if not self.probe:
            return config.batch
        ids = {f"ids_{kind}": min(1, getattr(config.batch, f"ids_{kind}")) for kind in KINDS}
        return replace(config.batch, **ids, images_multi=1, images_single=1)


FULL = Sizes()
QUICK = Sizes(
    matrix=256, copy=2**22, jpegs=8, features=256, pids=2048, merged=1024, sampled=512, queries=64,
    gallery=1024, probe=True, times=1,
)  # fmt: skip
GPU = Sizes(
    matrix=8192, copy=2**30, jpegs=256, features=32_768, pids=433_997, merged=131_072, sampled=433_997,
    queries=3368, times=3,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The measurements that `model` scales; seconds unless said otherwise."""

    matrix: dict[str, float]  # number format -> operations/s
    copy: float  # bytes/s, read and written both counted
    jpeg: float  # bytes of an image that was decoded
    flop: float  # operations of the encoder's forward pass of one image
    parameters: int  # numbers in the encoder
    cost: Cost
    features: int  # of the three timings below
    search: Timing  # relabel + accumulate; N P D
    faiss: Timing | None  # the same search by faiss.IndexFlatIP; None: not available on this device
    nearest: Timing
    differ: int  # decisions that differ from faiss by more than rounding
    peak: float  # bytes at the peak of that refresh / bytes of its centroids
    merging: Timing  # P^2 D
    sampling: Timing  # batches x P
    evaluation: Timing  # Q G D


def machine(config: Config, sizes: Sizes, *, progress: bool = True) -> Machine:
    """Measure everything on the GPU if there is one, else on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dim, weight = config.encoder.dim, sizes.pids / FULL.pids
    found: dict[str, object] = {}
    # Names, rough seconds on two cores (the bar's unit), work.
    stages: list[tuple[str, float, Callable[[], dict[str, object]]]] = [
        ("matrix products", 1.5, lambda: {"matrix": matrix_rates(sizes, device)}),
        ("memory", 0.5, lambda: {"copy": copy_rate(sizes, device)}),
        ("decoding, encoder, step", 30.0, lambda: _encoder(config, sizes)),
        ("nearest centroid", 16.0 * weight, lambda: searching(sizes, dim, device)),
        ("merging", 6.0 * weight, lambda: {"merging": merging(sizes, dim, device)}),
        ("sampling", 10.0 * weight, lambda: {"sampling": sampling(sizes, config, device)}),
        ("evaluation", 4.0 * weight, lambda: {"evaluation": evaluating(sizes, dim, device)}),
    ]
    with tqdm(
        total=round(sum(s for _, s, _ in stages), 1), disable=not progress, leave=False, bar_format=BAR
    ) as bar:
        for name, seconds, work in stages:
            bar.set_description(f"measuring {name}")
            found |= work()
            bar.update(seconds)
    return Machine(**found)  # type: ignore[arg-type]


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fastest(works: list[Callable[[], object]], times: int, device: torch.device) -> list[float]:
    """Seconds of the fastest call of each, in turns, so that a busy moment hits all of them."""
    took: list[list[float]] = [[] for _ in works]
    for round_ in range(times + 1):  # the first one warms up
        for mine, work in zip(took, works, strict=True):
            _sync(device)
            began = time.perf_counter()
            work()
            _sync(device)
            mine.append(time.perf_counter() - began)
        if round_ == 0 and sum(map(sum, took)) > LONG:
            return [mine[0] for mine in took]
    return [min(mine[1:]) for mine in took]


def matrix_rates(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Operations/s of square matrix products, by number format; a format it cannot multiply is left out."""
    n, rates = sizes.matrix, {}
    generator = torch.Generator().manual_seed(0)
    for name in FORMATS:
        dtype = getattr(torch, name)
        factor = torch.randint(-9, 10, (n, n), dtype=torch.int8, generator=generator).to(device, dtype)
        multiply = torch._int_mm if name == "int8" else torch.mm
        try:
            rates[name] = 2 * n**3 / fastest([partial(multiply, factor, factor)], 3, device)[0]
        except RuntimeError:  # this torch or device has no such product
            continue
    return rates


def copy_rate(sizes: Sizes, device: torch.device) -> float:
    """Bytes/s through memory when copying a block larger than any cache."""
    a = torch.zeros(sizes.copy, dtype=torch.uint8, device=device)
    b = torch.ones_like(a)
    return 2 * sizes.copy / fastest([lambda: b.copy_(a)], 3, device)[0]


def _encoder(config: Config, sizes: Sizes) -> dict[str, object]:
    batch = sizes.batch(config)
    with jpegs(sizes.jpegs, config.encoder.image) as (table, size):
        cost = measure(change(config, batch=batch), table)
    whole = config.batch.size / batch.size
    cost = replace(cost, step=cost.step * whole, load=cost.load * whole)
    encoder = encoders.build(config.encoder).to("meta")
    image = torch.empty(1, 3, *config.encoder.image, device="meta")
    numbers = sum(parameter.numel() for parameter in encoder.parameters())
    return {"cost": cost, "jpeg": size, "flop": operations(encoder, image), "parameters": numbers}


def searching(sizes: Sizes, dim: int, device: torch.device) -> dict[str, object]:
    """The refresh without images, the search in it alone, and faiss on the same data in turns."""
    _, _, memory = people(sizes.pids, 0, dim, device=device)
    generator = torch.Generator(device).manual_seed(1)
    labels = torch.randint(sizes.pids, (sizes.features,), generator=generator, device=device)
    noise = torch.randn(sizes.features, dim, generator=generator, device=device)
    features = F.normalize(memory.centroids[labels] + NOISE * F.normalize(noise, dim=1), dim=1)

    def refresh() -> None:
        result = relabel(features, labels, memory)
        memory.accumulate(features, torch.where(result.removed, -1, result.labels))

    def ours() -> object:
        return nearest(features, memory.searchable())  # prepared once, as faiss's index is

    index = _faiss_index(memory.centroids)
    works = [refresh, ours]
    if index is not None:
        array = features.cpu().numpy()
        works.append(lambda: index.search(array, 1))
    seconds = fastest(works, sizes.times, device)
    work = float(sizes.features * sizes.pids * dim)
    on = f"{sizes.features:,} features, {sizes.pids:,} centroids, {dim}-d"
    timings = [Timing(each, work, on) for each in seconds]
    differ = 0 if index is None else _differences(features, memory.centroids, index)
    return {
        "features": sizes.features,
        "search": timings[0],
        "nearest": timings[1],
        "faiss": timings[2] if index is not None else None,
        "differ": differ,
        "peak": _peak(features, labels, memory.centroids, device) / (4 * sizes.pids * dim),
    }


def _peak(
    features: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    centroids: Float[Tensor, "P D"],
    device: torch.device,
) -> float:
    """Bytes of the centroids and of everything that refreshing them adds, at most."""

    def whole() -> None:
        memory = CentroidsMemory(torch.arange(len(centroids), device=device), centroids)  # holds a copy
        result = relabel(features, labels, memory)
        memory.accumulate(features, torch.where(result.removed, -1, result.labels)).apply()

    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        whole()
        return float(torch.cuda.max_memory_allocated(device) - before)
    return float(counted(whole).peak)


def _faiss_index(centroids: Float[Tensor, "P D"]) -> Any:
    import faiss

    index: Any = faiss.IndexFlatIP(centroids.shape[1])
    if centroids.device.type == "cuda":
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            return None
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    else:
        faiss.omp_set_num_threads(torch.get_num_threads())
    index.add(centroids.cpu().numpy())
    return index


def _differences(features: Float[Tensor, "n D"], centroids: Float[Tensor, "P D"], index: Any) -> int:
    found = nearest(features, centroids)
    scores, rows = index.search(features.cpu().numpy(), 1)
    other = torch.from_numpy(rows[:, 0]).to(found.index) != found.index
    apart = (torch.from_numpy(scores[:, 0]).to(found.similarity) - found.similarity).abs() > SAME
    return int((other & apart).sum())


def merging(sizes: Sizes, dim: int, device: torch.device) -> Timing:
    """`merge_pids` on random centroids, a tenth of them in pairs above the threshold."""
    pairs = sizes.merged // 20
    _, _, memory = people(sizes.merged, 0, dim, device=device)
    memory.centroids[-pairs:] = memory.centroids[:pairs]
    seconds = fastest([lambda: merge_pids(memory)], sizes.times, device)[0]
    return Timing(seconds, float(sizes.merged**2 * dim), f"{sizes.merged:,} centroids, {dim}-d")


def sampling(sizes: Sizes, config: Config, device: torch.device) -> Timing:
    """Planning an epoch's batches for fewer single-camera PIDs, four images each."""
    config = change(config, dsm__queue_epochs=None, dsm__queue_fraction=0.22, dsm__min_images=1)
    table, memory, centers = crowd(512, sizes.sampled, config, device)
    queue = list(range(len(centers), len(centers) + int(0.22 * sizes.sampled)))
    removed = np.zeros(len(table), dtype=bool)

    def plan() -> None:
        known = (table, table.labels, removed, memory, centers, config)
        list(MixedBatches(*known, seed=0, epoch=1, queue=queue))

    seconds = fastest([plan], 1, device)[0]
    on = f"{config.iterations} batches, {sizes.sampled:,} candidates"
    return Timing(seconds, float(config.iterations * sizes.sampled), on)


def evaluating(sizes: Sizes, dim: int, device: torch.device) -> Timing:
    """`evaluate` with the gallery of Market-1501, 750 people in 6 cameras, and a share of its queries."""
    persons = min(750, sizes.gallery // 4)
    gallery, pids = _images(sizes.gallery, persons, dim, device)
    query, query_pids = _images(sizes.queries, persons, dim, device)
    camids, other = (torch.arange(count, device=device) % 6 for count in (sizes.gallery, sizes.queries))
    work = partial(evaluate, query, gallery, query_pids, pids, other, camids)
    seconds = fastest([work], sizes.times, device)[0]
    on = f"{sizes.queries:,} queries, {sizes.gallery:,} gallery images, {dim}-d"
    return Timing(seconds, float(sizes.queries * sizes.gallery), on)


def _images(
    count: int, persons: int, dim: int, device: torch.device
) -> tuple[Float[Tensor, "n D"], Int[Tensor, " n"]]:
    features, pids, _ = people(persons, -(-count // persons), dim, device=device)
    return features[:count], pids[:count]
