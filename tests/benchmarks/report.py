"""What every benchmark prints and keeps: ours, the baseline of the same run, their ratio, the floor.

`show` prints a short table; with `--save` it is also written to figures/results/bench.NAME.DEVICE.json, with
the device, torch and commit it was measured on. DEVICE is cuda, cpu, or avx2: a processor without wider
instructions than those (most laptops), or one told to use no others.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from dynamix.experiments.records import provenance

RESULTS = Path(__file__).parents[2] / "figures" / "results"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement; times in seconds unless `unit` says otherwise."""

    what: str
    ours: float
    unit: str = "s"
    baseline: float | None = None  # the same work done the other way, in the same run
    against: str = ""  # what the baseline is
    floor: float | None = None  # what the machine could do at best
    floor_is: str = ""
    more_is_better: bool = False
    target: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the baseline."""
        if self.baseline is None:
            return None
        return self.ours / self.baseline if self.more_is_better else self.baseline / self.ours

    @property
    def of_floor(self) -> float | None:
        """How many times worse than the floor."""
        if self.floor is None:
            return None
        return self.floor / self.ours if self.more_is_better else self.ours / self.floor


def options(about: str | None, **more: object) -> argparse.Namespace:
    """The options of a benchmark: `--save` and `--NAME` for each keyword, typed by its default."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the results under figures/results/")
    for name, default in more.items():
        kind = type(default)
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"default: {default}")
    return parser.parse_args()


def kind() -> str:
    """What the benchmark runs on: cuda, cpu or avx2."""
    if torch.cuda.is_available():
        return "cuda"
    return "cpu" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "avx2"


@contextmanager
def busy() -> Iterator[None]:
    """Another process keeps one core busy meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def beside(measure: Callable[[], Sequence[Row]]) -> list[Row]:
    """What is measured on a quiet machine, and again beside a process that keeps one core busy."""
    quiet = list(measure())
    with busy():
        return quiet + [replace(row, what=f"{row.what}; busy", target="") for row in measure()]


def show(name: str, rows: Sequence[Row], *, save: bool, device: str = "") -> None:
    """Print the rows; keep them with `save`."""
    about, device = provenance(), device or kind()
    about["instructions"] = torch.backends.cpu.get_cpu_capability()
    about["threads"] = torch.get_num_threads()
    print(f"{name}: {about['device']}, {about['threads']} threads, torch {torch.__version__}")
    for row in rows:
        line = f"  {row.what:<46} {row.ours:>10,.3g} {row.unit:<10}"
        if row.ratio is not None:
            line += f" {row.ratio:>6.2f} x {row.against} ({row.baseline:,.3g})"
        if row.of_floor is not None:
            line += f"  {row.of_floor:.2f} of the floor, {row.floor_is} ({row.floor:,.3g})"
        print(f"{line}  {'wanted: ' + row.target if row.target else ''} {row.note}".rstrip())
    if save:
        kept = [asdict(row) | {"ratio": row.ratio, "of_floor": row.of_floor} for row in rows]
        path = RESULTS / f"bench.{name}.{device}.json"
        path.write_text(json.dumps({"name": name, "provenance": about, "rows": kept}, indent=1) + "\n")
        print(f"kept: {path.relative_to(RESULTS.parents[1])}", file=sys.stderr)


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of some calls, after one that warms up."""
    work()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)


def peak_memory() -> float:
    """The process's largest resident size so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
