"""The ten random splits of PRID2011, VIPeR and iLIDS, shipped as files that are checked when read.

Only GRID comes with official splits; every laboratory drew its own for the other three. These are drawn once
(`generate`), so that all results of this package are on the same people. A split is an order of all person
numbers: the first half of those on disk trains, the rest is the test. So it also divides an incomplete copy.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from dynamix.data import folders

SPLITS = ("train", "query", "gallery", "all")
TRIALS = 10
# VIPeR's 632 people are numbered 0 to 873 with gaps: an order of all numbers of three digits has them all.
PEOPLE = {"prid": range(1, 201), "viper": range(1000), "ilids": range(1, 120)}
STEPS = 1000  # a draw of k picks the image at the fraction k / STEPS of a person's images
FOLDER = Path(__file__).parent.parent / "splits"
SHA256 = {
    "prid": "c7412931a5adbcb6421e58c1578b834c90dfed92345d796411d004a441ee56c6",
    "viper": "b57c2646e2082d9ffa36a41b934ef34613f9edc98b75078337f42ba0c576fe42",
    "ilids": "5a45ba225af3b56a05de380a28935f84e10b5becc0e7c5f2c08ca65bc50a994f",
}


def generate(name: str) -> str:
    """The text of `splits/<name>.json`: ten orders of all person numbers; for iLIDS two draws per person too.

    Uses the generator's raw bits, which numpy keeps forever; its `permutation` may draw differently one day.
    """
    people = np.array(PEOPLE[name])
    content: dict[str, list[Any]] = {"order": []} | ({"draws": []} if name == "ilids" else {})
    for split_id in range(TRIALS):
        bits = np.random.PCG64([split_id, *name.encode()])
        order = np.argsort(bits.random_raw(len(people)), kind="stable")
        content["order"].append(people[order].tolist())
        if "draws" in content:
            content["draws"].append((bits.random_raw((len(people), 2)) % STEPS).tolist())
    lines = [
        f'"{key}":[\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
        for key, rows in content.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def shipped(name: str) -> dict[str, list[Any]]:
    """What `generate` made, from the file; raises on a missing or changed file."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install dynamix again")
    text = path.read_text(encoding="utf-8")  # and not bytes: git may have changed the line ends
    if hashlib.sha256(text.encode()).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} was changed, so results would compare with nobody's: install dynamix again")
    return json.loads(text)


def check(source: str, split: str, split_id: int) -> None:
    """Raise ValueError unless the dataset has this split and split_id."""
    folders.check_split(source, split, SPLITS)
    if not 0 <= split_id < TRIALS:
        raise ValueError(f"{source} has split_id 0 to {TRIALS - 1}, got {split_id}")


def divide(name: str, split_id: int, present: Collection[int]) -> tuple[set[int], set[int]]:
    """The people of train and of test; all of the published set gives 100/100, 316/316 or 59/60."""
    order = [pid for pid in shipped(name)["order"][split_id] if pid in present]
    if len(order) < 2:
        raise ValueError(
            f"{name}: a split into train and test needs two people, found {len(order)}: "
            "copy the dataset's images there"
        )
    half = len(order) // 2
    return set(order[:half]), set(order[half:])


def two_of(count: int, draws: list[int]) -> tuple[int, int]:
    """The places of two different ones of `count` >= 2 images, as the two draws of 0 to STEPS - 1 tell."""
    query, gallery = draws[0] * count // STEPS, draws[1] * (count - 1) // STEPS
    return query, gallery + (gallery >= query)


def note(split: str, split_id: int, *counts: tuple[int, int, str], kind: str = "split") -> str:
    """Which part of the dataset it is; counts (on disk, published, of what) are told where they differ."""
    part = split if split == "all" else f"{split}, {kind} {split_id}"
    differ = [
        f"{have} of {published} {what} on disk" for have, published, what in counts if have != published
    ]
    return ", ".join([part, *differ])
