"""Notebook 03: a person to cut into tokens, recorded rows of encoders, where altered queries are lost.

`python -m dynamix.experiments.lessons.encoders runs/KEY ... --record FILE` measures the layers of runs.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
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
from dynamix.experiments import records, tables
from dynamix.experiments.camera_bias import VIDEOS_IN, CameraBias
from dynamix.experiments.ledger import ledger
from dynamix.experiments.report.cells import Cell, cell, ranked
from dynamix.experiments.reproduce import found_of
from dynamix.experiments.sensitivity import CHANGES
from dynamix.experiments.spec import Spec
from dynamix.features import normalize

STRIPES = 4  # of the pooled maps, as in the networks' own heads
WORLDS = ("plaza", "campus", "station", "hall")


@dataclass(frozen=True)
class Recorded:
    """An encoder's row of a table: its mAP beside the paper's, and in each world (mean over seeds, in %)."""

    table: str
    mAP: Cell
    worlds: Mapping[str, float]


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


def recorded(
    rows: Mapping[str, tuple[str, str]], results: Path, profile: str = "mini"
) -> dict[str, Recorded]:
    """What is recorded of the (table, row) of each encoder."""
    made = ledger(tuple(dict.fromkeys(name for name, _ in rows.values())), profile, 3, results=results)
    kept = {}
    for encoder, (name, row_name) in rows.items():
        table = tables.table(name)
        found = found_of(table, made)
        row = next(each for each in table.rows if each.name == row_name)
        scores = [run["scores"] for run in found.get(row_name, ()) if isinstance(run, dict)]
        there = [world for world in WORLDS if scores and all(world in each for each in scores)]
        worlds = {world: 100 * fmean(each[world]["mAP"] for each in scores) for world in there}
        kept[encoder] = Recorded(name, cell(table, row, ranked(table), found), worlds)
    return kept


def beside_the_paper(found: Mapping[str, Recorded]) -> str:
    """A Markdown table: the paper's mAP, ours, and ours in each world."""
    lines = [f"| encoder | row | mAP, paper | mAP, ours | {' | '.join(WORLDS)} |"]
    lines.append("|---|---|--:|--:|" + "--:|" * len(WORLDS))
    for encoder, each in found.items():
        worlds = " | ".join(f"{each.worlds[name]:.1f}" if name in each.worlds else "–" for name in WORLDS)
        title = each.table.replace("table", "Table ")
        lines.append(
            f"| {encoder} | {title}: {each.mAP.row.name} | {each.mAP.paper} | {each.mAP.text} | {worlds} |"
        )
    return "\n".join(lines)


def gain(found: Mapping[str, Recorded], before: str, after: str) -> str:
    """What the second encoder gains over the first, in the paper and here, as a sentence."""
    a, b = found[before].mAP, found[after].mAP
    paper = f"{after} instead of {before}: the paper {(b.printed or 0) - (a.printed or 0):+.1f} points of mAP"
    if a.mean is None or b.mean is None:
        return f"{paper}; here not run yet"
    here, noise = b.mean - a.mean, max(a.std or 0, b.std or 0)
    return f"{paper}; here {here:+.1f}, where seeds vary by {noise:.1f}"


def of_networks(
    file: Path, networks: Mapping[str, str], by: str, columns: tuple[str, ...]
) -> dict[str, dict[str, list[Any]]]:
    """Recorded rows as network -> value of `by` -> one entry per seed: a number, or several side by side."""
    kept: dict[str, dict[str, list[Any]]] = {name: {} for name in networks}
    names = {encoder: name for name, encoder in networks.items()}
    for row in records.read(file)["rows"]:
        if row["encoder"] in names:
            numbers = tuple(row[column] for column in columns)
            seeds = kept[names[row["encoder"]]].setdefault(row[by], [])
            seeds.append(numbers if len(numbers) > 1 else numbers[0])
    return kept


def camera_biases(file: Path, networks: Mapping[str, str]) -> dict[str, dict[str, CameraBias]]:
    """Recorded rows as network -> "hall, pre-training" (where it had videos) -> means over seeds."""
    rows = records.read(file)["rows"]
    found: dict[str, dict[str, CameraBias]] = {name: {} for name in networks}
    for name, encoder in networks.items():
        worlds = dict.fromkeys(row["world"] for row in rows)
        for world, (where, kind) in itertools.product(worlds, VIDEOS_IN.items()):
            known = (encoder, world, *kind)
            seeds = [
                row
                for row in rows
                if (row["encoder"], row["world"], row["pretrained"], row["videos"]) == known
            ]
            if seeds:
                fields = ("mAP", "own_first", "centered")
                means = {field: fmean(row[field] for row in seeds) for field in fields}
                found[name][f"{world}, {where}"] = CameraBias(**means)
    return found


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
