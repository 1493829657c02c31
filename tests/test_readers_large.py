"""Market-1501, DukeMTMC-reID, MSMT17 and RandPerson in their real layouts, and everything wrong with them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dynamix import data
from dynamix.config import Batch
from dynamix.data.images import Images
from tests.layouts import Entry, draw
from tests.layouts import large as layouts

WRITERS = {
    "market1501": layouts.write_market1501,
    "dukemtmc": layouts.write_dukemtmc,
    "msmt17": layouts.write_msmt17,
    "randperson": layouts.write_randperson,
}
PARENTS = {
    "market1501": ["Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501"],
    "dukemtmc": [
        "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID", "dukemtmc-reid", "dukemtmcreid", "dukemtmc",
        "duke",
    ],
    "msmt17": [
        "MSMT17_V1", "MSMT17_V2", "MSMT17", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2", "msmt17", "msmt",
    ],
    "randperson": ["randperson_subset", "subset", "randperson", "RandPerson/subset", "randperson/subset"],
}  # fmt: skip
LISTED = "0000/0000_045_12_0303morning_0006_2.jpg"


def rows_of(table, root):
    """(path below root, pid, camid), in the table's order."""
    names = [Path(path).relative_to(root).as_posix() for path in table.paths]
    return list(zip(names, table.pids.tolist(), table.camids.tolist(), strict=True))


def expected(entries, splits=("train", "query", "gallery"), pids=lambda entry: True):
    return sorted(
        (entry.path, entry.pid, entry.camid) for entry in entries if entry.split in splits and pids(entry)
    )


def append(file, line):
    with open(file, "a") as lists:
        lists.write(line + "\n")


def raw(root, layout="V1"):
    layouts.write_msmt17(root, layout)
    return root


