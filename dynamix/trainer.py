"""One loop for every method: `train` is a generator of records, so callers log, plot or stop.

Everything random is keyed by (seed, epoch, step); a run resumed from its folder therefore ends, on CPU,
bit for bit where the unbroken run ends. Several processes (torchrun) train as one: each prepares and encodes
its share of every batch, all compute the whole batch's loss, one writes.
"""

import dataclasses
import inspect
import json
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from dynamix import checkpoint, disk, distributed, encoders, features, methods
from dynamix.config import Config, change, differences, to_json
from dynamix.data import images as imagery
from dynamix.data.table import Table, check_trainable, fingerprint
from dynamix.data.views import normalize
from dynamix.methods.epoch import Clustering, Embed, State, start
from dynamix.methods.objective import EpochTensors, objective, weights
from dynamix.relabeling import RelabelingReport

LOG = "log.jsonl"
WEIGHTS = "weights.txt"  # which pretrained weights a run started from, and what of them matched
CHUNK = 256  # images embedded at a time; the bits of features may depend on it, so ranks take whole chunks
AHEAD = 2  # steps whose losses a GPU may still be computing while the host goes on


class Terms(Mapping[str, float]):
    """A step's loss terms by name. On a GPU they are still on their way: reading one waits for the step."""

    def __init__(self, terms: dict[str, Tensor], logits: Tensor):
        self._names = tuple(terms)
        packed = torch.cat((torch.stack(tuple(terms.values())), logits)).detach()
        self._host = packed.to("cpu", non_blocking=True)  # pinned, when it comes from a GPU
        self._arrived = torch.cuda.Event(blocking=True) if packed.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def _values(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()

    def __getitem__(self, name: str) -> float:
        return dict(zip(self._names, self._values(), strict=False))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))

    @property
    def logits(self) -> tuple[float, float]:
        """Lowest and highest centroid logit of the batch."""
        low, high = self._values()[len(self._names) :]
        return low, high


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    epoch: int
    step: int  # within the epoch
    terms: Mapping[str, float]  # unweighted loss terms, and "total"
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
    clustering: Clustering | None = None  # what ReMix made of the videos

    def as_json(self) -> dict[str, Any]:
        """The record without its arrays and network, as it stands in `log.jsonl`."""
        plain = {"epoch": self.epoch, "terms": self.terms, "logits": self.logits, "queue": self.queue}
        plain |= {"seconds": self.seconds, "images_per_second": self.images_per_second}
        plain |= {"report": None if self.report is None else self.report.as_dict()}
        return plain | (
            {} if self.clustering is None else {"clustering": dataclasses.asdict(self.clustering)}
        )


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
    (`encoders.load_pretrained`, which `allow_partial` is for). Several processes (`distributed.started`)
    must all iterate to the end; the records are the same in each.

    Raises ValueError on a table that cannot fill a batch, on a folder that holds another config's run, on
    identities that do not divide among the processes, and FloatingPointError on a non-finite loss (naming
    the term, step and rows), on a GPU up to two steps late but before anything is written.
    """
    check_trainable(table, config.batch, clustered=config.clusters)
    distributed.check_divides(config.batch.ids_multi, config.batch.ids_single)
    where = distributed.device() if device is None else torch.device(device)
    if weights is not None:
        config = change(config, encoder__weights=encoders.fingerprint(weights))
    home = Path(folder).expanduser()
    run = _Run.open(config, table, home, where, weights, allow_partial, progress)
    if run.epoch + 1 >= config.epochs:
        return
    if images is None:
        images = _decoded(config, table, progress)
    images.skipped.update(run.skipped)
    for epoch in range(run.epoch + 1, config.epochs):
        yield from _train_epoch(run, config, table, images, epoch)


def _decoded(config: Config, table: Table, progress: bool) -> "imagery.Images":
    with distributed.all_or_none():
        return imagery.Images.of(
            table, config.encoder.image, memory_gb=config.memory_gb, on_bad_image=config.on_bad_image,
            progress=progress,
        )  # fmt: skip


def _train_epoch(
    run: "_Run", config: Config, table: Table, images: "imagery.Images", epoch: int
) -> Iterator[Step | Epoch]:
    began = time.perf_counter()
    method = methods.of(config)
    run.state, refreshed = method.refresh(
        run.state, table, run.embedder(images, config), config, epoch, spend=True
    )
    images.skipped.update(*distributed.everyone(images.skipped))
    # Images known to be unreadable are nobody's, so that batches stay whole; those first met in one leave it
    # shorter, and are known from then on.
    if images.skipped:
        labels = refreshed.labels.copy()
        labels[list(images.skipped)] = -1
        refreshed = dataclasses.replace(refreshed, labels=labels)
    batches = method.batches(run.state, refreshed, table, config, epoch)
    tensors, shares = EpochTensors.of(refreshed, table), weights(config)
    sums, unread = _Sums(), deque[tuple[Step, Tensor]]()
    started = time.perf_counter()
    loader = imagery.train_batches(
        images, batches, config.aug.views, seed=config.seed, epoch=epoch, workers=config.workers,
        device=run.device, share=distributed.share(),
    )  # fmt: skip
    for step, (views, rows, counts) in enumerate(_shared(loader, config.batch.size)):
        rate = run.schedule(config, epoch, step)
        taken = Step(epoch, step, run.step(config, views, rows, counts, tensors, shares), rate)
        unread.append((taken, rows))
        while len(unread) > run.ahead:
            sums.add(*unread.popleft())
        yield taken
    for late in unread:
        sums.add(*late)
    now = time.perf_counter()
    run.state = dataclasses.replace(run.state, queue=tuple(batches.queue))
    record = Epoch(
        epoch,
        {name: value / config.iterations for name, value in sums.terms.items()},
        (min(sums.low), max(sums.high)),
        refreshed.report,
        len(run.state.queue),
        now - began,
        config.iterations * config.batch.size / (now - started),
        refreshed.labels,
        refreshed.removed,
        run.momentum,
        refreshed.clustering,
    )
    images.skipped.update(*distributed.everyone(images.skipped))
    run.finish(config, epoch, record, images.skipped)
    yield record


def _shared(
    loader: Iterator[tuple[dict[str, Tensor], Tensor]], size: int
) -> Iterator[tuple[dict[str, Tensor], Tensor, tuple[int, ...]]]:
    """This rank's share of every batch, with the rows of the whole batch and how many each rank holds.

    An image that cannot be read on one rank stops all of them; one that is skipped there is known to all.
    """
    room, mine, error = size // distributed.ranks(), None, None
    while True:
        try:
            mine = next(loader, None)
        except Exception as problem:
            error = problem
        if mine is None and error is None:
            return
        views, own = ({}, torch.empty(0, dtype=torch.int64)) if mine is None else mine
        yield views, *distributed.collect(own, room, error)


@dataclass
class _Sums:
    """The epoch's sums of loss terms and range of centroid logits, from steps that are checked on the way."""

    terms: dict[str, float] = field(default_factory=dict)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, record: Step, rows: Tensor) -> None:
        """Raises FloatingPointError when a loss is not finite."""
        assert isinstance(record.terms, Terms)
        for name, value in record.terms.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"loss term {name!r} is {value} at epoch {record.epoch}, step {record.step}, "
                    f"rows {rows.tolist()}: lower opt.lr, or look at these images"
                )
            self.terms[name] = self.terms.get(name, 0.0) + value
        low, high = record.terms.logits
        self.low.append(low)
        self.high.append(high)


