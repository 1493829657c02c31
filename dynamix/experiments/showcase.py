"""The pictures of the README: `python -m dynamix.experiments.showcase`, after `dynamix demo`.

What they show is chosen without looking at any result: the clip with most mistakes, in each of its
tracks the stretch with most of them, queries spread evenly.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from dynamix import checkpoint, data, evaluation, plots
from dynamix.config import Config, change, profile
from dynamix.data.mannequins import worlds
from dynamix.experiments.demo import recorded
from dynamix.experiments.figures import (
    busiest_clip,
    crops,
    embedded,
    people_sheet,
    results_bars,
    tracked_clip,
    true_tracks,
)
from dynamix.experiments.rows import TITLES, variant
from dynamix.experiments.spec import Spec, training_table

TRACKS, BOXES, QUERIES, TOP = 3, 4, 2, 3


def showcase(
    profile_name: str = "mini", seed: int = 0, runs: Path = Path("runs"), out: Path = Path("figures")
) -> None:
    """Write the README's pictures into `out`, from the demo's runs and its record there."""
    base = profile(profile_name)
    large = replace(base.mannequins, image=(256, 128), plaza=(8, 8, 1))
    clips = replace(base.mannequins, image=(128, 64), videos=(40, 4, 10))
    sheet = worlds.build(large, worlds=("plaza",))["plaza"]
    clip = worlds.build(clips, worlds=("videos",))["videos"]
    drawn = {
        "mannequins_sheet": people_sheet(sheet, large.image),
        "mannequins_clips": tracked_clip(clip, clips.image),
        "hero": hero(change(base, seed=seed), runs),
        "results": results_bars(recorded(out / "results" / "demo.json")),
    }
    for name, figure in drawn.items():
        print(plots.save(figure, out / f"{name}.png"))


def hero(config: Config, runs: Path) -> Figure:
    """Noisy tracks, what relabeling made of them, and a retrieval before and after."""
    roots = worlds.build(config.mannequins, worlds=("plaza", "videos", "station"))
    homes = {m: runs / Spec(name=m, config=variant(config, m)).key for m in ("multi only, 64", "DynaMix")}
    table, truth = training_table(Spec(name="DynaMix", config=config), roots)
    rows = busy_boxes(table.labels, truth, np.flatnonzero(table.videos >= 0), table)
    saved = checkpoint.load(homes["DynaMix"], ("epoch.",)).tensors
    query, gallery = (data.load("station", roots["station"], split) for split in ("query", "gallery"))
    shown = np.linspace(0, len(query) - 1, QUERIES + 2).astype(int)[1:-1]
    results = {}
    for name, title in (("multi only, 64", "without videos"), ("DynaMix", TITLES["DynaMix"])):
        encoder, own = checkpoint.load_encoder(homes[name])
        q, g = (embedded(encoder, own, each) for each in (query.select(shown), gallery))
        camids = query.camids[shown], gallery.camids
        ranks = evaluation.ranked_lists(q, g, query.pids[shown], gallery.pids, *camids, top=TOP)
        results[title] = (crops(gallery, own.encoder.image, ranks.index.numpy()), ranks.correct)
    return plots.hero(
        crops(table, config.encoder.image, rows),
        table.labels[rows],
        truth[rows],
        saved["epoch.labels"].numpy()[rows],
        saved["epoch.removed"].numpy()[rows],
        crops(query, config.encoder.image, shown),
        results,
        title="Videos that nobody labeled, repaired and put to use",
        note="Mannequins, the embedded benchmark; the world searched at the right was never trained on.",
    )


def busy_boxes(labels: np.ndarray, truth: np.ndarray, single: np.ndarray, table: data.Table) -> np.ndarray:
    """Rows (R, C): of the busiest clip's first tracks, the stretches with most tracker ids and junk."""
    clip = busiest_clip(table.select(single), truth[single])
    chosen = []
    for track in true_tracks(clip)[:TRACKS]:
        rows = single[clip.rows[track]]
        windows = [rows[at : at + BOXES] for at in range(len(rows) - BOXES + 1)]
        mistakes = [len(np.unique(labels[w])) + int((truth[w] < 0).any()) for w in windows]
        chosen.append(windows[int(np.argmax(mistakes))])
    return np.array(chosen)


if __name__ == "__main__":
    tyro.cli(showcase)
