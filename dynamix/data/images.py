"""Decoding and loading: `Images` of a table, read in chunks or as training batches with their views.

Images are kept decoded in memory where they fit, else read by worker processes that stay from one epoch to
the next. Views are made from whole batches, by the same code wherever images come from: on a GPU if that is
where they go, else by whoever read the batch. They are keyed by (seed, epoch, step), whatever the workers.
"""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv
from tqdm import tqdm

from dynamix.data import stores
from dynamix.data import views as view_module
from dynamix.data.table import Paths, Table
from dynamix.data.views import ViewParameters, send

BLOCK = 256  # images per task of the decoding threads
SKIP = 'leave it out with on_bad_image="skip" (--on-bad-image=skip)'  # what else to do than mend a file
TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
UPRIGHT = {2 + at: Image.Transpose[name] for at, name in enumerate(TURNS.split())}  # by EXIF's orientation


@dataclass(eq=False)
class Images:
    """The images of a table at one (height, width): where they are read from, and which could not be read.

    With `on_bad_image="skip"` unreadable rows are left out of every batch, warned about and collected in
    `skipped`; with "error" the first one raises ValueError or OSError naming the file. `upright` and
    `otherwise` as in `decode`.
    """

    paths: Paths
    size: tuple[int, int]
    pixels: Tensor | None = None  # (N, 3, H, W) uint8 when all fit in memory
    on_bad_image: Literal["error", "skip"] = "error"
    skipped: set[int] = field(default_factory=set)
    upright: bool = False
    otherwise: str = SKIP
    workers: "_Workers | None" = field(default=None, init=False, repr=False)  # kept between epochs

    def __post_init__(self) -> None:
        # `decode` refuses what Pillow warns of, and names it; processes forked later keep this filter.
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

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
        image = decode(self.paths[row], upright=self.upright, otherwise=self.otherwise)
        if tuple(image.shape[1:]) == self.size:
            return image
        return tv.resize(image, list(self.size), interpolation=InterpolationMode.BICUBIC, antialias=True)

    def close(self) -> None:
        """End the worker processes; they also end with the last reference, and start again when needed."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None

    def settle(self, problems: dict[int, Exception]) -> None:
        """Raise the first problem, or note the rows as skipped and say so."""
        if problems and self.on_bad_image == "error":
            raise problems[min(problems)]
        new = sorted(set(problems) - self.skipped)
        if new:
            self.skipped.update(new)
            warnings.warn(f"skipped {len(new)} unreadable images, first: {problems[new[0]]}", stacklevel=3)


def decode(path: str, *, upright: bool = False, otherwise: str = SKIP) -> UInt8[Tensor, "3 H W"]:
    """An image as RGB levels; of an animation the first picture; what is transparent lets white through.

    Gray levels of 16 bits become 0 to 255 by the range of the type, whatever levels an image uses. The bits
    of 32-bit integers and floats do not tell where white is: it is the first of 1, 255 and 65535 that no
    level exceeds. `upright` turns the image as EXIF says that the camera was held: photographs of a user,
    never a dataset, whose published numbers come from images as stored.

    Raises OSError (FileNotFoundError, PermissionError, ...) when the file cannot be opened, ValueError when
    it cannot be decoded; each names the file or key and ends with what to do: mend it, or `otherwise`.
    """
    held = stores.located(path)
    source: Any = path if held is None else io.BytesIO(stores.value(*held))
    try:
        with Image.open(source) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:  # Pillow itself only warns
                raise ValueError(f"{image.width} x {image.height} pixels are more than the safe {limit:,}")
            image.load()  # some formats know their mode only now
            plain = image.mode == "RGB" and "transparency" not in image.info
            rgb = image if plain else _rgb(image)
            levels = np.array(_upright(rgb, image) if upright else rgb)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no image {path}: it was moved or deleted since it was listed, or the link leads nowhere; "
            f"put it back, or {otherwise}"
        ) from None
    except Exception as error:  # decoders raise nearly any type on corrupt data
        if isinstance(error, OSError) and error.errno is not None:  # of the operating system, not a decoder
            problem = f"cannot read image {path} ({error.strerror}): make it readable, or {otherwise}"
            raise type(error)(problem) from error
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read image {path} ({reason}): replace the file, or {otherwise}") from error
    return torch.from_numpy(levels).permute(2, 0, 1)  # as decoded: resizing is faster on this order


def _rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    straight = image.convert("LA") if image.mode == "La" else image  # Pillow has no way from La to RGBA
    over = straight.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grayscale of more than 8 bits as 0 to 255, which Pillow's own conversion would cut off at 255."""
    levels, tags = np.asarray(image), getattr(image, "tag_v2", {})  # the tags of a TIFF
    low, high = float(levels.min()), float(levels.max())
    # Rounding may lead a little below black or above white; what is not a number is refused.
    white = next((white for white in _whites(image, tags) if high <= 1.01 * white), 0)
    if not white or low < -0.01 * white:
        raise ValueError(f"its levels from {low:g} to {high:g} do not tell black and white: use 8 or 16 bits")
    shown = np.rint(np.clip(levels * (255 / white), 0, 255)).astype(np.uint8)
    gray = Image.fromarray(255 - shown if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else shown)
    if "transparency" in image.info:  # the one level that is transparent
        opaque = levels != image.info["transparency"]
        gray.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return gray


