"""CMC and mAP at the sizes of Market-1501 and MSMT17: `python tests/benchmarks/evaluation.py [--save]`.

The baseline is the usual evaluator in NumPy: float32 product and argsort of the whole gallery for a block of
queries, then query by query the ordered matches, their cumulative sum, CMC and average precision, all as
vectors. Its product and argsort alone are timed, too: no evaluator that sorts can be faster. At MSMT17's size
it sorts a tenth of the queries, times ten. The floor is the matrix product alone. Peak memory is that of a
process of its own, beyond what it held with the features loaded.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
import torch

from dynamix.evaluation import evaluate, ranked_lists

DIM = 768
SIZES = {"market1501": (3_368, 15_913, 750, 6), "msmt17": (11_659, 82_161, 3_060, 15)}
TRAINED, UNTRAINED = 2.5, 8.0  # noise beside an identity's direction: mAP about 0.7, and next to nothing
Problem = tuple[torch.Tensor, ...]


def problem(name: str, noise: float) -> Problem:
    """Unit features of people seen by cameras: the arguments of `evaluate`."""
    queries, gallery, people, cameras = SIZES[name]
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(people, DIM, generator=draw)
    n = queries + gallery
    pids, camids = (torch.randint(0, high, (n,), generator=draw) for high in (people, cameras))
    rows = torch.empty(n, DIM)
    for start in range(0, n, 8192):
        part = torch.randn(min(8192, n - start), DIM, generator=draw) * noise
        part += directions[pids[start : start + 8192]]
        rows[start : start + 8192] = part / part.norm(dim=1, keepdim=True)
    return rows[:queries], rows[queries:], pids[:queries], pids[queries:], camids[:queries], camids[queries:]


def sorting(
    args: Problem, share: int = 1, chunk: int = 256, *, score: bool = True
) -> tuple[float, np.ndarray]:
    """mAP and CMC of each `share`-th query, by sorting the gallery; without `score` the sorting alone."""
    q, g, q_pids, g_pids, q_camids, g_camids = (x.numpy() for x in args)
    q, q_pids, q_camids = q[::share], q_pids[::share], q_camids[::share]
    precisions, curves = [], []
    for start in range(0, len(q), chunk):
        orders = np.argsort(-(q[start : start + chunk] @ g.T), axis=1)
        for k, order in enumerate(orders if score else (), start):
            same = g_pids[order] == q_pids[k]
            hit = same[~(same & (g_camids[order] == q_camids[k]))]
            if hit.any():
                found = hit.cumsum()
                precisions.append((found / np.arange(1, len(hit) + 1) * hit).sum() / found[-1])
                curves.append(np.minimum(found[:50], 1))
    return (float(np.mean(precisions)), np.mean(curves, axis=0)) if score else (0.0, np.empty(0))


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def compare(name: str, noise: float, share: int, times: int) -> dict[str, float]:
    """Fastest of some interleaved runs: ours, the baseline, the product; and how far the numbers differ."""
    args = problem(name, noise)
    asked = tuple(x[::share] if k in (0, 2, 4) else x for k, x in enumerate(args))
    took: dict[str, list[float]] = {"ours": [], "sorting": [], "argsort": [], "product": [], "lists": []}
    for _ in range(times):
        seconds, scores = timed(lambda: evaluate(*args))
        took["ours"].append(seconds)
        seconds, (mAP, cmc) = timed(lambda: sorting(args, share))
        took["sorting"].append(seconds * share)
        took["argsort"].append(share * timed(lambda: sorting(args, share, score=False))[0])
        took["product"].append(timed(lambda: [part @ args[1].T for part in args[0].split(256)][:0])[0])
        took["lists"].append(timed(lambda: ranked_lists(*args))[0] if share == 1 else 0)
    found = scores if share == 1 else evaluate(*asked)
    error = max(abs(found.mAP - mAP), float(np.abs(found.cmc.numpy() - cmc).max()))
    assert error <= 1e-6, f"mAP or CMC differ by {error}"
    return {key: min(values) for key, values in took.items()} | {"error": error, "mAP": scores.mAP}


def memory(name: str) -> dict[str, float]:
    """Peak memory (2^30 bytes) of `evaluate` and of its process before, features loaded."""
    args = problem(name, TRAINED)
    few = torch.arange(64)
    evaluate(args[0][:64], args[0][:64], few, few, few, few + 1)  # what libraries take once
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize() / 2**30  # now: making the features took more
    seconds, _ = timed(lambda: evaluate(*args))
    return {"peak": report.peak_memory(), "before": before, "seconds": seconds}


def measured(kind: str, *options: object) -> dict[str, float]:
    """`compare` or `memory` in a process of its own."""
    command = [sys.executable, __file__, "--only", json.dumps([kind, *options])]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def rows(name: str, noise: float, share: int, times: int, target: str) -> list[report.Row]:
    queries, gallery, *_ = SIZES[name]
    found = measured("compare", name, noise, share, times)
    what = f"{name} {queries:,} x {gallery:,}, mAP {found['mAP']:.2f}"
    against = f"sorting in NumPy, 1/{share} of the queries x {share}" if share > 1 else "sorting in NumPy"
    note = f"mAP and CMC differ by {found['error']:.0e}"
    common = {"floor": found["product"], "floor_is": "the product alone"}
    table = [
        report.Row(
            what=what, ours=found["ours"], baseline=found["sorting"], against=against, target=target,
            note=note, **common,
        ),
        report.Row(
            what="  the same", ours=found["ours"], baseline=found["argsort"],
            against="product and argsort alone",
        ),
    ]  # fmt: skip
    if found["lists"]:
        table.append(report.Row(what="  its ranked lists, top 10", ours=found["lists"], **common))
    return table


def small() -> list[report.Row]:
    """A first look at a few images: 200 queries, 900 gallery images, no two alike."""
    draw = torch.Generator().manual_seed(0)
    args = [torch.randn(n, DIM, generator=draw) for n in (200, 900)]
    args += [torch.randint(high, (n,), generator=draw) for high in (50, 6) for n in (200, 900)]
    sides = tuple(args)
    return [
        report.Row(
            what="200 x 900, at random", ours=report.best(lambda: evaluate(*sides), 9),
            baseline=report.best(lambda: sorting(sides), 9), against="sorting in NumPy",
        )
    ]  # fmt: skip


def main() -> None:
    given = report.options(__doc__, threads=2, only="")
    torch.set_num_threads(given.threads)
    if given.only:
        kind, *options = json.loads(given.only)
        print(json.dumps({"compare": compare, "memory": memory}[kind](*options)))
        return
    table = report.beside(lambda: rows("market1501", TRAINED, 1, 3, "3 x the baseline"))
    table += report.beside(lambda: rows("market1501", UNTRAINED, 1, 2, ""))
    table += report.beside(small)
    table += rows("msmt17", TRAINED, 10, 1, "")
    for name in SIZES:
        found = measured("memory", name)
        features = sum(SIZES[name][:2]) * DIM * 4 / 2**30
        table.append(
            report.Row(
                what=f"{name}: memory beyond its features", ours=found["peak"] - found["before"], unit="GB",
                target="1 GB" if name == "msmt17" else "", note=f"(the features are {features:.2f} GB)",
            )
        )  # fmt: skip
    report.show("evaluation", table, save=given.save)


if __name__ == "__main__":
    main()
