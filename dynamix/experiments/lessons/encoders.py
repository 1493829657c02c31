"""Notebook 03: a person to cut into tokens, and at which layer of a network altered queries are lost.

`python -m dynamix.experiments.lessons.encoders runs/KEY ... --record FILE` measures the layers of runs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dynamix import checkpoint, data, evaluation
from dynamix.config import Config, Mannequins
from dynamix.data import images as imagery
from dynamix.data.mannequins import plan
from dynamix.data.mannequins.render import render
from dynamix.data.table import Table
from dynamix.experiments import records
from dynamix.experiments.sensitivity import CHANGES
from dynamix.experiments.spec import Spec
from dynamix.features import normalize

STRIPES = 4  # of the pooled maps, as in the networks' own heads


@dataclass(frozen=True)
class Stage:
    """mAP of a search with what a network holds after one of its layers."""

    stage: str
    plain: float
    altered: float


def person(config: Mannequins, size: tuple[int, int] = (256, 128), row: int = 0) -> UInt8[Tensor, "3 H W"]:
    """An image of plaza, drawn at another size."""
    world = plan.multi_camera("plaza", replace(config, image=size))
    shots = world.shots.select(torch.tensor([row]))
    return render(world.people, world.cameras, shots, world.size)[0]


def stages(
    encoder: nn.Module, config: Config, query: Table, gallery: Table, change: str = "color cast"
) -> list[Stage]:
    """mAP after each layer of a small encoder, before and after `change` of the queries.

    Maps are pooled over four stripes and each number standardized over the gallery.
    """
    asked, searched = _pixels(config, query), _pixels(config, gallery)
    known = (query.pids, gallery.pids, query.camids, gallery.camids)
    hidden = [_hidden(encoder, config, images) for images in (searched, asked, CHANGES[change](asked))]
    found = []
    for name, base in hidden[0].items():
        mean, std = base.mean(0), base.std(0) + 1e-6
        g, q, a = ((each[name] - mean) / std for each in hidden)
        found.append(Stage(name, *(evaluation.evaluate(x, g, *known).mAP for x in (q, a))))
    return found


def _pixels(config: Config, table: Table) -> UInt8[Tensor, "N 3 H W"]:
    source = imagery.Images.of(table, config.encoder.image, memory_gb=config.memory_gb)
    chunks = imagery.chunks(source, np.arange(len(table)), 256, workers=config.workers)
    return torch.cat([images for images, _ in chunks])


def _hidden(
    encoder: nn.Module, config: Config, images: UInt8[Tensor, "N 3 H W"]
) -> dict[str, Float[Tensor, "N F"]]:
    """What each layer says of the images, pooled."""
    kept: dict[str, list[Tensor]] = {name: [] for name in _layers(encoder)}
    grid = getattr(encoder.body, "grid", None)

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: kept[name].append(_pooled(output, grid))

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in _layers(encoder).items()]
    encoder.eval()
    try:
        with torch.no_grad():
            for chunk in images.split(256):
                encoder(normalize(chunk, config.encoder.normalization, torch.float32))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _layers(encoder: nn.Module) -> Mapping[str, nn.Module]:
    """The layers to look at, by name: those of both small networks are alike up to residual 2."""
    body: Any = encoder.body
    hybrid = hasattr(body, "stem")
    first = body.stem if hybrid else body.layers
    common = {"convolution": first[2], "residual 1": first[3], "residual 2": first[4]}
    if hybrid:
        own = {f"attention {i + 1}": block for i, block in enumerate(body.blocks)}
    else:
        own = {"residual 3": first[5]}
    return common | own | {"embedding": encoder.neck}


def _pooled(output: Tensor, grid: tuple[int, int] | None) -> Float[Tensor, "N F"]:
    if output.ndim == 3 and grid is not None:
        output = output.transpose(1, 2).unflatten(2, grid)
    if output.ndim == 4:
        output = output.unflatten(2, (STRIPES, -1)).mean((3, 4)).flatten(1)
    return output.clone()


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    record: Path,
    world: str = "plaza",
    change: str = "color cast",
) -> None:
    """Write what a change of a world's queries costs after each layer of some runs."""
    kept = []
    for run in runs:
        encoder, config = checkpoint.load_encoder(run)
        root = Spec(name="stages", config=config, score_on=(world,)).roots()[world]
        query, gallery = (data.load(world, root, split) for split in ("query", "gallery"))
        known = {"run": run.name, "seed": config.seed, "encoder": config.encoder.name}
        known |= {"world": world, "change": change}
        kept += [known | asdict(each) for each in stages(encoder, config, query, gallery, change)]
    records.write(record, {"rows": kept, "provenance": records.provenance()})


if __name__ == "__main__":
    tyro.cli(main)
