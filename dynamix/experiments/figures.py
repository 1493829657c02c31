"""The demo's pictures: what to show is chosen by rules that do not look at any result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dynamix import checkpoint, data, evaluation, features, plots
from dynamix.config import Config, change
from dynamix.data import images as imagery
from dynamix.data.mannequins import worlds
from dynamix.data.table import Table
from dynamix.experiments.rows import METHODS, TITLES, variant
from dynamix.experiments.spec import Spec, training_table
from dynamix.methods import dynamix as method
from dynamix.sampling import MixedBatches
from dynamix.similarity import unit

PEOPLE, TRACK, QUERIES, TOP = 8, 10, 3, 8  # people of the sheet, boxes of a track, queries, ranks shown


@dataclass(frozen=True)
class Clip:
    """The boxes of one clip in the videos world: table rows, tracker pids, true identities."""

    rows: np.ndarray
    pids: np.ndarray
    truth: np.ndarray  # -1 = junk


def of_worlds(config: Config, roots: dict[str, Path], out: Path) -> list[Path]:
    """The first pictures: people through plaza's cameras, and a clip with the tracker's mistakes."""
    size = config.mannequins.image
    return [
        _save(people_sheet(roots["plaza"], size), out / "people.png"),
        _save(tracked_clip(roots["videos"], size), out / "clip.png"),
    ]


def people_sheet(plaza_root: Path, size: tuple[int, int]) -> Figure:
    """The first people of plaza's training images, one image in every camera."""
    plaza = data.load("plaza", plaza_root, "train")
    cameras, pids = int(plaza.camids.max()) + 1, np.unique(plaza.pids)[:PEOPLE]
    rows = [
        [np.flatnonzero((plaza.pids == p) & (plaza.camids == c))[0] for c in range(cameras)] for p in pids
    ]
    return plots.sheet(
        crops(plaza, size, np.array(rows)),
        title=f"The same {len(pids)} people through {cameras} cameras: color, light and viewpoint change",
        columns=[f"camera {c + 1}" for c in range(cameras)],
    )


def tracked_clip(videos_root: Path, size: tuple[int, int]) -> Figure:
    """The people of the clip with most cuts and switches, with its mistakes marked."""
    videos = data.load("videos", videos_root)
    clip = busiest_clip(videos, worlds.truth(videos_root).of(videos))
    tracks = true_tracks(clip)
    return plots.clips(
        crops(videos, size, clip.rows[tracks]),
        clip.pids[tracks],
        clip.truth[tracks],
        title=f"One clip, {len(tracks)} people: what the tracker got wrong",
    )


def of_results(
    config: Config,
    found: dict[tuple[str, int], dict[str, Any]],
    roots: dict[str, Path],
    runs: Path,
    out: Path,
) -> list[Path]:
    """Pictures of the finished runs; those of one run show the first seed."""
    seeds = sorted({seed for _, seed in found})
    homes = {m: runs / Spec(name=m, config=change(variant(config, m), seed=seeds[0])).key for m in METHODS}
    spec = Spec(name="DynaMix", config=change(config, seed=seeds[0]))
    table, truth = training_table(spec, roots)
    drawn = {
        "results": results_bars(found),
        "curves": plots.training_curves(
            {TITLES[m]: _with_raw(found[m, seeds[0]]) for m in METHODS},
            title="Training: loss, pseudo-label quality, retrieval on unseen worlds",
        ),
        "relabeling": relabeled_clip(table, truth, homes["DynaMix"], spec.config),
        "mixed_batch": mixed_batch(table, homes["DynaMix"], spec.config),
        "ranked_lists": ranked_lists(roots["station"], homes),
    }
    return [_save(figure, out / f"{name}.png") for name, figure in drawn.items()]


def results_bars(found: dict[tuple[str, int], dict[str, Any]]) -> Figure:
    """The demo's retrieval table as bars over seeds."""
    seeds = sorted({seed for _, seed in found})
    rows = [
        {"name": TITLES[m]} | {k: [_mean(found[m, s], k) for s in seeds] for k in ("rank1", "mAP")}
        for m in METHODS
    ]
    return plots.results_bars(rows, title="Retrieval on unseen worlds (mean of station and hall)")


def crops(table: Table, size: tuple[int, int], rows: np.ndarray) -> Tensor:
    """Decoded images of `rows` (...,) as uint8 (..., 3, H, W)."""
    source = imagery.Images(table.paths, size)
    return torch.stack([source.load(int(row)) for row in rows.ravel()]).view(*rows.shape, 3, *size)


def busiest_clip(videos: Table, truth: np.ndarray) -> Clip:
    """The clip with most pairs of a tracker id and a person (the first of those): most cuts and switches."""
    whole = truth >= 0
    pairs = np.unique(np.stack([videos.videos, videos.pids, truth])[:, whole], axis=1)
    rows = np.flatnonzero(videos.videos == np.bincount(pairs[0]).argmax())
    frames = np.array([int(videos.paths[int(row)].rsplit("_", 2)[-2]) for row in rows])
    rows = rows[np.argsort(frames, kind="stable")]
    return Clip(rows, videos.pids[rows], truth[rows])


