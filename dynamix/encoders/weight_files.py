"""Reading files of weights as they are published: tensors only, nothing that a file holds is executed."""

import errno
import hashlib
import re
import shlex
import tarfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dynamix import disk

# Entries of a saved training that hold a network, in the order in which they are looked for. Before them
# comes one called "ema", the average that is meant to be used; after them the one that holds most.
ENTRIES = ("model", "state_dict", "teacher", "student", "module", "target_encoder")
EMA = re.compile(r"(?:^|_)ema(?:_|$)")
# Networks side by side under dotted names: the first one present is meant. `momentum`: our own runs.
NETWORKS = ("momentum", "teacher", "student", "target_encoder", "encoder_q", "base_encoder")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "base.", "body.")
# Under any other name, a network begins where its first layers are.
WITHIN = re.compile(r"(.+\.)?(?:patch_embed\.proj|layer1\.0\.conv1)\.weight")

DOWNLOAD = "copy or download it again"
# How files begin that are taken for weights: what they are, and what to do.
OTHERS = (
    (rb"$", "it is empty", DOWNLOAD),
    (rb"\s*<", "it is a web page, saved in place of the file", DOWNLOAD),
    (rb"version https://git-lfs", "it is Git LFS's pointer to it", "fetch it with `git lfs pull`"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "it is a compressed archive", "unpack it"),
    (rb"PK", "it was cut off, or changed on its way", DOWNLOAD),
    (rb"\0{32}", "it was never filled", DOWNLOAD),
    (rb"\s*\{", "it is JSON, perhaps the index of weights in several files", "join those into one file"),
    (rb"\x89HDF|GGUF|\x08[\x03-\x0f]\x12", "it is of another framework", "give weights of PyTorch"),
    (
        rb"\x80[\x02-\x05](?!\x8a\nl\xfc)[\x00-\xff]{8}",
        "it is a pickle of another kind",
        "write it with torch.save",
    ),
)

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
    path = _existing(path)
    with disk.reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read(path: str | Path) -> WeightFile:
    """The network that a file of safetensors or of torch.save holds, whatever its name.

    Raises FileNotFoundError; OSError where the file cannot be read; ValueError where it holds no weights, is
    damaged, or could only be read by running code from it, with the remedy.
    """
    path = _existing(path)
    with disk.reading(path):
        start = _start(path)
        length = int.from_bytes(start[:8], "little")  # of safetensors' header, which is JSON
        safe = start[8:9] == b"{" and length <= 100_000_000  # its own limit
        return _read_safetensors(path) if safe else _read_torch(path)


def network_of(names: Iterable[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Which of `names` are the network's: {own name: name}, the others, and what was taken off.

    Takes off repeated prefixes; raises ValueError where that makes two names one.
    """
    current, others, trail = {name: name for name in names}, [], []
    while part := _first(current, NETWORKS, ".") or _first(current, PREFIXES, "") or _within(current):
        if part.endswith("."):
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


def _within(names: Iterable[str]) -> str | None:
    """What stands before the names of a network's layers; None where nothing does."""
    found = [match[1] for name in names if (match := WITHIN.fullmatch(name))]
    return found[0] if found and None not in found else None


def unpacked(path: str | Path) -> Path | None:
    """The part of a folder that was a file of torch.save before it was unpacked as an archive."""
    return next(
        (each.parent for pattern in ("", "*/") for each in Path(path).glob(f"{pattern}data.pkl")), None
    )


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if archive := unpacked(path):
        packed = path.with_name(f"{path.stem}-packed.pth")
        raise ValueError(
            f"{path} is an unpacked file of weights: pack it again with `python -m zipfile -c "
            f"{shlex.quote(str(packed))} {shlex.quote(str(archive))}`, and name {packed}"
        )
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
    except SafetensorError as error:
        raise _damaged(path, error) from error
    return WeightFile(path, tensors, names, tuple(trail), tuple(others), metadata)


def _read_torch(path: Path) -> WeightFile:
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused below
            held = _load(path)
    except Exception as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # torch seeks in vain in a damaged file
            raise
        raise _refused(path, error) from error
    entries = []
    while (entry := _entry(held)) is not None:
        held = held[entry]
        entries.append(str(entry))
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


def _entry(held: Any) -> Any:
    """Which entry of `held` holds the network: one with a known name, else the one that holds most."""
    if not isinstance(held, Mapping | list | tuple):
        return None
    found = {key: most for key, value in _entries(held) if (most := _most(value))}
    largest = max(found, key=lambda key: found[key], default=None)
    averages = [name for name in found if isinstance(name, str) and EMA.search(name)]
    named = [name for name in averages if 2 * found[name] > found[largest]]  # not the average's counter alone
    named += [name for name in ENTRIES if name in found]
    if named:
        return named[0]
    return largest if largest is not None and found[largest] > len(_tensors(held)) else None


def _most(held: Any) -> int:
    """The largest number of tensors by name in one place of what was saved."""
    return max([len(_tensors(held)), *(_most(value) for _, value in _entries(held))])


def _entries(held: Any) -> Iterable[tuple[Any, Any]]:
    """Parts that may hold a network."""
    pairs = held.items() if isinstance(held, Mapping) else enumerate(held)
    return ((key, value) for key, value in pairs if isinstance(value, Mapping | list | tuple))


def _load(path: Path) -> Any:
    """What torch.save wrote. Mapped where it can be: a raw training file holds far more than one network."""
    stored = False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
    with path.open("rb") as file:  # torch goes by the suffix where it has a name
        mapped = stored and path.suffix != ".safetensors"
        return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)


def _refused(path: Path, error: Exception) -> ValueError:
    """Why torch would not read the file, in one line: it would run code, or it is no such file at all."""
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if not named and not re.search(r"Can only (?:build|create)|call reduce|TorchScript", text):
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
    what, remedy = type(error).__name__, DOWNLOAD
    for start, kind, advice in OTHERS:
        if re.match(start, _start(path)):
            what, remedy = kind, advice
            break
    if member := _member(path):
        what, remedy = f"it is an archive of {member}", "unpack it, and name the file of weights in it"
    return ValueError(f"{path} is damaged or no file of weights ({what}): {remedy}")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _member(path: Path) -> str:
    """The first one of an archive that torch.save did not write; "" where it is none."""
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            return next((member.name for member in archive), "")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return "" if any(name.endswith("data.pkl") for name in names) else "".join(names[:1])
    return ""
