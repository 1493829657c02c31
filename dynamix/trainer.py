"""One loop for every method: `train` is a generator of records, so callers log, plot or stop.

Everything random is keyed by (seed, epoch, step); a run resumed from its folder therefore ends, on CPU,
bit for bit where the unbroken run ends.
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from dynamix import checkpoint, encoders, features
from dynamix.config import Config, change, to_json
from dynamix.data import images as imagery
from dynamix.data.table import Table, check_trainable
from dynamix.data.views import normalize
from dynamix.methods import dynamix as method
from dynamix.relabeling import RelabelingReport

LOG = "log.jsonl"
WEIGHTS = "weights.txt"  # which pretrained weights a run started from, and what of them matched


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    epoch: int
    step: int  # within the epoch
    terms: dict[str, float]  # unweighted loss terms, and "total"
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. `labels` and `removed` are what it trained with, row for row of the table."""

    epoch: int
    terms: dict[str, float]  # means over the epoch's steps
    logits: tuple[float, float]  # lowest and highest centroid logit: shows the scale of the features
    report: RelabelingReport | None
    queue: int  # single-camera PIDs in the queue
    seconds: float
    images_per_second: float  # training steps only
    labels: np.ndarray
    removed: np.ndarray
    momentum: nn.Module  # the encoder to evaluate with

    def as_json(self) -> dict[str, Any]:
        """The record without its arrays and network, as it stands in `log.jsonl`."""
        plain = {"epoch": self.epoch, "terms": self.terms, "logits": self.logits, "queue": self.queue}
        plain |= {"seconds": self.seconds, "images_per_second": self.images_per_second}
        return plain | {"report": None if self.report is None else self.report.as_dict()}


def train(
    config: Config,
    table: Table,
    folder: str | Path,
    *,
    device: str | torch.device | None = None,
    images: "imagery.Images | None" = None,
    weights: str | Path | None = None,
    allow_partial: bool = False,
    progress: bool = False,
) -> Iterator[Step | Epoch]:
    """Train, yielding a `Step` per optimizer step and an `Epoch` per epoch; resumes from its `folder`.

    `images` may share decoded images between runs; `weights` is a file of pretrained weights to start from
    (`encoders.load_pretrained`, which `allow_partial` is for). Raises ValueError on a table that cannot fill
    a batch, on a folder that holds another config's run, and FloatingPointError on a non-finite loss (naming
    the term, step and rows).
    """
    check_trainable(table, config.batch)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if weights is not None:
        config = change(config, encoder__weights=encoders.fingerprint(weights))
    run = _Run.open(config, table, Path(folder), where, weights, allow_partial)
    if run.epoch + 1 >= config.epochs:
        return
    if images is None:
        images = imagery.Images.of(
            table, config.encoder.image, memory_gb=config.memory_gb, on_bad_image=config.on_bad_image,
            progress=progress,
        )  # fmt: skip
    for epoch in range(run.epoch + 1, config.epochs):
        yield from _train_epoch(run, config, table, images, epoch)


def _train_epoch(
    run: "_Run", config: Config, table: Table, images: "imagery.Images", epoch: int
) -> Iterator[Step | Epoch]:
    began = time.perf_counter()
    run.state, refreshed = method.refresh(run.state, table, run.embedder(images, config), config, epoch)
    if images.skipped:  # unreadable images are nobody's: a batch stays whole
        labels = refreshed.labels.copy()
        labels[list(images.skipped)] = -1
        refreshed = dataclasses.replace(refreshed, labels=labels)
    batches = method.batches(run.state, refreshed, table, config, epoch)
    tensors = method.EpochTensors.of(refreshed, table, run.device)
    weights = method.weights(config)
    totals: dict[str, float] = {}
    started = time.perf_counter()
    loader = imagery.train_batches(
        images, list(batches), config.aug.views, seed=config.seed, epoch=epoch, workers=config.workers,
        device=run.device,
    )  # fmt: skip
    for step, (views, rows) in enumerate(loader):
        rate = run.schedule(config, epoch, step)
        terms = run.step(config, views, rows, tensors, weights)
        _check_finite(terms, epoch, step, rows)
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        yield Step(epoch, step, terms, rate)
    now = time.perf_counter()
    run.state = dataclasses.replace(run.state, queue=tuple(batches.queue))
    record = Epoch(
        epoch,
        {name: value / config.iterations for name, value in totals.items()},
        run.logits(),
        refreshed.report,
        len(run.state.queue),
        now - began,
        config.iterations * config.batch.size / (now - started),
        refreshed.labels,
        refreshed.removed,
        run.momentum,
    )
    run.finish(config, epoch, record)
    yield record