def _whites(image: Image.Image, tags: Mapping[int, Any]) -> tuple[int, ...]:
    """The levels that may be white: one, where the format says how many bits a level has."""
    if tags:
        signed = tags.get(ExifTags.Base.SampleFormat, (1,))[0] == 2
        bits = tags[ExifTags.Base.BitsPerSample][0] - signed
    else:  # Pillow keeps 16 bits of a PGM, and before version 11 of a PNG, in 32
        kept = image.mode == "I" and image.format in ("PNG", "PPM")
        bits = 16 if kept or image.mode.startswith("I;16") else 32
    return (2**bits - 1,) if bits <= 16 else (1, 255, 65535)


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    """`rgb`, turned as `image` says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged parts that nobody asks for
            turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # metadata that cannot be read says nothing of how the image lies
        return rgb
    return rgb if turn is None else rgb.transpose(turn)


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


class _Task(NamedTuple):
    """One step's work: rows, the views planned for them, and whether the reader makes them."""

    rows: np.ndarray
    planned: dict[str, ViewParameters]
    make: bool = False


class _Batch(NamedTuple):
    """What was read: the images of the readable rows, or already their views."""

    images: Tensor
    rows: Tensor
    planned: dict[str, ViewParameters]
    views: dict[str, Tensor]
    problems: dict[int, Exception]


@dataclass(frozen=True)
class _Reader(Dataset):
    """Reads whole steps from disk; all that a worker process needs to know."""

    images: Images

    def __getitem__(self, task: _Task) -> _Batch:
        pixels = torch.empty(len(task.rows), 3, *self.images.size, dtype=torch.uint8)
        kept: list[int] = []
        problems: dict[int, Exception] = {}
        for at, row in enumerate(task.rows.tolist()):
            try:
                pixels[len(kept)] = self.images.load(row)
                kept.append(at)
            except (ValueError, OSError) as error:
                problems[row] = error
        read = _batch(pixels[: len(kept)], task, np.array(kept, np.int64), problems)
        if not task.make:
            return read
        return read._replace(images=pixels.new_empty(0), views=view_module.made(read.images, read.planned))


def _batch(pixels: Tensor, task: _Task, kept: np.ndarray, problems: dict[int, Exception]) -> _Batch:
    planned = {name: drawn.select(kept) for name, drawn in task.planned.items()}
    return _Batch(pixels, torch.from_numpy(task.rows[kept]), planned, {}, problems)


