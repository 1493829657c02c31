"""Nearest centroid against faiss: `python tests/benchmarks/nearest.py [--save] [--pids N] [--queries N]`.

The same rows and the same machine for all, alternating, quiet and beside a busy process; decisions must be
identical up to faiss's own rounding. The floor is the bare product of 8-bit codes (bfloat16 on a GPU), the
fastest that this machine has.
"""

from collections.abc import Callable
from functools import partial

import report
import torch
from report import Row

from dynamix import similarity
from dynamix.similarity import nearest, screen

VIDEOS = 20  # centroids a video holds


def worlds(pids: int, queries: int, dim: int, device: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Queries and centroids: without structure, and as identities in clusters off the origin."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    loose = draw(queries, dim), draw(pids, dim)
    groups = draw(2000, dim)[torch.randint(2000, (pids,), generator=generator)]
    people = 0.8 * draw(dim) + groups + draw(pids, dim)
    seen = people[torch.randint(pids, (queries,), generator=generator)] + 1.2 * draw(queries, dim)
    pairs = {"clusters": (seen, people), "random": loose}
    return {name: tuple(map(similarity.unit, (x.to(device) for x in pair))) for name, pair in pairs.items()}  # type: ignore[misc]


def flops(queries: int, pids: int, dim: int) -> float:
    """Of one product of all with all."""
    return 2.0 * queries * pids * dim


def rate(kind: screen.Kind, device: str, dim: int) -> float:
    """FLOP/s of the bare product, on the tiles that the search uses."""
    columns = screen.encode(torch.randn(screen.TILE[device][kind], dim, device=device), kind)
    rows = screen.encode(torch.randn(screen.ROWS[device], dim, device=device), kind)
    room = screen._room(columns, len(rows.values))
    seconds = report.best(lambda: screen._product(columns.values, rows.values, room), 20)
    return flops(len(rows.values), len(columns.values), dim) / seconds


def alternating(
    ours: Callable[[], object], *theirs: Callable[[], object], times: int, tries: int = 1
) -> tuple[float, ...]:
    """Fastest of each, turn about; `tries` for ours where it is over in no time."""
    took = [[report.best(ours, tries), *(report.best(each, 1) for each in theirs)] for _ in range(times)]
    return tuple(map(min, zip(*took, strict=True)))


def main() -> None:
    asked = report.options(__doc__, pids=43_400, queries=16_384, dim=768, times=3)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = flops(asked.queries, asked.pids, asked.dim)
    rows, kinds = [], screen.kinds(device)
    rates = {kind: rate(kind, device, asked.dim) for kind in kinds}
    for kind, value in rates.items():
        rows.append(Row(what=f"bare {kind} product", ours=value / 1e9, unit="GFLOP/s"))
    size = f"{asked.queries:,} x {asked.pids:,} x {asked.dim}"
    data = worlds(asked.pids, asked.queries, asked.dim, device)
    for name, (queries, centroids) in data.items():
        rows += report.beside(
            partial(compare, f"{name}, {size}", queries, centroids, work / max(rates.values()), asked.times)
        )
    queries, centroids = data["clusters"]
    own = torch.randint(len(centroids), (len(queries),), device=device)
    seconds = report.best(lambda: nearest(queries, centroids, own=own), asked.times)
    plain = next(row.ours for row in rows if row.what.startswith("clusters"))
    rows.append(Row(what="with the own one left out, three readings", ours=seconds, baseline=plain,
                    against="one reading"))  # fmt: skip
    rows += report.beside(partial(forced, queries, centroids, work / rates["float32"], asked.times))
    rows.append(grouped(queries, centroids, asked.times))
    report.show("nearest", rows, save=asked.save)


def compare(what: str, queries: torch.Tensor, centroids: torch.Tensor, floor: float, times: int) -> list[Row]:
    import faiss

    kind = screen.kinds(queries.device.type)[0]
    ready, found = similarity.Prepared(centroids), nearest(queries, centroids)
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids.cpu().numpy())
    host = queries.cpu().numpy()
    once, theirs, plain = alternating(
        lambda: nearest(queries, centroids),
        lambda: index.search(host, 1),
        lambda: [(some @ centroids.T).max(1) for some in queries.split(1024)],
        times=times,
    )
    again = report.best(lambda: nearest(queries, ready), times)
    score, place = (torch.from_numpy(x[:, 0]) for x in index.search(host, 1))
    same = (place == found.index.cpu()) | ((score - found.similarity.cpu()).abs() < 2e-6)
    assert same.all(), f"{int((~same).sum())} decisions differ from faiss's"
    equal = int((place == found.index.cpu()).sum())
    note = f"{equal:,} of {len(host):,} rows equal, the others tied within 2e-6"
    return [
        Row(what=what, ours=once, baseline=theirs, against="faiss, flat", floor=floor,
            floor_is=f"bare {kind} product", target=">= 2.5 x", note=note),
        Row(what="  the same", ours=once, baseline=plain, against="product, max"),
        Row(what="  centroids prepared before", ours=again, baseline=theirs, against="faiss, flat"),
    ]  # fmt: skip


def forced(queries: torch.Tensor, centroids: torch.Tensor, floor: float, times: int) -> list[Row]:
    """As on a machine without fast 8-bit or bfloat16 products."""
    import faiss

    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids.cpu().numpy())
    host, everything = queries.cpu().numpy(), screen.kinds
    screen.kinds = lambda device: ("float32",)  # type: ignore[assignment]
    try:
        ours, theirs = alternating(
            lambda: nearest(queries, centroids), lambda: index.search(host, 1), times=times
        )
    finally:
        screen.kinds = everything
    return [Row(what="float32 alone (a CPU without bfloat16)", ours=ours, baseline=theirs,
                against="faiss, flat", floor=floor, floor_is="bare float32 product",
                target=">= 1 x")]  # fmt: skip


def grouped(queries: torch.Tensor, centroids: torch.Tensor, times: int) -> Row:
    """Within videos of about 20 centroids."""
    groups = torch.arange(len(centroids), device=centroids.device) // VIDEOS
    mine = groups[torch.randint(len(groups), (len(queries),), device=groups.device)]
    ready = similarity.Prepared(centroids)
    ours, everyone = alternating(
        lambda: nearest(queries, ready, feature_groups=mine, centroid_groups=groups),
        lambda: nearest(queries, ready),
        times=times,
        tries=8,
    )
    return Row(what=f"within videos of {VIDEOS} centroids", ours=ours, baseline=everyone,
               against="among all", target=">= 20 x")  # fmt: skip


if __name__ == "__main__":
    main()
