"""Result files: written whole or not at all, read back with care; and what stands beside every number."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULT = "result.json"


def read(path: Path) -> dict[str, Any]:
    """A result file; a half-written or foreign one is an error naming it."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a result file ({error}): delete it and run again") from error


def write(path: Path, result: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename it: a reader never sees half a file."""
    replace_file(path, json.dumps(result, indent=1) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


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