def _from_memory(images: Images, task: _Task, pin: bool) -> _Batch:
    assert images.pixels is not None
    kept = np.flatnonzero(~np.isin(task.rows, list(images.skipped)))
    pixels = torch.empty(len(kept), 3, *images.size, dtype=torch.uint8, pin_memory=pin)
    torch.index_select(images.pixels, 0, torch.from_numpy(task.rows[kept]), out=pixels)
    return _batch(pixels, task, kept, {})


def train_batches(
    images: Images,
    batches: Iterable[Sequence[int]],
    views: str,
    *,
    seed: int,
    epoch: int,
    workers: int = 0,
    device: torch.device | str | None = None,
    share: slice = slice(None),
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """One epoch's training batches: views by name (`views.names`), (B, 3, H, W) uint8, and their rows (B,).

    `batches` may be lazy: it is taken at most a few steps ahead. Views are drawn per (seed, epoch, step) for
    all rows of the step, whatever `workers`. `share` prepares only those rows of each step: a rank's part,
    with the very views the whole step would have. `device` is where the views arrive (None: the CPU).
    """
    drawn = _planned(batches, views, images, seed, epoch, share)
    where = torch.device(device or "cpu")
    # On a GPU the views take no time; on a CPU the workers make them, while the next step runs.
    tasks = (_Task(rows, planned, make=where.type == "cpu") for rows, planned in drawn)
    return _arrived(_read(images, tasks, workers, where, _length(batches)), where)


def _planned(
    batches: Iterable[Sequence[int]], views: str, images: Images, seed: int, epoch: int, share: slice
) -> Iterator[tuple[np.ndarray, dict[str, ViewParameters]]]:
    view_module.names(views)
    checked = _checked(batches, len(images))

    def steps() -> Iterator[tuple[np.ndarray, dict[str, ViewParameters]]]:
        for step, rows in enumerate(checked):
            generator = view_module.generator_of(seed, epoch, step)
            planned = view_module.plan(views, len(rows), images.size, generator)
            mine = np.arange(len(rows))[share]
            yield rows[mine], {name: drawn.select(mine) for name, drawn in planned.items()}

    return steps()


def _arrived(read: Iterator[_Batch], where: torch.device) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    for batch in read:
        views = batch.views or view_module.made(send(batch.images, where), batch.planned)
        yield views, batch.rows


def batches(
    images: Images,
    row_lists: Iterable[Sequence[int] | np.ndarray],
    *,
    workers: int = 0,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The original images of each list of rows: (B, 3, H, W) uint8 and the rows (B,), in order.

    They stay on the CPU: `device` is where they will go, and if that is a GPU they lie in pinned memory.
    """
    tasks = (_Task(rows, {}) for rows in _checked(row_lists, len(images)))
    read = _read(images, tasks, workers, torch.device(device or "cpu"), _length(row_lists))
    return ((batch.images, batch.rows) for batch in read)


def chunks(
    images: Images,
    rows: Int[np.ndarray, " n"],
    size: int,
    *,
    workers: int = 0,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The original images of `rows`, `size` at a time, for feature extraction; memory O(size).

    `device` as in `batches`.
    """
    if size < 1:
        raise ValueError(f"the chunk size must be at least 1, got {size}")
    lists = [rows[at : at + size] for at in range(0, len(rows), size)]
    return batches(images, lists, workers=workers, device=device)


def _checked(lists: Iterable[Sequence[int] | np.ndarray], count: int) -> Iterable[np.ndarray]:
    """Rows as arrays: what is there already is looked at now, what comes later when it comes."""
    arrays = (_rows(rows, count) for rows in lists)
    return list(arrays) if isinstance(lists, Sequence) else arrays


def _rows(rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(rows, np.int64)
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise ValueError(
            f"rows {array.min()} to {array.max()} asked of a table of {count}: it is another table's"
        )
    return array


def _length(steps: Iterable[Any]) -> int | None:
    return len(steps) if isinstance(steps, Sized) else None


def _read(
    images: Images, tasks: Iterator[_Task], workers: int, where: torch.device, count: int | None
) -> Iterator[_Batch]:
    """The batches of some tasks, in order; at most a few tasks are taken ahead of what was asked for."""
    pin = where.type == "cuda"
    if images.pixels is not None:
        for task in tasks:
            yield _from_memory(images, task, pin)
        return
    # A single step has nothing to be read ahead of it.
    number = 0 if count is not None and count < 2 else min(workers, cores())
    reader = _Reader(replace(images, pixels=None))
    made = _by_workers(images, reader, tasks, number, pin) if number else (reader[task] for task in tasks)
    for batch in made:
        images.settle(batch.problems)
        yield batch


def _by_workers(
    images: Images, reader: _Reader, tasks: Iterator[_Task], number: int, pin: bool
) -> Iterator[_Batch]:
    """By the workers kept for these images; by others where those are at work for another iteration."""
    kept = images.workers
    if kept is not None and kept.busy:
        others = _Workers(reader, number, pin)
        try:
            yield from others.read(tasks)
        finally:
            others.close()
        return
    if kept is None or not kept.usable() or kept.number < number or (pin and not kept.pin):
        images.close()
        kept = images.workers = _Workers(reader, number, pin)
    yield from kept.read(tasks)


class _Workers:
    """Processes that read steps, for one iteration at a time and any number of them.

    They never touch a GPU, so that forking beside an initialized one is safe; an LMDB is opened by each.
    """

    def __init__(self, reader: _Reader, number: int, pin: bool):
        self.number, self.pin, self.busy, self.closed = number, pin, False, False
        self._feed = _Feed()
        self._loader = DataLoader(
            reader,
            batch_size=None,  # a task is a whole batch
            sampler=self._feed,
            num_workers=number,
            collate_fn=_as_is,
            pin_memory=pin,
            persistent_workers=True,
            prefetch_factor=2,
            # Of its own: the loader draws a seed from it and must leave torch's global one alone.
            generator=torch.Generator().manual_seed(0),
        )

    def read(self, tasks: Iterator[_Task]) -> Iterator[_Batch]:
        """The batches of the tasks, in order. After any error the processes are ended."""
        self.busy, self._feed.tasks = True, tasks
        try:
            with warnings.catch_warnings():
                # Workers have no thread pool of their own: forking beside torch's threads is safe here, and
                # `dynamix.forks` has a thread that plans batches rest meanwhile.
                warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
                iterator = iter(self._loader)
            yield from iterator
        except GeneratorExit:
            raise  # abandoned: what is still on its way is dropped when the next iteration starts
        except BaseException as error:
            lost = isinstance(error, EOFError | ConnectionError) or not self.usable()
            self.close()
            if lost and isinstance(error, Exception):
                raise RuntimeError(
                    "a worker process reading images was ended, perhaps for want of memory: use fewer workers"
                ) from error
            raise
        finally:
            self.busy, self._feed.tasks = False, iter(())

    def usable(self) -> bool:
        """Whether nothing ended them, or one of them."""
        iterator: Any = self._loader._iterator
        return not self.closed and (iterator is None or all(w.is_alive() for w in iterator._workers))

    def close(self) -> None:
        """End the processes."""
        iterator: Any = self._loader._iterator
        self.closed, self._loader._iterator = True, None
        if iterator is not None:
            iterator._shutdown_workers()


class _Feed(Sampler):
    """The tasks of the iteration at hand, taken only as the workers come to them."""

    tasks: Iterator[_Task] = iter(())

    def __iter__(self) -> Iterator[_Task]:
        return self

    def __next__(self) -> _Task:
        return next(self.tasks)


def cores() -> int:
    """Cores this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_is(item: Any) -> Any:
    return item
