"""Reading files of weights as they are published: tensors only, nothing that a file holds is executed."""

import hashlib
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

# Entries of a saved training that hold a network, in the order in which they are looked for.
ENTRIES = ("model", "state_dict", "teacher", "student", "module", "target_encoder")
# Networks side by side under dotted names: the first one present is meant. `momentum`: our own runs.
NETWORKS = ("momentum", "teacher", "student", "target_encoder", "encoder_q")
PREFIXES = ("module.", "backbone.", "model.", "base.", "body.")

# Plain data beside the weights: DINO's arguments, torchreid's rank-1 as a numpy number.
_scalar: Any = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    Namespace, np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
    (_scalar, "numpy.core.multiarray.scalar"), (_scalar, "numpy._core.multiarray.scalar"),
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class WeightFile:
    """One network's tensors under its own names, with wrappers and prefixes taken off."""

    path: Path
    tensors: dict[str, Tensor]
    names: dict[str, str]  # the same tensors' names in the file
    trail: tuple[str, ...]  # what was taken off, outermost first
    others: tuple[str, ...]  # tensors beside the network: a second network, an optimizer, a queue
    metadata: dict[str, str]  # of safetensors


def fingerprint(path: str | Path) -> str:
    """First 16 hex digits of the file's SHA-256: which weights a run started from."""
    with _existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read(path: str | Path) -> WeightFile:
    """The network that a .safetensors file, or any file of torch.save, holds.

    Raises FileNotFoundError; ValueError where the file holds no weights, is damaged, or could only be read
    by running code from it, with the remedy.
    """
    path = _existing(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def network_of(names: Iterable[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Which of `names` are the network's: {own name: name}, the others, and what was taken off.

    Takes off repeated prefixes; raises ValueError where that makes two names one.
    """
    current, others, trail = {name: name for name in names}, [], []
    while part := _first(current, NETWORKS, ".") or _first(current, PREFIXES, ""):
        if part in PREFIXES:
            inside = current
        else:
            part += "."
            inside = {name: full for name, full in current.items() if name.startswith(part)}
            others += [full for name, full in current.items() if name not in inside]
        shorter: dict[str, str] = {}
        for name, full in inside.items():
            short = name.removeprefix(part)
            if short in shorter:
                raise ValueError(f"{shorter[short]} and {full} are both called {short}: keep one of them")
            shorter[short] = full
        current = shorter
        trail.append(part.removesuffix("."))
    return current, others, trail


def _first(names: Iterable[str], starts: tuple[str, ...], end: str) -> str | None:
    return next((start for start in starts if any(name.startswith(start + end) for name in names)), None)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file of weights in it")
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}: check its name")
    return path


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(path, framework="pt") as file:
            names, others, trail = network_of(file.keys())
            tensors = {name: file.get_tensor(full) for name, full in names.items()}
            metadata = file.metadata() or {}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:
        raise _damaged(path, error) from error
    return WeightFile(path, tensors, names, tuple(trail), tuple(others), metadata)


def _read_torch(path: Path) -> WeightFile:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused below
            # Mapped where the format can be: a raw training file holds far more than one network.
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise _refused(path, error) from error
    entries = []
    while entry := _entry(held):
        held = held[entry]
        entries.append(entry)
    found = _tensors(held)
    if not found:
        holds = ", ".join(map(str, list(held)[:5])) if isinstance(held, Mapping) else type(held).__name__
        raise ValueError(
            f"{path} holds no tensors by name, but {holds or 'nothing'}: give a file of a network's weights"
        )
    try:
        names, others, trail = network_of(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    tensors = {name: found[full] for name, full in names.items()}
    return WeightFile(path, tensors, names, (*entries, *trail), tuple(others), {})


def _tensors(held: Any) -> dict[str, Tensor]:
    items = held.items() if isinstance(held, Mapping) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}


def _entry(held: Any) -> str | None:
    if not isinstance(held, Mapping):
        return None
    return next((name for name in ENTRIES if isinstance(held.get(name), Mapping)), None)


def _refused(path: Path, error: Exception) -> ValueError:
    """Why torch would not read the file, in one line: it would run code, or it is no such file at all."""
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if not named and not re.search(r"Can only (?:build|create)|call reduce|TorchScript|legacy \.tar", text):
        return _damaged(path, error)
    what = f"needs {named[1]}" if named else "holds more than weights"
    load, save = conversion(path)
    return ValueError(
        f"{path} {what}: reading it could run any code, so it is not read; convert it once, in a place where "
        f"that does no harm, with `{load}` and `{save}` "
        '(or held["model"], held["teacher"], held.state_dict(): where its weights lie)'
    )


def conversion(path: Path) -> tuple[str, str]:
    """Two lines of Python that turn a trusted file into safetensors."""
    return (
        f'import torch, safetensors.torch as s; held = torch.load({str(path)!r}, "cpu", weights_only=False)',
        's.save_file({k: v.contiguous().clone() for k, v in held["state_dict"].items()}, '
        f"{str(path.with_suffix('.safetensors'))!r})",
    )


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged or no file of weights ({type(error).__name__}): copy or download it again"
    )
