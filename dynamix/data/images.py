"""Decoding and loading: `Images` of a table, read in chunks or as training batches with their views.

Images are kept decoded in memory where they fit, else read by worker processes. Which way, and how many
workers, never changes which views are drawn: they are keyed by (seed, epoch, step).
"""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv
from tqdm import tqdm

from dynamix.data import stores
from dynamix.data import views as view_module
from dynamix.data.table import Paths, Table
from dynamix.data.views import ViewParameters

BLOCK = 256  # images per task of the decoding threads
REMEDY = 'replace the file, or leave it out with on_bad_image="skip" (--on-bad-image=skip)'


@dataclass(eq=False)
class Images:
    """The images of a table at one (height, width): where they are read from, and which could not be read.

    With `on_bad_image="skip"` unreadable rows are left out of every batch, warned about and collected in
    `skipped`; with "error" the first one raises ValueError (or FileNotFoundError) naming the file.
    """

    paths: Paths
    size: tuple[int, int]
    pixels: Tensor | None = None  # (N, 3, H, W) uint8 when all fit in memory
    on_bad_image: Literal["error", "skip"] = "error"
    skipped: set[int] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        table: Table,
        size: tuple[int, int],
        *,
        memory_gb: float = 4.0,
        on_bad_image: str = "error",
        progress: bool = False,
    ) -> "Images":
        """The images of `table`, decoded into memory if they take at most `memory_gb` (of 2^30 bytes)."""
        if on_bad_image not in ("error", "skip"):
            raise ValueError(f'on_bad_image must be "error" or "skip", got {on_bad_image!r}')
        images = cls(table.paths, (size[0], size[1]), None, "skip" if on_bad_image == "skip" else "error")
        if len(table) * 3 * size[0] * size[1] <= memory_gb * 2**30:
            images.pixels = _decode_all(images, progress)
        return images

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int) -> UInt8[Tensor, "3 H W"]:
        """Decode one row from disk, resized (bicubic, antialiased) where its size differs."""
        image = decode(self.paths[row])
        if tuple(image.shape[1:]) == self.size:
            return image
        return tv.resize(image, list(self.size), interpolation=InterpolationMode.BICUBIC, antialias=True)

    def settle(self, problems: dict[int, Exception]) -> None:
        """Raise the first problem, or note the rows as skipped and say so."""
        if problems and self.on_bad_image == "error":
            raise problems[min(problems)]
        new = sorted(set(problems) - self.skipped)
        if new:
            self.skipped.update(new)
            warnings.warn(f"skipped {len(new)} unreadable images, first: {problems[new[0]]}", stacklevel=3)


def decode(path: str) -> UInt8[Tensor, "3 H W"]:
    """An image as RGB levels. Raises FileNotFoundError, or ValueError naming the unreadable file or key."""
    folder, mark, key = path.rpartition(stores.LOCATOR)
    source: Any = io.BytesIO(stores.value(folder, key)) if mark else path
    try:
        with Image.open(source) as image:
            levels = np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {path}: the table was read from other data; {REMEDY}") from None
    except Exception as error:  # decoders raise nearly any type on corrupt data
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read image {path} ({reason}): {REMEDY}") from error
    return torch.from_numpy(levels).permute(2, 0, 1).contiguous()


def _decode_all(images: Images, progress: bool) -> UInt8[Tensor, "N 3 H W"]:
    count = len(images)
    pixels = torch.zeros(count, 3, *images.size, dtype=torch.uint8)

    def fill(start: int) -> dict[int, Exception]:
        problems: dict[int, Exception] = {}
        for row in range(start, min(start + BLOCK, count)):
            try:
                pixels[row] = images.load(row)
            except (ValueError, OSError) as error:
                problems[row] = error
        return problems

    found: dict[int, Exception] = {}
    bar = tqdm(total=count, desc="decoding images", unit="image", leave=False, disable=not progress)
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start, problems in enumerate(pool.map(fill, range(0, count, BLOCK))):
            found |= problems
            if problems and images.on_bad_image == "error":
                pool.shutdown(wait=False, cancel_futures=True)
                break
            bar.update(min(BLOCK, count - start * BLOCK))
    images.settle(found)
    if count and len(found) == count:
        raise ValueError(f"none of the {count} images can be read, first: {found[0]}")
    return pixels


class _Prepared(NamedTuple):
    views: dict[str, Tensor]
    rows: Tensor
    problems: dict[int, Exception]


Planner = Callable[[int, int], dict[str, ViewParameters]]  # (step, rows of the step) -> views


