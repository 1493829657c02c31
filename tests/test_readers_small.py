"""PRID2011, GRID, VIPeR and iLIDS: published counts, miniatures, and everything wrong with them."""

import hashlib
import itertools
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from dynamix import data
from dynamix.data.small import grid, ilids, prid, splits, viper
from dynamix.data.small.grid import train_lists
from dynamix.data.table import Table
from tests.layouts.large import write_market1501
from tests.layouts.small import (
    VIPER_PEOPLE,
    grid_lists,
    write_grid,
    write_grid_lists,
    write_ilids,
    write_prid,
    write_viper,
)

READ = {"prid": prid, "grid": grid, "viper": viper, "ilids": ilids}
WRITE = {"prid": write_prid, "grid": write_grid, "viper": write_viper, "ilids": write_ilids}
WHOLE = {
    "prid": {"people": 200, "only_a": 185, "only_b": 549},
    "grid": {"people": 250, "unpaired": 775},
    "viper": {"people": 632},
    "ilids": {"people": 119},
}
PARTS = ("train", "query", "gallery")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The four sets with all their people, as images of one or two pixels."""
    root = tmp_path_factory.mktemp("whole")
    return {name: (root / name, WRITE[name](root / name, **WHOLE[name], size=(1, 1))) for name in READ}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The four sets with twelve people."""
    root = tmp_path_factory.mktemp("small")
    return {name: (root / name, WRITE[name](root / name)) for name in READ}


def rows(table: Table, home: Path) -> list[tuple[str, int, int]]:
    paths = [os.path.relpath(path, home) for path in table.paths]
    return list(zip(paths, table.pids.tolist(), table.camids.tolist(), strict=True))


def read(name, home, split_id):
    return [READ[name](home, part, split_id=split_id) for part in PARTS]


