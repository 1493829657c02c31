"""Planning an epoch at the paper's scale: `python tests/benchmarks/sampling.py [--pids N] [--multi N]`.

400 batches of 8 + 8 identities from 433,997 single-camera candidates, 96,000 of which rest in the queue,
768-d. The baseline is the direct way: eight similarity rows at a time, np.median, and the assignment on the
whole matrix; its time per batch, from a few batches of the same run, times 400. The floor is the matrix
product alone.
"""

import time
from types import SimpleNamespace

import numpy as np
import report
import torch
from scipy.optimize import linear_sum_assignment

from dynamix.centroids import CentroidsMemory
from dynamix.config import Config, change
from dynamix.sampling import PLANNED, MixedBatches, match_pids

DIM, RESTING, SAMPLED = 768, 96_000, 5


def centroids(count: int, device: str, seed: int) -> torch.Tensor:
    """Unit vectors in mild clusters: 64 to a common direction, cosine about 0.3 within one."""
    draw = torch.Generator(device).manual_seed(seed)
    rows = torch.randn(count, DIM, generator=draw, device=device)
    shared = torch.randn(-(-count // 64), DIM, generator=draw, device=device)
    for start in range(0, count, 65_536):
        part = rows[start : start + 65_536]
        part += 0.65 * shared[torch.arange(start, start + len(part), device=device) // 64]
        part /= part.norm(dim=1, keepdim=True)
    return rows


def world(pids: int, multi: int, device: str) -> tuple[SimpleNamespace, CentroidsMemory, torch.Tensor]:
    """A table of 4 images for each identity, and the centroids of both kinds."""
    labels = np.repeat(np.arange(multi + pids), 4)
    single = labels >= multi
    camids = np.where(single, -1, np.arange(len(labels)) % 4)
    table = SimpleNamespace(labels=labels, camids=camids, videos=np.where(single, labels // 16, -1))
    memory = CentroidsMemory(torch.arange(multi, multi + pids, device=device), centroids(pids, device, 0))
    return table, memory, centroids(multi, device, 1)


def plan(made: tuple, config: Config, queue: range) -> tuple[float, float, MixedBatches]:
    """Seconds until the constructor returns and until the last batch is there."""
    table, memory, multi = made
    began = time.perf_counter()
    removed = np.zeros(len(table.labels), dtype=bool)
    batches = MixedBatches(table, table.labels, removed, memory, multi, config, seed=0, epoch=1, queue=queue)
    ready = time.perf_counter() - began
    for _ in batches:
        pass
    return ready, time.perf_counter() - began, batches


def directly(made: tuple, batches: MixedBatches, config: Config, queue: range) -> float:
    """Seconds a batch of the direct way; its picks must cost what ours do."""
    _, memory, multi = made
    first, right = len(multi), memory.centroids.cpu().numpy()
    free = np.ones(len(right), dtype=bool)
    free[np.array(queue) - first] = False
    took = []
    for k, pairs in enumerate(batches.pairs[:SAMPLED]):
        began = time.perf_counter()
        columns = np.flatnonzero(free)
        rows = (multi[pairs[:, 0]].cpu().numpy() @ right.T)[:, columns]
        cost = np.abs(rows - np.median(rows))
        picked = linear_sum_assignment(cost)[1]
        took.append(time.perf_counter() - began)
        ours = cost[np.arange(len(pairs)), np.searchsorted(columns, pairs[:, 1] - first)].sum()
        assert abs(ours - cost[np.arange(len(pairs)), picked].sum()) < 1e-5, "the direct way found better"
        free[pairs[:, 1] - first] = False
        free[np.array(queue[8 * k : 8 * k + 8]) - first] = True
    return min(took)


def product(made: tuple, config: Config) -> float:
    """Seconds of the epoch's similarities alone, in the blocks of the planner."""
    _, memory, multi = made
    rows = config.batch.ids_single * config.iterations
    block = config.batch.ids_single * max(1, PLANNED // (config.batch.ids_single * len(memory.centroids)))
    left = multi[torch.arange(block, device=multi.device) % len(multi)]
    return report.best(lambda: left @ memory.centroids.T, 3) * rows / block


def matching(rows: int, columns: int) -> report.Row:
    """The selection and assignment of one batch, without the product."""
    similarity = 0.04 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))
    array = similarity.numpy()
    ours = report.best(lambda: match_pids(similarity))
    direct = report.best(lambda: linear_sum_assignment(np.abs(array - np.median(array))), 1)
    return report.Row(
        what=f"match_pids, {rows} x {columns:,}", ours=ours, baseline=direct, against="np.median, whole scipy"
    )


def main() -> None:
    given = report.options(__doc__, pids=433_997, multi=1041, device="", threads=2)
    torch.set_num_threads(given.threads)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    made = world(given.pids, given.multi, device)
    queue = range(given.multi, given.multi + min(RESTING, given.pids // 4))
    config = change(
        Config(), iterations=400, dsm__queue_epochs=len(queue) / (400 * Config().batch.ids_single)
    )
    plan(made, change(config, iterations=2), range(0))  # warms up
    ready, seconds, batches = plan(made, config, queue)
    floor, naive = product(made, config), config.iterations * directly(made, batches, config, queue)
    target = "5 s" if device == "cuda" else "40 s on 2 cores"
    what = f"400 batches, {given.pids:,} candidates"
    against = f"8 rows at a time, np.median, whole scipy (x 400 / {SAMPLED})"
    rows = [
        report.Row(
            what=what, ours=seconds, baseline=naive, against=against, floor=floor,
            floor_is="the product alone", target=target,
        ),
        report.Row(what="of that until training may begin", ours=ready),
    ]  # fmt: skip
    if device == "cpu":
        rows.append(matching(8, given.pids - len(queue)))
    report.show("sampling", rows, save=given.save, device=device)


if __name__ == "__main__":
    main()
