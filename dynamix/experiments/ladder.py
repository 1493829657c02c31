"""One thing at a time: what each part does on the embedded benchmark, with its controls and upper bound.

`python -m dynamix.experiments.ladder --seeds 0 1 --clumping 0` trains what is missing and prints a table;
`--record` keeps it in figures/results/. The demo shows four of these rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from dynamix.config import Config, change, profile
from dynamix.experiments.demo import (
    label_lines,
    mean_map,
    recorded,
    retrieval_cells,
    spread,
    summarize,
)
from dynamix.experiments.records import write
from dynamix.experiments.rows import variant
from dynamix.experiments.run import run_all
from dynamix.experiments.spec import TEST_WORLDS, Spec

# Row -> settings changed; None: a row of the demo.
ROWS: dict[str, dict[str, Any] | None] = {
    "multi only": None,
    "multi only, 64": None,
    "+ raw videos": None,
    "+ Efficient Centroids": {"rm__on": False, "dsm__mode": "off"},
    "+ Data Sampling": {"rm__on": False},
    "+ Relabeling alone": {"dsm__mode": "off", "ecm__naive": True},
    "DynaMix": None,
    "DynaMix, .65/.65/.8": {"rm__tau_rel": 0.65, "rm__tau_remove": 0.65},
    "DynaMix, global scope": {"rm__scope": "global"},
    "DynaMix, static cameras": {"mannequins__moments": 1},  # every clip is one scene and one exposure
    "true identities": {"rm__on": False, "dsm__mode": "off", "ecm__naive": True},
}


def ladder(
    rows: tuple[str, ...] = tuple(ROWS),
    seeds: tuple[int, ...] = (0,),
    clumping: float | None = None,
    profile_name: str = "mini",
    score_on: tuple[str, ...] = TEST_WORLDS,
    runs: Path = Path("runs"),
    jobs: int | None = None,
    record: Path | None = None,
) -> None:
    """Train and tabulate rows of the ladder; `clumping` None keeps the profile's."""
    base = profile(profile_name)
    if clumping is not None:
        base = change(base, mannequins__clumping=clumping)
    asked = [spec(base, row, seed, score_on) for seed in seeds for row in rows]
    found, failed = {}, {}
    for each, result in run_all(asked, runs, jobs=jobs):
        row, seed = each.name.split(" (")[0], each.config.seed
        if isinstance(result, BaseException):
            failed[each.name] = repr(result)
        else:
            found[row, seed] = result
            print(f"{each.name}: {' '.join(retrieval_cells([result], score_on))}", flush=True)
    print(table(rows, seeds, found, score_on))
    for name, why in failed.items():
        print(f"failed: {name}: {why}")
    if record:
        write(record, summarize(found, failed, profile_name) | {"clumping": base.mannequins.clumping})


def spec(base: Config, row: str, seed: int, score_on: Sequence[str]) -> Spec:
    """The run behind a row."""
    changes = ROWS[row]
    config = variant(base, row) if changes is None else change(base, **changes)
    made = Spec(name=f"{row} (seed {seed})", config=change(config, seed=seed), score_on=tuple(score_on))
    return replace(made, labels="truth") if row == "true identities" else made


def table(
    rows: Sequence[str], seeds: Sequence[int], found: dict[tuple[str, int], Any], score_on: Sequence[str]
) -> str:
    """All rows as Markdown, then the pseudo-labels of each row that relabels."""
    lines = ["| row | " + " | ".join(f"{w} rank-1 | {w} mAP" for w in score_on) + " | mean mAP |"]
    lines.append("|---|" + "---|" * (2 * len(score_on) + 1))
    for row in rows:
        results = [found[row, seed] for seed in seeds if (row, seed) in found]
        if results:
            lines.append(f"| {row} | " + " | ".join(retrieval_cells(results, score_on)) + " |")
    for row in rows:
        results = [found[row, seed] for seed in seeds if (row, seed) in found]
        if results and results[0]["config"]["rm"]["on"] and results[0]["config"]["batch"]["ids_single"]:
            lines += ["", f"{row}:", *label_lines(results)[2:]]
    return "\n".join(lines)


def short_table(path: Path) -> str:
    """A recorded ladder in the README's form: mean mAP on the unseen worlds, and pseudo-label F1."""
    found = recorded(path)
    seeds = sorted({seed for _, seed in found})
    lines = [f"| row (seeds {seeds}) | mean mAP | pseudo-label F1 |", "|---|---|---|"]
    for row in ROWS:
        results = [found[row, seed] for seed in seeds if (row, seed) in found]
        quality = [r["quality_after"] for r in results if r["quality_after"]]
        f1 = spread([100 * q["f1"] for q in quality]) if quality else ""
        if results:
            lines.append(f"| {row} | {spread([100 * mean_map(r) for r in results])} | {f1} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(ladder)
