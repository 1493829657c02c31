"""Search a folder of person crops by image: an exact faiss index of unit features, which can be kept.

A `Gallery` lists the images below a folder in the order of their paths; a row is a place in that order.
Images are read and embedded a chunk at a time; only their features stay in memory, in the index.
"""

import csv
import hashlib
import json
import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from dynamix import data, disk, features
from dynamix.config import Config
from dynamix.data.folders import CLUTTER, found, is_image
from dynamix.data.images import Images, chunks, decode
from dynamix.data.mannequins import worlds
from dynamix.data.table import Paths
from dynamix.similarity import unit

INDEX, LISTING = "index.faiss", "gallery.json"
CHUNK = 256  # images embedded at a time
BLOCK = 64  # queries searched at a time
ANOTHER = "search with another image"  # what else to do than mend a query
DECIMALS = 6  # of a similarity; a network's own rounding differs that much from batch to batch
READING = 2  # of images: an index whose images were read in another way is of no use
DISPLAY = 256  # height in pixels of the crops of a picture


@dataclass(frozen=True, eq=False)
class Listing:
    """The images below a folder, sorted by path, and what tells that one of them has changed."""

    root: Path
    paths: Paths  # relative to root, which is their shared folder
    sizes: Int[np.ndarray, " N"]  # bytes
    mtimes: Int[np.ndarray, " N"]  # nanoseconds
    others: tuple[str, ...] = ()  # files that are no images Pillow reads, relative to root, sorted

    @classmethod
    def of(cls, root: Path, files: Sequence[tuple[str, int, int]], others: Sequence[str] = ()) -> "Listing":
        """From (path relative to root, bytes, time of last change) of each image."""
        sizes, mtimes = (np.array([file[k] for file in files], np.int64) for k in (1, 2))
        paths = Paths.of([file[0] for file in files], os.path.join(root, ""))
        return cls(root, paths, sizes, mtimes, tuple(others))

    @property
    def names(self) -> Iterator[str]:
        """Paths relative to root."""
        return iter(Paths(self.paths.buffer, self.paths.starts, self.paths.lengths, ("",), self.paths.within))

    def left_out(self) -> str:
        """The files that are no images, counted and the first ones named, in a line; empty without any."""
        if not self.others:
            return ""
        count, named = len(self.others), ", ".join(map(shown, self.others[:3]))
        what = "file that is no readable image" if count == 1 else "files that are no readable images"
        return f"left out: {count:,} {what}: {named}{', ...' if count > 3 else ''}"

    def changes(self, now: "Listing") -> str:
        """What differs in the same folder `now`, in words; empty when nothing does."""
        columns = ((a.sizes, a.mtimes, a.paths.lengths, a.paths.buffer) for a in (self, now))
        if all(np.array_equal(a, b) for a, b in zip(*columns, strict=True)):
            return ""
        before, after = (
            dict(zip(each.names, zip(each.sizes.tolist(), each.mtimes.tolist(), strict=True), strict=True))
            for each in (self, now)
        )
        counts = {
            "added": len(after.keys() - before.keys()),
            "gone": len(before.keys() - after.keys()),
            "changed": sum(before[name] != after[name] for name in before.keys() & after.keys()),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def list_images(folder: str | Path) -> Listing:
    """The images below `folder`, by their endings; clutter (hidden files, thumbnails of a NAS, ...) is none.

    Raises FileNotFoundError without the folder, PermissionError when a folder below it may not be looked
    into, ValueError when no image lies there.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; {found(root.parent)}: give a folder of person crops")
    files, others, visited = [], [], set()
    for home, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        here = os.stat(home)
        if (here.st_dev, here.st_ino) in visited:  # a link back to a folder above would never end
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders[:] = [name for name in folders if not CLUTTER.fullmatch(name)]
        below = "" if home == str(root) else f"{Path(home).relative_to(root).as_posix()}/"
        for name in names:
            state = _state(os.path.join(home, name)) if is_image(name) else None
            if state is not None:
                files.append((below + name, *state))
            elif not CLUTTER.fullmatch(name):
                others.append(below + name)
    if not files:
        raise ValueError(
            f"no image below {root}; {found(root)}: give a folder of person crops, as .jpg, .png or another "
            "format that Pillow reads"
        )
    return Listing.of(root, sorted(files), sorted(others))


def _refuse(error: OSError) -> None:
    """A folder that may not be read holds images that would silently be missing."""
    problem = f"cannot look into the folder {error.filename} ({error.strerror})"
    raise type(error)(f"{problem}: make it readable, or move it elsewhere") from error


def _state(path: str) -> tuple[int, int] | None:
    """Bytes and time of last change; None of what is no file (a pipe would be waited for without end)."""
    try:
        file = os.stat(path)
    except OSError:  # a broken link, no permission: an image that cannot be read
        return 0, 0
    return (file.st_size, file.st_mtime_ns) if stat.S_ISREG(file.st_mode) else None


def shown(name: str) -> str:
    """A file's name in one line of any terminal: what cannot be printed becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in name)


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a folder and the faiss index of their unit features (inner product, exact)."""

    listing: Listing
    rows: Int[np.ndarray, " n"]  # of the listing: row of each feature; without the unreadable images
    index: Any  # faiss.IndexFlatIP
    encoder: str  # fingerprint of the encoder that made the features

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def paths(self) -> Paths:
        """Path of every row."""
        return self.listing.paths

    @property
    def skipped(self) -> Int[np.ndarray, " m"]:
        """Rows that could not be read."""
        return np.setdiff1d(np.arange(len(self.paths)), self.rows)

    def search(
        self,
        features: Float[Tensor, "n D"],
        top: int = 10,
        *,
        leave_out: Int[np.ndarray, " m"] | None = None,
    ) -> tuple[Float[np.ndarray, "n top"], Int[np.ndarray, "n top"]]:
        """Cosine similarity and row of the `top` most similar images of each query, best first.

        Exact; similarities are rounded to six decimals, and equal ones stand in the order of rows.
        `leave_out` is a row that each query must not find (-1: none). Where images run out, similarity
        is -inf and row -1. Raises ValueError on another D, features that are not finite, top < 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        if features.shape[1] != self.index.d:
            raise ValueError(
                f"the gallery's features have D = {self.index.d}, the queries' {features.shape[1]}"
            )
        if not torch.isfinite(features).all():
            raise ValueError("a query's feature is not finite: look at its image, or at a diverged encoder")
        if leave_out is not None and len(leave_out) != len(features):
            raise ValueError(
                f"leave_out has {len(leave_out)} rows for {len(features)} queries: pass one for each"
            )
        queries = unit(features.detach().cpu().float()).numpy()
        similarity = np.full((len(queries), top), -np.inf, np.float32)
        rows = np.full((len(queries), top), -1, np.int64)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            for at, candidates in enumerate(self._candidates(block, top + 1), start):
                score = self.index.reconstruct_batch(candidates).astype(np.float64) @ queries[at]
                score, row = np.round(score, DECIMALS), self.rows[candidates]
                order = np.lexsort((row, -score))
                if leave_out is not None:
                    order = order[row[order] != leave_out[at]]
                best = order[:top]
                similarity[at, : len(best)], rows[at, : len(best)] = score[best], row[best]
        return similarity, rows

    def _candidates(self, queries: Float[np.ndarray, "n D"], top: int) -> Int[np.ndarray, "n k"]:
        """A superset of each query's `top`, with whatever lies within rounding of the last of them."""
        top, margin = min(top, len(self)), 10.0**-DECIMALS + self.index.d * np.finfo(np.float32).eps
        count = min(top + 32, len(self))
        while True:
            score, candidates = self.index.search(queries, count)
            if count == len(self) or (score[:, -1] < score[:, top - 1] - margin).all():
                return candidates
            count = min(2 * count, len(self))

    def row_of(self, path: str | Path) -> int:
        """The row whose file is `path` itself, -1 if it is none of the gallery's."""
        file = os.stat(path)
        same = (self.listing.sizes == file.st_size) & (self.listing.mtimes == file.st_mtime_ns)
        for row in np.flatnonzero(same).tolist():
            if os.path.exists(self.paths[row]) and os.path.samefile(self.paths[row], path):
                return row
        return -1

    def save(self, folder: str | Path) -> None:
        """Write `folder/index.faiss` and `folder/gallery.json`; the latter comes last and makes it whole.

        Raises OSError naming the file that cannot be written.
        """
        import faiss

        home = Path(os.path.expanduser(folder))
        plain = {
            "reading": READING,
            "root": str(self.listing.root.absolute()),
            "encoder": self.encoder,
            "skipped": self.skipped.tolist(),
            "paths": list(self.listing.names),
            "sizes": self.listing.sizes.tolist(),
            "mtimes": self.listing.mtimes.tolist(),
        }
        with disk.replacing(home / INDEX) as temporary, open(temporary, "wb") as file:
            (home / LISTING).unlink(missing_ok=True)
            faiss.write_index(self.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        with disk.replacing(home / LISTING) as temporary:
            temporary.write_text(json.dumps(plain))

    @classmethod
    def load(cls, folder: str | Path, root: str | Path | None = None) -> "Gallery":
        """A saved gallery; `root`: where its images lie now, if they were moved.

        Raises FileNotFoundError when there is none, PermissionError when its files may not be read,
        ValueError when they are damaged or of an earlier version.
        """
        import faiss

        home = Path(os.path.expanduser(folder))
        for name in (LISTING, INDEX):
            if not (home / name).is_file():
                raise FileNotFoundError(
                    f"no {name} in {home}: index the gallery first (index_folder, then save)"
                )
        try:
            plain = json.loads((home / LISTING).read_text())
            if plain.get("reading") != READING:
                raise ValueError("made by an earlier version, which read some images in another way")
            files = list(zip(plain["paths"], plain["sizes"], plain["mtimes"], strict=True))
            rows = np.setdiff1d(np.arange(len(files)), np.array(plain["skipped"], np.int64))
            listing = Listing.of(Path(os.path.expanduser(root or plain["root"])), files)
            with open(home / INDEX, "rb") as file:
                index = faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined]
            gallery = cls(listing, rows, index, str(plain["encoder"]))
            if not isinstance(gallery.index, faiss.IndexFlatIP) or gallery.index.ntotal != len(rows):
                raise ValueError(f"{INDEX} does not belong to {LISTING}")
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise ValueError(f"{home} is not a gallery's index ({why}): delete it and index again") from error
        return gallery

    def check(self, encoder: nn.Module, config: Config) -> None:
        """Raise ValueError unless `encoder` made this gallery's features: others cannot be compared."""
        if fingerprint(encoder, config) != self.encoder:
            raise ValueError(
                f"the index of {self.listing.root} was made by another encoder: give the run that made it, "
                "or another folder for a new index"
            )


def index_folder(
    encoder: nn.Module,
    config: Config,
    folder: str | Path,
    *,
    device: str | torch.device | None = None,
    progress: bool = False,
    on_bad_image: str = "error",
) -> Gallery:
    """Embed every image below `folder` (see `list_images`), in chunks: memory O(images x D).

    `device` defaults to the encoder's. An unreadable image raises ValueError naming it; with
    `on_bad_image="skip"` it is left out, warned about and found in `skipped`.
    """
    import faiss

    if on_bad_image not in ("error", "skip"):
        raise ValueError(f'on_bad_image must be "error" or "skip", got {on_bad_image!r}')
    listing = list_images(folder)
    policy = cast(Literal["error", "skip"], on_bad_image)
    images = Images(listing.paths, config.encoder.image, None, policy, upright=True)
    index, kept = None, []
    bar = tqdm(total=len(images), desc="indexing", unit="image", delay=1, disable=not progress)
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="skipped .* unreadable images")  # one for all, below
        for rows, chunk in _features(encoder, config, images, device):
            index = faiss.IndexFlatIP(chunk.shape[1]) if index is None else index
            index.add(chunk.cpu().float().numpy())
            kept.append(rows.numpy())
            bar.update(len(rows))
    if images.skipped:
        first = listing.paths[min(images.skipped)]
        warnings.warn(f"skipped {len(images.skipped)} unreadable images, first: {first}", stacklevel=2)
    if index is None:
        raise ValueError(f"none of the {len(images)} images below {folder} can be read")
    return Gallery(listing, np.concatenate(kept), index, fingerprint(encoder, config))


