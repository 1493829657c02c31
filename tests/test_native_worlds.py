"""Each world in the layout of the dataset it stands in for: names, lists, what comes back, pixel by pixel."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynamix import data
from dynamix.data.mannequins import layouts, plan, worlds
from dynamix.data.mannequins.truth import SPLITS
from dynamix.data.table import Table
from tests.conftest import SMALL
from tests.test_mannequins_worlds import content

STAND_INS = {
    "plaza": "market1501",
    "campus": "dukemtmc",
    "hall": "cuhk03_detected",
    "station": "msmt17",
    "studio": "randperson",
}
TESTED = ("campus", "hall", "station")
# From the datasets' documentation: every image of the world, relative to its folder.
DUKE = re.compile(r"(bounding_box_train|query|bounding_box_test)/\d{4}_c[1-8]_f\d{7}\.jpg")
CUHK = re.compile(r"detected/(bounding_box_train|query|bounding_box_test)/\d{4}_c[12]_\d+\.png")
MSMT = re.compile(r"(train|test)/(\d{4})/\2_\d{3}_\d{2}_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg")
RAND = re.compile(r"subset/\d{6}_s(0\d|10)_c0[0-3]_f\d{6}\.jpg")
FORMS = {"campus": DUKE, "hall": CUHK, "station": MSMT, "studio": RAND}


# Enough people for distractors and every hour of the day.
SIZES = {
    "plaza": (6, 2, 2),
    "campus": (28, 5, 1),
    "hall": (20, 2, 2),
    "station": (24, 3, 1),
    "studio": (20, 5, 1),
}
CONFIG = replace(SMALL, image=(16, 8), **SIZES)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return worlds.write(CONFIG, tmp_path_factory.mktemp("native"), layout="native", progress=False)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return worlds.write(CONFIG, tmp_path_factory.mktemp("market"), progress=False)


def images(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.suffix in (".jpg", ".png"))


def turned(root: Path, table: Table) -> np.ndarray:
    """The azimuth of every row: a random number, so it tells which image of the plan a row is."""
    known = worlds.truth(root)
    angle = dict(zip(known.names.tolist(), known.azimuth.tolist(), strict=True))
    assert len(set(angle.values())) == len(known.names)
    return np.array([angle[Path(path).name] for path in table.paths])


def by_image(root: Path, table: Table) -> Table:
    return table.select(np.argsort(turned(root, table)))


def splits_of(world: str) -> tuple[str, ...]:
    return ("train",) if world == "studio" else SPLITS


# ---- names


@pytest.mark.parametrize("world", sorted(FORMS))
def test_images_are_named_as_the_stand_in_names_them(native, world):
    names = images(native[world])
    assert names and not [name for name in names if not FORMS[world].fullmatch(name)]
    assert len({Path(name).name for name in names}) == len(names)


@pytest.mark.parametrize("world", sorted(FORMS))
def test_images_have_the_format_their_name_says(native, world):
    for name in images(native[world])[:5]:
        with Image.open(native[world] / name) as image:
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[Path(name).suffix]
            assert image.size == CONFIG.image[::-1] and image.mode == "RGB"


def test_a_file_says_the_layout(native, market):
    for world, layout in (STAND_INS | {"videos": "luperson_nl"}).items():
        assert json.loads((native[world] / "layout.json").read_text()) == {"layout": layout}
        assert not (market[world] / "layout.json").exists()


@pytest.mark.parametrize("world", ["plaza", "videos"])
def test_worlds_whose_layout_is_native_anyway(native, market, world):
    assert {p.name for p in native[world].iterdir()} == {p.name for p in market[world].iterdir()} | {
        "layout.json"
    }
    for path in market[world].rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (native[world] / path.relative_to(market[world])).read_bytes()
    name = STAND_INS.get(world, "luperson_nl")
    assert list(data.load(world, native[world]).paths) == list(data.load(name, native[world]).paths)


# ---- what comes back


@pytest.mark.parametrize("world", sorted(STAND_INS))
def test_the_world_reads_as_the_dataset_does(native, world):
    for split in splits_of(world):
        ours = data.load(world, native[world], split)
        theirs = data.load(STAND_INS[world], native[world], split)
        assert (ours.source_names, theirs.source_names) == ((world,), (STAND_INS[world],))
        assert ours.notes == theirs.notes and list(ours.paths) == list(theirs.paths)
        for column in ("pids", "labels", "camids", "videos"):
            np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column))


@pytest.mark.parametrize("world", sorted(FORMS))
def test_what_comes_back_is_what_was_planned(native, world):
    planned = plan.multi_camera(world, CONFIG)
    kept = planned.pid > 0 if world == "studio" else planned.pid >= 0  # junk has no place, see `native`
    truth, known = planned.truth, worlds.truth(native[world])
    split = np.zeros(len(kept), int) if world == "studio" else truth.split
    wanted = Counter(
        zip(split[kept], truth.identity[kept], truth.camera[kept], truth.azimuth[kept], strict=True)
    )
    found: Counter = Counter()
    sizes = []
    for number, name in enumerate(splits_of(world)):
        table = data.load(world, native[world], name)
        columns = (known.of(table), table.camids, turned(native[world], table))
        found.update((number, *row) for row in zip(*columns, strict=True))
        sizes.append(len(table))
    assert found == wanted
    assert np.bincount(known.split).tolist() == sizes
    assert (
        len(known.names) == kept.sum() and (np.diff(np.unique(known.names, return_index=True)[1]) == 1).all()
    )
    assert (known.identity >= 0).all() and (known.junk == 0).all()


@pytest.mark.parametrize("world", sorted(FORMS))
def test_counts(native, world):
    people, cams, each = getattr(CONFIG, world)
    tests = max(2, round(people * worlds.WORLDS[world].test_share))
    counts = {split: len(data.load(world, native[world], split)) for split in splits_of(world)}
    if world == "studio":
        assert counts == {"train": (people + tests) * cams * each}
        return
    query = tests * min(plan.QUERY_CAMERAS, cams - (each == 1))
    seen = tests * cams * each - query
    gallery = seen + round(plan.DISTRACTORS * seen)
    assert counts == {"train": people * cams * each, "query": query, "gallery": gallery}
    assert len(data.load(world, native[world], "all")) == sum(counts.values())


@pytest.mark.parametrize("world", sorted(FORMS))
def test_pids_are_people(native, world):
    people, known = getattr(CONFIG, world)[0], worlds.truth(native[world])
    tables = {split: data.load(world, native[world], split) for split in splits_of(world)}
    first = {"campus": 1, "hall": 1, "station": 0, "studio": 0}[world]
    train = tables["train"]
    np.testing.assert_array_equal(train.pids, known.of(train) + first)
    if world != "studio":
        assert set(train.pids) == set(first + np.arange(people))
    for split in splits_of(world)[1:]:
        start = -people if world == "station" else first  # MSMT17's test people count from 0 again
        np.testing.assert_array_equal(tables[split].pids, known.of(tables[split]) + start)


@pytest.mark.parametrize("world", TESTED)
def test_both_layouts_pose_the_same_search(native, market, world):
    """The same images are searched among the same ones, and the same of them are right: equal scores."""
    same = []
    for root in (native[world], market[world]):
        query, gallery = (by_image(root, data.load(world, root, split)) for split in ("query", "gallery"))
        person = query.pids[:, None] == gallery.pids
        camera = query.camids[:, None] == gallery.camids
        same.append((turned(root, query), turned(root, gallery), person, camera))
    for ours, theirs in zip(*same, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("world", TESTED)
def test_distractors_are_people_of_the_gallery_alone(native, market, world):
    strangers = []
    for root in (native[world], market[world]):
        query, gallery = (data.load(world, root, split) for split in ("query", "gallery"))
        strange = gallery.select(~np.isin(gallery.pids, query.pids))
        strangers.append(Counter(worlds.truth(root).of(strange).tolist()))
        assert len(strangers[-1]) >= (2 if world == "campus" else 1)
        if root == native[world]:
            train = data.load(world, root, "train")
            assert len(set(strange.pids)) == len(strangers[0])
            assert not strangers[0].keys() & set(worlds.truth(root).of(train))
    assert strangers[0] == strangers[1]


# ---- pixels


@pytest.mark.parametrize("world", sorted(FORMS))
def test_images_are_those_of_the_market_layout(native, market, world):
    known = {layout: worlds.truth(roots[world]) for layout, roots in (("n", native), ("m", market))}
    files = {
        layout: {Path(name).name: roots[world] / name for name in images(roots[world])}
        for layout, roots in (("n", native), ("m", market))
    }
    theirs = dict(zip(known["m"].azimuth.tolist(), known["m"].names.tolist(), strict=True))
    for name, angle in zip(known["n"].names.tolist(), known["n"].azimuth.tolist(), strict=True):
        with Image.open(files["n"][name]) as ours, Image.open(files["m"][theirs[angle]]) as image:
            assert np.array_equal(np.array(ours), np.array(image)), name


def test_the_same_config_gives_the_same_bytes(native, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "BLOCK", 50)
    again = worlds.write(CONFIG, tmp_path, worlds=("hall", "station"), layout="native", progress=False)
    for world, root in again.items():
        assert content(root) == content(native[world]), world


# ---- MSMT17's lists


def listed(root: Path, part: str) -> dict[str, int]:
    lines = [line.split(" ") for line in (root / f"list_{part}.txt").read_text().splitlines()]
    assert len({path for path, _ in lines}) == len(lines)
    return {path: int(pid) for path, pid in lines}


def test_lists_name_every_image_once(native):
    root = native["station"]
    lists = {part: listed(root, part) for part in ("train", "val", "query", "gallery")}
    for folder, parts in (("train", ("train", "val")), ("test", ("query", "gallery"))):
        named = [path for part in parts for path in lists[part]]
        assert sorted(named) == images(root / folder)
    for entries in lists.values():
        assert all(int(path[:4]) == pid for path, pid in entries.items())
    days = [{path.split("_")[3][:4] for path in images(root / folder)} for folder in ("train", "test")]
    assert not days[0] & days[1]  # base names are unique although pids are not


def test_a_few_training_images_are_in_the_validation_list(native):
    train, val = (listed(native["station"], part) for part in ("train", "val"))
    assert 0.05 < len(val) / (len(val) + len(train)) < 0.1
    assert set(val.values()) < set(train.values()) == set(range(24))  # nobody is in that list alone
    table = data.load("msmt17", native["station"], "train")
    assert len(table) == len(train) + len(val)


def test_the_hour_is_the_planned_time_of_day(native):
    planned, root = plan.multi_camera("station", CONFIG), native["station"]
    time = dict(zip(planned.truth.azimuth.tolist(), (planned.shots.camera.numpy() % 3).tolist(), strict=True))
    known, hours = worlds.truth(root), ("morning", "noon", "afternoon")
    seen = [re.search(r"morning|afternoon|noon", name)[0] for name in known.names.tolist()]
    assert seen == [hours[time[angle]] for angle in known.azimuth.tolist()] and set(seen) == set(hours)


def test_the_merged_reader_takes_all_of_station(native):
    merged = data.load("msmt17_merged", native["station"])
    known = worlds.truth(native["station"])
    assert len(merged) == len(known.names)
    pairs = set(zip(known.of(merged).tolist(), merged.pids.tolist(), strict=True))
    assert len(pairs) == len(set(known.identity)) == len(set(merged.pids))  # one to one
    np.testing.assert_array_equal(np.unique(merged.camids), np.unique(known.camera))


# ---- what there is not


def test_studio_is_for_training_alone(native, market):
    with pytest.raises(ValueError, match="studio has no split 'query'"):
        data.load("studio", native["studio"], "query")
    assert len(data.load("studio", market["studio"], "query"))


def test_hall_has_no_labeled_boxes(native):
    with pytest.raises(FileNotFoundError, match="cuhk03_labeled"):
        data.load("cuhk03_labeled", native["hall"])


def test_write_refuses_to_overwrite(native, tmp_path):
    (tmp_path / "hall").mkdir()
    (tmp_path / "hall" / "mine").write_text("")
    with pytest.raises(ValueError, match="hall exists and is not empty"):
        worlds.write(CONFIG, tmp_path, worlds=("studio", "hall"), layout="native", progress=False)
    assert not (tmp_path / "studio").exists()


def test_bad_requests_raise(tmp_path):
    with pytest.raises(ValueError, match="unknown layout 'real'; there are market, native"):
        worlds.write(CONFIG, tmp_path, layout="real")
    wide = replace(CONFIG, hall=(4, 3, 1))
    with pytest.raises(ValueError, match="hall has 3 cameras and cuhk03_detected 2: lower mannequins.hall"):
        worlds.write(wide, tmp_path, worlds=("hall",), layout="native", progress=False)
    long = replace(CONFIG, station=(2, 2, 501))
    with pytest.raises(
        ValueError, match="image 1001 of station does not fit in the 3 digits that msmt17 has"
    ):
        worlds.write(long, tmp_path, worlds=("station",), layout="native", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"layout": "mars"}', '{"layout": ["msmt17"]}', "{}"])
def test_a_layout_there_is_not(tmp_path, text):
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(ValueError, match=r"layout.json is not .*market1501, dukemtmc.*write the world again"):
        data.load("campus", tmp_path)
