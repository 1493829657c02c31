"""CUHK02, CUHK03 and CUHK-SYSU: every row and pixel of their layouts, and everything wrong with them."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from dynamix import data
from dynamix.config import Batch
from dynamix.data.cuhk02 import cuhk02
from dynamix.data.cuhk03 import cuhk03
from dynamix.data.cuhk_sysu import cuhk_sysu
from tests.layouts import Entry, cuhk, draw

raw = sys.modules["dynamix.data.cuhk03.raw"]
SPLITS = ("train", "query", "gallery", "all")
MAT = "cuhk03_release/cuhk-03.mat"
CONFIG = "cuhk03_new_protocol_config_detected.mat"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def of(entries, split):
    return [entry for entry in entries if split in (entry.split, "all")]


def check_rows(table, entries, split):
    """The rows of `split`, in order."""
    expected = of(entries, split)
    assert table.pids.tolist() == [entry.pid for entry in expected]
    assert table.camids.tolist() == [entry.camid for entry in expected]
    assert (table.videos == -1).all() and len(expected) == len(table) > 0
    assert all(path.endswith(f"/{entry.path}") for path, entry in zip(table.paths, expected, strict=True))


def levels(path):
    with Image.open(path) as image:
        return np.array(image)


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestCUHK03:
    @pytest.mark.parametrize("form", ["market", "raw"])
    @pytest.mark.parametrize("variant", cuhk.VARIANTS)
    def test_rows_and_pixels(self, tmp_path, form, variant):
        entries = cuhk.write_cuhk03(tmp_path / "c", form)[variant]
        for split in SPLITS:
            table = cuhk03(tmp_path / "c", split, variant=variant)
            check_rows(table, entries, split)
            assert table.source_names == (f"cuhk03_{variant}",)
            assert table.notes[0].startswith(f"{split}, {variant}, {'Market' if form == 'market' else 'raw'}")
            for path, entry in zip(table.paths, of(entries, split), strict=True):
                assert np.array_equal(levels(path), cuhk.pixels_of(entry, variant))

    @pytest.mark.parametrize("form", ["market", "raw"])
    def test_variants_differ(self, tmp_path, form):
        cuhk.write_cuhk03(tmp_path, form)
        detected, labeled = data.load("cuhk03", tmp_path), data.load("cuhk03_labeled", tmp_path)
        assert detected.source_names == ("cuhk03_detected",) and len(detected) == 30 < len(labeled) == 36
        assert not np.array_equal(levels(detected.paths[0]), levels(labeled.paths[0]))
        assert cuhk03(tmp_path, source="other").source_names == ("other",)
        data.check_trainable(detected, Batch(ids_multi=4, ids_single=0))

    @pytest.mark.parametrize(
        "parent", ["cuhk03-np", "cuhk03_np", "CUHK03-NP", "cuhk03", "cuhk03-np/cuhk03-np"]
    )
    @pytest.mark.parametrize("form", ["market", "raw"])
    def test_usual_parents(self, tmp_path, parent, form):
        entries = cuhk.write_cuhk03(tmp_path / parent, form)
        check_rows(cuhk03(str(tmp_path), "query"), entries["detected"], "query")

    def test_homes_named_for_the_variant(self, tmp_path, monkeypatch):
        entries = cuhk.write_cuhk03(tmp_path / "a")
        (tmp_path / "a" / "labeled").rename(tmp_path / "cuhk03_np_labeled")
        for given in (tmp_path, tmp_path / "cuhk03_np_labeled"):
            table = cuhk03(given, "gallery", variant="labeled")
            assert table.pids.tolist() == [entry.pid for entry in of(entries["labeled"], "gallery")]
        check_rows(cuhk03(tmp_path / "a"), entries["detected"], "train")
        monkeypatch.chdir(tmp_path / "a" / "detected")
        assert len(cuhk03(".")) == 30
        with pytest.raises(FileNotFoundError, match="neither labeled/.*the one above labeled"):
            cuhk03(".", variant="labeled")

    def test_a_folder_that_does_not_tell_the_variant(self, tmp_path):
        cuhk.write_cuhk03(tmp_path)
        (tmp_path / "detected").rename(tmp_path / "images")
        with pytest.raises(FileNotFoundError, match="neither detected/bounding_box_train.*found bounding"):
            cuhk03(tmp_path / "images")

    def test_of_both_forms_the_folders_are_read(self, tmp_path, cache):
        cuhk.write_cuhk03(tmp_path / "c", "raw")
        entries = cuhk.write_cuhk03(tmp_path / "c", variants=("detected",))
        table = cuhk03(tmp_path / "c")
        check_rows(table, entries["detected"], "train")
        assert table.notes == (
            "train, detected, Market-style folders; cuhk-03.mat is there too and is not read",
        )
        assert not cache.exists()
        assert cuhk03(tmp_path / "c", variant="labeled").notes == ("train, labeled, raw cuhk-03.mat",)

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(ValueError, match='"detected" and "labeled", got \'both\''):
            cuhk03(tmp_path, variant="both")
        with pytest.raises(ValueError, match="cuhk03_detected has no split 'test'"):
            cuhk03(tmp_path, "test")
        cuhk.write_cuhk03(tmp_path)
        with pytest.raises(ValueError, match="on_bad_image"):
            cuhk03(tmp_path, on_bad_image="ignore")
        with pytest.raises(FileNotFoundError, match="gone is no folder"):
            cuhk03(tmp_path / "gone")


class TestCUHK03Folders:
    def test_clutter_and_other_formats(self, tmp_path):
        cuhk.write_cuhk03(tmp_path / "12_c2_3.png")
        folder = tmp_path / "12_c2_3.png" / "detected" / "bounding_box_train"
        for name in ("._0001_c1_1.png", "Thumbs.db", "readme.txt"):
            (folder / name).write_bytes(b"")
        (folder / "__MACOSX").mkdir()
        (folder / "0001_c1_1.png").rename(folder / "0001_c1_1.JPG")
        table = cuhk03(tmp_path / "12_c2_3.png")
        assert len(table) == 30 and table.pids[0] == 1 and table.paths[0].endswith("JPG")

    @pytest.mark.parametrize(
        "name",
        ["cat.png", "0001_c3_1.png", "0001_c0_1.png", "0001_c12_1.png", "0001_c1s1_000451_03.jpg",
         "-1_c1_1.png", "x0001_c1_1.png"],
    )  # fmt: skip
    def test_a_name_that_does_not_parse(self, tmp_path, name):
        cuhk.write_cuhk03(tmp_path)
        draw(tmp_path / "detected" / "query" / name, 1, 1)
        for split in ("query", "all"):
            with pytest.raises(ValueError, match=f"{name} is not named like 0001_c1_1.png.*camera 1 or 2"):
                cuhk03(tmp_path, split)
        with pytest.warns(UserWarning, match=f"skipped 1 images, first: .*{name}"):
            table = cuhk03(tmp_path, "query", on_bad_image="skip")
        assert len(table) == 8 and table.notes[0].endswith("folders, 1 images skipped")
        assert len(cuhk03(tmp_path, "train")) == 30

    def test_missing_folders(self, tmp_path):
        cuhk.write_cuhk03(tmp_path)
        shutil.rmtree(tmp_path / "detected" / "query")
        with pytest.raises(FileNotFoundError, match="no folder .*detected/query; found bounding_box_test"):
            cuhk03(tmp_path, "query")
        shutil.rmtree(tmp_path / "detected")
        with pytest.raises(FileNotFoundError, match="neither detected/.* nor cuhk-03.mat.*found labeled"):
            cuhk03(tmp_path)


def rewrite(config: Path, **changes):
    """Replace columns of a protocol file; None removes one."""
    content = {name: value for name, value in loadmat(config).items() if not name.startswith("__")}
    savemat(config, {name: value for name, value in (content | changes).items() if value is not None})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    cuhk.write_cuhk03(home := tmp_path_factory.mktemp("cuhk03"), "raw")
    return home


def no_extraction(*_):
    raise AssertionError("extracted again")


class TestCUHK03Raw:
    @pytest.fixture
    def home(self, tmp_path, written):
        return Path(shutil.copytree(written, tmp_path / "c"))

    def test_extracted_once_and_not_into_the_dataset(self, home, cache, monkeypatch):
        before = files_under(home)
        first = cuhk03(home)
        assert files_under(home) == before
        assert Path(first.paths[0]).parent.parent.parent == cache / "cuhk03"
        assert [path.name for path in Path(first.paths[0]).parent.parent.iterdir()] == ["detected"]
        monkeypatch.setattr(raw, "_extract", no_extraction)
        assert list(cuhk03(home).paths) == list(first.paths)
        assert len(cuhk03(home, "all")) == 50

    def test_extracted_anew_when_the_mat_changes(self, home):
        before = cuhk03(home).paths[0]
        with h5py.File(home / MAT, "r+") as file:
            cells = file[file["detected"][0, 0]]
            file[cells[0, 0]][...] = 7
        os.utime(home / MAT, ns=(0, 1))
        after = cuhk03(home).paths[0]
        assert before != after and (levels(after) == 7).all() and not (levels(before) == 7).all()

    def test_the_default_cache(self, home, tmp_path, monkeypatch):
        monkeypatch.delenv("DYNAMIX_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path / "user"))
        assert cuhk03(home).paths[0].startswith(f"{tmp_path}/user/.cache/dynamix/cuhk03/")

    def test_several_at_once(self, home, cache):
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(lambda _: cuhk03(home, "all"), range(4)))
        assert all(list(table.paths) == list(tables[0].paths) for table in tables)
        assert [path.name for path in (cache / "cuhk03").glob("*/*")] == ["detected"]

    def test_another_process_was_first(self, home, cache, monkeypatch):
        crops = raw._crops

        def slow(mat, variant):
            yield from crops(mat, variant)
            monkeypatch.setattr(raw, "_crops", crops)
            cuhk03(home)

        monkeypatch.setattr(raw, "_crops", slow)
        assert len(cuhk03(home)) == 30
        assert [path.name for path in (cache / "cuhk03").glob("*/*")] == ["detected"]

    def test_a_cache_that_cannot_be_written(self, home, cache):
        cache.write_bytes(b"")
        with pytest.raises(ValueError, match="cannot write .*: set DYNAMIX_CACHE") as caught:
            cuhk03(home)
        assert "\n" not in str(caught.value)

    def test_images_that_another_tool_extracted(self, home, cache, monkeypatch):
        folder = Path(cuhk03(home).paths[0]).parent
        shutil.copytree(folder, home / "images_detected")
        shutil.rmtree(cache)
        assert Path(cuhk03(home).paths[0]).parent == home / "images_detected"
        assert not cache.exists()
        (home / MAT).rename(home / "away.mat")
        assert len(cuhk03(home, "all")) == 50
        (home / "images_detected" / "1_001_1_01.png").unlink()
        with pytest.raises(ValueError, match="lists 1_001_1_01.png, which is not among the images"):
            cuhk03(home)
        (home / "away.mat").rename(home / MAT)
        assert Path(cuhk03(home).paths[0]).parent != home / "images_detected"

    @pytest.mark.parametrize("given", [".", "cuhk03_release"])
    def test_where_the_files_lie(self, home, given):
        assert len(cuhk03(home / given)) == 30
        (home / CONFIG).rename(home / "cuhk03_release" / CONFIG)
        assert len(cuhk03(home / given)) == 30
        (home / MAT).rename(home / "cuhk-03.mat")
        assert len(cuhk03(home / given)) == 30

    def test_a_missing_mat(self, home):
        (home / CONFIG).unlink()
        both = (
            "config_detected.mat and cuhk03_new_protocol_config_labeled.mat come with the re-ranking protocol"
        )
        with pytest.raises(FileNotFoundError, match=both):
            cuhk03(home)
        (home / MAT).unlink()
        with pytest.raises(FileNotFoundError, match="config_labeled.mat is there without cuhk-03.mat; found"):
            cuhk03(home, variant="labeled")
        with pytest.raises(
            FileNotFoundError, match="neither detected/bounding_box_train nor cuhk-03.mat with"
        ):
            cuhk03(home)

    @pytest.mark.parametrize("kind", ["empty", "junk", "truncated", "version 5", "tail lost"])
    def test_an_unreadable_mat(self, home, cache, kind):
        whole = (home / MAT).read_bytes()
        if kind == "version 5":
            savemat(home / MAT, {"detected": np.zeros((5, 1))})
        else:
            part = {"empty": b"", "junk": b"x" * 999, "truncated": whole[: len(whole) // 2]}
            (home / MAT).write_bytes(part.get(kind, whole[:-1]))
        with pytest.raises(
            ValueError, match=r"cannot read \S*cuhk-03.mat as a MATLAB 7.3 \(HDF5\) file.*copy"
        ) as e:
            cuhk03(home)
        assert "\n" not in str(e.value)
        assert not list(cache.glob("cuhk03/*/*"))  # nothing half done stays

    def test_damage_found_while_extracting(self, home, cache):
        with h5py.File(home / MAT) as file:
            start = file[file["detected"][0, 4]].id.get_offset()
        with (home / MAT).open("r+b") as file:
            file.seek(start + 8 * 11)  # the references of the last pair's cells, from the sixth on
            file.write(b"\x07" * 64)
        with pytest.raises(ValueError, match="cannot read .*cuhk-03.mat.*copy it again"):
            cuhk03(home)
        assert not list(cache.glob("cuhk03/*/*"))

    @pytest.mark.parametrize("kind", ["empty", "junk", "truncated", "HDF5"])
    def test_an_unreadable_protocol(self, home, kind):
        whole = (home / CONFIG).read_bytes()
        parts = {"empty": b"", "junk": b"x" * 999, "truncated": whole[: len(whole) // 2]}
        (home / CONFIG).write_bytes(parts.get(kind, (home / MAT).read_bytes()))
        with pytest.raises(
            ValueError, match=rf"cannot read \S*{CONFIG} as a MATLAB file of version 5"
        ) as caught:
            cuhk03(home)
        assert "\n" not in str(caught.value)

    def test_a_mat_without_the_variant(self, home):
        with h5py.File(home / MAT, "r+") as file:
            del file["labeled"]
        assert len(cuhk03(home)) == 30
        with pytest.raises(ValueError, match="it has no labeled, only #refs#, detected, testsets"):
            cuhk03(home, variant="labeled")

    @pytest.mark.parametrize(
        "column", ["filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx"]
    )
    def test_a_missing_column(self, home, column):
        rewrite(home / CONFIG, **{column: None})
        with pytest.raises(ValueError, match=f"{CONFIG} has no {column}: .*copy"):
            cuhk03(home)

    @pytest.mark.parametrize(
        "column, values, message",
        [
            ("labels", np.ones(49), "50 names in filelist, 49 in labels and 50 in camId"),
            ("camId", np.ones(51), "50 names in filelist, 50 in labels and 51 in camId"),
            ("train_idx", np.array([1, 51]), "train_idx holds 51, filelist has 1 to 50"),
            ("query_idx", np.array([0, 1], np.uint8), "query_idx holds 0, filelist has 1 to 50"),
            ("gallery_idx", np.array([3, 4, 3]), "gallery_idx lists an image twice"),
            ("labels", np.full(50, 1.5), "labels does not hold whole numbers"),
            ("camId", np.full(50, np.nan), "camId does not hold whole numbers"),
            ("train_idx", np.array(["a"]), "train_idx does not hold whole numbers"),
            ("filelist", np.array([["1_001_1_01.png"]] * 50, object), "filelist names an image twice"),
        ],
    )
    def test_columns_that_contradict_each_other(self, home, column, values, message):
        rewrite(home / CONFIG, **{column: values})
        with pytest.raises(ValueError, match=f"{CONFIG}: {message}.*: copy it again"):
            cuhk03(home)

    def test_numbers_and_names_in_other_types(self, home):
        """scipy writes what MATLAB may write, too: rows, small integers, a matrix of characters."""
        expected = cuhk03(home, "all")
        content = loadmat(home / CONFIG)
        small = {
            name: content[name].astype(np.uint8).T for name in ("labels", "camId", "train_idx", "query_idx")
        }
        names = np.array([str(cell[0]) for cell in content["filelist"][:, 0]])
        rewrite(home / CONFIG, filelist=names, **small)
        table = cuhk03(home, "all")
        assert list(table.paths) == list(expected.paths) and table.pids.tolist() == expected.pids.tolist()
        assert table.camids.tolist() == expected.camids.tolist()

    def test_rows_are_sorted_whatever_the_order_of_the_list(self, home):
        expected = cuhk03(home)
        content = loadmat(home / CONFIG)
        order = np.random.default_rng(0).permutation(50)
        place = np.argsort(order) + 1
        moved = {name: content[name][order] for name in ("filelist", "labels", "camId")}
        indices = {f"{split}_idx": place[content[f"{split}_idx"].astype(int) - 1] for split in cuhk.SPLITS}
        indices["train_idx"] = np.sort(indices["train_idx"], axis=0)
        rewrite(home / CONFIG, **moved, **indices)
        table = cuhk03(home)
        assert list(table.paths) == list(expected.paths) and table.pids.tolist() == expected.pids.tolist()

    def refused(self, home, message, split="train", left=29):
        with pytest.raises(ValueError, match=message) as caught:
            cuhk03(home, split)
        assert "\n" not in str(caught.value)
        with pytest.warns(UserWarning, match=f"skipped 1 images, first: .*{message}"):
            table = cuhk03(home, split, on_bad_image="skip")
        assert len(table) == left and table.notes[0].endswith("raw cuhk-03.mat, 1 images skipped")

    def empty_a_cell(self, home, value):
        with h5py.File(home / MAT, "r+") as file:
            cells = file[file["detected"][0, 0]]
            if value is None:
                references = cells[...]
                references[0, 0] = h5py.Reference()
                cells[...] = references
            else:
                cells[0, 0] = file.create_dataset("#refs#/new", data=value).ref

    @pytest.mark.parametrize(
        "value",
        [np.zeros(2, np.uint64), np.zeros((0, 0)), h5py.Empty("f8"), None, np.zeros((3, 4, 5)),
         np.zeros((4, 5), np.uint8), np.zeros((4, 5, 6), np.uint8), np.zeros((3, 0, 5), np.uint8)],
        ids=["marker", "empty", "null space", "null reference", "doubles", "gray", "4 channels", "no width"],
    )  # fmt: skip
    def test_a_listed_image_that_the_mat_lacks(self, home, value):
        self.empty_a_cell(home, value)
        self.refused(home, f"{CONFIG} lists 1_001_1_01.png, which is not among the images of cuhk-03.mat")
        assert len(cuhk03(home, "query")) == 8

    @pytest.mark.parametrize("listed", [True, False])
    def test_an_image_in_no_split(self, home, listed):
        content = loadmat(home / CONFIG)
        last = {"gallery_idx": content["gallery_idx"][:-1]}
        if not listed:
            last |= {name: content[name][:-1] for name in ("filelist", "labels", "camId")}
        rewrite(home / CONFIG, **last)
        self.refused(home, f"5_002_2_07.png is in no split of {home / CONFIG}.*different versions", left=30)

    @pytest.mark.parametrize(
        "name, camera",
        [("1_001_1_01.png", 2), ("1_001_1_01.png", 3), ("1_001_1_01.png", 0), ("1_001_3_01.png", 3),
         ("cat.png", 1), ("../1_001_1_01.png", 1), ("", 1)],
    )  # fmt: skip
    def test_a_wrong_name_or_camera(self, home, name, camera):
        content = loadmat(home / CONFIG)
        names = content["filelist"].copy()
        names[0, 0] = name
        cameras = content["camId"].copy()
        cameras[0] = camera
        rewrite(home / CONFIG, filelist=names, camId=cameras)
        with pytest.raises(
            ValueError, match=f"filelist has '{name}' at 1, with camId {camera}, which is not like"
        ):
            cuhk03(home)
        with pytest.warns(UserWarning, match="skipped [12] images"):
            assert len(cuhk03(home, on_bad_image="skip")) == 29

    def test_cells_the_other_way_round(self, home):
        expected = cuhk03(home)
        with h5py.File(home / MAT, "r+") as file:
            pairs = [file[pair][...].T for pair in file["detected"][0]]
            del file["detected"]
            made = [
                file.create_dataset(f"#refs#/p{i}", data=pair, dtype=h5py.ref_dtype)
                for i, pair in enumerate(pairs)
            ]
            references = np.array([[pair.ref] for pair in made], h5py.ref_dtype)  # (5, 1)
            file.create_dataset("detected", data=references, dtype=h5py.ref_dtype)
        table = cuhk03(home)
        assert [os.path.basename(path) for path in table.paths] == [
            os.path.basename(p) for p in expected.paths
        ]
        assert all(
            np.array_equal(levels(a), levels(b)) for a, b in zip(table.paths, expected.paths, strict=True)
        )

    @pytest.mark.parametrize("shape", [(9, 2), (20,), (2, 10, 2)])
    def test_cells_of_a_wrong_shape(self, home, shape):
        with h5py.File(home / MAT, "r+") as file:
            cells = file.create_dataset("#refs#/new", shape, dtype=h5py.ref_dtype)
            pairs = file["detected"][...]
            pairs[0, 1] = cells.ref
            file["detected"][...] = pairs
        with pytest.raises(ValueError, match=r"a camera pair has \(.*\) cells instead of 10 per person"):
            cuhk03(home)

    def test_a_mat_without_any_image(self, home, cache):
        with h5py.File(home / MAT, "r+") as file:
            del file["detected"]
            file.create_dataset("detected", (1, 0), dtype=h5py.ref_dtype)
        with pytest.raises(ValueError, match="cuhk-03.mat has no detected image: copy"):
            cuhk03(home)
        assert not list(cache.glob("cuhk03/*/*"))


class TestCUHK02:
    @pytest.mark.parametrize("split", SPLITS)
    @pytest.mark.parametrize("inner", [True, False])
    def test_rows(self, tmp_path, split, inner):
        entries = cuhk.write_cuhk02(tmp_path, with_dataset_folder=inner)
        table = cuhk02(tmp_path, split)
        check_rows(table, entries, split)
        assert table.notes == (split,) and table.source_names == ("cuhk02",)

    def test_people_and_cameras(self, tmp_path):
        """The names' numbers start anew in every pair; the cameras of pairs are different ones."""
        cuhk.write_cuhk02(tmp_path)
        table = cuhk02(tmp_path, "all")
        assert sorted(set(table.camids.tolist())) == list(range(10)) and table.labels.max() == 14
        assert table.pids[0] == 10_001 and table.pids[-1] == 50_004 and table.camids[-1] == 9
        train, query, gallery = (cuhk02(tmp_path, split) for split in SPLITS[:3])
        assert len(train) == 48 and not set(train.pids) & set(query.pids)
        assert (
            set(query.camids) == {8} and set(gallery.camids) == {9} and set(query.pids) == set(gallery.pids)
        )
        data.check_trainable(train, Batch(ids_multi=12, ids_single=0))

    @pytest.mark.parametrize("parent", ["cuhk02/Dataset", "cuhk02", "CUHK02/Dataset", "CUHK02", "Dataset"])
    def test_usual_parents(self, tmp_path, parent):
        entries = cuhk.write_cuhk02(tmp_path / parent, with_dataset_folder=False)
        check_rows(cuhk02(str(tmp_path)), entries, "train")

    def test_clutter(self, tmp_path):
        cuhk.write_cuhk02(tmp_path)
        folder = tmp_path / "Dataset" / "P1" / "cam1"
        for name in ("._001_1.png", "Thumbs.db", "notes.txt"):
            (folder / name).write_bytes(b"")
        (tmp_path / "__MACOSX").mkdir()
        assert len(cuhk02(tmp_path)) == 48

    @pytest.mark.parametrize("name", ["cat.png", "a_1.png", "001.png", "-1_1.png", "10001_1.png"])
    def test_a_name_that_does_not_parse(self, tmp_path, name):
        cuhk.write_cuhk02(tmp_path)
        draw(tmp_path / "Dataset" / "P2" / "cam1" / name, 1, 1)
        with pytest.raises(
            ValueError, match=f"P2/cam1/{name} is not named like 0012_01.png .a person's number"
        ):
            cuhk02(tmp_path)
        with pytest.warns(UserWarning, match="cuhk02: skipped 1 images"):
            table = cuhk02(tmp_path, on_bad_image="skip")
        assert len(table) == 48 and table.notes == ("train, 1 images skipped",)
        assert len(cuhk02(tmp_path, "query")) == 6

    @pytest.mark.parametrize("pair", ["P1", "P3", "P5"])
    def test_a_missing_pair(self, tmp_path, pair):
        cuhk.write_cuhk02(tmp_path)
        shutil.rmtree(tmp_path / "Dataset" / pair)
        with pytest.raises(FileNotFoundError, match=f"no folder .*Dataset/{pair}; found .*copy all five"):
            cuhk02(tmp_path)

    def test_other_structural_problems(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none of P1, P2.*found nothing"):
            cuhk02(tmp_path)
        cuhk.write_cuhk02(tmp_path)
        with pytest.raises(ValueError, match="no split 'test'"):
            cuhk02(tmp_path, "test")
        shutil.rmtree(tmp_path / "Dataset" / "P4" / "cam2")
        with pytest.raises(FileNotFoundError, match="no folder .*P4/cam2; found cam1"):
            cuhk02(tmp_path)


class TestSYSU:
    @pytest.mark.parametrize("form", ["a", "b", "c"])
    def test_rows(self, tmp_path, form):
        entries = cuhk.write_cuhk_sysu(tmp_path, form)
        folder = entries[0].path.split("/")[0]
        for split in ("train", "all"):
            table = cuhk_sysu(tmp_path, split)
            check_rows(table, entries, "all")
            assert table.notes == (f"{split}, crops from {folder}, cameras not known",)
        assert (table.camids == -1).all() and table.labels.max() == 5
        data.check_trainable(table, Batch(ids_multi=6, ids_single=0))

    @pytest.mark.parametrize("parent", ["cuhksysu", "cuhk_sysu", "CUHK-SYSU", "cuhksysu4reid"])
    @pytest.mark.parametrize("form", ["a", "b", "c"])
    def test_usual_parents(self, tmp_path, parent, form):
        entries = cuhk.write_cuhk_sysu(tmp_path / parent, form)
        check_rows(data.load("cuhk_sysu", str(tmp_path)), entries, "train")

    def test_clutter(self, tmp_path):
        cuhk.write_cuhk_sysu(tmp_path)
        for name in ("._p1_s2_1.jpg", "Thumbs.db"):
            (tmp_path / "cropped_images" / name).write_bytes(b"")
        assert len(cuhk_sysu(tmp_path)) == 18

    @pytest.mark.parametrize(
        "form, name",
        [("a", "p00001_n01_s00001_hard0.png"), ("a", "1_c0.jpg"), ("a", "p1_s2.jpg"), ("a", "s1.jpg"),
         ("b", "p11422_s16929_1.jpg"), ("b", "p1_n1_s1.png"), ("b", "xp1_n1_s1_hard0.png"),
         ("c", "p11422_s16929_1.jpg"), ("c", "322_c2.jpg"), ("c", "322_c10.jpg"), ("c", "-1_c1.jpg"),
         ("c", "0002_c1s1_000451_03.jpg"), ("c", "322.jpg")],
    )  # fmt: skip
    def test_a_name_that_does_not_parse(self, tmp_path, form, name):
        entries = cuhk.write_cuhk_sysu(tmp_path, form)
        draw((tmp_path / entries[0].path).with_name(name), 1, 1)
        with pytest.raises(ValueError, match=f"{name} is not named like .*: rename it"):
            cuhk_sysu(tmp_path)
        with pytest.warns(UserWarning, match="cuhk_sysu: skipped 1 images"):
            table = cuhk_sysu(tmp_path, on_bad_image="skip")
        check_rows(table, entries, "train")
        assert table.notes[0].endswith("1 images skipped")

    @pytest.mark.parametrize("name", ["322_c1.jpg", "0_c0_15.png", "7_c1_s3_2.JPG"])
    def test_more_names_of_the_third_form(self, tmp_path, name):
        draw(tmp_path / "bounding_box_train" / name, 1, 1)
        assert cuhk_sysu(tmp_path).pids.tolist() == [int(name.split("_")[0])]

    def test_two_layouts_side_by_side(self, tmp_path):
        cuhk.write_cuhk_sysu(tmp_path, "a"), cuhk.write_cuhk_sysu(tmp_path, "b")
        with pytest.raises(ValueError, match=r"several .*\(cropped_images\), .*\(cropped_image\).*move"):
            cuhk_sysu(tmp_path)

    def test_structural_problems(self, tmp_path):
        (tmp_path / "annotation").mkdir()
        with pytest.raises(FileNotFoundError, match="cropped_images, cropped_image, .*found annotation"):
            cuhk_sysu(tmp_path)
        (tmp_path / "cuhksysu" / "cropped_images").mkdir(parents=True)
        with pytest.raises(ValueError, match="no image in .*cropped_images"):
            cuhk_sysu(tmp_path)
        with pytest.raises(ValueError, match="no split 'query'"):
            cuhk_sysu(tmp_path, "query")


def test_the_writers_know_no_reader():
    """What they write must be the dataset's layout, not this package's idea of it."""
    assert "dynamix" not in Path(cuhk.__file__).read_text()
    assert Entry._fields == ("split", "path", "pid", "camid")
