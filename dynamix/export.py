"""Trained encoders for use elsewhere: ONNX, and weights with a config that timm reads; both checked equal.

Importing this module registers the architecture `dynamix_encoder` with timm: every encoder that timm does
not have itself.

import timm, dynamix.export
encoder = timm.create_model("local-dir:FOLDER", pretrained=True)
"""

import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from dynamix import config as settings
from dynamix import disk, encoders
from dynamix.config import Config
from dynamix.data.views import STATISTICS, normalize

__all__ = ["FORMATS", "Exported", "Inference", "export", "export_onnx", "export_timm"]

ONNX, WEIGHTS, CONFIG = "encoder.onnx", "model.safetensors", "config.json"
FORMATS = ("onnx", "timm")
BATCHES = (1, 2, 5)  # sizes that an export is checked on
TOLERANCE = 1e-4  # largest difference allowed, relative to the largest feature where that exceeds 1
ARCHITECTURE = "dynamix_encoder"

default_cfgs = generate_default_cfgs({ARCHITECTURE: {"num_classes": 0}})  # timm looks for this name


@dataclass(frozen=True)
class Exported:
    """Files that were written, and how far their outputs are from the encoder's."""

    files: tuple[Path, ...]
    difference: float  # largest, of any feature's component
    use: str  # a line of code

    def __str__(self) -> str:
        """Files with their sizes, the measured difference, how to use them."""
        sizes = "\n".join(f"{path}  {path.stat().st_size / 1e6:.2f} MB" for path in self.files)
        checked = f"largest difference on batches of {_listed(BATCHES)}: {self.difference:.1e}"
        return f"{sizes}\n  {checked}\n  {self.use}"


def export(
    encoder: nn.Module, config: Config, folder: str | Path, formats: Sequence[str] = FORMATS
) -> Iterator[Exported]:
    """Write `encoder` into `folder` in each format, yielding what was written and checked."""
    folder = check(folder, formats)
    for name in formats:
        if name == "onnx":
            yield export_onnx(encoder, config, folder / ONNX)
        else:
            yield export_timm(encoder, config, folder)


def check(folder: str | Path, formats: Sequence[str] = FORMATS) -> Path:
    """`folder`, `~` expanded, if each format can be written into it: looked at before the work.

    Raises ValueError on an unknown format, RuntimeError when packages are missing, OSError when the folder
    cannot be written into.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"unknown format {name!r}: choose {' or '.join(FORMATS)}")
    if "onnx" in formats:
        _require_onnx()
    folder = Path(os.path.expanduser(folder))
    disk.check_folder(folder)
    return folder


class Inference(nn.Module):
    """Images as they come, float RGB in [0, 1], to features: normalization, encoder, unit length."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, normalization: str, unit: bool):
        super().__init__()
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in STATISTICS[normalization])
        self.encoder, self.unit = encoder, unit
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        features = self.encoder((images - self.mean) / self.std)
        return features / torch.linalg.vector_norm(features, dim=1, keepdim=True) if self.unit else features


