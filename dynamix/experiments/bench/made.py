"""Made-up data to measure on: JPEG files, features in clusters, a table without images."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from dynamix.centroids import CentroidsMemory
from dynamix.config import Config
from dynamix.data.table import Paths, Table, concat, from_columns

QUALITY = 90  # of the JPEG files
NOISE = 0.75  # beside a unit centroid: images are at cosine 0.8 of it


@contextmanager
def jpegs(count: int, size: tuple[int, int]) -> Iterator[tuple[Table, float]]:
    """A folder of JPEG files of about the detail of a person crop: its table, and bytes a file."""
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        total = 0
        for k in range(count):
            coarse = torch.rand(1, 3, size[0] // 8, size[1] // 8, generator=generator)
            image = F.interpolate(coarse, size, mode="bicubic").clamp(0, 1)[0] * 225
            image += 30 * torch.rand(3, *size, generator=generator)
            path = Path(folder) / f"{k:06}.jpg"
            Image.fromarray(image.byte().permute(1, 2, 0).numpy()).save(path, quality=QUALITY)
            total += path.stat().st_size
        names = [f"{k:06}.jpg" for k in range(count)]
        pids = np.arange(count)
        yield from_columns("jpegs", Paths.of(names, f"{folder}/"), pids, camids=pids % 2), total / count


def people(
    pids: int, per_pid: int, dim: int, *, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[Float[Tensor, "n D"], Int[Tensor, " n"], CentroidsMemory]:
    """Made-up unit features in clusters, their labels and centroids; images are at about 0.8 of their own."""
    generator = torch.Generator(device).manual_seed(seed)
    centers = F.normalize(torch.randn(pids, dim, generator=generator, device=device), dim=1)
    labels = torch.arange(pids, device=device).repeat_interleave(per_pid)
    noise = torch.randn(len(labels), dim, generator=generator, device=device)
    features = F.normalize(centers[labels] + NOISE * F.normalize(noise, dim=1), dim=1)
    return features, labels, CentroidsMemory(torch.arange(pids, device=device), centers)


def crowd(
    multi: int, single: int, config: Config, device: torch.device | str = "cpu"
) -> tuple[Table, CentroidsMemory, Float[Tensor, "M D"]]:
    """A table without images, four rows a PID, its single-camera memory and multi-camera centroids."""
    columns = [np.repeat(np.arange(count), 4) for count in (multi, single)]
    shots = np.tile(np.arange(4), multi)
    paths = [Paths.fixed_width(np.zeros((len(pids), 1), np.uint8)) for pids in columns]
    labeled = from_columns("multi", paths[0], columns[0], camids=shots)
    clips = from_columns("single", paths[1], columns[1], videos=columns[1] // 20)
    dim = config.encoder.dim
    _, _, centers = people(multi, 0, dim, device=device, seed=2)
    _, _, found = people(single, 0, dim, device=device, seed=3)
    memory = CentroidsMemory(found.labels + multi, found.centroids)
    return concat([labeled, clips]), memory, centers.centroids