def is_kept(index: str | Path) -> bool:
    """Whether the folder `index` keeps a gallery's index."""
    home = Path(os.path.expanduser(index))
    return (home / LISTING).exists() and (home / INDEX).exists()


def open_gallery(
    encoder: nn.Module,
    config: Config,
    folder: str | Path,
    index: str | Path | None = None,
    **options: Any,
) -> tuple[Gallery, str]:
    """The gallery of `folder`, and in words where it comes from: the folder `index` keeps it, if given.

    A kept index is used again unless an image was added, changed or removed; then it is made anew.
    `options` are those of `index_folder`. Raises ValueError on an index that another encoder made or that
    is damaged, OSError when one is to be made and cannot be written; both before anything is embedded.
    """
    why = "indexed"
    index = None if index is None else Path(os.path.expanduser(index))
    if index is not None and is_kept(index):
        gallery, now = Gallery.load(index, folder), list_images(folder)
        gallery.check(encoder, config)
        changes = gallery.listing.changes(now)
        tolerated = not len(gallery.skipped) or options.get("on_bad_image") == "skip"
        if not changes and tolerated:
            return replace(gallery, listing=now), f"as kept in {index}"
        why = f"indexed again ({changes or 'with those that could not be read'})"
    if index is not None:
        disk.check_folder(index)
    gallery = index_folder(encoder, config, folder, **options)
    if index is not None:
        gallery.save(index)
    return gallery, why if index is None else f"{why} and kept in {index}"