@torch.random.fork_rng(devices=[])  # timm and the exporter draw numbers; the caller's stay as they were
def export_onnx(encoder: nn.Module, config: Config, path: str | Path, *, normalize: bool = True) -> Exported:
    """Write the encoder as ONNX: "images" (batch, 3, H, W), float RGB in [0, 1], to "features" (batch, D).

    The normalization of images is part of the graph; `normalize` makes features unit length as well, so
    that their dot product is the similarity. Checked with onnxruntime against the encoder before the file
    appears. Raises RuntimeError when packages are missing or outputs differ by more than 1e-4, OSError when
    the file cannot be written.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the file, as {path / ONNX}")
    check(path.parent, ("onnx",))
    import onnxruntime

    plain = _plain(encoder)
    wrapped = Inference(plain, config.encoder.normalization, normalize).eval()
    program = _quietly(wrapped, torch.rand(2, 3, *config.encoder.image))
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces: where the package lies on this machine
    program.model.graph.metadata_props.clear()
    program.model.metadata_props.update(_metadata(config, normalize))
    with disk.replacing(path) as temporary:
        program.save(str(temporary), external_data=False)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        session = onnxruntime.InferenceSession(str(temporary), options, providers=["CPUExecutionProvider"])

        def run(images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
            levels = (images.float() / 255).numpy()
            return torch.from_numpy(session.run(["features"], {"images": levels})[0])

        difference = _difference(partial(_features, plain, config, unit=normalize), run, config, "ONNX")
    size = " x ".join(map(str, config.encoder.image))
    use = f'onnxruntime.InferenceSession("{path}").run(None, {{"images": B x 3 x {size}, RGB in [0, 1]}})'
    return Exported((path,), difference, use)


@torch.random.fork_rng(devices=[])
def export_timm(encoder: nn.Module, config: Config, folder: str | Path) -> Exported:
    """Write model.safetensors and config.json in the layout of timm's hub models; features not unit length.

    A plain vision transformer becomes timm's own; for any other encoder `import dynamix.export` gives timm
    the architecture `dynamix_encoder`. Checked before the files appear: timm's create_model, from the
    weights file and from the folder, gives the encoder's outputs. Raises RuntimeError when it does not.
    """
    folder = check(folder, ("timm",))
    folder.mkdir(parents=True, exist_ok=True)
    plain = _plain(encoder)
    architecture, arguments, network = _as_timm(plain, config)
    described = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": config.encoder.dim,
        "global_pool": str(arguments.get("global_pool", "")),
        "model_args": arguments,
        "pretrained_cfg": _preprocessing(config.encoder) | _entry_names(network),
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export") as room:
        weights = Path(room) / WEIGHTS
        with disk.writing(folder / WEIGHTS):
            tensors = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
            weights.write_bytes(save(tensors, {"format": "pt"}))  # save_file lets nobody else read the file
            (Path(room) / CONFIG).write_text(json.dumps(described, indent=1) + "\n")
        difference = max(
            _difference(
                partial(_features, plain, config), partial(_features, made.eval(), config), config, "timm"
            )
            for made in (
                timm.create_model(architecture, checkpoint_path=weights, **arguments),
                timm.create_model(f"local-dir:{room}", pretrained=True),
            )
        )
        for name in (WEIGHTS, CONFIG):
            os.replace(Path(room) / name, folder / name)
    own = "import timm" if architecture != ARCHITECTURE else "import timm, dynamix.export"
    use = f'{own}; timm.create_model("local-dir:{folder}", pretrained=True)'
    return Exported((folder / WEIGHTS, folder / CONFIG), difference, use)


@register_model
def dynamix_encoder(pretrained: bool = False, **options: Any) -> nn.Module:
    """Any encoder of this package as timm builds it: the fields of `config.Encoder`, then timm's own."""
    names = {field.name for field in fields(settings.Encoder)} & options.keys()
    values = {name: options.pop(name) for name in names}
    arguments: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    config = settings.Encoder(**arguments)
    overlay = (options.pop("pretrained_cfg_overlay", None) or {}) | _preprocessing(config)
    return build_model_with_cfg(
        partial(_headless, config), ARCHITECTURE, pretrained, pretrained_cfg_overlay=overlay, **options
    )


def _headless(
    config: settings.Encoder,
    num_classes: int = 0,
    in_chans: int = 3,
    img_size: Any = None,
    global_pool: str = "",
) -> nn.Module:
    size = config.image if img_size is None else tuple(np.broadcast_to(img_size, 2).tolist())
    if num_classes or in_chans != 3 or size != tuple(config.image):
        raise ValueError(f"{ARCHITECTURE} has no classes, 3 channels and images of {tuple(config.image)}")
    encoder: Any = encoders.build(config)
    encoder.num_classes, encoder.num_features = 0, config.dim  # timm asks for them
    return encoder


