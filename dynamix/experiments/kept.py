"""Results as they are kept: a small file of each run, looked through before a table shows it.

Why a run failed stands in its folder, until it succeeds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamix import disk
from dynamix.config import Config, change, from_json
from dynamix.experiments import records
from dynamix.experiments.spec import Spec
from dynamix.experiments.tables.kinds import Result

FAILURE = "failure.txt"  # in a run's folder


def keep(spec: Spec, result: Result, results: Path) -> Result:
    """Write the small form of a result into `results`, and return it."""
    small = compact(result)
    disk.write_text(results / f"{spec.key}.json", json.dumps(small, separators=(",", ":")) + "\n")
    return small


def compact(result: Result) -> Result:
    """A result without what no table shows: curves rounded, no detail of every epoch."""
    kept = {name: value for name, value in result.items() if name not in ("epochs", "name")}
    return kept | {"epochs": [_point(line) for line in result["epochs"]]}


def _point(line: Mapping[str, Any]) -> dict[str, Any]:
    point: dict[str, Any] = {"epoch": line["epoch"], "loss": round(line["terms"]["total"], 4)}
    if "quality_after" in line:
        point["f1"] = round(line["quality_after"]["f1"], 4)
    if "scores" in line:
        point["mAP"] = {world: round(scores["mAP"], 4) for world, scores in line["scores"].items()}
    return point


def found(spec: Spec, results: Path) -> Result | None:
    """The result of a run; None where there is none, or not on all worlds that are asked for."""
    path = results / f"{spec.key}.json"
    if not path.exists():
        return None
    result = records.read(path)
    return result if set(spec.score_on) <= set(result["scores"]) else None


def check_files(results: Path, profile_name: str) -> None:
    """Refuse results that these settings did not make: shown beside others they would mislead."""
    for path in sorted(results.glob(f"{profile_name}-*.json")) if results.is_dir() else ():
        result = records.checked(path)
        if result["key"] != path.stem:
            raise ValueError(f"{path} holds the result of {result['key']}: rename it, or delete it")
        try:
            config = from_json(json.dumps(result["config"]))
            key = _spec_in(result, config).key
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no result of a run ({error}): delete it, and reproduce runs it again"
            ) from error
        if key != path.stem:
            raise ValueError(
                f"{path} was made with another version of the settings (these make {key}): "
                "delete it, and reproduce runs it again"
            )


def _spec_in(result: Result, config: Config) -> Spec:
    """The run that a result says it is of; folder and weights as far as its key tells."""
    if result["start"] == "pretrained" and "-moco" in result["key"]:
        config = change(config, encoder__weights="")
    real = "-w" not in result["key"].removeprefix(config.profile)
    return Spec(
        name="", config=config, labels=result["labels"], sources=tuple(result["sources"]),
        single=tuple(result["single"]), start=result["start"], folder=Path() if real else None,
        weights=Path() if "-moco" not in result["key"] else None,
    )  # fmt: skip


def failed(home: Path, why: str) -> None:
    """Remember in a run's folder that it failed; "" forgets it."""
    path = home / FAILURE
    if why:
        disk.write_text(path, f"{why}\n")
    else:
        path.unlink(missing_ok=True)


def failure(home: Path) -> str:
    """Why a run failed when it ran last; "" where it did not."""
    path = home / FAILURE
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
