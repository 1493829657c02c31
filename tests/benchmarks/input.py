"""The input pipeline: `python tests/benchmarks/input.py [--save]`.

JPEGs of 128x64 to 400x200 in a folder and in an LMDB of LUPerson-NL's layout: decoding and resizing; all
views of a batch against the decoding of that batch, and against torchvision's transforms image by image; what
workers deliver; feature extraction end to end, and how much of its time the network runs. The parts of a
comparison alternate, so that whatever else the machine does slows both.
"""

import io
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from PIL import Image
from report import Row, options, show
from torch import Tensor, nn
from torchvision.transforms import v2

from dynamix import encoders, features
from dynamix.config import change, mini, paper
from dynamix.data import images as imagery
from dynamix.data import views
from dynamix.data.images import Images, chunks, train_batches
from dynamix.data.table import Paths, from_columns

SIZE, BATCH = (256, 128), 64


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG of a crop's size and compressibility: smooth patches and a little noise, about 12 kB."""
    share = rng.random()
    height, width = int(128 + 272 * share), int(64 + 136 * share)
    patches = Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8))
    levels = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = (levels + rng.normal(0, 8, levels.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def write(root: Path, count: int) -> None:
    """The same images as files and in `root/lmdb`."""
    rng = np.random.default_rng(0)
    (root / "files").mkdir()
    with (
        lmdb.open(str(root / "lmdb"), map_size=1 << 30) as store,
        store.begin(write=True) as writing,
    ):
        for row in range(count):
            content = photograph(rng)
            (root / "files" / f"{row:06d}.jpg").write_bytes(content)
            writing.put(f"{row:06d}".encode(), content)


def tables(root: Path, count: int) -> dict[str, Images]:
    """The files and the LMDB as images that do not fit in memory."""
    none = np.zeros(count, np.int64)
    found = {}
    for name, prefix, ending in (("files", f"{root}/files/", ".jpg"), ("LMDB", f"{root}/lmdb::", "")):
        paths = Paths.of([f"{row:06d}{ending}" for row in range(count)], prefix)
        found[name] = Images.of(from_columns(name, paths, none, camids=none), SIZE, memory_gb=0.0)
    return found


def alternating(*works: Callable[[], Any], times: int = 5) -> list[float]:
    """Seconds of the fastest call of each, taking turns."""
    took = [[] for _ in works]
    for turn in range(times + 1):
        for work, seconds in zip(works, took, strict=True):
            began = time.perf_counter()
            work()
            if turn:
                seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in took]


def transforms() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The usual pipeline of torchvision for a view, and for the original."""
    height = SIZE[0]
    augment = v2.Compose([
        v2.RandomCrop(SIZE, padding=10), v2.RandomHorizontalFlip(0.5),
        v2.RandomApply([v2.GaussianBlur(13, (0.1 * height / 256, 2.0 * height / 256))], 0.5),
        v2.RandomGrayscale(0.2),
    ])  # fmt: skip
    return augment, lambda image: image


def reading(images: dict[str, Images], count: int, workers: int) -> list[Row]:
    """Decoding and resizing: one core, then workers."""
    rows, batch = [], np.arange(BATCH)
    for name, source in images.items():
        [alone] = alternating(lambda source=source: [source.load(row) for row in batch.tolist()])
        rows.append(Row(what=f"decode and resize, {name}, one core", ours=BATCH / alone, unit="images/s"))
        every = np.tile(np.arange(count), 4)
        for _ in range(2):  # the first starts the workers
            began = time.perf_counter()
            for _ in chunks(source, every, BATCH, workers=workers):
                pass
            rate = len(every) / (time.perf_counter() - began)
        rows.append(
            Row(
                what=f"decode and resize, {name}, {workers} workers", ours=rate, unit="images/s",
                more_is_better=True, floor=BATCH / alone * min(workers, imagery.cores()),
                floor_is="cores x one core's rate",
            )
        )  # fmt: skip
        source.close()
    return rows


def making(source: Images) -> list[Row]:
    """All views of a batch, against the decoding of that batch, on one core."""
    batch = list(range(BATCH))
    levels = torch.stack([source.load(row) for row in batch])
    augment, original = transforms()
    rng, rows = np.random.default_rng(0), []

    def one_by_one() -> dict[str, Tensor]:
        made = {"v1": augment, "v2": augment, "v0": original}
        return {name: torch.stack([view(image) for image in levels]) for name, view in made.items()}

    decode, ours, theirs = alternating(
        lambda: [source.load(row) for row in batch], lambda: views.make(levels, "A", rng), one_by_one, times=9
    )
    rows.append(
        Row(
            what="all views (A) of 64 images, one core", ours=1000 * ours, unit="ms", baseline=1000 * theirs,
            against="torchvision, one by one", note=f"decoding them: {1000 * decode:.1f} ms",
        )
    )  # fmt: skip
    rows.append(
        Row(
            what="views / decoding and resizing", ours=ours / decode, unit="x", baseline=theirs / decode,
            against="torchvision's", target="<= 1",
        )
    )  # fmt: skip
    if torch.cuda.is_available():
        on_gpu = levels.cuda()
        seconds = gpu_seconds(lambda: views.make(on_gpu, "A", rng))
        rows.append(
            Row(what="all views (A) of 64 images, GPU", ours=1000 * seconds, unit="ms", baseline=1000 * ours,
                against="one core")
        )  # fmt: skip
    return rows


def training(source: Images, count: int, workers: int) -> list[Row]:
    """Batches with their views, as training takes them."""
    rng = np.random.default_rng(0)
    steps = [rng.integers(0, count, BATCH).tolist() for _ in range(24)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for epoch in range(2):
        began = time.perf_counter()
        for _ in train_batches(source, steps, "A", seed=0, epoch=epoch, workers=workers, device=device):
            pass
        rate = len(steps) * BATCH / (time.perf_counter() - began)
    source.close()
    return [Row(what=f"training batches with views (A), {workers} workers", ours=rate, unit="images/s")]


class Timed(nn.Module):
    """An encoder that adds up the seconds spent in it (on a GPU, by events)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder, self.seconds = encoder, 0.0
        self.events: list[tuple[Any, Any]] = []

    def forward(self, images: Tensor) -> Tensor:
        if not images.is_cuda:
            began = time.perf_counter()
            out = self.encoder(images)
            self.seconds += time.perf_counter() - began
            return out
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        out = self.encoder(images)
        end.record()
        self.events.append((start, end))
        return out

    def total(self) -> float:
        """Seconds in the network."""
        return self.seconds + sum(start.elapsed_time(end) for start, end in self.events) / 1000


def extraction(
    source: Images, count: int, workers: int, name: str, encoder: nn.Module, size: int
) -> list[Row]:
    """Rows to features: images per second, and the share of that time in the network."""
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = np.tile(np.arange(count), size)
    for _ in range(2):  # the first warms up
        timed = Timed(encoder.to(where))
        began = time.perf_counter()
        read = chunks(source, every, 256 if where.type == "cuda" else BATCH, workers=workers, device=where)
        for _ in features.extract(timed, read, device=where, normalization="half", amp=where.type == "cuda"):
            pass
        if where.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    source.close()
    rate, busy = len(every) / seconds, timed.total() / seconds
    return [
        Row(what=f"extraction, {name}, {workers} workers", ours=rate, unit="images/s",
            floor=len(every) / timed.total(), floor_is="the network alone", more_is_better=True),
        Row(what=f"extraction, {name}: time in the network", ours=100 * busy, unit="%"),
    ]  # fmt: skip


def gpu_seconds(work: Callable[[], Any], times: int = 20) -> float:
    """Seconds a call takes on the GPU."""
    work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / times


def networks() -> Iterator[tuple[str, nn.Module, int]]:
    """Encoders of the extraction, with how often the images are repeated."""
    small = change(mini, encoder__image=SIZE).encoder
    yield "small CNN", encoders.build(small), 2
    if torch.cuda.is_available():
        yield "ViT-B bf16", encoders.build(paper.encoder), 40


def main() -> None:
    given = options(__doc__, images=600, workers=min(16, imagery.cores()))
    root = Path(tempfile.mkdtemp())
    try:
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(root, given.images))
        writer.start(), writer.join()
        assert writer.exitcode == 0, "the images could not be written"
        images = tables(root, given.images)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker: what one core does
        rows = reading(images, given.images, given.workers) + making(images["LMDB"])
        torch.set_num_threads(threads)
        rows += training(images["LMDB"], given.images, given.workers)
        for name, encoder, times in networks():
            rows += extraction(images["LMDB"], given.images, given.workers, name, encoder, times)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        show("input", rows, save=given.save, device=device)
        if device == "cpu":
            print("  on a GPU: not run")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