@dataclass
class _Run:
    """The live objects of a run."""

    folder: Path
    device: torch.device
    encoder: nn.Module
    momentum: nn.Module
    trained: nn.Module  # the encoder as the step calls it: shared among ranks, compiled
    followed: nn.Module  # the momentum encoder as the step calls it
    optimizer: torch.optim.Optimizer
    state: State
    epoch: int  # last finished epoch, -1 before the first
    steps: int  # optimizer steps taken so far
    progress: bool
    table: str  # fingerprint of the table it trains on
    skipped: frozenset[int] = frozenset()  # rows that an earlier sitting found unreadable

    @classmethod
    def open(
        cls,
        config: Config,
        table: Table,
        folder: Path,
        device: torch.device,
        weights: str | Path | None,
        allow_partial: bool,
        progress: bool,
    ) -> "_Run":
        """A new run, or the one that `folder` holds, where it stopped."""
        # The run's seed also draws the initial weights, else seeds would differ in their batches alone.
        started = dataclasses.replace(config.encoder, seed=config.encoder.seed + config.seed)
        encoder: nn.Module = encoders.build(started)
        with distributed.all_or_none():
            saved = checkpoint.load(folder) if (folder / checkpoint.NAME).exists() else None
            if config.encoder.weights and saved is None:
                _start_from(encoder, config, weights, allow_partial, folder)
            if saved is not None:
                _same_config(saved.config, config, folder)
        _same_everywhere(config, table, folder, None if saved is None else saved.epoch)
        encoder = _placed(encoder, config, device)
        momentum = encoders.momentum_copy(encoder)
        optimizer = _optimizer(config, encoder)
        run = cls(
            folder, device, encoder, momentum, *_called(encoder, momentum, config, device), optimizer,
            start(table), -1, 0, progress, fingerprint(table),
        )  # fmt: skip
        if saved is not None:
            run.state = checkpoint.restore(saved, encoder, momentum, run.optimizer)
            if len(run.state.labels) != len(table):
                raise ValueError(
                    f"{folder} holds a run on {len(run.state.labels)} images, this table has {len(table)}: "
                    "give the same data, or another folder"
                )
            if saved.table not in ("", run.table):  # earlier versions did not note it
                raise ValueError(
                    f"{folder} holds a run on other data: this table's labels, cameras or videos differ from "
                    "its own; give the same data in the same order, or another folder"
                )
            run.epoch, run.steps = saved.epoch, (saved.epoch + 1) * config.iterations
            run.skipped = saved.skipped
        if distributed.leader():
            disk.write_text(folder / "config.json", to_json(config))
            _keep_lines(folder / LOG, run.epoch + 1, "" if saved is None else saved.line)
        return run

    @property
    def ahead(self) -> int:
        """Steps that may be under way while the host goes on."""
        return AHEAD if self.device.type == "cuda" else 0

    def embedder(self, images: "imagery.Images", config: Config) -> Embed:
        """Rows -> chunks of unit momentum features, un-augmented; of these chunks, this rank's share."""

        def embed(rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
            rows = rows[distributed.own_part(len(rows), CHUNK)]
            total = -(-len(rows) // CHUNK)
            bar = tqdm(
                total=total, desc="embedding", unit="chunk", delay=2, leave=False, disable=not self.progress
            )
            # Other ranks sum what this one embeds: they must hear of its failure, not wait for it.
            with distributed.all_or_none(), bar:
                chunks = imagery.chunks(images, rows, CHUNK, workers=config.workers, device=self.device)
                for chunk in features.extract(
                    self.momentum, chunks, device=self.device, normalization=config.encoder.normalization,
                    amp=_amp(config, self.device),
                ):  # fmt: skip
                    yield chunk
                    bar.update()

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
        counts: tuple[int, ...],
        tensors: EpochTensors,
        shares: dict[str, float],
    ) -> Terms:
        """Forward, backward, optimizer step, momentum update (Eq. 2). Never waits for the device."""
        self.encoder.train()
        # With its own buffers the momentum encoder normalizes by the batch and keeps its own statistics.
        self.momentum.train(config.opt.ema_buffers == "own")
        layout = _layout(config, self.device)
        ready = {
            name: normalize(view, config.encoder.normalization).contiguous(memory_format=layout)
            for name, view in views.items()
        }
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_amp(config, self.device)):
            terms, logits = objective(self.trained, self.followed, ready, rows, tensors, config, counts)
        total = torch.stack([shares[name] * value for name, value in terms.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self._share_statistics(config)
        decay = encoders.decay_at(self.steps, config.opt.ema, config.opt.ema_ramp)
        encoders.update_momentum(self.momentum, self.encoder, decay, config.opt.ema_buffers)
        self.steps += 1
        return Terms(terms | {"total": total}, logits)

    def _share_statistics(self, config: Config) -> None:
        """On CPUs each rank's batch norm sees its own share of the batch; running statistics are averaged.

        On GPUs SyncBatchNorm sees the whole batch, and there is nothing to do.
        """
        if distributed.ranks() == 1 or self.device.type == "cuda":
            return
        networks = [self.encoder, self.momentum] if config.opt.ema_buffers == "own" else [self.encoder]
        buffers = [buffer for network in networks for buffer in network.buffers()]
        distributed.average_([buffer for buffer in buffers if buffer.is_floating_point()])

    def finish(self, config: Config, epoch: int, record: Epoch, skipped: Iterable[int]) -> None:
        """Log line first, then the checkpoint, which has it as well: a kill at any moment loses no line."""
        self.epoch = epoch
        if not distributed.leader():
            return
        line = json.dumps(record.as_json())
        with disk.writing(self.folder / LOG), open(self.folder / LOG, "a") as file:
            file.write(f"{line}\n")
        checkpoint.save(
            self.folder, config, epoch, self.encoder, self.momentum, self.optimizer, self.state,
            record.labels, record.removed, table=self.table, skipped=skipped, line=line,
        )  # fmt: skip


def _same_everywhere(config: Config, table: Table, folder: Path, epoch: int | None) -> None:
    """ValueError unless all ranks have the same settings, images and checkpoint before them."""
    distributed.same("give every process the same settings", to_json(config).replace("\n", ""))
    distributed.same(
        "their images differ, give every machine the same data",
        f"{len(table)} images (labels {fingerprint(table)[:8]})",
    )
    distributed.same(
        f"{folder} must be one folder that all machines share",
        "no checkpoint" if epoch is None else f"a checkpoint of epoch {epoch}",
    )


def _placed(encoder: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The encoder on its device, in the memory layout its convolutions like; statistics over all ranks."""
    encoder = encoder.to(device).to(memory_format=_layout(config, device))
    if distributed.ranks() > 1 and device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    return encoder


def _called(
    encoder: nn.Module, momentum: nn.Module, config: Config, device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """Both networks as the step calls them; they stay themselves for saving and embedding."""
    trained, followed = encoder, momentum
    if distributed.ranks() > 1:
        # Buffers are alike on all ranks without it; newer versions of torch have another name for the option.
        known = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        trained = DistributedDataParallel(
            encoder, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True,
            **{buffers: False},  # type: ignore[arg-type]
        )  # fmt: skip
    if config.opt.compile:
        trained, followed = (cast(nn.Module, torch.compile(each)) for each in (trained, followed))
    return trained, followed


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
    if distributed.leader():
        disk.write_text(folder / WEIGHTS, f"{report}\n")


def show(records: Iterator[Step | Epoch], config: Config) -> None:
    """Run a training to its end with a progress bar, the time left, and a line per epoch."""
    total, silent = config.epochs * config.iterations, not distributed.leader()
    with tqdm(total=total, unit="step", desc="training", delay=1, disable=silent) as bar:
        for record in records:
            if isinstance(record, Step):
                bar.update(record.epoch * config.iterations + record.step + 1 - bar.n)
                continue
            if silent:
                continue
            line = f"epoch {record.epoch}: loss {record.terms['total']:.3f}"
            if record.report is not None:
                found = record.report
                line += f", {found.relabeled} relabeled, {found.removed} removed, {found.merged} PIDs merged"
                line += " (one component holds too many: raise rm.tau_merge)" if found.alarm else ""
            if record.clustering is not None:
                seen = record.clustering
                line += f", {seen.pids:,} clusters of {seen.labeled:,} images in {seen.videos:,} videos"
                line += f", {seen.images - seen.labeled:,} noise"
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
    # One kernel for all parameters; on a CPU the loop is as fast, and its bits are those of earlier runs.
    fused = True if parameters[0].is_cuda else None
    if opt.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=opt.lr, momentum=opt.sgd_momentum, weight_decay=opt.weight_decay, fused=fused
        )
    kind = torch.optim.AdamW if opt.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=opt.lr, weight_decay=opt.weight_decay, fused=fused)


def _amp(config: Config, device: torch.device) -> bool:
    return config.opt.amp == "bf16" or (config.opt.amp == "auto" and device.type == "cuda")


def _layout(config: Config, device: torch.device) -> torch.memory_format:
    """Channels last under bfloat16, where half-precision convolutions are written for it."""
    return torch.channels_last if _amp(config, device) else torch.contiguous_format


def _same_config(saved: Config, asked: Config, folder: Path) -> None:
    if different := differences(saved, asked):
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(different)}): give another folder"
        )


def _keep_lines(path: Path, count: int, last: str) -> None:
    """The log holds the finished epochs only, and their last one whole, whatever a killed run had written.

    `last` is that epoch's line as the checkpoint has it; "" where an earlier version wrote the checkpoint.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.splitlines()[:count]
    if last:
        whole = text[: text.rfind("\n") + 1].splitlines()
        lines = [*[line for line in whole if line != last][: count - 1], last]
    disk.write_text(path, "".join(f"{line}\n" for line in lines))