def embed(
    encoder: nn.Module,
    config: Config,
    paths: Sequence[str | Path],
    *,
    device: str | torch.device | None = None,
) -> Float[Tensor, "n D"]:
    """Unit features of image files, in their order; one that cannot be read raises, naming it."""
    images = _queries(paths, config.encoder.image)
    return features.gather(_features(encoder, config, images, device), len(images))


def _queries(paths: Sequence[str | Path], size: tuple[int, int]) -> Images:
    files = Paths.of([os.path.expanduser(path) for path in paths])
    return Images(files, size, upright=True, otherwise=ANOTHER)


def _features(
    encoder: nn.Module, config: Config, images: Images, device: str | torch.device | None
) -> Iterator[features.Chunk]:
    workers = config.workers if len(images) > CHUNK else 0
    read = chunks(images, np.arange(len(images)), CHUNK, workers=workers)
    whole = (chunk for chunk in read if len(chunk[1]))  # unreadable images may empty one
    return features.extract(encoder, whole, device=device, normalization=config.encoder.normalization)


def fingerprint(encoder: nn.Module, config: Config) -> str:
    """Hash of the weights and of how images come to the encoder: equal where features are comparable."""
    inputs = [config.encoder.name, list(config.encoder.image), config.encoder.normalization]
    digest = hashlib.sha256(json.dumps(inputs).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a gallery answers to Q query images."""

    gallery: Gallery
    queries: tuple[Path, ...]
    similarity: Float[np.ndarray, "Q top"]
    rows: Int[np.ndarray, "Q top"]  # -1: the gallery holds no more images
    own: Int[np.ndarray, " Q"]  # the query's own row, left out of its results; -1: not in the gallery

    def parts(self, size: int) -> Iterator["Ranking"]:
        """The same for `size` queries at a time."""
        for start in range(0, len(self.queries), size):
            at = slice(start, start + size)
            columns = {name: getattr(self, name)[at] for name in ("queries", "similarity", "rows", "own")}
            yield replace(self, **columns)

    def crops(self, config: Config) -> tuple[UInt8[Tensor, "Q 3 H W"], UInt8[Tensor, "Q top 3 H W"]]:
        """Queries and what they found, for a picture, in the proportions the encoder sees; no image: 0."""
        height, width = config.encoder.image
        size = (DISPLAY, round(DISPLAY * width / height))
        asked = _queries(self.queries, size)
        held = Images(self.gallery.paths, size, upright=True)
        results = torch.zeros(*self.rows.shape, 3, *size, dtype=torch.uint8)
        for q, t in np.argwhere(self.rows >= 0).tolist():
            results[q, t] = held.load(int(self.rows[q, t]))
        return torch.stack([asked.load(q) for q in range(len(self.queries))]), results

    def names(self) -> list[list[str]]:
        """Path of every result below the gallery's folder; no image: empty."""
        start = len(self.gallery.paths.folders[0])
        return [[self.gallery.paths[row][start:] if row >= 0 else "" for row in rows] for rows in self.rows]

    def correct(self, pids: Mapping[str, int]) -> Int[np.ndarray, "Q top"]:
        """1 where a result shows the query's person, 0 where another, -1 neither: junk, which has no pid.

        `pids` are the true ones by path.
        """
        correct = np.full(self.rows.shape, -1, np.int64)
        for q, t in np.argwhere(self.rows >= 0).tolist():
            path = self.gallery.paths[self.rows[q, t]]
            correct[q, t] = pids[path] == pids[str(self.queries[q])] if path in pids else -1
        return correct

    def lines(self, queries: int = 10, top: int = 3) -> Iterator[str]:
        """The first results of the first queries, to print."""
        names = self.names()
        for q, query in enumerate(self.queries[:queries]):
            found = (f"{s:.2f} {name}" for s, name in zip(self.similarity[q], names[q], strict=True) if name)
            listed = ", ".join(islice(found, top)) or "nothing"
            yield shown(f"{query.name} -> {listed}")
        if len(self.queries) > queries:
            yield f"... and {len(self.queries) - queries} more queries"
        if (self.own >= 0).any():
            count = np.count_nonzero(self.own >= 0)
            yield f"queries that lie in the gallery, each left out of its own results: {count}"

    def write(self, path: Path) -> Path:
        """A CSV file with columns query, rank (from 1), similarity, path. Returns `path`."""
        text: Any = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
        with disk.replacing(path) as temporary, open(temporary, "w", **text) as file:
            table = csv.writer(file)
            table.writerow(["query", "rank", "similarity", "path"])
            for query, similarity, rows in zip(self.queries, self.similarity, self.rows, strict=True):
                for rank, row in enumerate(rows[rows >= 0].tolist()):
                    shown = f"{similarity[rank]:.{DECIMALS}f}"
                    table.writerow([query, rank + 1, shown, self.gallery.paths[row]])
        return path


def rank(
    gallery: Gallery,
    encoder: nn.Module,
    config: Config,
    queries: Sequence[str | Path],
    top: int = 10,
    *,
    device: str | torch.device | None = None,
) -> Ranking:
    """Search the gallery for each query image; one that is itself in the gallery does not find itself."""
    gallery.check(encoder, config)
    asked = tuple(Path(os.path.expanduser(path)) for path in queries)
    own = np.array([gallery.row_of(path) for path in asked], np.int64)
    wanted = embed(encoder, config, asked, device=device)
    return Ranking(gallery, asked, *gallery.search(wanted, top, leave_out=own), own)


def query_images(given: Sequence[str | Path]) -> list[Path]:
    """Images as given, folders as the images below them; every one is looked at, so that none fails later.

    Raises FileNotFoundError naming what is neither, OSError or ValueError naming an image that cannot be
    read. Warns of files below a folder that are no images.
    """
    images: list[Path] = []
    for path in (Path(os.path.expanduser(each)) for each in given):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"no query image {path}: name images, or folders of images") from None
        if not path.is_dir():
            images.append(path)
            continue
        listing = list_images(path)
        images += map(Path, listing.paths)
        if listing.others:
            warnings.warn(listing.left_out(), stacklevel=2)
    for image in images:
        decode(str(image), otherwise=ANOTHER)
    return images


def example(config: Config, count: int = 5) -> tuple[Path, list[Path], dict[str, int]]:
    """The embedded benchmark's station world: gallery folder, `count` queries, the true pid of each path.

    Queries are spread evenly over those there are.
    """
    root = worlds.build(config.mannequins, worlds=("station",))["station"]
    query, gallery = (data.load("station", root, split) for split in ("query", "gallery"))
    shown = np.linspace(0, len(query) - 1, count + 2).astype(int)[1:-1]
    pids = {
        path: pid
        for table in (query, gallery)
        for path, pid in zip(table.paths, table.pids.tolist(), strict=True)
    }
    return root / "bounding_box_test", [Path(query.paths[row]) for row in shown], pids
