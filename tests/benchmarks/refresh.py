"""The refresh at LUPerson-NL's scale or a share of it: `python tests/benchmarks/refresh.py [--save]`.

Without images: made-up features with the structure of real ones. Identities share parts of their looks;
trackers fragment a sixth of them, swap a twentieth of the images and catch 3 % junk. Making the features is
not counted. Each size runs in a process of its own; memory is its largest resident size during the refresh,
less what `import dynamix` takes (on a GPU also what is allocated there). Beside it the naive update, which
embeds every image and keeps the features, and what the paper printed for the real data.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from report import Row, show

import dynamix.experiments
from dynamix.config import change, paper
from dynamix.data.table import Paths, Table, concat, from_columns
from dynamix.experiments.bench.count import counted
from dynamix.methods import dynamix as method
from dynamix.similarity import screen

PIDS, VIDEOS, PER_PID, DIM = 433_997, 21_697, 24.6, 768
LOOKS, NOISE = 4096, 1.5  # kinds of each part of a look; features then lie at 0.76 from their centroid
CHUNK = 1024


def table_of(scale: float) -> Table:
    """Single-camera rows as LUPerson-NL's and a Market-1501 beside them, both scaled; no images."""
    rng = np.random.default_rng(0)
    pids = round(PIDS * scale)
    single = np.repeat(np.arange(pids), 2 + rng.poisson(PER_PID - 2, pids))
    videos = single * max(1, round(VIDEOS * scale)) // pids
    people = max(8, round(1041 * scale))
    many = np.repeat(np.arange(people), 12)
    camids = np.tile(np.arange(12) // 2, people)
    blank = [Paths.of([""] * len(x)) for x in (many, single)]
    return concat([
        from_columns("many", blank[0], many, camids=camids),
        from_columns("single", blank[1], single, videos=videos),
    ])  # fmt: skip


class Features:
    """Rows to features, always the same; `seconds` is what making them took."""

    def __init__(self, table: Table, device: str):
        generator = torch.Generator().manual_seed(1)
        self.parts = torch.randn(3, LOOKS, DIM, generator=generator).to(device)
        person = table.labels.copy()
        person[person % 6 == 1] -= 1  # fragments of their neighbor
        swapped = np.random.default_rng(2).random(len(table)) < 0.05
        person[swapped] = np.maximum(person[swapped] - 2, 0)
        self.person, self.device, self.seconds = person, device, 0.0
        self.junk = np.random.default_rng(3).random(len(table)) < 0.03

    def __call__(self, rows: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(rows), CHUNK):
            began = time.perf_counter()
            made = self._make(rows[start : start + CHUNK])
            _wait(self.device)
            self.seconds += time.perf_counter() - began
            yield torch.from_numpy(rows[start : start + CHUNK]), made

    def _make(self, rows: np.ndarray) -> torch.Tensor:
        person = self.person[rows].astype(np.uint64)
        looks = [
            (person * k >> np.uint64(20)) % LOOKS for k in map(np.uint64, (2654435761, 40503987, 97654321))
        ]
        index = torch.from_numpy(np.stack(looks).astype(np.int64)).to(self.device)
        look = sum(part[at] for part, at in zip(self.parts, index, strict=True))
        assert isinstance(look, torch.Tensor)
        generator = torch.Generator(self.device).manual_seed(int(rows[0]))
        look *= torch.from_numpy(~self.junk[rows]).to(self.device)[:, None]
        look += NOISE * torch.randn(look.shape, generator=generator, device=self.device)
        return torch.nn.functional.normalize(look)


def measure(scale: float, K: int) -> dict[str, float]:
    """One refresh of the paper profile after a first one, in this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = _resident()
    table = table_of(scale)
    config, embed = change(paper, ecm__K=K), Features(table, device)
    state, _ = method.refresh(method.start(table), table, embed, config, 0)
    embed.seconds = 0.0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    parts: dict[str, float] = {}
    with _peak() as peak, _timed(parts, device):
        began = time.perf_counter()
        drawn = len(method.draw_images(state.labels, table.videos >= 0, config, 1))
        state, done = method.refresh(state, table, embed, config, 1, spend=True)
        _wait(device)
        seconds = time.perf_counter() - began - embed.seconds
    assert done.report is not None and done.single is not None
    return {
        "seconds": seconds, "host_gb": (peak[0] - base) / 1e9, "images": len(table), "drawn": drawn,
        "device_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0,
        "pids": done.report.pids_before, "merged": done.report.merged, "removed": done.report.removed,
        "relabeled": done.report.relabeled, "largest": done.report.largest_component,
        "centroids_gb": done.single.centroids.numel() * 4 / 1e9, **parts,
    }  # fmt: skip


def tensors(scale: float) -> dict[str, float]:
    """Most bytes of tensors alive at once in a refresh with 16-bit codes, as on a GPU; host tensors too."""
    screen.kinds = lambda device: ("bfloat16",)  # type: ignore[assignment]
    table = table_of(scale)
    embed, state = Features(table, "cpu"), method.start(table)

    def both() -> None:
        nonlocal state
        for epoch in (0, 1):
            state, _ = method.refresh(state, table, embed, change(paper, ecm__K=2), epoch, spend=True)

    peak = counted(both).peak
    assert state.memory is not None
    return {"peak": peak, "centroids": state.memory.centroids.untyped_storage().nbytes()}


def naive(scale: float) -> dict[str, float]:
    """Centroids anew from all images, with the features kept, one identity at a time."""
    base, table = _resident(), table_of(scale)
    embed = Features(table, "cpu")
    rows = np.flatnonzero(table.videos >= 0)
    with _peak() as peak:
        began = time.perf_counter()
        kept = torch.cat([features for _, features in embed(rows)])
        order = np.argsort(table.labels[rows], kind="stable")
        bounds = np.flatnonzero(np.diff(table.labels[rows][order], prepend=-1))
        centroids = torch.stack([kept[torch.from_numpy(x)].mean(0) for x in np.split(order, bounds[1:])])
        for start in range(0, len(kept), 512):
            (kept[start : start + 512] @ centroids.T).max(1)
        seconds = time.perf_counter() - began - embed.seconds
    return {"seconds": seconds, "host_gb": (peak[0] - base) / 1e9, "drawn": len(rows)}


@contextmanager
def _timed(parts: dict[str, float], device: str) -> Iterator[None]:
    """Seconds within relabeling and merging."""
    originals = {name: getattr(method, name) for name in ("relabel", "merge_pids")}

    def counted(name: str):  # type: ignore[no-untyped-def]
        def call(*args, **named):  # type: ignore[no-untyped-def]
            began = time.perf_counter()
            result = originals[name](*args, **named)
            _wait(device)
            parts[name] = parts.get(name, 0.0) + time.perf_counter() - began
            return result

        return call

    for name in originals:
        setattr(method, name, counted(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(method, name, original)


@contextmanager
def _peak() -> Iterator[list[int]]:
    """The largest resident size meanwhile, in bytes."""
    found, stop = [_resident()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            found[0] = max(found[0], _resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def fresh(*arguments: object) -> dict[str, float]:
    """`measure` or `naive` in a process of its own."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the results under figures/results/")
    parser.add_argument("--scales", type=float, nargs="+", default=None, help="default: 0.01 0.1, on a GPU 1")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        scale, K = float(asked.one[0]), asked.one[1]
        other = {"naive": naive, "tensors": tensors}
        print(json.dumps(other[K](scale) if K in other else measure(scale, int(K))))
        return
    gpu = torch.cuda.is_available()
    scales = asked.scales or ([1.0] if gpu else [0.01, 0.1])
    rows = [row for scale in scales for row in lines(scale, 4, fresh(scale, 4), gpu)]
    swept = 1.0 if gpu else 0.05
    sweep = {K: fresh(swept, K) for K in (2, 4, 8, 16)}
    for K, found in sweep.items():
        rows.append(Row(
            what=f"{swept:g} of the PIDs, K = {K}: {found['drawn']:,.0f} images", ours=found["seconds"],
            baseline=sweep[2]["seconds"] * found["drawn"] / sweep[2]["drawn"], against="linear from K = 2",
            note=f"{found['host_gb']:.2f} GB host, {found['device_gb']:.2f} GB device",
        ))  # fmt: skip
    few, more = fresh(0.04, "tensors"), fresh(0.08, "tensors")
    slope = (more["peak"] - few["peak"]) / (more["centroids"] - few["centroids"])
    tile = 2 * screen.TILE["cuda"]["bfloat16"] * screen.ROWS["cuda"]
    rows.append(Row(
        what="tensors of a refresh of all 433,997 PIDs, counted", unit="GB", target="<= 4 GB",
        ours=(slope * 4 * PIDS * DIM + tile) / 1e9,
        note=f"{slope:.2f} x P D 4 bytes (from 0.04 and 0.08 of the PIDs, 16-bit codes) and a tile of scores",
    ))  # fmt: skip
    small = fresh(0.01, "naive")
    rows.append(Row(
        what=f"naive update, 0.01: {small['drawn']:,.0f} images", ours=small["seconds"],
        note=f"{small['host_gb']:.2f} GB host, grows with the images",
    ))  # fmt: skip
    show("refresh", rows + printed(), save=asked.save, device="cuda" if gpu else "cpu")


