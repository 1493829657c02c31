"""Result files: written whole or not at all, read back with care; and what stands beside every number."""

import json
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dynamix import disk

RESULT = "result.json"
KINDS: dict[str, type] = {
    "key": str, "profile": str, "seed": int, "labels": str, "start": str, "sources": list, "single": list,
    "scores": dict, "config": dict, "epochs": list, "seconds": (int, float),  # type: ignore[dict-item]
}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """A result file; a half-written or foreign one is an error naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a result file ({error}): delete it and run again") from error


def checked(path: Path) -> dict[str, Any]:
    """The result of a run, looked through: what is shown beside others must be one.

    Raises ValueError naming the file and what is wrong with it.
    """
    result = read(path)
    wrong = _wrong(result) if isinstance(result, dict) else "it holds no object"
    if wrong:
        raise ValueError(f"{path} is no result of a run ({wrong}): delete it, and reproduce runs it again")
    return result


def _wrong(result: dict[str, Any]) -> str:
    for name, kind in KINDS.items():
        if not isinstance(result.get(name), kind):
            return f"{name} is {result[name]!r}"[:80] if name in result else f"it has no {name}"
    for name in ("seed", "profile"):
        if result[name] != result["config"].get(name):
            return f"{name} is {result[name]!r}, that of its settings {result['config'].get(name)!r}"
    if not _within(result["seconds"], math.inf):
        return f"seconds is {result['seconds']!r}"
    for where, scores in result["scores"].items():
        for metric in ("rank1", "mAP", "mINP"):
            share = scores.get(metric) if isinstance(scores, dict) else None
            if not _within(share, 1.0):
                return f"{metric} on {where} is {share!r}, not a share between 0 and 1"
    if "-moco" in result["key"] and result["start"] != "pretrained":
        return f"start is {result['start']!r}, its key says that it was pretrained"
    return ""


def _within(number: object, most: float) -> bool:
    if not isinstance(number, int | float) or isinstance(number, bool):
        return False
    return math.isfinite(number) and 0 <= number <= most


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file of one JSON object a line; none without a file. Raises ValueError naming a broken line."""
    found = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ()
    for number, text in enumerate(lines, 1):
        try:
            found.append(json.loads(text))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number} is not whole ({error}): delete the folder {path.parent}, and the run "
                "begins anew"
            ) from error
    return found


def write(path: Path, result: dict[str, Any]) -> None:
    """Write JSON, whole or not at all. Raises OSError naming the file and what to do."""
    disk.write_text(path, json.dumps(result, indent=1) + "\n")


def provenance() -> dict[str, str]:
    """Commit, versions and hardware that stand beside every number."""
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True).stdout
    except OSError:  # no git on this machine
        commit = ""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()
    return {
        "commit": commit.strip() or "unknown",
        "device": device,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
