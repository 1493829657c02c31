"""Market-1501's layout; where every dataset is found and in which formats; loading by name."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from dynamix import data
from dynamix.config import tiny
from dynamix.data import find
from dynamix.data.check import check
from dynamix.data.images import Images
from dynamix.data.market1501 import market1501
from dynamix.experiments import datasets
from tests.layouts import cuhk, draw, large, small
from tests.layouts.luperson import write_luperson, write_luperson_nl
from tests.layouts.own import write_own

TRAIN = [
    "0007_c1s1_000451_03.jpg",
    "0002_c6s2_000452_00.jpg",
    "0002_c1s1_000451_03.jpg",
    "0000_c2s1_000001_01.jpg",
]
QUERY = ["0004_c3s1_000451_00.jpg"]
GALLERY = [
    "0004_c2s1_000451_01.jpg",
    "0000_c1s1_000151_01.jpg",
    "-1_c1s1_000401_03.jpg",
    "1501_c12s3_000001_10.PNG",
]


def write_market(root, train=TRAIN, query=QUERY, gallery=GALLERY):
    folders = {"bounding_box_train": train, "query": query, "bounding_box_test": gallery}
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (8, 16), (len(name), 0, 0)).save(root / folder / name, format="JPEG")
    return root


def base_names(table):
    return [os.path.basename(path) for path in table.paths]


class TestMarket:
    def test_train(self, tmp_path):
        table = market1501(write_market(tmp_path), "train")
        assert base_names(table) == [TRAIN[2], TRAIN[1], TRAIN[0]]  # sorted, the distractor dropped
        assert table.pids.tolist() == [2, 2, 7] and table.labels.tolist() == [0, 0, 1]
        assert table.camids.tolist() == [0, 5, 0] and (table.videos == -1).all()
        assert all(os.path.isfile(path) for path in table.paths)

    def test_gallery_keeps_distractors_and_drops_junk(self, tmp_path):
        table = market1501(write_market(tmp_path), "gallery", source="plaza")
        assert table.pids.tolist() == [0, 4, 1501]
        assert table.camids.tolist() == [0, 1, 11]  # a camera of two digits is read whole
        assert market1501(tmp_path, "query").pids.tolist() == [4]

    def test_all(self, tmp_path):
        table = market1501(write_market(tmp_path), "all", source="plaza")
        assert table.pids.tolist() == [2, 2, 7, 4, 4, 1501]
        assert table.labels.tolist() == [0, 0, 2, 1, 1, 3]

    @pytest.mark.parametrize(
        "parent", ["Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501"]
    )
    def test_usual_parents(self, tmp_path, parent):
        write_market(tmp_path / parent)
        assert len(market1501(str(tmp_path), "train")) == 3

    def test_only_the_base_name_is_parsed(self, tmp_path):
        table = market1501(write_market(tmp_path / "12_c3s1_000001_01.jpg"), "train")
        assert table.pids.tolist() == [2, 2, 7] and table.camids.tolist() == [0, 5, 0]

    def test_clutter_is_no_image(self, tmp_path):
        folder = write_market(tmp_path) / "bounding_box_train"
        for name in ("._0002_c1s1_000451_03.jpg", "Thumbs.db", "readme.txt"):
            (folder / name).write_bytes(b"")
        (folder / "__MACOSX").mkdir()
        (folder / "folder.jpg").mkdir()
        assert len(market1501(tmp_path, "train")) == 3

    @pytest.mark.parametrize(
        "name", ["cat.jpg", "0002_c1_000451_03.jpg", "0002_c0s1_000451_03.jpg", "x0002_c1s1_000451_03.jpg",
                 "-2_c1s1_000451_03.jpg", "0002_c7s1_000451_03.jpg"],
    )  # fmt: skip
    def test_a_name_that_does_not_parse(self, tmp_path, name):
        write_market(tmp_path, train=[*TRAIN, name])
        with pytest.raises(ValueError, match=f"{name} is not named like 0002_c1s1_000451_03.jpg"):
            market1501(tmp_path, "train")

    def test_missing_and_empty(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="bounding_box_train.*is no folder"):
            market1501(tmp_path / "gone")
        (tmp_path / "photos").mkdir()
        with pytest.raises(FileNotFoundError, match="Market-1501-v15.09.15.*found photos"):
            market1501(tmp_path)
        (tmp_path / "market1501" / "bounding_box_train").mkdir(parents=True)
        with pytest.raises(ValueError, match="no image in .*copy"):
            market1501(tmp_path)
        with pytest.raises(FileNotFoundError, match="no folder .*query"):
            market1501(tmp_path, "query")
        (tmp_path / "market1501" / "bounding_box_train" / "0000_c1s1_000001_01.jpg").write_bytes(b"")
        with pytest.raises(ValueError, match="no usable image"):
            market1501(tmp_path)
        with pytest.raises(ValueError, match="no split 'test'"):
            market1501(tmp_path, "test")


WRITE = {
    "market1501": large.write_market1501,
    "dukemtmc": large.write_dukemtmc,
    "msmt17": large.write_msmt17,
    "randperson": large.write_randperson,
    "cuhk02": partial(cuhk.write_cuhk02, with_dataset_folder=False),
    "cuhk03_labeled": cuhk.write_cuhk03,
    "cuhk_sysu": cuhk.write_cuhk_sysu,
    "prid": small.write_prid,
    "grid": small.write_grid,
    "viper": small.write_viper,
    "ilids": small.write_ilids,
    "luperson": write_luperson,
    "luperson_nl": write_luperson_nl,
    "own": write_own,
}
CALLED = {
    "market1501": ["Market1501", "Market", "market_1501", "Market-1501-v15.09.15/Market-1501-v15.09.15"],
    "dukemtmc": ["DukeMTMC", "DUKE", "dukemtmc_reid/DukeMTMC-reID"],
    "msmt17": ["MSMT17_v1", "msmt17-v2", "MSMT17_V1/MSMT17_V1"],
    "randperson": ["RandPerson_Subset", "randperson_subset/subset", "subset"],
    "cuhk02": ["CUHK-02", "cuhk02/dataset", "Dataset"],
    "cuhk03_labeled": ["CUHK03", "cuhk03_new_protocol", "cuhk03-np/CUHK03-NP"],
    "cuhk_sysu": ["CuhkSysu", "CUHK-SYSU/CUHK-SYSU"],
    "prid": ["PRID2011", "PRID_2011/prid_2011"],
    "grid": ["QMUL-GRID", "Grid/underground_reid"],
    "viper": ["Viper", "VIPeR.v1.0/VIPeR"],
    "ilids": ["i-LIDS", "iLIDS/i-LIDS_Pedestrian"],
    "luperson": ["LUP", "LUPerson/lup_lmdb"],
    "luperson_nl": ["LUPersonNL", "lup-nl/lupnl_lmdb"],
    "own": ["Own", "own/own"],
}
# What people have beside datasets; some of it called like a part of one.
BESIDE = (
    "query", "gallery", "train", "test", "bounding_box_test", "images", "Persons", "probe", "cam_a", "P1",
    "labeled", "single_shot", "cropped_images", "lmdb",
)  # fmt: skip


def beside(root, *folders, name="holiday.jpg"):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if name:
            draw(root / folder / name, 1, len(folder))


class TestFinding:
    """One finder for readers, training and `check`."""

    @pytest.mark.parametrize(("name", "folder"), [(name, each) for name in CALLED for each in CALLED[name]])
    @pytest.mark.parametrize("filled", [None, "holiday.jpg"])
    def test_training_reads_what_check_finds(self, tmp_path, name, folder, filled):
        WRITE[name](tmp_path / folder)
        beside(tmp_path, *BESIDE, name=filled)
        before = data.load(name, tmp_path / folder)
        table = data.load(name, datasets.roots_of([name], tmp_path, tiny)[name])
        assert list(table.paths) == list(before.paths) and table.pids.tolist() == before.pids.tolist()
        assert folder in table.notes[0] or folder in ("subset", "Dataset")  # the folder used is said
        report = check(tmp_path, progress=False)
        assert name in [found.name for found in report.datasets] and not report.wrong

    @pytest.mark.parametrize("name", WRITE)
    @pytest.mark.parametrize("inside", [(), BESIDE])
    def test_an_empty_folder_hides_no_dataset(self, tmp_path, name, inside):
        called, other = CALLED[name][0], data.DATASETS[name].home.names[0] + "_"
        WRITE[name](tmp_path / called)
        for folder in (other, *(f"{other}/{each}" for each in inside)):
            (tmp_path / folder).mkdir(exist_ok=True)
        assert list(data.load(name, tmp_path).paths) == list(data.load(name, tmp_path / called).paths)
        report = check(tmp_path, progress=False)
        assert not report.wrong and report.unrecognized == (other,)

    @pytest.mark.parametrize("name", WRITE)
    def test_of_two_copies_none_is_taken(self, tmp_path, name):
        one, two = CALLED[name][0], data.DATASETS[name].home.names[0] + "_"
        WRITE[name](tmp_path / one), WRITE[name](tmp_path / two)
        with pytest.raises(ValueError, match=f"{name}: several versions or copies: ") as caught:
            data.load(name, tmp_path)
        assert str(tmp_path / one) in str(caught.value) and str(tmp_path / two) in str(caught.value)
        assert "give the folder of the one to use" in str(caught.value)
        problems = [each for found in check(tmp_path, progress=False).datasets for each in found.problems]
        assert "several" in [problem.kind for problem in problems]
        assert len(data.load(name, tmp_path / one)) == len(data.load(name, tmp_path / two))

    def test_a_copy_in_the_root_and_one_below(self, tmp_path):
        write_market(tmp_path), write_market(tmp_path / "Market-1501")
        with pytest.raises(ValueError, match="several .*, or move the others away"):
            market1501(tmp_path)

    @pytest.mark.parametrize("how", ["link", "case"])
    def test_one_folder_under_two_names_is_one_copy(self, tmp_path, monkeypatch, how):
        write_market(tmp_path / "Market-1501")
        if how == "link":
            (tmp_path / "market1501").symlink_to(tmp_path / "Market-1501")
        else:  # where case does not count, a folder may be reached by two names
            monkeypatch.setattr(find, "_inside", lambda home, folder: [tmp_path / "Market-1501"] * 2)
        assert len(market1501(tmp_path)) == 3

    def test_part_of_a_copy_is_read(self, tmp_path):
        write_market(tmp_path / "market1501")
        for folder in ("query", "bounding_box_test"):
            shutil.rmtree(tmp_path / "market1501" / folder)
        beside(tmp_path, "query")
        assert len(market1501(tmp_path)) == len(market1501(tmp_path / "market1501")) == 3
        with pytest.raises(FileNotFoundError, match="no folder .*market1501/query"):
            market1501(tmp_path, "query")
        write_market(tmp_path / "Market-1501")  # a whole one counts for more
        assert "in Market-1501" in market1501(tmp_path).notes[0]

    @pytest.mark.parametrize("name", WRITE)
    def test_nothing_but_strangers(self, tmp_path, name):
        beside(tmp_path, *BESIDE)
        with pytest.raises(FileNotFoundError, match=f"^{name}: n.*; found "):
            data.load(name, tmp_path)

    def test_a_world_is_not_looked_for_in_a_real_dataset_s_folder(self, tmp_path):
        write_market(tmp_path / "market1501")
        with pytest.raises(FileNotFoundError, match="^plaza: none of .* in .*; found market1501 in"):
            data.load("plaza", tmp_path)

    def test_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_market(tmp_path / "data" / "Market-1501", gallery=GALLERY[:3])
        assert len(data.load("market1501", "~/data")) == len(data.load("plaza", "~/data/Market-1501")) == 3
        root = datasets.roots_of(["market1501"], Path("~/data"), tiny)["market1501"]
        assert len(data.load("market1501", root)) == 3
        assert [found.name for found in check("~/data", progress=False).datasets] == ["market1501"]

    def test_a_folder_with_the_mark_of_an_lmdb_in_its_name(self, tmp_path):
        large.write_market1501(tmp_path / "a::b" / "market1501")
        assert len(data.load("market1501", tmp_path / "a::b")) == 24
        report = check(tmp_path / "a::b", progress=False)
        assert [found.folder for found in report.datasets] == ["market1501"] and not report.wrong


FORM = {"luperson_nl": {"form": "tree"}}
FILES = [name for name in WRITE if name != "luperson"]


class TestFormats:
    """What Pillow decodes is read in every dataset; other images are refused, or left out and counted."""

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("suffix", [".webp", ".tif", ".GIF", ".jpg.jpg", ".JPG"])
    def test_any_format(self, tmp_path, name, suffix):
        WRITE[name](tmp_path, **FORM.get(name, {}))
        before = data.load(name, tmp_path, "all")
        for path in map(Path, list(before.paths)[::2]):
            with Image.open(path) as image:
                levels = image.convert("RGB")
            path.unlink()
            levels.save(path.with_suffix(suffix))
        table = data.load(name, tmp_path, "all")
        for column in ("pids", "camids", "videos"):
            assert sorted(getattr(table, column)) == sorted(getattr(before, column))
        assert Images.of(table, (32, 16)).pixels.shape[0] == len(before)
        assert not check(tmp_path, progress=False, names=[name]).wrong

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("suffix", [".heic", ".DNG"])
    def test_formats_that_are_not_read(self, tmp_path, name, suffix):
        WRITE[name](tmp_path, **FORM.get(name, {}))
        before = data.load(name, tmp_path, "all")
        Path(before.paths[0]).with_suffix(suffix).write_bytes(b"x")
        with pytest.raises(
            ValueError, match=f"{suffix} is (in a format that is not read: convert|neither in)"
        ):
            data.load(name, tmp_path, "all")
        with pytest.warns(UserWarning, match="skipped 1 images, first: "):
            assert len(data.load(name, tmp_path, "all", on_bad_image="skip")) == len(before)
        report = check(tmp_path, progress=False, names=[name])
        assert {problem.kind for found in report.datasets for problem in found.problems} == {"refused"}

    @pytest.mark.parametrize("name", ["market1501", "dukemtmc", "cuhk03_labeled", "viper", "ilids", "own"])
    def test_people_in_sub_folders(self, tmp_path, name):
        WRITE[name](tmp_path)
        before = data.load(name, tmp_path, "all")
        path = Path(before.paths[0])
        (path.parent / "0001" / "again").mkdir(parents=True)
        shutil.copy(path, path.parent / "0001" / "again" / path.name)
        with pytest.raises(ValueError, match=f"0001/again/{path.name} lies in a sub-folder: move the images"):
            data.load(name, tmp_path, "all")
        with pytest.warns(UserWarning, match="skipped 1 images, first: .*0001/again"):
            assert len(data.load(name, tmp_path, "all", on_bad_image="skip")) == len(before)

    def test_everybody_in_a_sub_folder(self, tmp_path):
        for entry in large.write_market1501(tmp_path):
            path = tmp_path / entry.path
            path.parent.joinpath(path.name[:4]).mkdir(exist_ok=True)
            path.rename(path.parent / path.name[:4] / path.name)
        with pytest.raises(ValueError, match="bounding_box_train/0002/.* lies in a sub-folder: move"):
            market1501(tmp_path)

    def test_the_official_names_that_end_twice(self, tmp_path):
        """39 of Market-1501's are so."""
        entries = large.write_market1501(tmp_path)
        for entry in entries[::5]:
            (tmp_path / entry.path).rename(tmp_path / f"{entry.path}.jpg")
        pids = [entry.pid for entry in entries if entry.split == "train"]
        assert sorted(market1501(tmp_path).pids) == sorted(pids)
        assert not check(tmp_path, progress=False).wrong


class TestLoad:
    def test_names(self, tmp_path):
        write_market(tmp_path / "m"), write_luperson_nl(tmp_path / "l")
        assert data.load("market1501", tmp_path / "m", split="query").source_names == ("market1501",)
        for world in data.WORLDS:
            assert data.load(world, tmp_path / "m").source_names == (world,)
        mixed = data.concat([data.load("plaza", tmp_path / "m"), data.load("videos", tmp_path / "l")])
        assert mixed.source_names == ("plaza", "videos") and len(mixed) == 3 + 36
        assert [s.pids for s in data.statistics(mixed)] == [2, 9]

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="'mars'; there are market1501, .*luperson_nl, plaza.*videos"):
            data.load("mars", "/nowhere")

    def test_import_is_light(self):
        code = "import sys, dynamix.data; print([m for m in ('lmdb', 'faiss') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
