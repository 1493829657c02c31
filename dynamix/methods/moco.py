"""MoCo v2 on unlabeled images: the start of ReMix (its Sec. 4.2), where nothing is known but the pixels.

He et al. 2020 (Eq. 1, queue, momentum encoder), Chen et al. 2020 (projection of two layers, blur, cosine).
Each image is a class of its own: two views of it must meet, against a queue of earlier batches' keys.
"""

import json
import math
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn

from dynamix import encoders, storage
from dynamix.config import Config, Moco, differences, of_file, to_json
from dynamix.data import images as imagery
from dynamix.data.table import Table, fingerprint
from dynamix.data.views import normalize

WEIGHTS = "weights.safetensors"  # the momentum encoder, as `encoders.load_pretrained` reads it
STATE = "state.safetensors"  # everything, to go on from
ASPECT = math.log(4 / 3)  # crops are stretched by up to this factor
ORDER, JITTER = 0x30C0, 0x30C1  # keep this module's random streams apart from others'


class Projected(nn.Module):
    """An encoder and the projection that only pre-training uses (Chen et al. 2020)."""

    def __init__(self, encoder: nn.Module, features: int, dim: int):
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B d"]:
        return F.normalize(self.projection(self.encoder(images)), dim=1)


def contrast(
    queries: Float[Tensor, "B d"], keys: Float[Tensor, "B d"], queue: Float[Tensor, "Q d"], tau: float
) -> Float[Tensor, ""]:
    """-log softmax of the own key among it and the queued ones, mean over the batch (He et al., Eq. 1).

    Rows are unit vectors; gradients flow to the queries alone.
    """
    own = (queries * keys.detach()).sum(1, keepdim=True)
    logits = torch.cat((own, queries @ queue.detach().T), 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))


def strong(images: UInt8[Tensor, "B 3 H W"], moco: Moco, seed: int) -> UInt8[Tensor, "B 3 H W"]:
    """Random resized crops and color jitter on top of a view, for each image its own (Chen et al. 2020).

    Jitter is of brightness, contrast, saturation and, instead of the hue, of each channel's gain. Drawn on
    the host, so that devices agree.
    """
    generator, count = torch.Generator().manual_seed(seed), len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(count, *shape, generator=generator)
        return (low + (high - low) * drawn).to(images.device)

    x = _cropped(images.float() / 255, moco.least_crop, uniform)
    reach, shape = moco.jitter, (1, 1, 1)
    x = x * uniform(1 - reach, 1 + reach, *shape)
    for axes in ((1, 2, 3), (1,)):  # contrast: around the mean of the image; saturation: around its gray
        middle = x.mean(axes, keepdim=True)
        x = middle + (x - middle) * uniform(1 - reach, 1 + reach, *shape)
    x = x * uniform(1 - reach / 2, 1 + reach / 2, 3, 1, 1)
    return (x.clamp(0, 1) * 255).round_().to(torch.uint8)


def _cropped(x: Tensor, least: float, uniform: Callable[..., Tensor]) -> Tensor:
    """A random part of each image, at least `least` of its area, back at full size."""
    # Of a part near the whole, a longer stretch would lie outside the image.
    aspect = ASPECT if least <= 3 / 4 else -math.log(least)
    area, stretch = uniform(least, 1.0), uniform(-aspect, aspect).exp()
    wide, tall = (area * stretch).sqrt().clamp(max=1), (area / stretch).sqrt().clamp(max=1)
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = wide, tall
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1.0, 1.0) * (1 - wide), uniform(-1.0, 1.0) * (1 - tall)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Pretrained:
    """One finished epoch of pre-training."""

    epoch: int
    loss: float  # mean over its steps
    steps: int


def pretrain(
    config: Config, table: Table, folder: str | Path, *, device: str | torch.device = "cpu"
) -> Iterator[Pretrained]:
    """Train `config.encoder` on the images of `table` without a label, by `config.moco`; resumes in `folder`.

    Yields a record per epoch and leaves the momentum encoder in `folder/weights.safetensors`. Raises
    ValueError on fewer readable images than a batch and on the folder of other settings or data,
    FloatingPointError on a loss that is not finite.
    """
    moco = config.moco
    _check_enough(len(table), moco)
    run = _Run.open(config, table, Path(folder), torch.device(device))
    if run.epoch + 1 >= moco.epochs:
        return
    images = imagery.Images.of(
        table, config.encoder.image, memory_gb=config.memory_gb, on_bad_image=config.on_bad_image
    )
    images.skipped.update(run.skipped)
    for epoch in range(run.epoch + 1, moco.epochs):
        record = run.train(config, images, epoch)
        run.skipped = set(images.skipped)
        run.save(config)
        yield record


def _check_enough(readable: int, moco: Moco) -> None:
    if readable < moco.batch:
        raise ValueError(f"{readable} readable images are fewer than moco.batch ({moco.batch}): lower it")


def order(config: Config, count: int, epoch: int, skipped: Set[int] = frozenset()) -> list[list[int]]:
    """The epoch's batches: every row once, but for those in `skipped` and an incomplete last batch."""
    rows = np.random.default_rng([config.seed, epoch, ORDER]).permutation(count)
    rows = rows[~np.isin(rows, list(skipped))] if skipped else rows
    size = config.moco.batch
    return [rows[at : at + size].tolist() for at in range(0, len(rows) - size + 1, size)]


