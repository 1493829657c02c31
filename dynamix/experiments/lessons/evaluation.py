"""Notebook 02: a gallery with its junk, a descriptor without learning, and boxes that miss the person."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from dynamix import features
from dynamix.config import Config
from dynamix.data.mannequins import plan
from dynamix.data.mannequins.render import render
from dynamix.data.mannequins.truth import SPLITS
from dynamix.data.market1501 import FOLDERS, WORLD_NAMES
from dynamix.data.table import Paths, Table, constant

BINS, STRIPES = 8, 8  # of a color histogram: per channel, and from head to foot


def whole_gallery(root: Path) -> Table:
    """Every file of a Market-style gallery by name, junk (pid -1) too, which `data.load` leaves out."""
    folder = Path(root) / FOLDERS["gallery"]
    names = sorted(path.name for path in folder.iterdir())
    parsed = [match for match in map(WORLD_NAMES.match, names) if match]
    if len(parsed) < len(names):
        raise ValueError(f"{folder} holds files that are not named like Market-1501's")
    pids = np.array([int(match["pid"]) for match in parsed])
    camids = np.array([int(match["cam"]) - 1 for match in parsed])
    none, zero = constant(-1, len(names)), constant(0, len(names))
    return Table(Paths.of(names, f"{folder}/"), pids, pids, camids, none, zero, ("gallery with junk",))


def color_histograms(images: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N F"]:
    """Shares of each channel's brightness levels in horizontal stripes; roots, so that none dominates."""
    level = (images // (256 // BINS)).long()
    parts = [
        torch.nn.functional.one_hot(stripe, BINS).float().mean((2, 3)).flatten(1)
        for stripe in level.chunk(STRIPES, dim=2)
    ]
    return torch.cat(parts, 1).sqrt()


def embed(encoder: nn.Module, config: Config, images: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N D"]:
    """Unit features of images in memory."""
    chunk = [(images, torch.arange(len(images)))]
    made = features.extract(encoder, chunk, normalization=config.encoder.normalization)
    return features.gather(made, len(images)).cpu()


def moved_boxes(name: str, config: Config, split: str, share: float) -> UInt8[Tensor, "N 3 H W"]:
    """One split of a world, drawn anew with every box moved by `share` of its sides, each in some direction.

    Row for row as `data.load` reads it. The wall behind the person stays as it was.
    """
    world = plan.multi_camera(name, config.mannequins)
    rows = np.flatnonzero((world.truth.split == SPLITS.index(split)) & (world.pid >= 0))
    rows = rows[np.argsort(world.truth.names[rows])]
    turn = 2 * np.pi * np.random.default_rng(0).random(len(world.pid))[rows]
    shots = world.shots.select(torch.from_numpy(rows))
    away = torch.from_numpy(share * np.stack([np.cos(turn), np.sin(turn)], axis=1))
    shots = dataclasses.replace(shots, offset=shots.offset + away)
    drawn = render(world.people, world.cameras, shots, world.size)
    return torch.stack([_stored(image) for image in drawn])


def _stored(image: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    """An image as it comes back from a world's files."""
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    with Image.open(buffer) as back:
        return torch.from_numpy(np.array(back)).permute(2, 0, 1)
