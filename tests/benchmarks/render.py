"""Images per second of the renderer: `python tests/benchmarks/render.py [threads]`.

Beside them the rates of its first version, on one and on two cores.
"""

import math
import sys
import time

import torch

from dynamix.data.mannequins.cameras import cameras
from dynamix.data.mannequins.people import people
from dynamix.data.mannequins.render import Shots, render

AT_FIRST = {(64, 32): (1270, 1840), (128, 64): (378, 508), (256, 128): (100, 154)}  # 1 thread, 2 threads


def shots(count: int, people: int, cameras: int) -> Shots:
    """`count` whole people by turns, every camera."""
    index, g = torch.arange(count), torch.Generator().manual_seed(0)
    angles = 2 * math.pi * torch.rand(2, count, generator=g)
    return Shots(
        person=index % people, camera=index % cameras, azimuth=angles[0], phase=angles[1],
        offset=torch.zeros(count, 2), zoom=torch.ones(count), occluder=(index % 12 == 0).long(), seed=index,
    )  # fmt: skip


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    torch.set_num_threads(threads)
    who, cams = people(100, seed=0), cameras(6, seed=0, spread=0.8)
    column = min(threads, 2) - 1
    print(f"{'size':>10} {'images/s':>10} {'at first':>10}   ({threads} threads, at first on {column + 1})")
    for (height, width), expected in AT_FIRST.items():
        some = shots(32 * 2048 * 16 // (height * width), 100, 6)
        render(who, cams, some.select(torch.arange(32)), (height, width))  # fields of noise are made once
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            render(who, cams, some, (height, width))
            best = min(best, time.perf_counter() - start)
        print(f"{height:>6}x{width:<3} {len(some) / best:>10.0f} {expected[column]:>10}")


if __name__ == "__main__":
    main()
