"""A dataset of one's own, in folders or listed in a file: its rows, `check`, and all that can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest

from dynamix import data
from dynamix.config import Batch
from dynamix.data.check import check
from dynamix.data.images import Images
from dynamix.experiments import datasets
from dynamix.experiments.datasets import Part
from tests.layouts import draw
from tests.layouts.own import write_own, write_own_videos

FORMS = ("folders", "market", "csv")
HEAD = "path,pid,camid"


def rows(table, home):
    paths = [os.path.relpath(path, home) for path in table.paths]
    return list(zip(paths, table.pids.tolist(), table.camids.tolist(), strict=True))


def expected(entries, split):
    return [(e.path, e.pid, e.camid) for e in entries if split in (e.split, "all")]


def listed(home: Path, text: str, encoding: str = "utf-8", files=("a.jpg", "b.png", "in/c.tif")) -> Path:
    """A folder of images and the file that lists them."""
    for number, name in enumerate(files):
        draw(home / name, number, number)
    (home / "labels.csv").write_bytes(text.encode(encoding))
    return home


def kinds(root):
    return [problem.kind for found in check(root, progress=False).datasets for problem in found.problems]


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("split", ["train", "query", "gallery", "all"])
    def test_rows(self, tmp_path, form, split):
        """pids and camids are the very numbers of the names or of the file."""
        entries = write_own(tmp_path / "own", form)
        for root in (tmp_path, tmp_path / "own"):
            table = data.load("own", root, split)
            assert rows(table, tmp_path / "own") == expected(entries, split)
            assert (table.videos == -1).all() and table.source_names == ("own",)
        assert Images.of(table, (32, 16)).pixels.shape == (len(table), 3, 32, 16)

    @pytest.mark.parametrize("form", FORMS)
    def test_it_is_checked_and_trained_like_any_other(self, tmp_path, form):
        write_own(tmp_path / "own", form)
        report = check(tmp_path, progress=False)
        assert [(found.name, found.folder.partition("/")[0]) for found in report.datasets] == [("own", "own")]
        assert kinds(tmp_path) == [] and kinds(tmp_path / "own") == []
        data.check_trainable(data.load("own", tmp_path), Batch(ids_multi=6, ids_single=0))

    def test_training_images_alone_are_no_problem(self, tmp_path):
        for camera in (1, 2):
            draw(tmp_path / "own" / "train" / f"1_c{camera}.png", 1, camera)
        assert kinds(tmp_path) == [] and len(data.load("own", tmp_path, "all")) == 2
        with pytest.raises(FileNotFoundError, match="own: no folder query in .*own; found train in"):
            data.load("own", tmp_path, "query")

    def test_nobody_and_number_0(self, tmp_path):
        """-1 is nobody; 0 is a person, but in the folder where Market-1501 has its distractors."""
        for train, gallery in (("train", "gallery"), ("bounding_box_train", "bounding_box_test")):
            home = tmp_path / train / "own"
            for folder in (train, gallery):
                for pid in (-1, 0, 7):
                    draw(home / folder / f"{pid}_c3.png", pid, 1)
            assert data.load("own", home).pids.tolist() == [0, 7]
            assert data.load("own", home, "gallery").pids.tolist() == [0, 7]
            both = [0, 7, 0, 7] if gallery == "gallery" else [0, 7, 7]
            assert data.load("own", home, "all").pids.tolist() == both

    @pytest.mark.parametrize(
        "name", ["cat.png", "12.png", "c3_12.png", "12_3.png", "12_cx.png", "-2_c1.png", "x12_c3.png"]
    )
    def test_a_name_that_does_not_parse(self, tmp_path, name):
        write_own(tmp_path)
        draw(tmp_path / "train" / name, 1, 1)
        with pytest.raises(ValueError, match=f"train/{name} is not named like 12_c3.png or 0012_c3s1_"):
            data.load("own", tmp_path)
        with pytest.warns(UserWarning, match="own: skipped 1 images"):
            assert len(data.load("own", tmp_path, on_bad_image="skip")) == 24

    def test_folders_under_both_names(self, tmp_path):
        write_own(tmp_path), write_own(tmp_path, "market")
        with pytest.raises(ValueError, match="holds train and bounding_box_train: move one away"):
            data.load("own", tmp_path)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="own: no train, query, gallery .* no .csv file of path"):
            data.load("own", tmp_path)


class TestFile:
    @pytest.mark.parametrize(
        ("text", "encoding"),
        [
            (f"{HEAD}\na.jpg,1,0\nb.png,2,-1\n", "utf-8"),
            (f"{HEAD}\na.jpg,1,0\nb.png,2,-1", "utf-8-sig"),
            (f"{HEAD}\r\na.jpg,1,0\r\n\r\nb.png,2,-1\r\n", "utf-8"),
            ("path;pid;camid\na.jpg;1;0\nb.png;2;-1\n", "utf-16"),
            ("path\tpid\tcamid\n./a.jpg\t1\t0\nb.png\t2\t-1\n", "utf-8"),
            ('"CamID","Path","pid "\n"0","a.jpg","1"\n-1,b.png,2\n', "utf-8"),
            (f"{HEAD},split\na.jpg,1,0,Train\nb.png,2,-1,train\n", "utf-8"),
            (f"{HEAD},video\na.jpg,1,0,\nb.png,2,-1,-1\n", "utf-8"),
        ],
    )  # fmt: skip
    def test_what_programs_write(self, tmp_path, text, encoding):
        table = data.load("own", listed(tmp_path, text, encoding))
        assert rows(table, tmp_path) == [("a.jpg", 1, 0), ("b.png", 2, -1)]
        assert table.notes == ("train, listed in labels.csv",)

    def test_a_path_of_windows_and_a_column_of_one_s_own(self, tmp_path):
        table = data.load("own", listed(tmp_path, f"{HEAD},bbox\nin\\c.tif,1,0,3 4 5\n"))
        assert rows(table, tmp_path) == [("in/c.tif", 1, 0)]
        assert table.notes == ("train, listed in labels.csv (columns not read: bbox)",)

    def test_nobody_s_images(self, tmp_path):
        assert data.load("own", listed(tmp_path, f"{HEAD}\na.jpg,-1,0\nb.png,0,1\n")).pids.tolist() == [0]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("path,pid\na.jpg,1", "labels.csv: the first line does not name camid: it must be path,pid"),
            ("pid,camid\n1,2", "the first line does not name path"),
            ("a.jpg,1,2", "the first line does not name path, pid, camid"),
            ("", "the first line does not name path"),
            (f"{HEAD},pid\na.jpg,1,0,1", "the first line names a column twice"),
            (HEAD, "labels.csv lists no image"),
            (f"{HEAD}\na.jpg,x,0", "labels.csv line 2: pid 'x' must be a whole number"),
            (f"{HEAD}\na.jpg,1.0,0", "line 2: pid '1.0' must be"),
            (f"{HEAD}\na.jpg,-2,0", "line 2: pid '-2' must be"),
            (f"{HEAD}\na.jpg,1,", "line 2: camid '' must be"),
            (f"{HEAD}\na.jpg,1,٣", "line 2: camid '٣' must be"),
            (f"{HEAD}\n\na.jpg,1", "line 3 has 2 fields, and the first line 3"),
            (f"{HEAD}\na.jpg,1,0\n./a.jpg,1,0", "line 3: a.jpg stands in .*labels.csv line 2 already"),
            (f"{HEAD}\n../own/a.jpg,1,0", "line 2: path '../own/a.jpg' must lead from the file's folder"),
            (f"{HEAD}\n/etc/a.jpg,1,0", "must lead from the file's folder"),
            (f"{HEAD}\nC:\\a.jpg,1,0", "must lead from the file's folder"),
            (f"{HEAD}\n,1,0", "must lead from the file's folder"),
            (f"{HEAD},split\na.jpg,1,0,test", "line 2: split 'test' must be one of train, query, gallery"),
            (f"{HEAD},video\na.jpg,1,0,v1\nb.png,1,0,", "line 2 has a video and .* line 3 has none"),
            (f"{HEAD}\ngone.jpg,1,0", "line 2: gone.jpg is listed but not there"),
            (f"{HEAD}\nlabels.csv,1,0", "line 2: labels.csv is in no format that is read"),
            (f"{HEAD}\na.jpg,1,99999999", "a.jpg has camera 99999999, which is too large"),
            (f"{HEAD}\na.jpg,99999999999999999,0", "a.jpg has pid 99999999999999999, which is too large"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_used(self, tmp_path, text, message):
        with pytest.raises(ValueError, match=message) as caught:
            data.load("own", listed(tmp_path / "own", text))
        assert "\n" not in str(caught.value)
        assert kinds(tmp_path) == ["unreadable"]

    def test_another_encoding(self, tmp_path):
        with pytest.raises(ValueError, match="labels.csv is no text in UTF-8 .byte 18.: save it as UTF-8"):
            data.load("own", listed(tmp_path, f"{HEAD}\ncafé.jpg,1,0\n", "latin-1"))

    def test_images_left_out_are_counted(self, tmp_path):
        listed(tmp_path / "own", f"{HEAD}\na.jpg,1,0\ngone.jpg,1,0\nb.heic,1,0\n")
        with pytest.warns(UserWarning, match="own: skipped 2 images, first: .*line 4: b.heic"):
            assert len(data.load("own", tmp_path, on_bad_image="skip")) == 1
        assert kinds(tmp_path) == ["refused"]

    def test_a_query_needs_its_camera(self, tmp_path):
        listed(tmp_path, f"{HEAD},split\na.jpg,1,-1,query\nb.png,1,-1,gallery\n")
        assert data.load("own", tmp_path, "gallery").camids.tolist() == [-1]
        with pytest.raises(ValueError, match="line 2: a.jpg is a query and its camera not known"):
            data.load("own", tmp_path, "query")

    def test_two_files(self, tmp_path):
        listed(tmp_path, f"{HEAD}\na.jpg,1,0\n")
        (tmp_path / "more.tsv").write_text("path\tpid\tcamid\nb.png\t1\t0\n")
        with pytest.raises(ValueError, match="labels.csv, .*more.tsv all list images: keep one"):
            data.load("own", tmp_path)

    def test_a_file_of_something_else(self, tmp_path):
        entries = write_own(tmp_path)
        (tmp_path / "ranking.csv").write_text("query,rank,image,similarity\n")
        assert rows(data.load("own", tmp_path), tmp_path) == expected(entries, "train")


class TestVideos:
    def test_rows(self, tmp_path):
        entries = write_own_videos(tmp_path / "own_videos")
        table = data.load("own_videos", tmp_path)
        assert rows(table, tmp_path / "own_videos") == expected(entries, "train")
        assert table.videos.tolist() == np.repeat(range(4), 12).tolist()
        with pytest.raises(FileNotFoundError, match="lists no image of split query"):
            data.load("own", tmp_path / "own_videos", "query")
        assert kinds(tmp_path) == []

    def test_nobody_s_images_stay_in_their_video(self, tmp_path):
        table = data.load("own", listed(tmp_path, f"{HEAD},video\na.jpg,-1,-1,x\nb.png,4,2,y\n"))
        assert table.labels.tolist() == [-1, 0] and table.videos.tolist() == [0, 1]
        assert table.camids.tolist() == [-1, -1]

    def test_they_are_for_training(self, tmp_path):
        listed(tmp_path, f"{HEAD},video,split\na.jpg,1,-1,x,query\n")
        with pytest.raises(ValueError, match="a.jpg has a video and split query: .* for training only"):
            data.load("own", tmp_path, "query")

    def test_the_file_tells_on_which_side_of_a_mixture_it_goes(self, tmp_path):
        write_own_videos(tmp_path / "clips" / "own"), write_own(tmp_path / "crops" / "own")
        roots = {side: {"own": tmp_path / side} for side in ("clips", "crops")}
        assert len(datasets.training_table([], [Part("own")], roots["clips"])) == 48
        assert len(datasets.training_table([Part("own")], [], roots["crops"])) == 24
        with pytest.raises(ValueError, match="own is single-camera data: give it with --single"):
            datasets.training_table([Part("own")], [], roots["clips"])
        with pytest.raises(ValueError, match="own is multi-camera data: give it with --sources"):
            datasets.training_table([], [Part("own")], roots["crops"])


def test_in_check_it_takes_no_dataset_s_place(tmp_path):
    """Own data may have anybody's names: a folder goes to it only if it fits better, or is called so."""
    for pid in range(4):
        for folder in ("bounding_box_train", "bounding_box_test", "query"):
            draw(tmp_path / "x" / folder / f"{pid:04d}_c{pid + 1}s1_000001_00.jpg", pid, len(folder))
    report = check(tmp_path / "x", progress=False)
    assert [found.name for found in report.datasets] == ["market1501"]
    draw(tmp_path / "x" / "bounding_box_train" / "0009_c12s1_000001_00.jpg", 9, 1)
    report = check(tmp_path / "x", progress=False)
    assert [found.name for found in report.datasets] == ["own"]