@dataclass
class _Run:
    folder: Path
    device: torch.device
    trained: Projected
    followed: Projected  # the momentum encoder and its projection
    optimizer: torch.optim.Optimizer
    queue: Tensor  # (Q, d) unit keys of earlier batches, the oldest first overwritten
    at: int = 0  # where the next keys go
    steps: int = 0
    epoch: int = -1  # last finished one
    table: str = ""  # fingerprint of the table it trains on
    skipped: Set[int] = frozenset()  # rows found unreadable so far

    @classmethod
    def open(cls, config: Config, table: Table, folder: Path, device: torch.device) -> "_Run":
        moco = config.moco
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            encoder = encoders.build(config.encoder)
            trained = Projected(encoder, config.encoder.dim, moco.dim).to(device)
            queue = F.normalize(torch.randn(moco.queue, moco.dim), dim=1).to(device)
        # A key must not tell the batch it came from: keys see running statistics, never their batch's.
        followed = cast(Projected, encoders.momentum_copy(trained).eval())
        lr, decay, weights = moco.lr, moco.weight_decay, trained.parameters()
        optimizer: torch.optim.Optimizer = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=decay)
        if moco.optimizer == "adamw":
            optimizer = torch.optim.AdamW(trained.parameters(), lr=lr, weight_decay=decay)
        run = cls(folder, device, trained, followed, optimizer, queue, table=fingerprint(table))
        if (folder / STATE).exists():
            run._restore(config)
        return run

    def train(self, config: Config, images: imagery.Images, epoch: int) -> Pretrained:
        moco, losses = config.moco, []
        _check_enough(len(images) - len(images.skipped), moco)
        batches = order(config, len(images), epoch, images.skipped)
        loader = imagery.train_batches(
            images, batches, "two", seed=config.seed, epoch=epoch, workers=config.workers, device=self.device
        )
        self.trained.train()
        for step, (views, rows) in enumerate(loader):
            if len(rows) < 2:  # first met and found unreadable; batch norm needs two
                continue
            share = (epoch + step / len(batches)) / moco.epochs
            warm = min(1.0, (epoch + step / len(batches) + 0.1) / max(moco.warmup_epochs, 0.1))
            for group in self.optimizer.param_groups:
                group["lr"] = moco.lr * warm * 0.5 * (1 + math.cos(math.pi * share))
            seeds = np.random.SeedSequence([config.seed, epoch, step, JITTER]).generate_state(2, np.uint32)
            one, other = (
                normalize(strong(views[name], moco, int(seed)), config.encoder.normalization)
                for name, seed in zip(("v1", "v2"), seeds, strict=True)
            )
            with torch.no_grad():
                keys = self.followed(other)
            loss = contrast(self.trained(one), keys, self.queue, moco.tau)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            decay = encoders.decay_at(self.steps, moco.ema, ramp=True)
            encoders.update_momentum(self.followed, self.trained, decay, "ema")
            self._push(keys)
            self.steps += 1
            losses.append(loss.detach())
        _check_enough(len(images) - len(images.skipped), moco)
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} in epoch {epoch}: lower moco.lr")
        self.epoch = epoch
        return Pretrained(epoch, mean, len(losses))

    def _push(self, keys: Tensor) -> None:
        size, end = len(self.queue), self.at + len(keys)
        places = torch.arange(max(self.at, end - size), end) % size  # of more keys than fit, the last
        self.queue[places.to(self.queue.device)] = keys[-size:]
        self.at = end % size

    def save(self, config: Config) -> None:
        """The state to go on from, and the encoder so far."""
        tensors = {f"trained.{k}": v for k, v in self.trained.state_dict().items()}
        tensors |= {f"followed.{k}": v for k, v in self.followed.state_dict().items()} | {"queue": self.queue}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
        counts = {"epoch": self.epoch, "steps": self.steps, "at": self.at, "table": self.table}
        counts |= {"skipped": sorted(self.skipped)} if self.skipped else {}
        # The state last: what it calls finished must be there.
        encoder = {f"momentum.{k}": v for k, v in self.followed.encoder.state_dict().items()}
        storage.write(encoder, self.folder / WEIGHTS, {"config": to_json(config)})
        storage.write(tensors, self.folder / STATE, {"config": to_json(config), "counts": json.dumps(counts)})

    def _restore(self, config: Config) -> None:
        path = self.folder / STATE
        try:
            tensors, metadata = storage.read(path)
            counts, settings = json.loads(metadata["counts"]), metadata["config"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not a pre-training ({error}): delete it and train again") from error
        saved = of_file(path, settings)
        if different := differences(saved, config):
            raise ValueError(
                f"{self.folder} holds a pre-training with other settings ({', '.join(different)}): give "
                "another folder"
            )
        if counts.get("table", self.table) != self.table:  # earlier versions did not note it
            raise ValueError(
                f"{self.folder} holds a pre-training on other data: give the same, or another folder"
            )
        self.trained.load_state_dict(_under("trained.", tensors))
        self.followed.load_state_dict(_under("followed.", tensors))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.queue = tensors["queue"].to(self.device)
        self.epoch, self.steps, self.at = counts["epoch"], counts["steps"], counts["at"]
        self.skipped = set(counts.get("skipped", ()))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
