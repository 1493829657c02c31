"""`dynamix demo`: the method's claim on the embedded benchmark, in one table and a few pictures.

Four runs: multi-camera data alone, the same at DynaMix's batch size (the fair control), with videos
under the tracker's raw labels, and full DynaMix. Trained on plaza and videos, reported on station and
hall, which no run has seen and on which nothing is chosen.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamix import disk
from dynamix.config import change, profile
from dynamix.data.mannequins import worlds
from dynamix.experiments import figures
from dynamix.experiments.records import read, write
from dynamix.experiments.rows import METHODS, TITLES, variant
from dynamix.experiments.run import run_all
from dynamix.experiments.spec import TEST_WORLDS, Spec

Result = dict[str, Any]


def specs(profile_name: str, seeds: Sequence[int]) -> list[Spec]:
    """Every run of the demo."""
    return [
        Spec(name=f"{method} (seed {seed})", config=change(variant(profile(profile_name), method), seed=seed))
        for seed in seeds
        for method in METHODS
    ]


def demo(
    profile_name: str = "mini",
    seeds: Sequence[int] = (0,),
    *,
    out: Path = Path("figures/demo"),
    runs: Path = Path("runs"),
    jobs: int | None = None,
    record: Path | None = None,
) -> Result:
    """Build the worlds, train, evaluate, print the tables, draw the pictures; returns what it found.

    `record` keeps the results in a file of their own as well. Raises RuntimeError after everything else is
    written when a run failed, naming it.
    """
    began = time.perf_counter()
    if not seeds:
        raise ValueError("--seeds is empty: name training seeds, as --seeds 0 1 2")
    seeds = tuple(dict.fromkeys(seeds))
    for folder in (out, runs):
        disk.check_folder(folder)
    if record is not None:
        disk.check_file(record)
    config = profile(profile_name)
    print(f"1/3  the embedded benchmark ({profile_name} profile): drawn once, then cached")
    roots = worlds.build(config.mannequins, worlds=("plaza", "videos", *TEST_WORLDS))
    for path in figures.of_worlds(config, roots, out):
        print(f"     look: {path}")
    asked = specs(profile_name, seeds)
    print(f"2/3  training {len(asked)} runs; they resume if interrupted")
    found: dict[tuple[str, int], Result] = {}
    failed: dict[str, str] = {}
    for spec, result in run_all(asked, runs, jobs=jobs):
        if isinstance(result, BaseException):
            failed[spec.name] = f"{type(result).__name__}: {result}"
        else:
            found[spec.name.split(" (")[0], spec.config.seed] = result
    print("3/3  results\n")
    text = tables(found, failed, profile_name)
    print(text)
    disk.write_text(out / "results.md", text)
    summary = summarize(found, failed, profile_name)
    write(out / "results.json", summary)
    if record is not None:
        write(record, summary)
    if not failed:
        for path in figures.of_results(config, found, roots, runs, out):
            print(f"look: {path}")
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes; tables and pictures are in {out}/")
    trained = [
        runs / spec.key for spec in asked if spec.name.startswith("DynaMix") and spec.name not in failed
    ]
    if trained:
        print(f"search with what was trained: dynamix search {trained[0]}   (also: evaluate, export)")
    if failed:
        raise RuntimeError("; ".join(f"run {name!r} failed: {why}" for name, why in failed.items()))
    return summary


def summarize(found: dict[tuple[str, int], Result], failed: dict[str, str], profile_name: str) -> Result:
    """What the recorded results file holds: every run's scores and label quality, nothing selected."""
    keep = ("scores", "quality_before", "quality_after", "seconds", "epochs", "provenance")
    runs = [
        {"method": method, "seed": seed, **{name: result[name] for name in keep}}
        for (method, seed), result in sorted(found.items())
    ]
    return {"benchmark": "Mannequins", "profile": profile_name, "runs": runs, "failed": failed}


def recorded(path: Path) -> dict[tuple[str, int], Result]:
    """The runs of a results file, by method and seed."""
    return {(run["method"], run["seed"]): run for run in read(path)["runs"]}


def tables(found: dict[tuple[str, int], Result], failed: dict[str, str], profile_name: str) -> str:
    """Retrieval and pseudo-label tables as Markdown; percent, mean ± std over seeds."""
    seeds = sorted({seed for _, seed in found})
    lines = [
        f"Retrieval on Mannequins worlds never trained on ({profile_name} profile, seeds {seeds}), percent:",
        "",
        "| trained on plaza | " + " | ".join(f"{w} rank-1 | {w} mAP" for w in TEST_WORLDS) + " | mean mAP |",
        "|---|" + "---|" * (2 * len(TEST_WORLDS) + 1),
    ]
    for method in METHODS:
        results = [found[method, seed] for seed in seeds if (method, seed) in found]
        lost = [why for name, why in failed.items() if name.split(" (")[0] == method]
        cells = retrieval_cells(results) if results else ["failed"] * (2 * len(TEST_WORLDS) + 1)
        lines.append(f"| {TITLES[method]} | " + " | ".join(cells) + " |" + (f" {lost[0]}" if lost else ""))
    full = [found["DynaMix", seed] for seed in seeds if ("DynaMix", seed) in found]
    return "\n".join([*lines, "", *label_lines(full)]) + "\n"


def retrieval_cells(results: Sequence[Result], score_on: Sequence[str] = TEST_WORLDS) -> list[str]:
    """rank-1 and mAP per test world, then the mean mAP."""
    cells = [
        spread([100 * r["scores"][world][metric] for r in results])
        for world in score_on
        for metric in ("rank1", "mAP")
    ]
    return [*cells, spread([100 * mean_map(r) for r in results])]


def mean_map(result: Result) -> float:
    """Mean mAP over the reported worlds; over what a run was scored on, where none of them is among it."""
    scores = result["scores"]
    shown = [world for world in TEST_WORLDS if world in scores] or list(scores)
    return statistics.mean(scores[world]["mAP"] for world in shown)


def label_lines(results: Sequence[Result]) -> list[str]:
    """The pseudo-label table: against true identities, before and after the Relabeling Module."""
    if not results:
        return []
    names = {"precision": "precision", "recall": "recall", "f1": "F1", "v_measure": "V-measure"}
    names |= {"junk_removed": "junk removed", "good_removed": "good removed"}
    lines = [
        "Pseudo-labels of the videos against the true identities (pairwise), percent:",
        "",
        "| labels | " + " | ".join(names.values()) + " | PIDs |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for title, when in (("the tracker's", "quality_before"), ("after relabeling", "quality_after")):
        cells = [spread([100 * r[when][name] for r in results]) for name in names]
        pids = spread([float(r[when]["pids"]) for r in results], digits=0)
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {pids} |")
    return lines


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`mean ± std` over seeds (the sample's), or the one value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
