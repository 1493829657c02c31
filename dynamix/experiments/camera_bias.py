"""How far a search is led by the camera that took an image instead of the person on it.

`python -m dynamix.experiments.camera_bias runs/KEY ...` scores each run's encoder on worlds and counts the
queries whose first image is of their own camera, which is never right: the person's own images there are
junk to the protocol. Then it takes every camera's mean off the features. What a search gains by that, which
no label of a person went into, is what cameras had cost it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from dynamix import checkpoint, data, evaluation
from dynamix.config import Config
from dynamix.data.table import Table
from dynamix.experiments import records
from dynamix.experiments.figures import embedded
from dynamix.experiments.spec import Spec

# Where a training had videos, as ReMix's Table 4 names it -> (pre-trained, trained) on them.
VIDEOS_IN = {
    "neither": (False, False),
    "pre-training": (True, False),
    "joint training": (False, True),
    "both": (True, True),
}
Side = tuple[Float[Tensor, "... D"], Table]  # features and whose they are


@dataclass(frozen=True)
class CameraBias:
    """Of one search; shares in [0, 1]."""

    mAP: float
    own_first: float  # queries whose first image is of their own camera
    centered: float  # mAP with every camera's mean feature taken off


def camera_bias(query: Side, gallery: Side) -> CameraBias:
    """Of features (Q, D) and (G, D) with the tables of their images, of which pids and camids count."""
    centered = _centered(query, gallery)
    (q, asked), (g, searched) = query, gallery
    known = (asked.pids, searched.pids, asked.camids, searched.camids)
    first = evaluation.ranked_lists(q, g, *known, top=1).index[:, 0].cpu().numpy()
    there = first >= 0
    own = searched.camids[first[there]] == asked.camids[there]
    plain, better = evaluation.evaluate(q, g, *known), evaluation.evaluate(centered[0], centered[1], *known)
    return CameraBias(plain.mAP, float(own.mean()), better.mAP)


def _centered(*sides: Side) -> list[Tensor]:
    """Features less the mean of all those of their camera, on both sides."""
    made = [features.to(torch.float64, copy=True) for features, _ in sides]
    for camera in np.unique(np.concatenate([table.camids for _, table in sides])):
        rows = [torch.from_numpy(table.camids == camera) for _, table in sides]
        mean = torch.cat([features[at] for features, at in zip(made, rows, strict=True)]).mean(dim=0)
        for features, at in zip(made, rows, strict=True):
            features[at] -= mean
    return made


def measure(encoder: nn.Module, config: Config, root: Path, world: str) -> CameraBias:
    """Of an encoder's search on the query and gallery images of a dataset under `root`."""
    sides = (data.load(world, root, split) for split in ("query", "gallery"))
    query, gallery = ((embedded(encoder, config, table), table) for table in sides)
    return camera_bias(query, gallery)


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    worlds: tuple[str, ...] = ("hall", "station"),
    record: Path | None = None,
) -> None:
    """Print what cameras cost some folders' runs on worlds; keep it in the file `record`."""
    kept: list[dict[str, Any]] = []
    for run in runs:
        encoder, config = checkpoint.load_encoder(run)
        roots = Spec(name="camera bias", config=config, score_on=worlds).roots()
        for world in worlds:
            found = measure(encoder, config, roots[world], world)
            known = {
                "run": run.name, "seed": config.seed, "encoder": config.encoder.name, "world": world,
                "pretrained": bool(config.encoder.weights), "videos": config.batch.ids_single > 0,
            }  # fmt: skip
            kept.append(known | asdict(found))
    print("\n".join(lines(kept)))
    if record is not None:
        records.write(record, {"rows": kept, "provenance": records.provenance()})


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table for a terminal, percent."""
    head = f"{'encoder':10} {'videos in':15} seed  {'world':9}"
    made = [f"{head} {'mAP':>5} {'own camera first':>17} {'centered':>9}"]
    where = {found: name for name, found in VIDEOS_IN.items()}
    for row in rows:
        videos = where[row["pretrained"], row["videos"]]
        shares = f"{row['mAP']:5.1%} {row['own_first']:17.1%} {row['centered']:9.1%}"
        made.append(f"{row['encoder']:10} {videos:15} {row['seed']:4}  {row['world']:9} {shares}")
    return made


if __name__ == "__main__":
    tyro.cli(main)