def on_disk(name: str, home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*.*") if path.suffix != ".mat")


class TestWhole:
    @pytest.mark.parametrize(
        ("name", "train", "query", "gallery"),
        [("prid", 100, 100, 649), ("grid", 125, 125, 900), ("viper", 316, 316, 316), ("ilids", 59, 60, 60)],
    )
    def test_published_counts_in_all_ten_splits(self, whole, name, train, query, gallery):
        home, entries = whole[name]
        known = {(entry.path, entry.pid, entry.camid) for entry in entries}
        trained = set()
        for split_id in range(10):
            trained_on, asked, searched = read(name, home, split_id)
            assert len(set(trained_on.pids)) == train
            assert (len(asked), len(searched)) == (query, gallery)
            assert len(set(asked.pids)) == query and set(asked.pids) <= set(searched.pids)
            assert not set(trained_on.pids) & (set(asked.pids) | set(searched.pids))
            assert "on disk" not in trained_on.notes[0]  # nothing is missing
            for table in (trained_on, asked, searched):
                assert set(rows(table, home)) <= known and len(set(table.paths)) == len(table)
            trained.add(tuple(sorted(set(trained_on.pids.tolist()))))
        assert len(trained) == 10

    def test_every_person_is_tested_in_some_split(self, whole):
        for name, (home, _) in whole.items():
            tables = [READ[name](home, "query", split_id=split_id) for split_id in range(10)]
            tested = {pid for table in tables for pid in table.pids}
            everyone = {pid for pid in READ[name](home, "all").pids if name != "prid" or pid <= 200}
            assert len(tested) > 0.98 * len(everyone) and tested <= everyone

    @pytest.mark.parametrize("name", ["prid", "viper", "ilids"])
    def test_the_first_half_of_the_shipped_order_trains(self, whole, name):
        home, _ = whole[name]
        for split_id, order in enumerate(splits.shipped(name)["order"]):
            people = [pid for pid in order if name != "viper" or pid in VIPER_PEOPLE]
            train, query, _ = read(name, home, split_id)
            assert set(train.pids.tolist()) == set(people[: len(people) // 2])
            assert set(query.pids.tolist()) == set(people[len(people) // 2 :])

    @pytest.mark.parametrize("name", ["prid", "viper", "ilids"])
    def test_any_two_splits_are_independent(self, whole, name):
        home, _ = whole[name]
        trained = [set(READ[name](home, "train", split_id=k).pids) for k in range(10)]
        for one, other in itertools.combinations(trained, 2):
            assert 0.3 * len(one) < len(one & other) < 0.7 * len(one)

    def test_viper_has_632_people_with_gaps(self):
        assert len(VIPER_PEOPLE) == 632 and VIPER_PEOPLE[-1] == 873 and 250 not in VIPER_PEOPLE


class TestMiniatures:
    @pytest.mark.parametrize("name", READ)
    @pytest.mark.parametrize("split_id", range(10))
    def test_half_trains_and_half_is_tested(self, small, name, split_id):
        home, _ = small[name]
        train, query, gallery = read(name, home, split_id)
        trained, tested = set(train.pids), set(query.pids)
        assert len(trained) == len(tested) == 6 and not trained & tested
        assert tested <= set(gallery.pids) and not trained & set(gallery.pids)
        where = {(pid, camid) for pid, camid in zip(query.pids, query.camids, strict=True)}
        assert not where & set(zip(gallery.pids, gallery.camids, strict=True))  # nothing is filtered
        assert not set(query.paths) & set(gallery.paths)

    @pytest.mark.parametrize("name", READ)
    def test_all_is_what_was_written(self, small, name):
        home, entries = small[name]
        expected = {
            (entry.path, entry.pid, entry.camid) for entry in entries if (name, entry.pid) != ("grid", 0)
        }
        table = READ[name](home, "all")
        assert set(rows(table, home)) == expected and len(table) == len(expected)
        assert all(os.path.isfile(path) for path in table.paths) and (table.videos == -1).all()

    @pytest.mark.parametrize("name", READ)
    def test_rows_are_sorted(self, small, name):
        for part in (*PARTS, "all"):
            table = READ[name](small[name][0], part)
            folders = [os.path.dirname(path) for path in table.paths]
            order = [(folders.index(folder), path) for folder, path in zip(folders, table.paths, strict=True)]
            assert order == sorted(order)

    def test_notes(self, small):
        homes = {name: home for name, (home, _) in small.items()}
        assert prid(homes["prid"]).notes == ("train, split 0, 12 of 200 shared people on disk",)
        assert prid(homes["prid"], "gallery", split_id=3).notes == (
            "gallery, split 3, 12 of 200 shared people on disk, 5 of 549 people of camera B only on disk",
        )
        assert prid(homes["prid"], "all").notes[0].endswith("3 of 185 people of camera A only on disk")
        assert grid(homes["grid"], "query", split_id=9).notes == (
            "query, official split 9, 12 of 250 people on disk",
        )
        assert grid(homes["grid"], "gallery").notes[0].endswith(", 5 of 775 unpaired images on disk")
        assert viper(homes["viper"], "all").notes == ("all, 12 of 632 people on disk",)
        assert ilids(homes["ilids"]).notes == ("train, split 0, 12 of 119 people on disk",)

    def test_who_is_in_which_part(self, small):
        home, _ = small["prid"]
        train, query, gallery = read("prid", home, 2)
        assert Counter(train.camids.tolist()) == {0: 6, 1: 6} and set(query.camids) == {0}
        assert set(gallery.camids) == {1} and {201, 202, 203, 204, 205} <= set(gallery.pids)
        everything = prid(home, "all")
        a_only = everything.pids[(everything.camids == 0) & (everything.pids > 200)]
        assert a_only.tolist() == [1201, 1202, 1203]

        home, _ = small["grid"]
        lists = grid_lists()
        for split_id in range(10):
            train, query, gallery = read("grid", home, split_id)
            assert sorted(set(train.pids.tolist())) == lists[split_id] and len(train) == 12
            assert all("/probe/" in path for path in query.paths)
            assert all("/gallery/" in path for path in gallery.paths)
            assert (gallery.pids == 0).sum() == 5 and (gallery.labels == 0).sum() == 5
        assert 0 not in grid(home, "all").pids

        home, _ = small["viper"]
        _, query, gallery = read("viper", home, 0)
        assert set(query.camids) == {0} and set(gallery.camids) == {1}

        home, entries = small["ilids"]
        counts = Counter(entry.pid for entry in entries)
        train, query, gallery = read("ilids", home, 0)
        assert Counter(train.pids.tolist()) == {pid: counts[pid] for pid in set(train.pids.tolist())}
        assert query.pids.tolist() == gallery.pids.tolist()

    def test_the_two_images_of_ilids_differ_between_splits(self, whole):
        home, entries = whole["ilids"]
        drawn = Counter()
        for split_id in range(10):
            for part in ("query", "gallery"):
                table = ilids(home, part, split_id=split_id)
                drawn.update((p, c) for p, c in zip(table.pids.tolist(), table.camids.tolist(), strict=True))
        assert len(drawn) > 0.8 * len(entries)  # every image has its turn
        first = Counter(ilids(home, "query", split_id=0).camids.tolist())
        assert len(first) > 3  # not the same image number for everyone

    @pytest.mark.parametrize("name", ["prid", "viper", "ilids"])
    def test_a_person_less_changes_at_most_one_other(self, whole, name):
        """An incomplete copy is divided as the complete one, up to one person at the half."""
        home, _ = whole[name]
        people = {*READ[name](home, "query").pids.tolist(), *READ[name](home, "train").pids.tolist()}
        train, test = splits.divide(name, 0, people)
        for gone in sorted(people)[:20]:
            fewer, others = splits.divide(name, 0, people - {gone})
            assert len(fewer ^ (train - {gone})) <= 1 and len(others ^ (test - {gone})) <= 1

    @pytest.mark.parametrize("name", READ)
    def test_usual_parents(self, tmp_path, name):
        parents = {
            "prid": ["prid2011/prid_2011", "prid2011", "prid_2011", "prid"],
            "grid": ["grid/underground_reid", "underground_reid", "GRID"],
            "viper": ["viper/VIPeR", "VIPeR", "viper"],
            "ilids": ["ilids/i-LIDS_Pedestrian", "i-LIDS_Pedestrian", "QMUL-iLIDS"],
        }[name]
        for number, parent in enumerate(parents):
            home = tmp_path / str(number) / parent
            WRITE[name](home, **({"folder": "images"} if parent == "QMUL-iLIDS" else {}))
            through = data.load(name, tmp_path / str(number), "query", split_id=4)
            assert rows(through, home) == rows(READ[name](home, "query", split_id=4), home)

    def test_only_the_base_name_is_parsed(self, tmp_path):
        for name, write in WRITE.items():
            write(tmp_path / "person_0009.png" / "0003_7_x.jpeg" / name)
            table = READ[name](tmp_path / "person_0009.png" / "0003_7_x.jpeg" / name, "all")
            assert len(set(table.pids)) > 10 and len(set(table.camids)) > 1

    def test_clutter_is_no_image(self, tmp_path):
        write_viper(tmp_path)
        (tmp_path / "cam_a" / "._000_45.bmp").write_bytes(b"")
        (tmp_path / "cam_a" / "Thumbs.db").write_bytes(b"")
        (tmp_path / "cam_b" / "__MACOSX").mkdir()
        assert len(viper(tmp_path, "all")) == 24


class TestShippedFiles:
    @pytest.mark.parametrize("name", splits.PEOPLE)
    def test_they_are_made_by_generate(self, name):
        shipped = (splits.FOLDER / f"{name}.json").read_bytes()
        assert shipped == splits.generate(name).encode()
        assert hashlib.sha256(shipped).hexdigest() == splits.SHA256[name]
        assert len(shipped) < 40_000
        orders = splits.shipped(name)["order"]
        assert len(orders) == 10 and all(sorted(order) == list(splits.PEOPLE[name]) for order in orders)

    def test_a_changed_file_is_refused(self, small, tmp_path, monkeypatch):
        shutil.copytree(splits.FOLDER, tmp_path / "splits")
        monkeypatch.setattr(splits, "FOLDER", tmp_path / "splits")
        path = tmp_path / "splits" / "viper.json"
        text = path.read_text()
        path.write_bytes(text.replace("\n", "\r\n").encode())
        assert len(viper(small["viper"][0])) == 12  # another system's line ends are no change
        path.write_text(text.replace("1", "2", 1))
        with pytest.raises(ValueError, match="viper.json was changed.*install dynamix again$"):
            viper(small["viper"][0])
        path.unlink()
        with pytest.raises(FileNotFoundError, match="viper.json is missing: install dynamix again$"):
            viper(small["viper"][0])

    @settings(deadline=None, max_examples=40)
    @given(st.integers(2, 12), st.tuples(*[st.integers(0, splits.STEPS - 1)] * 2))
    def test_two_different_images_are_drawn(self, count, draws):
        query, gallery = splits.two_of(count, list(draws))
        assert query != gallery and 0 <= query < count and 0 <= gallery < count

    def test_pairs_of_images_are_uniform(self):
        steps = range(0, splits.STEPS, 10)
        found = Counter(splits.two_of(4, [one, other]) for one in steps for other in steps)
        assert len(found) == 12 and max(found.values()) - min(found.values()) < 0.05 * 10_000 / 12


BAD_NAMES = {
    "prid": ["single_shot/cam_a/person_12.png", "single_shot/cam_b/cat.png",
             "single_shot/cam_a/xperson_0001.png"],
    "grid": ["probe/1_1_a.jpeg", "probe/0001_9_25004_1_2_3_4.jpeg", "gallery/0001_0_25004_1_2_3_4.jpeg",
             "gallery/0001_12_25004_1_2_3_4.jpeg"],
    "viper": ["cam_a/0001_45.bmp", "cam_b/cat.bmp", "cam_a/000.bmp"],
    "ilids": ["Persons/0001000.jpg", "Persons/00010001.jpg", "Persons/0001_001.jpg"],
}  # fmt: skip
BAD_PEOPLE = {
    "prid": ["single_shot/cam_a/person_0386.png", "single_shot/cam_b/person_0750.png",
             "single_shot/cam_a/person_0000.png"],
    "grid": ["probe/0000_1_25004_1_2_3_4.jpeg", "probe/0251_1_25004_1_2_3_4.jpeg",
             "gallery/0251_1_25004_1_2_3_4.jpeg"],
    "viper": [],
    "ilids": ["Persons/0000001.jpg", "Persons/0120001.jpg"],
}  # fmt: skip


def bad_files(files: dict[str, list[str]]):
    return [(name, path) for name, paths in files.items() for path in paths]


class TestBadInput:
    def refused(self, name, home, match, error=ValueError, **options):
        with pytest.raises(error, match=match) as caught:
            READ[name](home, **options)
        assert "\n" not in str(caught.value)

    def skipped(self, name, home, count, part="all"):
        with pytest.warns(UserWarning, match=f"{name}: skipped {count} images, first: "):
            table = READ[name](home, part, on_bad_image="skip")
        assert table.notes[0].endswith(f", {count} images skipped")
        return table

    @pytest.mark.parametrize("split_id", [-1, 10])
    @pytest.mark.parametrize("name", READ)
    def test_split_id(self, small, name, split_id):
        self.refused(name, small[name][0], f"{name} has split_id 0 to 9, got {split_id}", split_id=split_id)
        with pytest.raises(ValueError, match="split_id 0 to 9"):
            data.load(name, small[name][0], split_id=split_id)

    @pytest.mark.parametrize("name", READ)
    def test_split(self, small, name):
        self.refused(name, small[name][0], f"{name} has no split 'test'", split="test")

    @pytest.mark.parametrize("name", READ)
    def test_nothing_there(self, tmp_path, name):
        (tmp_path / "photos").mkdir()
        self.refused(name, tmp_path, f"{name}: none of .*found photos", FileNotFoundError)

    @pytest.mark.parametrize(
        ("name", "folder"),
        [("prid", "single_shot/cam_a"), ("prid", "single_shot/cam_b"), ("grid", "probe"), ("grid", "gallery"),
         ("viper", "cam_a"), ("viper", "cam_b")],
    )  # fmt: skip
    def test_a_missing_or_empty_folder(self, tmp_path, name, folder):
        WRITE[name](tmp_path)
        shutil.rmtree(tmp_path / folder)
        self.refused(name, tmp_path, f"no folder .*{folder}; found ", FileNotFoundError)
        (tmp_path / folder).mkdir()
        self.refused(name, tmp_path, "copy the dataset's images there")

    @pytest.mark.parametrize(("name", "path"), bad_files(BAD_NAMES))
    def test_a_name_that_does_not_parse(self, tmp_path, name, path):
        WRITE[name](tmp_path)
        before = rows(READ[name](tmp_path, "all"), tmp_path)
        (tmp_path / path).write_bytes(b"")
        self.refused(name, tmp_path, f"{path} is not named like .*: rename it or move it away")
        assert rows(self.skipped(name, tmp_path, 1), tmp_path) == before

    @pytest.mark.parametrize(("name", "path"), bad_files(BAD_PEOPLE))
    def test_a_person_the_dataset_has_not(self, tmp_path, name, path):
        WRITE[name](tmp_path)
        (tmp_path / path).write_bytes(b"")
        self.refused(name, tmp_path, f"{path}: .* has the people . to .* only: rename it or move it away")
        self.skipped(name, tmp_path, 1)

    @pytest.mark.parametrize(
        ("name", "gone", "kept"),
        [("prid", "single_shot/cam_a/person_0007.png", "single_shot/cam_b/person_0007.png"),
         ("prid", "single_shot/cam_b/person_0001.png", "single_shot/cam_a/person_0001.png"),
         ("grid", "probe/0003_4_25003_107_32_106_221.jpeg", "gallery/0003_7_25023_160_75_118_274.jpeg"),
         ("viper", "cam_b/000_90.bmp", "cam_a/000_0.bmp")],
    )  # fmt: skip
    @pytest.mark.parametrize("part", ["train", "query", "gallery", "all"])
    def test_a_person_seen_by_one_camera(self, tmp_path, name, gone, kept, part):
        WRITE[name](tmp_path)
        (tmp_path / gone).unlink()
        self.refused(name, tmp_path, f"{kept}: person .* 1 . 0|{kept}: person .* 0 . 1", split=part)
        table = self.skipped(name, tmp_path, 1, part)
        assert str(tmp_path / kept) not in list(table.paths) and "11 of" in table.notes[0]

    def test_a_person_twice_in_a_camera(self, tmp_path):
        write_viper(tmp_path)
        shutil.copy(tmp_path / "cam_a" / "000_0.bmp", tmp_path / "cam_a" / "000_45.bmp")
        self.refused("viper", tmp_path, "000_0.bmp: person 0 has 2 . 1 images")
        assert 0 not in self.skipped("viper", tmp_path, 3).pids

    def test_ilids_needs_two_images(self, tmp_path):
        write_ilids(tmp_path)
        for path in sorted((tmp_path / "Persons").glob("0007*.jpg"))[1:]:
            path.unlink()
        self.refused("ilids", tmp_path, "0007001.jpg is the only image of person 7: copy")
        assert 7 not in self.skipped("ilids", tmp_path, 1).pids

    @pytest.mark.parametrize("name", ["prid", "viper", "ilids"])
    def test_one_person_cannot_be_divided(self, tmp_path, name):
        WRITE[name](tmp_path, people=1)
        self.refused(name, tmp_path, f"{name}: a split .* needs two people, found 1: copy")

    def test_a_wrong_on_bad_image(self, small):
        self.refused("viper", small["viper"][0], "on_bad_image must be", on_bad_image="ignore")


class TestGridLists:
    def test_ten_lists(self, small):
        assert train_lists(small["grid"][0] / "features_and_partitions.mat") == grid_lists()

    def test_lists_may_name_people_who_are_not_there(self, tmp_path):
        write_grid(tmp_path)
        write_grid_lists(tmp_path, [[*pids, 200, 201] for pids in grid_lists()])
        assert set(grid(tmp_path, split_id=5).pids.tolist()) == set(grid_lists()[5])

    def refused(self, home, match, error=ValueError):
        for part in PARTS:
            with pytest.raises(error, match=match) as caught:
                grid(home, part)
            assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path):
        write_grid(tmp_path)
        (tmp_path / "features_and_partitions.mat").unlink()
        self.refused(
            tmp_path,
            "no .*features_and_partitions.mat; found gallery, probe in .*; copy it",
            FileNotFoundError,
        )
        assert len(grid(tmp_path, "all")) == 24  # needs no split

    def test_unreadable(self, tmp_path):
        write_grid(tmp_path)
        path = tmp_path / "features_and_partitions.mat"
        whole = path.read_bytes()
        for content in (b"", b"<html>404 Not Found</html>" * 20, whole[: len(whole) // 2], whole[:130]):
            path.write_bytes(content)
            self.refused(tmp_path, "partitions.mat holds no trainIdxAll of ten splits .*: copy it")

    def test_other_content(self, tmp_path):
        write_grid(tmp_path)
        path = tmp_path / "features_and_partitions.mat"
        savemat(path, {"testIdxAll": np.zeros(3)})
        self.refused(tmp_path, "no trainIdxAll of ten splits .KeyError")
        savemat(path, {"trainIdxAll": np.zeros((1, 10))})
        self.refused(tmp_path, "no trainIdxAll of ten splits")
        write_grid_lists(tmp_path, grid_lists()[:9])
        self.refused(tmp_path, "trainIdxAll has 9 splits")
        for wrong in ([], [0, 1], [1, 251], [1.5]):
            write_grid_lists(tmp_path, [*grid_lists()[:9], wrong])
            self.refused(tmp_path, f"a list of {len(wrong)} numbers that are not all people 1 to 250")

    def test_nobody_remains(self, tmp_path):
        write_grid(tmp_path)
        write_grid_lists(tmp_path, [list(range(100, 225))] * 10)
        self.refused(tmp_path, "split 0 leaves 0 people on disk to train and 12 to test: copy all images")
        write_grid_lists(tmp_path, [list(range(1, 126))] * 10)
        self.refused(tmp_path, "leaves 12 people on disk to train and 0 to test")


def test_split_id_is_for_the_small_sets(tmp_path):
    write_market1501(tmp_path)
    assert len(data.load("market1501", tmp_path, split_id=0)) > 0
    with pytest.raises(ValueError, match="market1501 has split_id 0 to 0, got 3"):
        data.load("market1501", tmp_path, split_id=3)
    with pytest.raises(ValueError, match="prid has split_id 0 to 9, got 10"):
        data.load("prid", tmp_path, split_id=10)
