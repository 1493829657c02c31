"""Which encoder a file's weights are of, told by the file alone."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dynamix import config as settings
from dynamix import disk
from dynamix.data.views import STATISTICS
from dynamix.encoders import layouts, swin
from dynamix.encoders.weight_files import WeightFile, read


def encoder_config(path: str | Path, base: settings.Encoder, *, as_is: bool = False) -> settings.Encoder:
    """`base` with what a file's weights need: name, dim, stem, patch, neck, normalization, whole patches.

    Normalization: the one that the papers fine-tune these weights with or, `as_is`, the one that they were
    trained with, for evaluating them untouched. A run of this package, and what it exported, keep all their
    settings. Raises ValueError where no encoder has such weights.
    """
    file = read(path)
    saved = saved_settings(file)
    if saved is not None:
        return replace(saved, seed=base.seed, weights=base.weights)
    made = layouts.architecture(layouts.shapes(layouts.translated(file).tensors))
    if made is None:
        names = ", ".join(list(file.names.values())[:5])
        raise ValueError(
            f"{path} holds weights of no encoder here ({names}): choose weights of {layouts.SUPPORTED}"
        )
    kind = layouts.family(file)
    values: dict[str, Any] = asdict(made) | {"neck": "none", "image": _fitting(made, base.image)}
    values["normalization"] = (kind.as_is if as_is else kind.fine_tuned) or base.normalization
    return replace(base, **values | (_exported(file.path) if as_is else {}))


def _fitting(made: layouts.Architecture, image: tuple[int, int]) -> tuple[int, int]:
    """`image`, or the size next to it that the network's windows or patches tile."""
    if made.name == "swin_base":
        whole = all(side and side % swin.PERIOD == 0 for side in image)
        return image if whole else (swin.PERIOD, swin.PERIOD)
    if not made.name.startswith("vit"):
        return image
    rows, columns = (max(side // made.patch, 1) * made.patch for side in image)
    return rows, columns


def saved_settings(file: WeightFile) -> settings.Encoder | None:
    """The encoder's settings as a run of this package, or its export, keeps them."""
    if "config" in file.metadata and "momentum" in file.trail:
        return settings.of_file(file.path, file.metadata["config"]).encoder
    described = _described(file.path)
    try:
        if described.get("architecture") == "dynamix_encoder":
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in described["model_args"].items()
            }
            return settings.Encoder(**values)
    except Exception as error:  # settings of another version, or edited by hand
        raise ValueError(
            f"{file.path}: its settings cannot be used ({error}): train or export again"
        ) from error
    return None


def _described(path: Path) -> dict[str, Any]:
    """config.json beside timm's and our exported model.safetensors."""
    beside = path.with_name("config.json")
    if path.name != "model.safetensors" or not beside.is_file():
        return {}
    try:
        with disk.reading(beside):
            held = json.loads(beside.read_text())
    except ValueError as error:
        raise ValueError(f"{beside} is not JSON ({error}): copy it again, or remove it") from error
    return held if isinstance(held, dict) else {}


def _exported(path: Path) -> dict[str, Any]:
    """Image size and normalization, where the file's config.json has them."""
    images = _described(path).get("pretrained_cfg")
    values: dict[str, Any] = {}
    if not isinstance(images, dict):
        return values
    if len(images.get("input_size", ())) == 3:
        values["image"] = tuple(images["input_size"][1:])
    for kind, (mean, std) in STATISTICS.items():
        if (images.get("mean"), images.get("std")) == (list(mean), list(std)):
            values["normalization"] = kind
    return values
