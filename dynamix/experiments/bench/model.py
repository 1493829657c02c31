"""What a profile takes on the paper's data, scaled from a machine's measurements, for any number of ranks.

Steps, embedding and search are divided among the ranks and pay for what these exchange; planning and
merging are done by every rank alike. Nothing here is measured: each figure says what it is scaled from.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from dynamix.config import Config
from dynamix.data.images import cores
from dynamix.experiments.bench.measure import Machine

PAPER = Path(__file__).parents[1] / "paper" / "dynamix_table6.json"
PARTS = ("steps", "embedding", "search", "merging", "sampling")
REFRESH = ("embedding", "search", "merging")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The paper's largest training: MSMT17-merged and LUPerson-NL (Table 1)."""

    multi: int = 126_441  # images
    single: int = 10_683_716
    pids: int = 433_997  # single-camera

    def drawn(self, config: Config) -> int:
        """Single-camera images embedded in a refresh: K of every PID."""
        if config.batch.ids_single == 0:
            return 0
        every = config.ecm.K == "all" or config.ecm.naive
        return self.single if every else min(self.single, int(config.ecm.K) * self.pids)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds of the parts of one epoch on a number of ranks."""

    ranks: int
    seconds: dict[str, float]  # by PARTS
    exchanged: dict[str, float]  # of these, waiting for the other ranks
    waiting: bool  # the steps wait for images to be read

    @property
    def epoch(self) -> float:
        return sum(self.seconds.values())

    @property
    def refresh(self) -> float:
        """What the paper's Table 6 times: embedding, search and merging."""
        return sum(self.seconds[part] for part in REFRESH)


def check_ranks(ranks: int, config: Config) -> None:
    """Raise ValueError where the global batch cannot be dealt evenly."""
    multi, single = config.batch.ids_multi, config.batch.ids_single
    fitting = [n for n in range(1, max(multi, single) + 1) if multi % n == single % n == 0]
    if ranks not in fitting:
        raise ValueError(
            f"{ranks} ranks cannot share a batch of {multi} + {single} identities: "
            f"choose --ranks among {', '.join(map(str, fitting))}"
        )


def forecast(
    machine: Machine,
    config: Config,
    ranks: int,
    *,
    link: float,
    device: str = "cpu",
    data: Data | None = None,
) -> Forecast:
    """One epoch on `ranks` machines like this one, connected at `link` bytes/s."""
    check_ranks(ranks, config)
    data = data or Data()
    cost, dim, drawn = machine.cost, config.encoder.dim, data.drawn(config)
    loaders = max(1, min(config.workers or 1, cores()))
    compute, reading = cost.step / ranks, cost.load / loaders / ranks
    gradients = all_reduce(4.0 * machine.parameters, ranks, link)
    features = all_reduce(4.0 * 6 * config.batch.size * dim, ranks, link)  # three views, there and back
    per_image, from_disk = 1 / cost.embed, 1 / (cost.read * loaders)
    sums = all_reduce(4.0 * data.pids * dim, ranks, link) if drawn else 0.0
    exchanged = {"steps": config.iterations * (gradients + features), "search": sums}
    seconds = {
        "steps": config.iterations * _overlapped(compute, reading, device) + exchanged["steps"],
        "embedding": (data.multi + drawn) * _overlapped(per_image, from_disk, device) / ranks,
        "search": machine.search.scaled(float(drawn) * data.pids * dim) / ranks + sums,
        "merging": machine.merging.scaled(float(data.pids) ** 2 * dim) if drawn else 0.0,
        "sampling": machine.sampling.scaled(float(config.iterations) * data.pids) if drawn else 0.0,
    }
    if device != "cpu":  # batches are planned beside the steps
        seconds["sampling"] = max(0.0, seconds["sampling"] - seconds["steps"])
    return Forecast(ranks=ranks, seconds=seconds, exchanged=exchanged, waiting=reading > compute)


def _overlapped(compute: float, reading: float, device: str) -> float:
    # On a CPU the loaders take their time from the same cores.
    return compute + reading if device == "cpu" else max(compute, reading)


def all_reduce(size: float, ranks: int, link: float) -> float:
    """Seconds that a ring takes to sum `size` bytes over the ranks; each sends 2 (n - 1) / n of them."""
    return 2 * (ranks - 1) / ranks * size / link


def refresh_memory(machine: Machine, config: Config, data: Data | None = None) -> float:
    """Bytes of tensors at the peak of a refresh, in proportion to the centroids; independent of K."""
    return machine.peak * 4 * (data or Data()).pids * config.encoder.dim


def paper_refresh(K: int | str) -> tuple[float, float] | None:
    """The paper's seconds and bytes for one refresh (Table 6), None for a K it does not list."""
    rows = {str(row[0]): row[1:] for row in json.loads(PAPER.read_text())["rows"]}
    row = rows.get("naive" if K == "all" else str(K))
    return None if row is None else (60.0 * row[0], 1e9 * row[1])
