"""Tensors in safetensors files, which appear whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dynamix import disk


def write(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write `path` as safetensors, replacing what it was when the new file is whole."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with disk.replacing(path) as temporary:
        save_file(plain, temporary, metadata)


def read(path: Path, parts: tuple[str, ...] = ("",)) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file whose names begin with one of `parts`, and its metadata.

    Raises OSError where the file cannot be read, SafetensorError where it is damaged.
    """
    with disk.reading(path), safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(parts)]
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