@dataclass(frozen=True)
class _Steps(Dataset):
    """Item = one whole step, so that whoever prepares it draws the same parameters."""

    images: Images
    batches: Sequence[np.ndarray]
    planner: Planner
    share: slice

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> _Prepared:
        """From disk, image by image."""
        rows, planned, index = self._plan(step)
        made: dict[str, list[Tensor]] = {name: [] for name in planned}
        kept: list[int] = []
        problems: dict[int, Exception] = {}
        for at in index.tolist():
            try:
                image = self.images.load(int(rows[at]))
            except (ValueError, OSError) as error:
                problems[int(rows[at])] = error
                continue
            kept.append(int(rows[at]))
            for name, view in view_module.make_one(image, planned, at).items():
                made[name].append(view)
        return _Prepared({name: self._stack(each) for name, each in made.items()}, _long(kept), problems)

    def in_memory(self, step: int, device: torch.device | str | None) -> _Prepared:
        """From memory, the whole step at once and on `device`."""
        assert self.images.pixels is not None
        rows, planned, index = self._plan(step)
        if self.images.skipped:
            index = index[~np.isin(rows[index], list(self.images.skipped))]
        kept = _long(rows[index])
        batch = self.images.pixels[kept].to(device)
        made = {name: view_module.apply(batch, drawn.select(index)) for name, drawn in planned.items()}
        return _Prepared(made, kept, {})

    def _plan(self, step: int) -> tuple[np.ndarray, dict[str, ViewParameters], np.ndarray]:
        rows = self.batches[step]
        return rows, self.planner(step, len(rows)), np.arange(len(rows))[self.share]

    def _stack(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images) if images else torch.empty(0, 3, *self.images.size, dtype=torch.uint8)


def _long(rows: Sequence[int] | np.ndarray) -> Tensor:
    return torch.as_tensor(rows, dtype=torch.int64)


def train_batches(
    images: Images,
    batches: Sequence[Sequence[int]],
    views: str,
    *,
    seed: int,
    epoch: int,
    workers: int = 0,
    device: torch.device | str | None = None,
    share: slice = slice(None),
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """One epoch's training batches: views by name (`views.names`), (B, 3, H, W) uint8, and their rows (B,).

    Views are drawn per (seed, epoch, step) for all rows of the step, whatever `workers`. `share` prepares
    only those rows of each step: a rank's part, with the very views the whole step would have. `device`
    is where in-memory images are augmented; images from disk arrive there ready.
    """
    view_module.names(views)
    planner = partial(_plan_training, views=views, size=images.size, seed=seed, epoch=epoch)
    steps = _Steps(images, [_checked(rows, len(images)) for rows in batches], planner, share)
    return _iterate(steps, workers, device)


def _plan_training(
    step: int, count: int, *, views: str, size: tuple[int, int], seed: int, epoch: int
) -> dict[str, ViewParameters]:
    return view_module.plan(views, count, size, view_module.generator_of(seed, epoch, step))


def batches(
    images: Images, row_lists: Iterable[Sequence[int] | np.ndarray], *, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The original images of each list of rows: (B, 3, H, W) uint8 and the rows (B,), in order."""
    planner = partial(_plan_originals, size=images.size)
    steps = _Steps(images, [_checked(rows, len(images)) for rows in row_lists], planner, slice(None))
    return ((views["v0"], rows) for views, rows in _iterate(steps, workers, None))


def _plan_originals(step: int, count: int, *, size: tuple[int, int]) -> dict[str, ViewParameters]:
    return {"v0": view_module.draw(count, size, np.random.default_rng(0), augment="none")}


def chunks(
    images: Images, rows: Int[np.ndarray, " n"], size: int, *, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The original images of `rows`, `size` at a time, for feature extraction; memory O(size)."""
    if size < 1:
        raise ValueError(f"the chunk size must be at least 1, got {size}")
    return batches(images, [rows[at : at + size] for at in range(0, len(rows), size)], workers=workers)


def _checked(rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(rows, np.int64)
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise ValueError(
            f"rows {array.min()} to {array.max()} asked of a table of {count}: it is another table's"
        )
    return array


def _iterate(
    steps: _Steps, workers: int, device: torch.device | str | None
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    if steps.images.pixels is not None:
        for step in range(len(steps)):
            yield steps.in_memory(step, device)[:2]
        return
    for views, rows, problems in _from_disk(steps, workers):
        steps.images.settle(problems)
        yield {name: view.to(device) for name, view in views.items()}, rows


def _from_disk(steps: _Steps, workers: int) -> Iterator[_Prepared]:
    # A generator of its own: the loader draws a seed from it and must leave torch's global one alone.
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        steps, batch_size=None, num_workers=min(workers, len(steps), cores()), collate_fn=_as_is,
        generator=generator,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Workers only decode, with no thread pool of their own: forking beside torch's threads is safe here.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        iterator = iter(loader)
    yield from iterator


def cores() -> int:
    """Cores this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_is(item: Any) -> Any:
    return item
