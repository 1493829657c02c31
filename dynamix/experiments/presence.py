"""Which of the real datasets are there, and whether results were made on what lies there now."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynamix import data
from dynamix.data.folders import unplaced
from dynamix.experiments import datasets
from dynamix.experiments.datasets import Part
from dynamix.experiments.spec import Spec
from dynamix.experiments.tables.kinds import Result

Counts = dict[str, Any]  # of a part, as results note them


class Present:
    """The datasets under a folder, each read once, when first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[tuple[str, str], Counts | str] = {}

    def why_not(self, spec: Spec) -> str:
        """What a run lacks, as one line; "" where all that it trains on and is scored on is there.

        Raises ValueError on a dataset that is there and damaged.
        """
        sources, single = spec.trained_on
        scored = (Part(name, split) for name in spec.score_on for split in ("query", "gallery"))
        lacks = (self._look(part, spec) for part in (*sources, *single, *scored))
        return next((why for why in lacks if isinstance(why, str)), "")

    def check(self, path: Path, result: Result, spec: Spec) -> None:
        """Refuse a result of other data: a copy in part, or in miniature. Raises ValueError naming both."""
        sources, single = spec.trained_on
        here = [self._look(part, spec) for part in (*sources, *single)]
        for then, now in zip(result.get("trained_on", []), here, strict=False):
            if isinstance(now, dict) and (differs := _differs(then, now)):
                raise ValueError(
                    f"{path} was trained on another {now['source']} than lies in {self.folder} (then and "
                    f"now: {'; '.join(differs)}): give the folder of its own, or delete the result"
                )

    def _look(self, part: Part, spec: Spec) -> Counts | str:
        at = (part.name, part.split)
        if at not in self.known:
            try:
                root = datasets.roots_of([part.name], self.folder, spec.config)[part.name]
                table = data.load(part.name, root, part.split, on_bad_image=spec.config.on_bad_image)
                self.known[at] = asdict(data.statistics(table)[0]) | {"note": table.notes[0]}
            except FileNotFoundError as error:
                self.known[at] = f"{part.name} is not there ({error})"
        return self.known[at]


def _differs(then: Counts, now: Counts) -> list[str]:
    """What was other then, with both values; where the folder lies is no matter."""
    then, now = ({**counts, "note": unplaced(counts.get("note", ""))} for counts in (then, now))
    return [f"{name} {then.get(name)}, {now[name]}" for name in now if then.get(name) != now[name]]