def lines(scale: float, K: int, found: dict[str, float], gpu: bool) -> list[Row]:
    what = f"{scale:g} of LUPerson-NL, K = {K}: {found['pids']:,.0f} PIDs, {found['drawn']:,.0f} images"
    counts = (f"{found['relabeled']:,.0f} relabeled, {found['removed']:,.0f} removed, {found['merged']:,.0f} "
              f"merged, largest {found['largest']:,.0f}")  # fmt: skip
    target = "<= 10 s" if gpu and scale == 1 else ""
    stored = f"K x P x D would be {K * found['pids'] * DIM * 4 / 1e9:.2f} GB"
    return [
        Row(what=what, ours=found["seconds"], target=target, note=counts),
        Row(what="  searching and relabeling", ours=found["relabel"]),
        Row(what="  merging", ours=found["merge_pids"]),
        Row(what="  peak host memory", ours=found["host_gb"], unit="GB", target="<= 4 GB", note=stored),
        Row(what="  peak device memory", ours=found["device_gb"], unit="GB", target="<= 4 GB",
            note="" if gpu else "not run: no GPU"),
    ]  # fmt: skip


def printed() -> list[Row]:
    """Table 6 of the paper."""
    path = Path(dynamix.experiments.__file__).parent / "paper" / "dynamix_table6.json"
    table = json.loads(path.read_text())
    return [
        Row(
            what=f"the paper, K = {K}",
            ours=minutes * 60.0,
            note=f"{gb:g} GB; {table['notes'][0].split('.')[0]}",
        )
        for K, minutes, gb in table["rows"]
    ]


if __name__ == "__main__":
    main()
