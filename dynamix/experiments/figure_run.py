"""The trained run that the papers' figures show: what they need of its checkpoint is kept with the results.

`python -m dynamix.experiments.figure_run runs/KEY` keeps it: they are drawn without training.
"""

from pathlib import Path

import tyro

from dynamix import checkpoint, storage
from dynamix.experiments.spec import Spec

KEPT = Path("figures/results/figure_run")
PARTS = ("momentum.", "state.", "memory.")  # neither the trained encoder nor the optimizer


def found(spec: Spec, runs: Path, kept: Path = KEPT) -> Path | None:
    """Folder of the run's checkpoint, whole or as it is kept; None where it is in neither place."""
    for folder in (runs / spec.key, kept / spec.key):
        if (folder / checkpoint.NAME).is_file():
            return folder
    return None


def keep(run: Path, kept: Path = KEPT) -> Path:
    """Write what figures need of the checkpoint in folder `run`; returns the file.

    Raises FileNotFoundError or ValueError naming a missing or damaged checkpoint.
    """
    held = checkpoint.load(run, PARTS)
    _, metadata = storage.read(held.path, ())
    path = kept / run.name / checkpoint.NAME
    storage.write(held.tensors, path, metadata)
    return path


def main(run: tyro.conf.Positional[Path], kept: Path = KEPT) -> None:
    """Keep the checkpoint of a finished run for the figures."""
    print(keep(run, kept))


if __name__ == "__main__":
    tyro.cli(main)
