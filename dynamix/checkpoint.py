"""Checkpoints: one safetensors file (tensors) with JSON metadata, renamed into place when whole.

Nothing is pickled and nothing is executed on loading; a kill at any moment leaves the previous file.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dynamix import encoders, storage
from dynamix.centroids import CentroidsMemory
from dynamix.config import Config, Encoder, of_file, to_json
from dynamix.methods.dynamix import State

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run after its epoch `epoch` (the next one to train is `epoch + 1`)."""

    path: Path
    config: Config
    epoch: int
    tensors: dict[str, Tensor]
    queue: tuple[int, ...]
    table: str = ""  # fingerprint of what it trained on; "" where an earlier version wrote the file
    line: str = ""  # of the log about that epoch; likewise

    @property
    def skipped(self) -> frozenset[int]:
        """Rows found unreadable so far: the next epoch must not try them again."""
        return frozenset(self.tensors.get("epoch.skipped", torch.empty(0)).tolist())


def save(
    folder: Path,
    config: Config,
    epoch: int,
    encoder: nn.Module,
    momentum: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    labels: np.ndarray,
    removed: np.ndarray,
    *,
    table: str = "",
    skipped: Iterable[int] = (),
    line: str = "",
) -> None:
    """Write `folder/checkpoint.safetensors`, replacing the previous one atomically.

    `labels` and `removed` (N,) are what the epoch trained with: kept for whoever looks at the run. `table` is
    the fingerprint of the data, `skipped` the rows that could not be read, `line` what the log says of the
    epoch.
    """
    tensors = _prefixed("encoder", encoder.state_dict()) | _prefixed("momentum", momentum.state_dict())
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": torch.as_tensor(v) for name, v in values.items() if v is not None
        }
    tensors["state.labels"] = torch.from_numpy(state.labels)
    tensors |= {"epoch.labels": torch.from_numpy(labels), "epoch.removed": torch.from_numpy(removed)}
    if unread := sorted(skipped):
        tensors["epoch.skipped"] = torch.tensor(unread, dtype=torch.int64)
    if state.memory is not None:
        tensors |= {"memory.labels": state.memory.labels, "memory.centroids": state.memory.centroids}
        if state.memory.videos is not None:
            tensors["memory.videos"] = state.memory.videos
    metadata = {"config": to_json(config), "epoch": str(epoch), "queue": json.dumps(list(state.queue))}
    metadata |= {"table": table, "line": line}
    storage.write(tensors, folder / NAME, metadata)


def load(folder: Path, parts: tuple[str, ...] = ("",)) -> Checkpoint:
    """Read a checkpoint, or only the tensors whose names begin with one of `parts`.

    Raises FileNotFoundError, OSError or ValueError naming a file that is missing, cannot be read, is damaged
    or of another version, and the remedy.
    """
    path = folder / NAME if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: train first (`dynamix train`), or name its folder or a file of weights"
        )
    try:
        tensors, metadata = storage.read(path, parts)
        settings, epoch = metadata["config"], int(metadata["epoch"])
        queue = tuple(json.loads(metadata["queue"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a dynamix checkpoint ({error}): delete it and train again"
        ) from error
    since = {name: metadata.get(name, "") for name in ("table", "line")}  # earlier versions had none
    return Checkpoint(path, of_file(path, settings), epoch, tensors, queue, **since)


def load_encoder(source: str | Path, say: Callable[[str], None] | None = None) -> tuple[nn.Module, Config]:
    """The momentum encoder of a trained run (inference uses it alone), in eval mode, and its config.

    A file of pretrained weights does as well: the encoder it holds, recognized by its names and shapes; `say`
    is then given the report of what matched.
    """
    path = Path(source)
    if path.name != NAME and (path.is_file() or encoders.unpacked(path)):
        settings = encoders.encoder_config(path, Encoder(), as_is=True)
        encoder = encoders.build(settings)
        report = encoders.load_pretrained(encoder, path)
        if say is not None:
            say(str(report))
        return encoder.eval(), Config(encoder=settings)
    checkpoint = load(path, ("momentum.",))
    encoder = encoders.build(checkpoint.config.encoder)
    _fill(encoder, "momentum", checkpoint)
    return encoder.eval(), checkpoint.config


def restore(
    checkpoint: Checkpoint, encoder: nn.Module, momentum: nn.Module, optimizer: torch.optim.Optimizer
) -> State:
    """Put a checkpoint's tensors back; returns the method's state."""
    tensors = checkpoint.tensors
    _fill(encoder, "encoder", checkpoint)
    _fill(momentum, "momentum", checkpoint)
    slots: dict[int, dict[str, Any]] = {}
    for name, value in _stripped("optimizer", tensors).items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return state_of(checkpoint, next(encoder.parameters()).device)


def state_of(checkpoint: Checkpoint, device: torch.device) -> State:
    """The method's state as the checkpoint holds it."""
    tensors, memory = checkpoint.tensors, None
    if "memory.labels" in tensors:
        videos = tensors.get("memory.videos")
        memory = CentroidsMemory(
            tensors["memory.labels"].to(device),
            tensors["memory.centroids"].to(device),
            None if videos is None else videos.to(device),
        )
    return State(tensors["state.labels"].numpy(), memory, checkpoint.queue)


def _fill(network: nn.Module, prefix: str, checkpoint: Checkpoint) -> None:
    try:
        network.load_state_dict(_stripped(prefix, checkpoint.tensors))
    except RuntimeError as error:
        why = " ".join(str(error).split())  # torch lists the keys on lines of their own
        raise ValueError(f"{checkpoint.path} does not fit its encoder ({why}): train again") from error


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _stripped(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix + "."): v for k, v in tensors.items() if k.startswith(prefix + ".")}