class TestRows:
    """Each reader finds what the miniature holds."""

    @pytest.mark.parametrize("split", ["train", "query", "gallery", "all"])
    def test_market1501(self, tmp_path, split):
        entries = layouts.write_market1501(tmp_path)
        tested = split in ("query", "gallery")
        splits = ("train", "query", "gallery") if split == "all" else (split,)
        table = data.load("market1501", tmp_path, split)
        found = rows_of(table, tmp_path)
        assert sorted(found) == expected(
            entries, splits, lambda entry: entry.pid > 0 or tested and entry.pid == 0
        )
        assert (0 in table.pids) == (split == "gallery") and -1 not in table.pids
        folders = [name.partition("/")[0] for name, *_ in found]
        assert folders == sorted(folders, key=["bounding_box_train", "query", "bounding_box_test"].index)
        assert split == "all" or found == sorted(found)

    @pytest.mark.parametrize("split", ["train", "query", "gallery", "all"])
    def test_dukemtmc(self, tmp_path, split):
        entries = layouts.write_dukemtmc(tmp_path)
        splits = ("train", "query", "gallery") if split == "all" else (split,)
        table = data.load("dukemtmc", tmp_path, split)
        found = rows_of(table, tmp_path)
        assert sorted(found) == expected(entries, splits)
        assert table.notes == (split,) and (split == "all" or found == sorted(found))
        folders = [name.partition("/")[0] for name, *_ in found]
        assert folders == sorted(folders, key=["bounding_box_train", "query", "bounding_box_test"].index)

    @pytest.mark.parametrize("layout", ["V1", "V2", "market"])
    @pytest.mark.parametrize("split", ["train", "query", "gallery"])
    def test_msmt17(self, tmp_path, layout, split):
        entries = layouts.write_msmt17(tmp_path, layout)
        table = data.load("msmt17", tmp_path, split)
        assert rows_of(table, tmp_path) == expected(entries, (split,))
        assert table.pids.min() == 0 and table.labels.min() == 0  # a person, no distractor
        assert ("Market-style copy" if layout == "market" else layout) in table.notes[0]
        assert table.notes[0].startswith(f"{split}: ")

    @pytest.mark.parametrize("layout", ["V1", "V2", "market"])
    def test_msmt17_all_is_the_merged_dataset(self, tmp_path, layout):
        entries = layouts.write_msmt17(tmp_path, layout, people=6)
        shifted = [(path, pid + 6 * (split != "train"), camid) for split, path, pid, camid in entries]
        table = data.load("msmt17", tmp_path, "all")
        found = rows_of(table, tmp_path)
        assert sorted(found) == sorted(shifted)
        assert "test pids + 6" in table.notes[0]
        for split in ("train", "all"):
            merged = data.load("msmt17_merged", tmp_path, split)
            assert rows_of(merged, tmp_path) == found and merged.source_names == ("msmt17_merged",)
            assert merged.notes[0].startswith("merged: ") and "test pids + 6" in merged.notes[0]
        # Folder by folder, each sorted by path.
        order = ["train", "mask_train_v2", "bounding_box_train", "query"]
        rank = {folder: number for number, folder in enumerate(order)}
        assert found == sorted(found, key=lambda row: (rank.get(row[0].split("/")[0], 9), row))

    def test_msmt17_lists_of_train(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        listed = data.load("msmt17", tmp_path, "train_list")
        val = data.load("msmt17", tmp_path, "val_list")
        named = [line.split()[0] for line in (tmp_path / "list_val.txt").read_text().splitlines()]
        assert [name for name, *_ in rows_of(val, tmp_path)] == [f"train/{name}" for name in sorted(named)]
        assert sorted(rows_of(listed, tmp_path) + rows_of(val, tmp_path)) == expected(entries, ("train",))
        assert listed.notes == ("train_list: list_train, V1",) and val.notes == ("val_list: list_val, V1",)

    @pytest.mark.parametrize("split", ["train", "all"])
    def test_randperson(self, tmp_path, split):
        entries = layouts.write_randperson(tmp_path)
        table = data.load("randperson", tmp_path, split)
        assert rows_of(table, tmp_path) == expected(entries)
        assert table.labels.min() == 0 and table.camids.max() == 18

    @pytest.mark.parametrize("name", [*WRITERS, "msmt17_merged"])
    def test_a_miniature_is_trainable(self, tmp_path, name):
        WRITERS[name.removesuffix("_merged")](tmp_path)
        data.check_trainable(data.load(name, tmp_path, "train"), Batch(ids_multi=4, ids_single=0))

    @pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17"])
    def test_a_miniature_can_be_tested_on(self, tmp_path, name):
        WRITERS[name](tmp_path)
        query, gallery = (data.load(name, tmp_path, split) for split in ("query", "gallery"))
        assert len(set(query.pids)) >= 3
        for pid, camid in zip(query.pids, query.camids, strict=True):
            assert ((gallery.pids == pid) & (gallery.camids != camid)).any()
            assert (gallery.pids != pid).any()


class TestMSMT17AsPublished:
    def test_test_pids_follow_the_largest_training_pid(self, tmp_path):
        name = "1040/1040_000_15_0303morning_0001_0.jpg"  # the original's last training person
        entries = layouts.write_msmt17(tmp_path)
        draw(tmp_path / "train" / name, 1040, 0)
        append(tmp_path / "list_train.txt", f"{name} 1040")
        table = data.load("msmt17", tmp_path, "all")
        test = [entry for entry in entries if entry.split != "train"]
        assert sorted(table.pids[table.pids > 1040]) == sorted(entry.pid + 1041 for entry in test)
        assert "test pids + 1041" in table.notes[0]
        query = [entry.pid for entry in test if entry.split == "query"]
        assert sorted(data.load("msmt17", tmp_path, "query").pids) == query  # alone, test keeps its own

    @pytest.mark.parametrize("layout", ["V1", "market"])
    def test_cameras_are_shared_by_train_and_test(self, tmp_path, layout):
        layouts.write_msmt17(tmp_path, layout, people=8)
        parts = [data.load("msmt17", tmp_path, split) for split in ("train", "query", "gallery")]
        train, test = set(parts[0].camids), set(parts[1].camids) | set(parts[2].camids)
        assert train & test
        assert set(data.load("msmt17", tmp_path, "all").camids) == train | test

    @pytest.mark.parametrize("layout", ["V1", "V2", "market"])
    def test_cameras_of_two_digits_are_not_folded_into_camera_1(self, tmp_path, layout):
        layouts.write_msmt17(tmp_path, layout, people=8)
        table = data.load("msmt17", tmp_path, "train")
        assert sorted(set(table.camids)) == list(range(15))
        assert (
            np.bincount(table.camids)[1:] == 2
        ).all()  # 8 people x 2 cameras on 15: only camera 0 is used twice

    def test_the_padded_camera_of_a_copy(self, tmp_path):
        layouts.write_msmt17(tmp_path, "market")
        folder = tmp_path / "query"
        old, new = folder / "0000_c10_0000.jpg", folder / "0000_c02_0000.jpg"
        old.rename(new)
        assert 1 in data.load("msmt17", tmp_path, "query").camids

    @pytest.mark.parametrize(
        "listed, lies",
        [(".jpg", ".jpeg"), (".jpeg", ".jpg"), (".jpg", ".JPG"), (".JPG", ".jpg"), (".jpg", ".png")],
    )
    def test_the_other_extension(self, tmp_path, listed, lies):
        entries = layouts.write_msmt17(tmp_path, "V2")
        for entry in entries:
            (tmp_path / entry.path).rename((tmp_path / entry.path).with_suffix(lies))
        for file in tmp_path.glob("list_*.txt"):
            file.write_text(file.read_text().replace(".jpg", listed))
        table = data.load("msmt17", tmp_path, "all")
        assert len(table) == len(entries) and all(
            path.endswith(lies) and os.path.isfile(path) for path in table.paths
        )

    def test_names_in_the_capitals_of_another_file_system(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        for entry in entries:
            path = tmp_path / entry.path
            path.rename(path.with_name(path.name.upper()))
        for split in ("train", "all"):
            table = data.load("msmt17", tmp_path, split)
            assert all(path.endswith(".JPG") and os.path.isfile(path) for path in table.paths)
        assert len(table) == len(entries)

    def test_the_ex_suffix_is_read(self, tmp_path):
        layouts.write_msmt17(tmp_path)
        assert any(path.endswith("_ex.jpg") for path in data.load("msmt17", tmp_path, "train").paths)

    def test_lists_written_on_other_systems(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        for file in tmp_path.glob("list_*.txt"):
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
        assert len(data.load("msmt17", tmp_path, "all")) == len(entries)
        for file in tmp_path.glob("list_*.txt"):
            file.write_text(file.read_text("utf-8-sig").replace("/", "\\"), "utf-16")
        assert len(data.load("msmt17", tmp_path, "all")) == len(entries)

    @pytest.mark.parametrize("content", [b"", b"\r\n \n", b"\xef\xbb\xbf"])
    def test_an_empty_list(self, tmp_path, content):
        (raw(tmp_path) / "list_query.txt").write_bytes(content)
        for split in ("query", "gallery", "all"):
            with pytest.raises(ValueError, match="list_query.txt is empty: get the list anew"):
                data.load("msmt17", tmp_path, split, on_bad_image="skip")

    def test_a_list_that_is_no_text(self, tmp_path):
        (raw(tmp_path) / "list_train.txt").write_bytes(b"0000/\xff\x00.jpg 0\n")
        with pytest.raises(ValueError, match="list_train.txt is no text in UTF-8 .byte 5.: save it"):
            data.load("msmt17", tmp_path)


class TestFolders:
    @pytest.mark.parametrize("name, parent", [(name, parent) for name in PARENTS for parent in PARENTS[name]])
    def test_usual_parents(self, tmp_path, name, parent):
        WRITERS[name](tmp_path / parent)
        assert len(data.load(name, tmp_path)) == 24  # of the folder above
        assert len(data.load(name, str(tmp_path / parent))) == 24

    @pytest.mark.parametrize("name", WRITERS)
    @pytest.mark.parametrize(
        "parent", ["0099_c3s1_000001_01.jpg", "99_c3_f01", "0099_c3_0001", "000099_s03_c01_f01"]
    )
    def test_a_folder_above_does_not_change_the_rows(self, tmp_path, name, parent):
        entries = WRITERS[name](tmp_path / parent / "0099")
        table = data.load(name, tmp_path / parent / "0099")
        assert rows_of(table, tmp_path / parent / "0099") == expected(entries, ("train",))

    @pytest.mark.parametrize("name, folder", [
        ("market1501", "bounding_box_train"), ("dukemtmc", "bounding_box_train"), ("msmt17", "train/0000"),
        ("msmt17", "train"), ("randperson", "."),
    ])  # fmt: skip
    def test_clutter_is_no_image(self, tmp_path, name, folder):
        entries = WRITERS[name](tmp_path)
        first = Path(next(entry.path for entry in entries)).name
        for file in (f"._{first}", "Thumbs.db", ".DS_Store", "readme.txt"):
            (tmp_path / folder / file).write_bytes(b"")
        (tmp_path / folder / "__MACOSX").mkdir()
        (tmp_path / folder / "__MACOSX" / "0.jpg").write_bytes(b"")
        (tmp_path / folder / "folder.jpg").mkdir()
        assert rows_of(data.load(name, tmp_path), tmp_path) == expected(entries, ("train",))

    @pytest.mark.parametrize("name", WRITERS)
    def test_nothing_there(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match=f"^{name}: no.*gone is no folder; give the folder"):
            data.load(name, tmp_path / "gone")
        (tmp_path / "photos").mkdir()
        with pytest.raises(FileNotFoundError, match="found photos in") as error:
            data.load(name, tmp_path)
        assert PARENTS[name][0] in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize("name, folder", [
        ("market1501", "bounding_box_train"), ("dukemtmc", "bounding_box_train"), ("msmt17", "train"),
    ])  # fmt: skip
    def test_a_missing_folder(self, tmp_path, name, folder):
        WRITERS[name](tmp_path)
        shutil.rmtree(tmp_path / folder)
        with pytest.raises(FileNotFoundError, match=f"{name}: no folder .*{folder}; found .* in {tmp_path}"):
            data.load(name, tmp_path, on_bad_image="skip")

    @pytest.mark.parametrize("name", WRITERS)
    def test_an_unknown_split(self, tmp_path, name):
        with pytest.raises(ValueError, match=f"{name} has no split 'test': use train"):
            data.load(name, tmp_path, "test")


class TestMSMT17Versions:
    @pytest.mark.parametrize("split", ["train", "all"])
    def test_two_versions_below_the_root(self, tmp_path, split):
        layouts.write_msmt17(tmp_path / "MSMT17_V1", "V1")
        layouts.write_msmt17(tmp_path / "msmt17" / "MSMT17_V2", "V2")
        for name in ("msmt17", "msmt17_merged"):
            with pytest.raises(ValueError, match=r"MSMT17_V1 \(V1\), .*MSMT17_V2 \(V2\).*give the folder"):
                data.load(name, tmp_path, split, on_bad_image="skip")
        assert "V2" in data.load("msmt17", tmp_path / "msmt17", split).notes[0]

    def test_two_versions_in_one_folder(self, tmp_path):
        layouts.write_msmt17(tmp_path, "V1")
        layouts.write_msmt17(tmp_path, "market")
        with pytest.raises(ValueError, match="several versions.*Market-style copy"):
            data.load("msmt17", tmp_path)

    def test_one_folder_under_two_names_is_one_version(self, tmp_path):
        layouts.write_msmt17(tmp_path / "MSMT17_V1")
        (tmp_path / "MSMT17").symlink_to(tmp_path / "MSMT17_V1")
        assert len(data.load("msmt17", tmp_path)) == 24

    def test_folders_of_other_use_beside_the_dataset(self, tmp_path):
        layouts.write_msmt17(tmp_path / "MSMT17_V1")
        for name in ("train", "query", "test"):
            (tmp_path / name).mkdir()
        assert len(data.load("msmt17", tmp_path)) == 24

    def test_a_file_where_a_folder_should_be(self, tmp_path):
        layouts.write_msmt17(tmp_path / "MSMT17")
        shutil.rmtree(tmp_path / "MSMT17" / "train")
        shutil.rmtree(tmp_path / "MSMT17" / "test")
        (tmp_path / "MSMT17" / "train").write_bytes(b"")
        with pytest.raises(FileNotFoundError, match="no folder .*train; found list_"):
            data.load("msmt17", tmp_path)

    def test_the_market_style_copy_does_not_tell_val_from_train(self, tmp_path):
        layouts.write_msmt17(tmp_path, "market")
        for split in ("train_list", "val_list"):
            with pytest.raises(
                ValueError, match=f"Market-style copy, which does not tell {split} from train: use"
            ):
                data.load("msmt17", tmp_path, split)


class TestNames:
    @pytest.mark.parametrize("name, folder, file", [
        ("market1501", "bounding_box_train", "cat.jpg"),
        ("market1501", "bounding_box_train", "0002_c0s1_000451_03.jpg"),
        ("dukemtmc", "bounding_box_train", "cat.jpg"),
        ("dukemtmc", "bounding_box_train", "0001_c0_f0046182.jpg"),
        ("dukemtmc", "bounding_box_train", "0001_c9_f0046182.jpg"),
        ("dukemtmc", "bounding_box_train", "0001_c12_f0046182.jpg"),
        ("dukemtmc", "bounding_box_train", "0001_cx_f0046182.jpg"),
        ("dukemtmc", "bounding_box_train", "-1_c1_f0046182.jpg"),
        ("dukemtmc", "bounding_box_train", "x0001_c1_f0046182.jpg"),
        ("randperson", ".", "cat.jpg"),
        ("randperson", ".", "000001_s00_c02_f000264.jpg"),
        ("randperson", ".", "000001_s04_c01_f000264.jpg"),
        ("randperson", ".", "000001_s10_c04_f000264.jpg"),
        ("randperson", ".", "000001_s11_c00_f000264.jpg"),
        ("randperson", ".", "000001_sx_c00_f000264.jpg"),
        ("randperson", ".", "000001_s00_c00_000264.jpg"),
    ])  # fmt: skip
    def test_a_name_that_does_not_parse(self, tmp_path, name, folder, file):
        entries = WRITERS[name](tmp_path)
        (tmp_path / folder / file).write_bytes(b"")
        self.refused(tmp_path, name, entries, f"/{file} is not named like ")

    @pytest.mark.parametrize("file", [
        "cat.jpg", "0000_c0_0033.jpg", "0000_c16_0033.jpg", "0000_c1s1_000451_03.jpg", "-1_c1_0033.jpg",
    ])  # fmt: skip
    def test_a_name_in_the_market_style_copy(self, tmp_path, file):
        entries = layouts.write_msmt17(tmp_path, "market")
        (tmp_path / "bounding_box_train" / file).write_bytes(b"")
        self.refused(tmp_path, "msmt17", entries, f"/{file} is not named like 0000_c12_0033.jpg")

    @staticmethod
    def refused(root, name, entries, problem, count=1):
        """An error naming the file; or left out, counted, warned about and noted."""
        with pytest.raises(ValueError) as error:
            data.load(name, root)
        assert problem in str(error.value) and "\n" not in str(error.value)
        with pytest.warns(UserWarning, match=f"^{name}: skipped {count} images, first: ") as warned:
            table = data.load(name, root, on_bad_image="skip")
        assert problem in str(warned[0].message) and len(warned) == 1
        assert table.notes[0].endswith(f", {count} images skipped")
        assert rows_of(table, root) == expected(entries, ("train",))

    @pytest.mark.parametrize("scene, cams", list(enumerate(layouts.SCENES)))
    def test_every_camera_of_randperson(self, tmp_path, scene, cams):
        for cam in range(cams):
            (tmp_path / f"000000_s{scene:02d}_c{cam:02d}_f000001.jpg").write_bytes(b"")
        first = sum(layouts.SCENES[:scene])
        assert data.load("randperson", tmp_path).camids.tolist() == list(range(first, first + cams))
        (tmp_path / f"000000_s{scene:02d}_c{cams:02d}_f000001.jpg").write_bytes(b"")
        with pytest.raises(ValueError, match=f"s{scene:02d}_c{cams:02d}_f000001.jpg is not named like"):
            data.load("randperson", tmp_path)

    def test_nothing_usable(self, tmp_path):
        layouts.write_dukemtmc(tmp_path)
        for file in (tmp_path / "query").iterdir():
            file.rename(file.with_name(f"x{file.name}"))
        with pytest.raises(ValueError, match="no usable image"), pytest.warns(UserWarning, match="skipped 3"):
            data.load("dukemtmc", tmp_path, "query", on_bad_image="skip")


class TestMSMT17Lists:
    """Images and lists that do not agree."""

    @pytest.mark.parametrize("split, missing", [
        ("train", "list_train"), ("train", "list_val"), ("train_list", "list_val"), ("query", "list_query"),
        ("query", "list_gallery"), ("gallery", "list_gallery"), ("all", "list_val"), ("all", "list_query"),
    ])  # fmt: skip
    def test_a_missing_list(self, tmp_path, split, missing):
        (raw(tmp_path) / f"{missing}.txt").unlink()
        with pytest.raises(
            FileNotFoundError, match=f"no {missing}.txt in .*found list_.*from the dataset's authors"
        ):
            data.load("msmt17", tmp_path, split, on_bad_image="skip")

    def test_without_any_list(self, tmp_path):
        for file in raw(tmp_path / "MSMT17").glob("list_*.txt"):
            file.unlink()
        for root in (tmp_path, tmp_path / "MSMT17"):
            with pytest.raises(FileNotFoundError, match="no list_train.txt in .*found test, train in"):
                data.load("msmt17", root)

    def test_the_other_side_is_not_asked_for(self, tmp_path):
        raw(tmp_path)
        shutil.rmtree(tmp_path / "test")
        (tmp_path / "list_query.txt").unlink()
        assert len(data.load("msmt17", tmp_path, "train")) == 24

    @pytest.mark.parametrize(
        "line", [LISTED, f"{LISTED} a", f"{LISTED} -1", f"{LISTED} 0 0", "<html>", "\x00\x01"]
    )
    def test_a_malformed_line(self, tmp_path, line):
        append(raw(tmp_path) / "list_train.txt", line)
        for on_bad_image in ("error", "skip"):
            with pytest.raises(
                ValueError, match=r"list_train.txt line 19: .* is not `path pid`; get"
            ) as error:
                data.load("msmt17", tmp_path, on_bad_image=on_bad_image)
            assert "\n" not in str(error.value)

    @pytest.mark.parametrize("line, problem", [
        (f"{LISTED} 0", f"train/{LISTED} is listed but not there"),
        (f"{LISTED} 1", f"train/{LISTED} lies in folder 0000 but the list says pid 1"),
        (f"{LISTED.replace('_12_', '_16_')} 0", "has camera 16 (the third number), not 1 to 15"),
        (f"{LISTED.replace('_12_', '_00_')} 0", "has camera 00 (the third number), not 1 to 15"),
        ("0000/cat.jpg 0", "train/0000/cat.jpg is not named like 0000/0000_045_12"),
        ("0000_045_12_0303morning_0006_2.jpg 0", "is not named like 0000/0000_045_12"),
        ("../train/0000/0000_045_12_0303morning_0006_2.jpg 0", "is not named like 0000/0000_045_12"),
        ("0000/0000_045_12_0303night_0006_2.jpg 0", "is not named like 0000/0000_045_12"),
    ])  # fmt: skip
    def test_a_line_that_cannot_be_used(self, tmp_path, line, problem):
        entries = layouts.write_msmt17(tmp_path)
        append(tmp_path / "list_train.txt", line)
        if "not there" not in problem and not line.startswith("."):
            (tmp_path / "train" / line.split()[0]).write_bytes(b"")
        TestNames.refused(tmp_path, "msmt17", entries, problem)
        with pytest.raises(ValueError, match="list_train.txt line 19: "):
            data.load("msmt17", tmp_path)

    def test_absent_images_are_counted(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        gone = [entry for entry in entries if entry.split == "gallery"][:2]
        for entry in gone:
            (tmp_path / entry.path).unlink()
        rest = [entry for entry in entries if entry not in gone]
        with pytest.warns(UserWarning, match="skipped 2 images, first: .*is listed but not there"):
            table = data.load("msmt17", tmp_path, "gallery", on_bad_image="skip")
        assert (
            rows_of(table, tmp_path) == expected(rest, ("gallery",)) and "2 images skipped" in table.notes[0]
        )
        assert len(data.load("msmt17", tmp_path, "query")) == 3  # those of the gallery are not asked for
        with pytest.warns(UserWarning, match="skipped 2 images"):
            assert len(data.load("msmt17_merged", tmp_path, on_bad_image="skip")) == 34

    @pytest.mark.parametrize(
        "file", ["0000/0000_900_01_0303noon_0001_1.jpg", "0000/cat.png", "cat.jpg", "9/9.jpg"]
    )
    def test_an_image_in_no_list(self, tmp_path, file):
        entries = layouts.write_msmt17(tmp_path)
        (tmp_path / "train" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / file).write_bytes(b"")
        problem = f"train/{file} is neither in list_train.txt nor in list_val.txt"
        TestNames.refused(tmp_path, "msmt17", entries, problem)
        for split in ("train_list", "val_list", "all"):
            with pytest.raises(ValueError, match=problem):
                data.load("msmt17", tmp_path, split)
        assert len(data.load("msmt17", tmp_path, "gallery")) == 9  # the other folder's lists

    def test_an_image_with_both_extensions(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        twin = (tmp_path / entries[0].path).with_suffix(".jpeg")
        shutil.copy(tmp_path / entries[0].path, twin)
        TestNames.refused(tmp_path, "msmt17", entries, f"{twin} is neither in")

    def test_an_image_listed_twice(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        append(tmp_path / "list_val.txt", (tmp_path / "list_train.txt").read_text().splitlines()[0])
        TestNames.refused(tmp_path, "msmt17", entries, "is listed twice")

    def test_all_kinds_of_problems_are_counted_together(self, tmp_path):
        entries = layouts.write_msmt17(tmp_path)
        append(tmp_path / "list_train.txt", f"{LISTED} 0")
        append(tmp_path / "list_val.txt", "0000/cat.jpg 0")
        (tmp_path / "train" / "0001" / "dog.jpg").write_bytes(b"")
        with pytest.warns(UserWarning, match="skipped 3 images"):
            table = data.load("msmt17", tmp_path, on_bad_image="skip")
        assert rows_of(table, tmp_path) == expected(entries, ("train",))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_bytes_that_are_no_image(tmp_path, name, content):
    """Reading names does not open files; decoding names the file."""
    entries: list[Entry] = WRITERS[name](tmp_path)
    bad = tmp_path / next(entry.path for entry in entries)
    bad.write_bytes(content)
    table = data.load(name, tmp_path)
    row = list(table.paths).index(str(bad))
    with pytest.raises(ValueError, match=f"cannot read image {bad} ") as error:
        Images.of(table, (32, 16))
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match=f"skipped 1 unreadable images, first: .*{bad.name}"):
        images = Images.of(table, (32, 16), on_bad_image="skip")
    assert images.skipped == {row} and len(images) == 24


class TestLinks:
    """Links are files; one that leads nowhere is a row that cannot be read, never a row less."""

    @pytest.mark.parametrize("target", ["gone.jpg", "loop"])
    def test_a_broken_link_is_an_unreadable_image(self, tmp_path, target):
        layouts.write_market1501(tmp_path)
        victim = sorted((tmp_path / "query").iterdir())[0]
        count = len(data.load("market1501", tmp_path, "query"))
        victim.unlink()
        victim.symlink_to(victim if target == "loop" else tmp_path / target)
        table = data.load("market1501", tmp_path, "query")
        assert len(table) == count
        with pytest.raises((ValueError, OSError), match=victim.name):
            Images.of(table, (32, 16))

    def test_nothing_but_links_to_themselves(self, tmp_path):
        layouts.write_market1501(tmp_path)
        for place in [*(tmp_path / "query").iterdir(), tmp_path / "query" / "more", tmp_path / "market1501"]:
            place.unlink(missing_ok=True)
            place.symlink_to(place)
        assert len(data.load("market1501", tmp_path, "query")) == 3

    def test_in_msmt17_too(self, tmp_path):
        layouts.write_msmt17(tmp_path)
        table = data.load("msmt17", tmp_path, "query")
        victim = Path(table.paths[0])
        victim.unlink()
        victim.symlink_to(tmp_path / "gone.jpg")
        assert len(data.load("msmt17", tmp_path, "query")) == len(table)

    def test_links_that_work(self, tmp_path):
        layouts.write_market1501(tmp_path / "real")
        for folder in ("bounding_box_train", "query", "bounding_box_test"):
            (tmp_path / "farm" / folder).mkdir(parents=True)
            for path in (tmp_path / "real" / folder).iterdir():
                (tmp_path / "farm" / folder / path.name).symlink_to(path)
        tables = [data.load("market1501", tmp_path / name) for name in ("real", "farm")]
        assert tables[0].pids.tolist() == tables[1].pids.tolist()


@pytest.mark.parametrize("name", ["99999999999999999999999_c1s1_000451_03.jpg", "٣_c1s1_000451_03.jpg",
                                  "0002_c7s1_000451_03.jpg"])  # fmt: skip
def test_numbers_that_are_none(tmp_path, name):
    layouts.write_market1501(tmp_path)
    draw(tmp_path / "bounding_box_train" / name, 1, 1)
    with pytest.raises(ValueError, match=f"{name}.*rename it or move it away"):
        data.load("market1501", tmp_path)
