"""Which datasets lie under a folder: those that `find` tells readers and training of, each read."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from dynamix.data import DATASETS, WORLDS, find
from dynamix.data.folders import CLUTTER
from dynamix.data.mannequins.reader import layout
from dynamix.data.mannequins.truth import TRUTH  # beside every drawn world and beside no real dataset
from dynamix.data.stores import LOCATOR
from dynamix.data.table import Table

DRAWN = (*WORLDS, "videos")  # the Mannequins worlds
MERGED = {"msmt17_merged": "msmt17"}  # the same files under a second name
FAMILIES = {**MERGED, "cuhk03_labeled": "cuhk03_detected"}  # in one folder


@dataclass(frozen=True)
class Copy:
    """A dataset on disk: tables of the splits that could be read, errors of the others, images left out."""

    name: str
    layout: str  # the dataset whose layout and numbering it follows: another one for a Mannequins world
    folder: Path  # that holds its images, or the file they come from
    tables: dict[str, Table] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    refused: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)  # how many, and which
    several: str = ""  # why training does not choose among this copy and others

    @property
    def damaged(self) -> bool:
        """Whether there is something that cannot be read, rather than nothing."""
        return any(not isinstance(error, FileNotFoundError) for error in self.errors.values())


def discover(root: Path, names: Sequence[str], progress: bool = False) -> tuple[list[Copy], list[str]]:
    """Every copy of the datasets `names` in or under `root`, and the folders there that are no dataset.

    A folder that is called like a dataset, of which there is no other copy, and cannot be read is a copy
    without tables. Raises FileNotFoundError without `root`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: give the one that holds your datasets")
    tried: list[Copy] = []
    for name in tqdm(names, desc="reading names", unit="dataset", leave=False, disable=not progress):
        places = find.places(DATASETS[name].home, root)
        held = [place.folder for place in places if place.fit >= find.PART]
        tried += [_read(name, folder) for folder in dict.fromkeys(held or _named(places))]
    found = _settle([copy for copy in tried if copy.tables], root)
    found += _broken([copy for copy in tried if not copy.tables], found, root)
    found = _several(sorted(found, key=lambda copy: (names.index(copy.name), str(copy.folder))), root)
    if any(_same(copy.folder, root) for copy in found):
        return found, []  # its own folders are no datasets
    others = [name for name in DATASETS if name not in names and name not in DRAWN]
    return found, [
        child.name
        for child in sorted(root.iterdir())
        if child.is_dir()
        and not CLUTTER.fullmatch(child.name)
        and not any(_within(copy.folder, child) for copy in found)
        and not any(DATASETS[name].home.called(child) for name in others)
    ]


def _named(places: Sequence[find.Place]) -> list[Path]:
    return [place.folder for place in places if place.named]


def _several(found: list[Copy], root: Path) -> list[Copy]:
    """The copies; the first of each dataset says so where training, given `root`, would refuse to choose."""
    for name in {copy.name for copy in found if copy.tables and copy.name not in MERGED}:
        try:
            find.find(name, DATASETS[name].home, root)
        except ValueError as error:
            at = next(number for number, copy in enumerate(found) if copy.name == name)
            found[at] = replace(found[at], several=str(error).removeprefix(f"{name}: "))
        except FileNotFoundError:  # a world, which training finds by its folder's name
            continue
    return found


def _read(name: str, place: Path) -> Copy:
    copy = Copy(name, _layout(name, place), place)
    tested = "query" in DATASETS[copy.layout].splits
    for split in ("train", "query", "gallery") if tested else ("all",):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                copy.tables[split] = DATASETS[name].read(place, split, on_bad_image="skip")
            except Exception as error:  # whatever a broken copy raises is one row of the report
                copy.errors[split] = error
        for warning in caught:
            if counted := re.search(r"skipped (\d+) ", str(warning.message)):
                first = str(warning.message).partition("first: ")[2]
                which = getattr(warning.message, "problems", (first,))
                copy.refused[split] = int(counted[1]), tuple(which)
    if not copy.tables:
        return copy
    held = next(iter(copy.tables.values())).paths.folders
    folder = Path(os.path.commonpath([each.removesuffix(LOCATOR) for each in held]))
    # CUHK03's raw images lie in the cache: then the folder that was given says more.
    return replace(copy, folder=folder if _within(folder, place) else place)


def _layout(name: str, place: Path) -> str:
    if name not in WORLDS:
        return "luperson_nl" if name == "videos" else name
    try:
        return layout(place)
    except ValueError:  # reading it raises the same
        return "market1501"


def _settle(copies: Sequence[Copy], root: Path) -> list[Copy]:
    """One copy per dataset and folder; a folder that several readers accept goes to the one it fits best."""
    kept: list[Copy] = []
    for copy in copies:
        drawn = any((folder / TRUTH).is_file() for folder in _between(copy.folder, root))
        if drawn and copy.name not in DRAWN:
            continue
        twin = next((other for other in kept if _twins(other, copy)), None)
        if twin:
            if len(copy.folder.parts) > len(twin.folder.parts):
                kept[kept.index(twin)] = copy
            continue
        rivals = [
            other for other in kept if _same(other.folder, copy.folder) and _family(other) != _family(copy)
        ]
        if all(_fit(copy, root) > _fit(other, root) for other in rivals):
            kept = [other for other in kept if other not in rivals] + [copy]
    return kept


def _twins(one: Copy, other: Copy) -> bool:
    """Whether the same images were read twice; those of MSMT17 and its merger are meant to be."""
    firsts = [next(iter(copy.tables.values())).paths[0] for copy in (one, other)]
    related = _family(one) == _family(other) and not {one.name, other.name} & set(MERGED)
    return (one.name == other.name or related) and os.path.realpath(firsts[0]) == os.path.realpath(firsts[1])


def _fit(copy: Copy, root: Path) -> tuple[bool, float, float]:
    """How well a folder fits a dataset: by its name, the share of images placed, the share of splits read."""
    rows, splits = sum(map(len, copy.tables.values())), len(copy.tables)
    refused = sum(count for count, _ in copy.refused.values())
    return _called(copy, root), rows / (rows + refused), splits / (splits + len(copy.errors))


def _broken(failed: Sequence[Copy], copies: Sequence[Copy], root: Path) -> list[Copy]:
    """Of what could not be read, what the folder's name says is a dataset: once per folder and family."""
    found: list[Copy] = []
    for copy in sorted(failed, key=lambda copy: not copy.damaged):  # the telling errors first
        if _same(copy.folder, root) and (copies or found):
            continue
        # Such a folder that cannot be read may be anything.
        common = find.plain(copy.folder.name) in DRAWN and not (copy.folder / TRUTH).is_file()
        family = any(_family(other) == _family(copy) for other in (*copies, *found))
        if _called(copy, root) and not common and (copy.damaged or not family):
            found.append(copy)
    return found


def _family(copy: Copy) -> str:
    return FAMILIES.get(copy.name, copy.name)


def _called(copy: Copy, root: Path) -> bool:
    """Whether the copy lies in a folder that is called like the dataset."""
    return any(DATASETS[copy.name].home.called(folder) for folder in _between(copy.folder, root))


def _between(folder: Path, root: Path) -> list[Path]:
    """`folder` and those above it, up to `root`."""
    return [each for each in (folder, *folder.parents) if each == root or root in each.parents]


def _within(folder: Path, place: Path) -> bool:
    return folder.resolve().is_relative_to(place.resolve())


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
