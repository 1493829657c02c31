"""Notebook 01: the six worlds in rows, a clip as delivered, videos of cameras that move and that stand."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from dynamix import data
from dynamix.data.mannequins import worlds
from dynamix.data.table import Table
from dynamix.experiments.figures import busiest_clip, crops
from dynamix.plots import datasets as plots

SHOWN, TRACKS = 5, 24  # crops of a row; tracks drawn of a kind of videos
REAL = {
    "plaza": "Market-1501",
    "campus": "DukeMTMC-reID",
    "hall": "CUHK03-NP",
    "station": "MSMT17",
    "studio": "RandPerson",
    "videos": "LUPerson-NL",
}


def seen_by(table: Table) -> Int[np.ndarray, " N"]:
    """The camera of every row; of a single-camera row its video, which is one camera."""
    return np.where(table.videos >= 0, table.videos, table.camids)


def six_worlds(
    roots: Mapping[str, Path], size: tuple[int, int], colors: Mapping[str, Float[np.ndarray, "cameras 3"]],
    texts: Mapping[str, str],
) -> Figure:  # fmt: skip
    """A person of every world in one image of each camera, and the mean `colors` of its cameras."""
    rows = []
    for name, root in roots.items():
        table = data.load(name, root, "train")
        one = np.flatnonzero(table.labels == np.bincount(table.labels).argmax())  # most images, the first
        _, first = np.unique(table.camids[one], return_index=True)
        chosen = one[first] if (table.videos < 0).all() else one
        shown = crops(table, size, chosen[:SHOWN])
        rows.append(plots.WorldRow(name, f"for {REAL[name]}", shown, colors[name], texts[name]))
    return plots.world_rows(
        rows, title="Six worlds: wherever it can be asked, another camera outweighs another person",
        note="Bars: the mean color of all that a camera saw, as high as it is bright. In videos a clip is a "
        "camera.",
    )  # fmt: skip


def delivered(videos_root: Path, size: tuple[int, int]) -> Figure:
    """The clip with most cuts and switches, as the dataset delivers it, with the truth on every box."""
    videos = data.load("videos", videos_root)
    clip = busiest_clip(videos, worlds.truth(videos_root).of(videos))
    return plots.delivered(
        crops(videos, size, clip.rows), clip.pids, clip.truth,
        title="What a dataset of videos delivers: identities, not people",
    )  # fmt: skip


def frames(videos: Table) -> Int[np.ndarray, " N"]:
    """The frame of every row, read from its key."""
    return np.array([int(path.rsplit("_", 2)[-2]) for path in videos.paths])


def two_kinds(
    kinds: Mapping[str, tuple[Path, Float[np.ndarray, " N"], str]], size: tuple[int, int]
) -> Figure:
    """Videos of either kind (root, brightness of every row's background, a line): a track, and many."""
    made = []
    for name, (root, values, text) in kinds.items():
        videos = data.load("videos", root)
        truth = worlds.truth(root).of(videos)
        tracks = np.unique(truth[truth >= 0])
        tracks = tracks[np.linspace(0, len(tracks) - 1, TRACKS).astype(int)]  # spread evenly, not chosen
        rows = np.flatnonzero(truth == tracks[1])
        rows = rows[np.argsort(frames(videos)[rows], kind="stable")]
        rows = rows[np.linspace(0, len(rows) - 1, SHOWN).astype(int)]
        drawn = np.isin(truth, tracks)
        made.append(plots.Backgrounds(name, crops(videos, size, rows), values[drawn], truth[drawn], text))
    return plots.backgrounds(
        made, title="A camera that stands still gives every track a wall of its own",
        note="Top: the boxes of one track in order of time, the same person in both. Bottom: a column is a "
        "track, a dot the brightness of the background in one of its boxes.",
    )  # fmt: skip