def true_tracks(clip: Clip) -> np.ndarray:
    """Positions (R, C) in `clip` of each person's first boxes, in frame order.

    A junk box goes to the person whom its tracker id mostly shows.
    """
    owner = np.full(clip.pids.max() + 1, -1)
    for pid in np.unique(clip.pids):
        people = clip.truth[(clip.pids == pid) & (clip.truth >= 0)]
        owner[pid] = np.bincount(people).argmax() if len(people) else -1
    person = np.where(clip.truth >= 0, clip.truth, owner[clip.pids])
    tracks = [np.flatnonzero(person == one) for one in np.unique(person[person >= 0])]
    length = min(TRACK, min(len(track) for track in tracks))
    return np.array([track[:length] for track in tracks])


def relabeled_clip(table: Table, truth: np.ndarray, run: Path, config: Config) -> Figure:
    """What the run's last epoch made of the busiest clip."""
    saved = checkpoint.load(run, ("epoch.",)).tensors
    after, removed = saved["epoch.labels"].numpy(), saved["epoch.removed"].numpy()
    single = np.flatnonzero(table.videos >= 0)
    clip = busiest_clip(table.select(single), truth[single])
    rows = single[clip.rows]
    return plots.relabeling(
        crops(table, config.encoder.image, rows),
        table.labels[rows], after[rows], removed[rows], truth[rows],
        title="Relabeling of one clip: filter, relabel, merge, held against the true identities",
    )  # fmt: skip


def mixed_batch(table: Table, run: Path, config: Config) -> Figure:
    """The mini-batch that would come next: the sampler on the run's final state."""
    refreshed, batches = next_epoch(table, run, config)
    batch, kinds = config.batch, {}
    rows = np.array(list(batches)[0])
    cut = batch.ids_multi * batch.images_multi
    kinds["multi"] = rows[:cut].reshape(batch.ids_multi, -1)
    kinds["single"] = rows[cut:].reshape(batch.ids_single, -1)
    pairs = torch.from_numpy(batches.pairs[0])
    assert refreshed.single is not None
    left = refreshed.multi.centroids[torch.searchsorted(refreshed.multi.labels, pairs[:, 0].contiguous())]
    met = refreshed.single.index_of(pairs[:, 1])
    similar = unit(left) @ unit(refreshed.single.centroids).T
    return plots.mixed_batch(
        crops(table, config.encoder.image, kinds["multi"]),
        crops(table, config.encoder.image, kinds["single"]),
        similar[torch.arange(len(met)), met],
        candidates=similar,
        title="A mixed mini-batch: pairs of middling similarity, neither look-alikes nor strangers",
    )


def next_epoch(table: Table, run: Path, config: Config) -> tuple[method.Refresh, MixedBatches]:
    """The refresh and the batches of the epoch after the run's last."""
    encoder, _ = checkpoint.load_encoder(run)
    state = checkpoint.state_of(checkpoint.load(run, ("state.", "memory.")), torch.device("cpu"))
    source = imagery.Images.of(table, config.encoder.image, memory_gb=config.memory_gb)

    def embed(rows: np.ndarray) -> Any:
        chunks = imagery.chunks(source, rows, 256, workers=config.workers)
        return features.extract(encoder, chunks, normalization=config.encoder.normalization)

    state, refreshed = method.refresh(state, table, embed, config, config.epochs)
    return refreshed, method.batches(state, refreshed, table, config, config.epochs)


def ranked_lists(root: Path, homes: dict[str, Path]) -> Figure:
    """Top ranks for queries spread evenly over station's, by the fair control and by DynaMix."""
    query, gallery = (data.load("station", root, split) for split in ("query", "gallery"))
    shown = np.linspace(0, len(query) - 1, QUERIES + 2).astype(int)[1:-1]
    results, size = {}, None
    for name in ("multi only, 64", "DynaMix"):
        encoder, config = checkpoint.load_encoder(homes[name])
        size = config.encoder.image
        q, g = (embedded(encoder, config, table) for table in (query.select(shown), gallery))
        ranks = evaluation.ranked_lists(
            q, g, query.pids[shown], gallery.pids, query.camids[shown], gallery.camids, top=TOP
        )
        results[TITLES[name]] = (crops(gallery, size, np.asarray(ranks.index)), np.asarray(ranks.correct))
    assert size is not None
    return plots.ranked_lists(
        crops(query, size, shown), results, title="Queries in a world never trained on, before and after"
    )


def embedded(encoder: nn.Module, config: Config, table: Table) -> Tensor:
    """Unit features (N, D) of a whole (small) table."""
    source = imagery.Images.of(table, config.encoder.image, memory_gb=config.memory_gb)
    chunks = imagery.chunks(source, np.arange(len(table)), 256, workers=config.workers)
    return features.gather(
        features.extract(encoder, chunks, normalization=config.encoder.normalization), len(table)
    ).cpu()


def _mean(result: dict[str, Any], metric: str) -> float:
    return float(np.mean([scores[metric] for scores in result["scores"].values()]))


def _with_raw(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [line | {"quality_before": result["quality_before"]} for line in result["epochs"]]


def _save(figure: Figure, path: Path) -> Path:
    plots.save(figure, path)
    return path
