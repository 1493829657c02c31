"""Which datasets lie under a folder: every reader is asked, and folder names are held against usual ones."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from dynamix.data import DATASETS, WORLDS
from dynamix.data.folders import CLUTTER
from dynamix.data.mannequins.reader import layout
from dynamix.data.stores import LOCATOR
from dynamix.data.table import Table

_CUHK03 = ("cuhk03-np", "cuhk03", "cuhk03_release", "cuhk03_np_detected", "cuhk03_np_labeled",
           "cuhk03_detected", "cuhk03_labeled")  # fmt: skip
_MSMT17 = ("MSMT17", "MSMT17_V1", "MSMT17_V2", "msmt", "msmt17_merged")
# Usual folder names, compared without case and punctuation.
FOLDERS: dict[str, tuple[str, ...]] = {
    "market1501": ("Market-1501-v15.09.15", "Market-1501", "market"),
    "dukemtmc": ("DukeMTMC-reID", "DukeMTMC", "duke"),
    "cuhk03_detected": _CUHK03,
    "cuhk03_labeled": _CUHK03,
    "msmt17": _MSMT17,
    "msmt17_merged": _MSMT17,
    "randperson": ("randperson_subset", "RandPerson", "subset"),
    "cuhk02": ("CUHK02",),
    "cuhk_sysu": ("CUHK-SYSU", "cuhksysu4reid"),
    "prid": ("prid2011", "prid", "prid_2011"),
    "grid": ("GRID", "underground_reid"),
    "viper": ("VIPeR", "VIPeR.v1.0"),
    "ilids": ("iLIDS", "i-LIDS_Pedestrian", "QMUL-iLIDS"),
    "luperson": ("LUPerson", "lup", "lup_lmdb"),
    "luperson_nl": ("LUPerson-NL", "lup-nl", "lupnl_lmdb"),
    **{name: (name,) for name in (*WORLDS, "videos")},
}
DRAWN = (*WORLDS, "videos")  # the Mannequins worlds
COMMON_WORDS = {"subset", *DRAWN}  # such a folder that cannot be read may be anything
TRUTH = "truth.npz"  # lies beside every drawn world and beside no real dataset
MERGED = {"msmt17_merged": "msmt17"}  # the same files under a second name


@dataclass(frozen=True)
class Copy:
    """A dataset on disk: tables of the splits that could be read, errors of the others, images left out."""

    name: str
    layout: str  # the dataset whose layout and numbering it follows: another one for a Mannequins world
    folder: Path  # that holds its images, or the file they come from
    tables: dict[str, Table] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    refused: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)  # how many, and which

    @property
    def damaged(self) -> bool:
        """Whether there is something that cannot be read, rather than nothing."""
        return any(not isinstance(error, FileNotFoundError) for error in self.errors.values())


def find(root: Path, names: Sequence[str], progress: bool = False) -> tuple[list[Copy], list[str]]:
    """Every copy of the datasets `names` in or under `root`, and the folders there that are no dataset.

    A folder that is called like a dataset and cannot be read is a copy without tables. Raises
    FileNotFoundError without `root`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: give the one that holds your datasets")
    children = sorted(
        child for child in root.iterdir() if child.is_dir() and not CLUTTER.fullmatch(child.name)
    )
    tried: list[Copy] = []
    for name in tqdm(names, desc="reading names", unit="dataset", leave=False, disable=not progress):
        for place in _places(name, root, children):
            if not any(each.name == name and each.tables and _within(each.folder, place) for each in tried):
                tried.append(_read(name, place))
    copies = _settle([copy for copy in tried if copy.tables], root)
    copies += _broken([copy for copy in tried if not copy.tables], copies, root)
    copies.sort(key=lambda copy: (names.index(copy.name), str(copy.folder)))
    if any(_same(copy.folder, root) for copy in copies):
        return copies, []  # its own folders are no datasets
    others = [name for name in DATASETS if name not in names and name not in COMMON_WORDS]
    return copies, [
        child.name
        for child in children
        if not any(_within(copy.folder, child) for copy in copies)
        and not any(_called(name, child) for name in others)
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _called(name: str, folder: Path) -> bool:
    """Whether the folder's name is one of the dataset's."""
    return _plain(folder.name) in {_plain(usual) for usual in (name, *FOLDERS[name])}


def _places(name: str, root: Path, children: Sequence[Path]) -> Iterator[Path]:
    """Where to ask the reader: first where training would, then in the folders called so."""
    if name not in DRAWN or _called(name, root):  # a world's names are Market-1501's: only its own folder
        yield root
    yield from (child for child in children if _called(name, child))


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
    folder = Path(os.path.commonpath([each.partition(LOCATOR)[0] for each in held]))
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
            other
            for other in kept
            if _same(other.folder, copy.folder) and FOLDERS[other.name] != FOLDERS[copy.name]
        ]
        if all(_fit(copy, root) > _fit(other, root) for other in rivals):
            kept = [other for other in kept if other not in rivals] + [copy]
    return kept


def _twins(one: Copy, other: Copy) -> bool:
    """Whether the same images were read twice; those of MSMT17 and its merger are meant to be."""
    firsts = [next(iter(copy.tables.values())).paths[0] for copy in (one, other)]
    related = FOLDERS[one.name] == FOLDERS[other.name] and not {one.name, other.name} & set(MERGED)
    return (one.name == other.name or related) and os.path.realpath(firsts[0]) == os.path.realpath(firsts[1])


def _fit(copy: Copy, root: Path) -> tuple[bool, float, float]:
    """How well a folder fits a dataset: by its name, the share of images placed, the share of splits read."""
    rows = sum(map(len, copy.tables.values()))
    refused = sum(count for count, _ in copy.refused.values())
    named = any(_called(copy.name, folder) for folder in _between(copy.folder, root))
    return named, rows / (rows + refused), len(copy.tables) / (len(copy.tables) + len(copy.errors))


def _broken(failed: Sequence[Copy], copies: Sequence[Copy], root: Path) -> list[Copy]:
    """Of what could not be read, what the folder's name says is a dataset: once per folder and family."""
    found: list[Copy] = []
    for copy in sorted(failed, key=lambda copy: not copy.damaged):  # the telling errors first
        named = _called(copy.name, copy.folder) and not (_same(copy.folder, root) and (copies or found))
        common = _plain(copy.folder.name) in COMMON_WORDS and not (copy.folder / TRUTH).is_file()
        family = [c for c in (*copies, *found) if FOLDERS[c.name] == FOLDERS[copy.name]]
        covered = any(_within(other.folder, copy.folder) for other in family)
        if named and not common and (copy.damaged or not covered):
            found.append(copy)
    return found


def _between(folder: Path, root: Path) -> list[Path]:
    """`folder` and those above it, up to `root`."""
    return [each for each in (folder, *folder.parents) if each == root or root in each.parents]


def _within(folder: Path, place: Path) -> bool:
    return folder.resolve().is_relative_to(place.resolve())


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
