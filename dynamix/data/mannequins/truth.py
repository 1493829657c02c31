"""What is known of every drawn image and never of a real one: its true identity, in `truth.npz`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dynamix.data.table import Table

TRUTH = "truth.npz"
SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class Truth:
    """What is known of N drawn images, ascending by name; -1 where a column does not apply."""

    names: np.ndarray  # (N,) base names of files, or LMDB keys
    identity: Int[np.ndarray, " N"]  # who it is, unique in the world, distractors included; -1 = junk
    camera: Int[np.ndarray, " N"]  # from 0; multi-camera worlds only
    clip: Int[np.ndarray, " N"]  # from 0; videos only
    split: Int[np.ndarray, " N"]  # index into SPLITS
    junk: Int[np.ndarray, " N"]  # 0 = a whole person, else the kind, see `tracker`
    azimuth: Float[np.ndarray, " N"]  # radians; 0 = faces the camera

    def of(self, table: Table) -> Int[np.ndarray, " rows"]:
        """The true identity of every row of a world's table; -1 = junk. Foreign rows raise ValueError."""
        wanted = np.array([path.rsplit("::", 1)[-1].rsplit("/", 1)[-1] for path in table.paths])
        found = np.searchsorted(self.names, wanted).clip(max=len(self.names) - 1)
        wrong = np.flatnonzero(self.names[found] != wanted)
        if len(wrong):
            raise ValueError(
                f"{table.paths[int(wrong[0])]} is not in this world's {TRUTH}: give its own world"
            )
        return self.identity[found]


def truth(root: str | Path) -> Truth:
    """Read the truth beside a world; raises FileNotFoundError where there is none."""
    path = Path(root) / TRUTH
    if not path.is_file():
        raise FileNotFoundError(
            f"no {TRUTH} in {root}: only Mannequins worlds have one, see `dynamix worlds`"
        )
    with np.load(path, allow_pickle=False) as columns:
        return Truth(**{field.name: columns[field.name] for field in dataclasses.fields(Truth)})


def ascending(known: Truth) -> dict[str, Any]:
    """Its columns, in ascending order of name."""
    order = np.argsort(known.names)
    return {field.name: getattr(known, field.name)[order] for field in dataclasses.fields(Truth)}