@dataclass
class _Run:
    """The live objects of a run."""

    folder: Path
    device: torch.device
    encoder: nn.Module
    momentum: nn.Module
    optimizer: torch.optim.Optimizer
    state: method.State
    epoch: int  # last finished epoch, -1 before the first
    steps: int  # optimizer steps taken so far
    logit_range: list[Tensor] = dataclasses.field(default_factory=list)  # (2,) a step, this epoch's

    @classmethod
    def open(
        cls,
        config: Config,
        table: Table,
        folder: Path,
        device: torch.device,
        weights: str | Path | None,
        allow_partial: bool,
    ) -> "_Run":
        """A new run, or the one that `folder` holds, where it stopped."""
        # The run's seed also draws the initial weights, else seeds would differ in their batches alone.
        started = dataclasses.replace(config.encoder, seed=config.encoder.seed + config.seed)
        encoder = encoders.build(started)
        if config.encoder.weights and not (folder / checkpoint.NAME).exists():
            _start_from(encoder, config, weights, allow_partial, folder)
        encoder = encoder.to(device)
        momentum = encoders.momentum_copy(encoder)
        run = cls(folder, device, encoder, momentum, _optimizer(config, encoder), method.start(table), -1, 0)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / checkpoint.NAME).exists():
            saved = checkpoint.load(folder)
            _same_config(saved.config, config, folder)
            run.state = checkpoint.restore(saved, encoder, momentum, run.optimizer)
            if len(run.state.labels) != len(table):
                raise ValueError(
                    f"{folder} holds a run on {len(run.state.labels)} images, this table has {len(table)}: "
                    "give the same data, or another folder"
                )
            run.epoch, run.steps = saved.epoch, (saved.epoch + 1) * config.iterations
        (folder / "config.json").write_text(to_json(config))
        _keep_lines(folder / LOG, run.epoch + 1)
        return run

    def embedder(self, images: "imagery.Images", config: Config) -> method.Embed:
        """Rows -> chunks of unit momentum features, un-augmented."""

        def embed(rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
            chunks = imagery.chunks(images, rows, 256, workers=config.workers)
            return features.extract(
                self.momentum, chunks, device=self.device, normalization=config.encoder.normalization,
                amp=_amp(config, self.device),
            )  # fmt: skip

        return embed

    def schedule(self, config: Config, epoch: int, step: int) -> float:
        rate = learning_rate(config, epoch, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def step(
        self,
        config: Config,
        views: dict[str, Tensor],
        rows: Tensor,
        tensors: "method.EpochTensors",
        weights: dict[str, float],
    ) -> dict[str, float]:
        """Forward, backward, optimizer step, momentum update (Eq. 2)."""
        self.encoder.train()
        # With its own buffers the momentum encoder normalizes by the batch and keeps its own statistics.
        self.momentum.train(config.opt.ema_buffers == "own")
        ready = {k: normalize(v, config.encoder.normalization) for k, v in views.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_amp(config, self.device)):
            terms, logits = method.objective(
                self.encoder, self.momentum, ready, rows.to(self.device), tensors, config
            )
        self.logit_range.append(logits)
        total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        decay = encoders.decay_at(self.steps, config.opt.ema, config.opt.ema_ramp)
        encoders.update_momentum(self.momentum, self.encoder, decay, config.opt.ema_buffers)
        self.steps += 1
        return {name: value.item() for name, value in terms.items()} | {"total": total.item()}

    def logits(self) -> tuple[float, float]:
        """The epoch's range of centroid logits; starts anew."""
        low, high = torch.stack(self.logit_range).T.tolist()
        self.logit_range.clear()
        return min(low), max(high)

    def finish(self, config: Config, epoch: int, record: Epoch) -> None:
        """Log line first, then the checkpoint: a kill in between repeats the epoch and drops the line."""
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(record.as_json()) + "\n")
        self.epoch = epoch
        checkpoint.save(
            self.folder, config, epoch, self.encoder, self.momentum, self.optimizer, self.state,
            record.labels, record.removed,
        )  # fmt: skip


def _start_from(
    encoder: nn.Module, config: Config, weights: str | Path | None, allow_partial: bool, folder: Path
) -> None:
    """Load the pretrained weights and leave a report of what matched beside the run."""
    if weights is None:
        raise ValueError(
            f"these settings start from pretrained weights ({config.encoder.weights}): "
            "name their file (--weights)"
        )
    report = encoders.load_pretrained(encoder, weights, allow_partial)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(f"{report}\n")


def show(records: Iterator[Step | Epoch], config: Config) -> None:
    """Run a training to its end with a progress bar, the time left, and a line per epoch."""
    with tqdm(total=config.epochs * config.iterations, unit="step", desc="training", delay=1) as bar:
        for record in records:
            if isinstance(record, Step):
                bar.update(record.epoch * config.iterations + record.step + 1 - bar.n)
                continue
            line = f"epoch {record.epoch}: loss {record.terms['total']:.3f}"
            if record.report is not None:
                found = record.report
                line += f", {found.relabeled} relabeled, {found.removed} removed, {found.merged} PIDs merged"
                line += " (one component holds too many: raise rm.tau_merge)" if found.alarm else ""
            bar.write(line)


def learning_rate(config: Config, epoch: int, step: int) -> float:
    """Linear warm-up from `warmup_factor`, then constant, cosine to 0, or steps at 40 % and 70 %.

    The paper's warm-up moves once an epoch; the cosine schedules of short runs move every step.
    """
    opt = config.opt
    now = epoch + step / config.iterations if opt.schedule == "cosine" else float(epoch)
    if now < opt.warmup_epochs:
        return opt.lr * (opt.warmup_factor + (1 - opt.warmup_factor) * now / opt.warmup_epochs)
    share = (now - opt.warmup_epochs) / max(config.epochs - opt.warmup_epochs, 1e-9)
    if opt.schedule == "cosine":
        return opt.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    if opt.schedule == "step":
        return opt.lr * 0.1 ** sum(now >= mark * config.epochs for mark in (0.4, 0.7))
    return opt.lr


def _optimizer(config: Config, encoder: nn.Module) -> torch.optim.Optimizer:
    opt, parameters = config.opt, [p for p in encoder.parameters() if p.requires_grad]
    if opt.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=opt.lr, momentum=opt.sgd_momentum, weight_decay=opt.weight_decay
        )
    kind = torch.optim.AdamW if opt.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=opt.lr, weight_decay=opt.weight_decay)


def _amp(config: Config, device: torch.device) -> bool:
    return config.opt.amp == "bf16" or (config.opt.amp == "auto" and device.type == "cuda")


def _check_finite(terms: dict[str, float], epoch: int, step: int, rows: Tensor) -> None:
    bad = [name for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"loss term {bad[0]!r} is {terms[bad[0]]} at epoch {epoch}, step {step}, rows {rows.tolist()}: "
            "lower opt.lr, or look at these images"
        )


def _same_config(saved: Config, asked: Config, folder: Path) -> None:
    a, b = json.loads(to_json(saved)), json.loads(to_json(asked))
    different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    different = [name for name in different if name not in ("workers", "memory_gb", "on_bad_image")]
    if different:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(different)}): give another folder"
        )


def _keep_lines(path: Path, count: int) -> None:
    """The log holds the finished epochs only, whatever a killed run had written."""
    lines = path.read_text().splitlines(keepends=True)[:count] if path.exists() else []
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(lines))
    os.replace(temporary, path)
