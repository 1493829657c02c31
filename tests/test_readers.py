"""Market-1501's layout, written here with real names, and everything wrong with it."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from dynamix import data
from dynamix.data.market1501 import market1501
from tests.layouts.luperson import write_luperson_nl

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
