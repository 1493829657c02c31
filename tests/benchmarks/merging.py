"""Merging centroids: `python tests/benchmarks/merging.py [--save] [--pids N]`.

Pairs above a threshold and their components. The floor is the bare product of the upper triangle, in float32
and in the fastest codes of this machine; the baseline is that product in blocks of 2,048 with a comparison
and `nonzero`.
"""

import report
import torch
from nearest import rate, worlds
from report import Row

from dynamix.similarity import components, pairs_above, screen, unit


def plain_pairs(centroids: torch.Tensor, threshold: float, block: int = 2048) -> torch.Tensor:
    """The same pairs, up to rounding, as anyone would write it."""
    found = []
    for i in range(0, len(centroids), block):
        for j in range(i, len(centroids), block):
            near = (centroids[i : i + block] @ centroids[j : j + block].T >= threshold).nonzero()
            near += torch.tensor([i, j], device=near.device)
            found.append(near[near[:, 0] < near[:, 1]])
    return torch.cat(found)


def main() -> None:
    asked = report.options(__doc__, pids=43_400, dim=768, times=2)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _, centroids = worlds(asked.pids, 1, asked.dim, device)["clusters"]
    generator = torch.Generator().manual_seed(1)
    twins = torch.randperm(asked.pids, generator=generator)[: asked.pids // 10].sort().values.to(device)
    centroids[twins[1::2]] = unit(centroids[twins[::2][: len(twins[1::2])]] + 0.3 * centroids[twins[1::2]])
    work = float(asked.pids) ** 2 * asked.dim  # the triangle, at 2 FLOP a term
    kind = screen.kinds(device)[0]
    fast, slow = work / rate(kind, device, asked.dim), work / rate("float32", device, asked.dim)
    theirs = report.best(lambda: plain_pairs(centroids, 0.8), 1)
    ours = report.best(lambda: pairs_above(centroids, 0.8), asked.times)
    joined = report.best(lambda: components(centroids, 0.8), asked.times)
    before = report.peak_memory()
    exploded = report.best(lambda: components(centroids, 0.2), 1)
    pairs = pairs_above(centroids, 0.8)
    expected = plain_pairs(centroids, 0.8)
    assert len(pairs) == len(expected), f"{len(pairs)} pairs, plainly {len(expected)}"
    size = f"{asked.pids:,} x {asked.dim}"
    rows = [
        Row(what=f"pairs_above 0.8, {size}", ours=ours, baseline=theirs, against="plain blocks", floor=slow,
            floor_is="float32 product", target="<= 2 of the floor", note=f"{len(pairs):,} pairs"),
        Row(what="  beside the fastest product", ours=ours, floor=fast, floor_is=f"{kind} product"),
        Row(what=f"components 0.8, {size}", ours=joined, floor=slow, floor_is="float32 product"),
        Row(what="components 0.2: all one", ours=exploded, floor=slow, floor_is="float32 product",
            note=f"{report.peak_memory() - before:.2f} GB more than the search above needed"),
    ]  # fmt: skip
    report.show("merging", rows, save=asked.save, device=device)


if __name__ == "__main__":
    main()
