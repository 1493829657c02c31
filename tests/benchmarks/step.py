"""One training step against the bare networks on the same batch: encoder both ways, momentum encoder forward.

Wanted: at most 1.15 times. For the small IBN network of the mini profile (its whole batch of 64) and for
ViT-B at 256 x 128, on a CPU with `--rows` of the batch's 64 images (the losses are then those of so many), in
float32 and bfloat16; on a GPU the whole batch, with torch.compile on and off. Also what bfloat16 wins.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
import torch
import torch.nn.functional as F
from report import Row

from dynamix import trainer
from dynamix.centroids import CentroidsMemory, MultiCentroids
from dynamix.config import Config, change, mini, paper
from dynamix.data.table import Paths, concat, from_columns
from dynamix.data.views import normalize
from dynamix.methods import dynamix as method

PIDS = {"many": 1000, "single": 4000}


def table_of():
    """1,000 people in 4 cameras, 4,000 in clips, 4 images each; no files."""
    people, camera = np.divmod(np.arange(4 * PIDS["many"]), 4)
    tracks = np.repeat(np.arange(PIDS["single"]), 4)
    names = [Paths.of([f"{kind}{k}.jpg" for k in range(4 * count)]) for kind, count in PIDS.items()]
    many = from_columns("many", names[0], people, camids=camera)
    return concat([many, from_columns("clips", names[1], tracks, videos=tracks // 4)])


def epoch_of(table, dim: int, device: torch.device):
    g = torch.Generator().manual_seed(0)
    labels = [
        torch.from_numpy(np.unique(table.labels[(table.videos >= 0) == kind])) for kind in (False, True)
    ]
    drawn = [F.normalize(torch.randn(n, dim, generator=g), dim=1).to(device) for n in (1000, 4000, 4000)]
    pairs = labels[0].repeat_interleave(4).to(device), torch.arange(4).repeat(1000).to(device)
    multi = MultiCentroids(labels[0].to(device), drawn[0], *pairs, drawn[1])
    memory = CentroidsMemory(labels[1].to(device), drawn[2])
    columns = (table.labels, table.videos >= 0, table.camids)
    return method.EpochTensors(*map(torch.from_numpy, columns), multi, memory)


def rows_of(table, config: Config) -> torch.Tensor:
    """The first identities of both kinds, as a batch has them."""
    single = np.flatnonzero(table.videos >= 0)[: config.batch.ids_single * 4]
    return torch.from_numpy(np.concatenate([np.arange(config.batch.ids_multi * 4), single]))


def pair(config: Config, device: torch.device) -> tuple[Callable[[], object], Callable[[], object]]:
    """The step, and the bare networks: the same encoder, batch, precision and layout."""
    table = table_of()
    run = trainer._Run.open(config, table, Path(tempfile.mkdtemp()), device, None, False, False)
    epoch, rows, weights = (
        epoch_of(table, config.encoder.dim, device),
        rows_of(table, config),
        method.weights(config),
    )
    used = method.VIEWS[config.aug.views]
    shape, g = (len(rows), 3, *config.encoder.image), torch.Generator().manual_seed(1)
    views = {
        name: torch.randint(0, 256, shape, generator=g, dtype=torch.uint8).to(device)
        for name in {*used.encoder, *used.momentum}
    }
    layout, kind = trainer._layout(config, device), config.encoder.normalization
    ready = {k: normalize(v, kind).contiguous(memory_format=layout) for k, v in views.items()}

    def bare() -> None:
        run.encoder.train()
        run.momentum.train(config.opt.ema_buffers == "own")
        with torch.autocast(device.type, torch.bfloat16, enabled=trainer._amp(config, device)):
            out = [run.trained(ready[name]) for name in used.encoder]
            with torch.no_grad():
                for name in used.momentum:
                    run.followed(ready[name])
        run.encoder.zero_grad(set_to_none=True)
        torch.stack([x.float().mean() for x in out]).sum().backward()

    return lambda: run.step(config, views, rows, (len(rows),), epoch, weights), bare


def interleaved(works: list[Callable[[], object]], times: int) -> list[float]:
    """Seconds of the fastest call of each, taken in turn, so that others' load hits all alike."""
    best = [float("inf")] * len(works)
    for k in range(times + 1):
        for at, work in enumerate(works):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best[at] = min(best[at], time.perf_counter() - began) if k else best[at]  # the first warms up
    return best


def settings(rows: int, device: torch.device) -> list[tuple[str, Config]]:
    """Whole batches on a GPU and of the small network; else `rows` images of ViT-B's, 4 of an identity."""
    each = 8 if device.type == "cuda" else max(1, rows // 8)
    # Lr 0: the networks stay as they are, however often they are timed.
    small, large = change(mini, opt__lr=0.0), change(paper, opt__lr=0.0)
    large = change(large, batch__ids_multi=each, batch__ids_single=each)
    return [("IBN CNN, 64x32, 64 rows", small), (f"ViT-B, 256x128, {8 * each} rows", large)]


def main() -> None:
    chosen = report.options(__doc__, rows=8, times=5, only="")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = []
    for name, config in settings(chosen.rows, device):
        if chosen.only not in name:
            continue
        for compiled in (False, True) if device.type == "cuda" else (False,):
            works = []
            for amp in ("off", "bf16"):
                works += pair(change(config, opt__amp=amp, opt__compile=compiled), device)
            times = chosen.times if device.type == "cuda" or config.encoder.name == "ibn_cnn" else 3
            took = interleaved(works, times)
            note = "compiled" if compiled else ""
            for at, amp in enumerate(("float32", "bfloat16")):
                step, bare = took[2 * at : 2 * at + 2]
                lines.append(
                    Row(
                        what=f"{name}, {amp}", ours=step, floor=bare, floor_is="bare networks",
                        target="<= 1.15 of the floor", note=note,
                    )
                )  # fmt: skip
            lines.append(
                Row(what=f"{name}: bfloat16", ours=took[2], baseline=took[0], against="float32", note=note)
            )
    if device.type == "cpu":
        print("on a GPU, and with torch.compile: not run", file=sys.stderr)
    report.show("step", lines, save=chosen.save, device=device.type)


if __name__ == "__main__":
    main()
