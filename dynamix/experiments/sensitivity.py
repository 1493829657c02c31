"""What a search loses when the queries change as another camera would change them.

`python -m dynamix.experiments.sensitivity runs/KEY ...` alters the queries of a world one way at a time,
leaves the gallery as it is, and prints mAP. Two encoders that are equal on the cameras they were trained
with need not lose equally.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as image

from dynamix import checkpoint, data, evaluation, features
from dynamix.config import Config
from dynamix.data import images as imagery
from dynamix.data.table import Table
from dynamix.experiments import records
from dynamix.experiments.spec import Spec

Images = UInt8[Tensor, "n 3 H W"]
CAST = (1.25, 1.0, 0.75)  # gain of red, green, blue


def _cast(images: Images) -> Images:
    gain = torch.tensor(CAST, device=images.device).view(3, 1, 1)
    return (images * gain).clamp(0, 255).round().to(torch.uint8)


def _noise(images: Images, sigma: float = 12.0) -> Images:
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * drawn).clamp(0, 255).round().to(torch.uint8)


def _coarse(images: Images) -> Images:
    size = images.shape[-2:]
    return image.resize(image.resize(images, [size[0] // 2, size[1] // 2]), list(size))


def _shift(images: Images) -> Images:
    """An eighth of the height down, the edge repeated: a box that was drawn too high."""
    by = images.shape[-2] // 8
    return torch.cat([images[..., :1, :].expand(*images.shape[:-2], by, -1), images[..., :-by, :]], dim=-2)


CHANGES: Mapping[str, Callable[[Images], Images]] = {
    "as they are": lambda images: images,
    "color cast": _cast,
    "darker": partial(image.adjust_gamma, gamma=1.8),
    "brighter": partial(image.adjust_gamma, gamma=0.55),
    "gray": partial(image.rgb_to_grayscale, num_output_channels=3),
    "noise": _noise,
    "half the resolution": _coarse,
    "box shifted": _shift,
}


@dataclass(frozen=True)
class Loss:
    """mAP of altered queries."""

    change: str
    mAP: float


def sensitivity(encoder: nn.Module, config: Config, query: Table, gallery: Table) -> list[Loss]:
    """mAP under each change of the queries; the first is under none."""
    searched = _embedded(encoder, config, gallery)
    known = (query.pids, gallery.pids, query.camids, gallery.camids)
    return [
        Loss(name, evaluation.evaluate(_embedded(encoder, config, query, change), searched, *known).mAP)
        for name, change in CHANGES.items()
    ]


def _embedded(
    encoder: nn.Module,
    config: Config,
    table: Table,
    change: Callable[[Images], Images] = lambda images: images,
) -> Tensor:
    source = imagery.Images.of(table, config.encoder.image, memory_gb=config.memory_gb)
    chunks = imagery.chunks(source, np.arange(len(table)), 256, workers=config.workers)
    altered = ((change(images), rows) for images, rows in chunks)
    return features.gather(
        features.extract(encoder, altered, normalization=config.encoder.normalization), len(table)
    ).cpu()


def lines(found: Iterable[Loss]) -> list[str]:
    """A table for a terminal, percent."""
    first, *others = found
    kept = [f"{first.change:20} {100 * first.mAP:5.1f}"]
    return kept + [
        f"{each.change:20} {100 * each.mAP:5.1f} {100 * (each.mAP - first.mAP):+6.1f}" for each in others
    ]


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    world: str = "plaza",
    record: Path | None = None,
) -> None:
    """Print what some folders' runs lose on a world; keep it in the file `record`."""
    kept = []
    for run in runs:
        encoder, config = checkpoint.load_encoder(run)
        root = Spec(name="sensitivity", config=config, score_on=(world,)).roots()[world]
        found = sensitivity(
            encoder, config, *(data.load(world, root, split) for split in ("query", "gallery"))
        )
        print(
            f"{run.name}: {config.encoder.name}, seed {config.seed}, queries of {world}",
            *lines(found),
            sep="\n",
        )
        known = {"run": run.name, "seed": config.seed, "encoder": config.encoder.name, "world": world}
        kept += [known | asdict(each) for each in found]
    if record is not None:
        records.write(record, {"rows": kept, "provenance": records.provenance()})


if __name__ == "__main__":
    tyro.cli(main)
