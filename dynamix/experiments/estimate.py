"""How long runs take that no finished one tells of: a few steps of their encoders, timed on this machine.

For `reproduce --plan`. On worlds, whose images fit in memory, networks alone are timed and nothing is drawn;
on real data reading them as well. Losses, planning of batches and scoring are not counted.
"""

import math
import sys
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm.auto import tqdm

from dynamix.config import Config, change
from dynamix.data.mannequins.plan import WORLDS
from dynamix.experiments import plan, starts
from dynamix.experiments.datasets import Part
from dynamix.experiments.plan import Cost
from dynamix.experiments.spec import Spec, table_of


def runs(specs: Sequence[Spec], *, progress: bool = True) -> dict[str, float]:
    """Key -> seconds of each run, alone on one core or one GPU; every kind of encoder is timed once."""
    clock, found = _Clock(), {}
    shown = sorted(specs, key=lambda spec: str(spec.trained_on))  # one table after the other
    for spec in tqdm(
        shown, desc="timing encoders", unit="run", leave=False, disable=not (progress and specs)
    ):
        first, epoch = plan.seconds(spec.config, *clock.of(spec))
        found[spec.key] = first + spec.config.epochs * epoch
    if busy := next((cost.busy for cost in clock.costs.values() if cost.busy), ""):
        print(f"dynamix: {busy}", file=sys.stderr)
    return found


def pretraining(config: Config) -> float:
    """Seconds of pre-training without labels (`starts.make`) of a config's encoder on the videos world."""
    images = config.moco.epochs * math.prod(config.mannequins.videos)
    cost = _timed(change(config, aug__views="economy"))  # two views, one to each encoder, as in MoCo
    return images / config.batch.size * cost.step


class _Clock:
    """Costs by kind of encoder and data, and the last table that was read."""

    def __init__(self) -> None:
        self.costs: dict[Hashable, Cost] = {}
        self.at: Hashable = None

    def of(self, spec: Spec) -> tuple[Cost, int, int]:
        """Cost of a run's steps, its images and those embedded at the start of each epoch."""
        config = spec.config
        encoder = replace(config.encoder, seed=0, weights="")
        kind = (encoder, config.batch.size, config.aug.views, config.opt.amp)
        if spec.folder is None:
            if kind not in self.costs:
                self.costs[kind] = _timed(config)
            return self.costs[kind], *_sizes(spec)
        if self.at != (spec.trained_on, spec.labels):
            self.at, self.table = (spec.trained_on, spec.labels), table_of(spec, spec.roots())[0]
        if (kind, self.at) not in self.costs:
            with starts.one_thread():
                self.costs[kind, self.at] = plan.measure(config, self.table)
        return self.costs[kind, self.at], len(self.table), plan.refreshed(self.table, config)


def _timed(config: Config) -> Cost:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with starts.one_thread():  # as runs have that share a machine
        step, embed, memory, images, busy = plan.networks(config, device, 0)
    return Cost(step, 0.0, embed, math.inf, memory, images, busy)


def _sizes(spec: Spec) -> tuple[int, int]:
    """Training images of a run's worlds by their settings, and those embedded at the start of each epoch."""
    sources, single = spec.trained_on
    multi = sum(_images(spec.config, part) for part in sources)
    clips = sum(_images(spec.config, part) for part in single)
    frames = spec.config.mannequins.videos[2]
    people = np.full(clips // frames, frames)
    return multi + clips, multi + plan.drawn(spec.config, clips, people)


def _images(config: Config, part: Part) -> int:
    training = math.prod(getattr(config.mannequins, part.name))
    return round(training * (1 + WORLDS[part.name].test_share)) if part.split == "all" else training