def _as_timm(encoder: nn.Module, config: Config) -> tuple[str, dict[str, Any], nn.Module]:
    """Architecture and arguments for timm's create_model, and the network whose weights fit it.

    timm's own architecture where it takes exactly these weights; that its outputs agree is checked later.
    """
    body, neck = getattr(encoder, "body", None), getattr(encoder, "neck", None)
    name = (getattr(body, "pretrained_cfg", None) or {}).get("architecture", "")
    if body is not None and isinstance(neck, nn.Identity) and timm.is_model(name):
        pooled = {"num_classes": 0, "global_pool": getattr(body, "global_pool", None)}
        sized = pooled | {"img_size": list(config.encoder.image)}
        for arguments in (sized | {"patch_size": config.encoder.patch}, sized, pooled):
            if _takes(name, arguments, body):
                return name, arguments, body
    return ARCHITECTURE, _build_options(config.encoder), encoder


def _takes(architecture: str, arguments: dict[str, Any], network: nn.Module) -> bool:
    try:
        theirs = timm.create_model(architecture, **arguments)
    except (TypeError, AssertionError, ValueError, RuntimeError):  # arguments it does not know or refuses
        return False
    mine, other = network.state_dict(), theirs.state_dict()
    same = mine.keys() == other.keys() and all(mine[k].shape == other[k].shape for k in mine)
    return same and type(network) is type(theirs)


def _build_options(config: settings.Encoder) -> dict[str, Any]:
    """The settings that the network depends on, as JSON has them; weights come from elsewhere."""
    plain = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in plain.items() if name not in ("seed", "weights")}


def _preprocessing(config: settings.Encoder) -> dict[str, Any]:
    """How timm's transforms bring an image to the encoder: squeezed to its size, as this package does."""
    mean, std = STATISTICS[config.normalization]
    return {
        "input_size": [3, *config.image], "fixed_input_size": True, "interpolation": "bicubic",
        "crop_pct": 1.0, "crop_mode": "squash", "mean": list(mean), "std": list(std), "num_classes": 0,
    }  # fmt: skip


def _entry_names(network: nn.Module) -> dict[str, Any]:
    known = getattr(network, "pretrained_cfg", None) or {}
    return {name: known.get(name) for name in ("first_conv", "classifier")}


def _metadata(config: Config, unit: bool) -> dict[str, str]:
    mean, std = STATISTICS[config.encoder.normalization]
    return {
        "images": "float RGB in [0, 1], resized (bicubic) to the image size; the graph normalizes them",
        "image_size": json.dumps(list(config.encoder.image)),
        "normalization": json.dumps({"mean": mean, "std": std}),
        "features": "unit length: their dot product is the similarity" if unit else "not normalized",
        "encoder": json.dumps(_build_options(config.encoder)),
    }


def _plain(encoder: nn.Module) -> nn.Module:
    """A copy for inference on the CPU in single precision; the encoder stays as it was."""
    return copy.deepcopy(encoder).cpu().float().eval().requires_grad_(False)


@torch.no_grad()
def _features(
    network: nn.Module, config: Config, images: UInt8[Tensor, "B 3 H W"], *, unit: bool = False
) -> Float[Tensor, "B D"]:
    features = network(normalize(images, config.encoder.normalization))
    return nn.functional.normalize(features) if unit else features


def _difference(expected: Any, found: Any, config: Config, what: str) -> float:
    """The largest difference of two networks on random images; RuntimeError when it is too large."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in BATCHES:
        shape = (count, 3, *config.encoder.image)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        wanted, got = expected(images), found(images)
        difference = float((wanted - got).abs().max())
        allowed = TOLERANCE * max(1.0, float(wanted.abs().max()))
        if not difference <= allowed:  # a NaN is one as well
            raise RuntimeError(
                f"the {what} export differs from the encoder by {difference:.1e} on a batch of {count} "
                f"(allowed: {allowed:.0e}): not written; try other versions of torch and {what.lower()}"
            )
        largest = max(largest, difference)
    return largest


def _require_onnx() -> None:
    packages = ("onnx", "onnxruntime", "onnxscript")
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"ONNX export needs {_listed(missing)}: pip install {' '.join(packages)}")


def _quietly(network: nn.Module, images: Float[Tensor, "B 3 H W"]) -> Any:
    """The ONNX program of `network`, its batch size free; without the exporter's chatter."""
    with _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts; the outcome is checked
        return torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _listed(items: Sequence[Any]) -> str:
    return " and ".join([*filter(None, [", ".join(map(str, items[:-1]))]), str(items[-1])])
