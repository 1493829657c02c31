"""Tables without trainings: what was counted or timed, row by row.

Timings are read from where they are kept, so that a table does not change whenever it is written.
"""

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from dynamix import data
from dynamix.config import profile
from dynamix.data.table import Table
from dynamix.experiments import datasets, records
from dynamix.experiments.tables.kinds import PaperTable, Row, Setting

Measured = dict[str, dict[str, float | int]]  # row name -> column title -> number
RESULTS = Path("figures/results")
QUERIES, GALLERY = 3_368, 15_913  # of Market-1501
DIMENSIONS = (768, 2048)
REPEATS = 5


def read(
    table: PaperTable, profile_name: str, folder: Path | None = None, results: Path = RESULTS
) -> Measured:
    """What fills a table without trainings; rows that cannot be filled here are left out."""
    if table.measured == "statistics":
        return statistics(table, profile_name, folder)
    try:
        return {"refresh": refresh, "retrieval": retrieval}[table.measured](table, results)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"the {table.measured} measurement in {results} is not whole ({error!r}): delete its file, and "
            "measure again"
        ) from error


def statistics(table: PaperTable, profile_name: str, folder: Path | None) -> Measured:
    """Images, PIDs and scenes of what is on disk: the worlds, or the real datasets in `folder`."""
    real, found = profile_name == "paper", {}
    if real and folder is None:
        return {}
    for row in table.rows:
        if row.kind == "printed":
            continue
        setting = _setting(row, real)
        if setting is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # a dataset that is not there: its row stays "not run"
            found[row.name] = _counts(setting, profile_name, folder)
    titles = {column.key: column.title for column in table.columns}
    return {
        name: {titles[key]: number for key, number in counts.items() if key in titles}
        for name, counts in found.items()
    }


def _setting(row: Row, real: bool) -> Setting | None:
    if row.data is None:
        return None
    return row.data.real if real else row.data.worlds


def _counts(setting: Setting, profile_name: str, folder: Path | None) -> dict[str, float | int]:
    (part,) = datasets.parts((*setting.sources, *setting.single))
    root = datasets.roots_of([part.name], folder, profile(profile_name))[part.name]
    splits = data.dataset(part.name).splits
    held: dict[str, Table] = {
        split: data.load(part.name, root, split) for split in ("train", "query", "gallery") if split in splits
    }
    everything = list(held.values())
    counts: dict[str, float | int] = {"images": sum(map(len, everything)), "train_images": len(held["train"])}
    if part.split == "all" and len(held) == 3:  # trained on, but for distractors
        counts["train_images"] = len(data.load(part.name, root, "all"))
    else:
        counts |= {f"{split}_images": len(held[split]) for split in ("query", "gallery") if split in held}
    counts["pids"] = counts["ids"] = _people(held)
    return counts | {"scenes": _scenes(everything)}


def _people(held: dict[str, Table]) -> int:
    """Those to train on and those to test on, who are others even where both are numbered from 0."""
    tested = set().union(*(held[split].pids.tolist() for split in ("query", "gallery") if split in held))
    if "query" in held and not (held["query"].pids == 0).any():
        tested.discard(0)  # Market-1501's distractors: nobody asks for them
    return len(np.unique(held["train"].pids)) + len(tested)


def _scenes(tables: list[Table]) -> int:
    """Cameras, or videos, each of which is a scene of its own."""
    names = [each.videos if (each.videos >= 0).any() else each.camids for each in tables]
    return len(np.unique(np.concatenate(names)))


def refresh(table: PaperTable, results: Path) -> Measured:
    """Table 6 from the benchmark of the refresh: time and memory for a twentieth of LUPerson-NL's PIDs."""
    kept = [results / f"bench.refresh.{device}.json" for device in ("cuda", "cpu")]
    path = next(filter(Path.exists, kept), None)
    found: Measured = {}
    for row in () if path is None else records.read(path)["rows"]:
        of = re.match(r"0\.05 of the PIDs, K = (\d+)", row["what"])
        memory = re.match(r"([\d.]+) GB host", row["note"])
        if of and memory and f"K={of[1]}" in {row.name for row in table.rows}:
            found[f"K={of[1]}"] = {"minutes": row["ours"] / 60, "memory": float(memory[1])}
    return found


def retrieval(table: PaperTable, results: Path) -> Measured:
    """Sec. 4.4.1: exact search in a gallery of Market-1501's size, timed once and then read."""
    path = results / "retrieval.cpu.json"
    if not path.exists():
        records.write(path, {"rows": time_search(), "provenance": records.provenance()})
    times: dict[str, float] = records.read(path)["rows"]
    slow = times[str(max(DIMENSIONS))]
    return {
        size: {"time per query": 1000 * seconds / QUERIES, "times faster": slow / seconds}
        for size, seconds in times.items()
    }


def time_search() -> dict[str, float]:
    """Embedding size -> best seconds of all queries, the sizes taking turns."""
    import faiss

    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {}
    sides = {
        size: [rng.standard_normal((n, size), dtype=np.float32) for n in (QUERIES, GALLERY)]
        for size in DIMENSIONS
    }
    indexes: dict[int, Any] = {size: faiss.IndexFlatIP(size) for size in DIMENSIONS}
    for size, (_, gallery) in sides.items():
        indexes[size].add(gallery)
    for _ in range(REPEATS):
        for size, (queries, _) in sides.items():
            began = time.perf_counter()
            indexes[size].search(queries, 50)
            taken.setdefault(str(size), []).append(time.perf_counter() - began)
    return {size: min(times) for size, times in taken.items()}
