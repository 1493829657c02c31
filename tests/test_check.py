"""`dynamix check`: which datasets lie under a folder, their counts, and everything that can be wrong."""

import json
import os
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from dynamix import data
from dynamix.data import published
from dynamix.data.check import Found, Report, Split, check, copies, files, findings
from dynamix.data.mannequins import worlds
from dynamix.data.market1501 import market1501
from dynamix.data.published import PUBLISHED, Published
from dynamix.data.table import Paths, from_columns
from tests.conftest import SMALL
from tests.layouts import cuhk, draw, large, luperson, small

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PATTERNS = {"market1501": "{:04d}_c{}s1_{:06d}_00.jpg", "dukemtmc": "{:04d}_c{}_f{:07d}.jpg"}


def write(home, pattern=PATTERNS["market1501"]):
    """Four training people and three test ones, in two cameras, with a distractor and a junk box."""
    for split, folder in FOLDERS.items():
        for pid in (2, 7, 9, 11) if split == "train" else (3, 5, 8):
            for cam in (1,) if split == "query" else (1, 2):
                draw(home / folder / pattern.format(pid, cam, 10 + len(split)), pid, 10 * len(split) + cam)
    if pattern == PATTERNS["market1501"]:
        draw(home / FOLDERS["gallery"] / "0000_c1s1_000001_00.jpg", 0, 1)
        draw(home / FOLDERS["gallery"] / "-1_c1s1_000001_00.jpg", -1, 1)
    return home


def look(root, **options) -> Report:
    return check(root, progress=False, **options)


def kinds(report: Report) -> list[str]:
    return [problem.kind for found in report.datasets for problem in found.problems]


def names(report: Report) -> list[tuple[str, str]]:
    return [(found.name, found.folder) for found in report.datasets]


def text(report: Report) -> str:
    return "\n".join(report.lines())


@pytest.fixture
def market(tmp_path):
    return write(tmp_path / "market1501" / "Market-1501-v15.09.15")


@pytest.fixture
def as_published(monkeypatch):
    """Set what is published for market1501's splits to the miniature's own counts, with changes."""

    def change(**splits: Published) -> None:
        own = {"train": Published(8, 4, 2), "query": Published(3, 3, 1), "gallery": Published(7, 3, 2)}
        monkeypatch.setitem(PUBLISHED, "market1501", own | splits)

    return change


class TestCounts:
    def test_a_complete_copy(self, tmp_path, market, as_published):
        as_published()
        report = look(tmp_path)
        assert not report.wrong and kinds(report) == []
        assert names(report) == [("market1501", "market1501/Market-1501-v15.09.15")]
        lines = report.lines()
        assert [re.sub(" +", " ", line) for line in lines[:5]] == [
            " images pids cameras",
            "market1501: market1501/Market-1501-v15.09.15",
            " train 8 ✓ 4 ✓ 2 ✓",
            " query 3 ✓ 3 ✓ 1 ✓",
            " gallery 7 ✓ 3 ✓ 2 ✓ 1 distractor",
        ]
        assert lines[-1] == "1 dataset, no problems"

    def test_distractors_are_no_pid_and_junk_no_image(self, market):
        gallery = look(market).datasets[0].splits[2]
        assert (gallery.images, gallery.pids, gallery.distractors) == (7, 3, 1)

    def test_a_small_subset_is_no_error(self, tmp_path, market):
        report = look(tmp_path)
        assert not report.wrong and "8 of 12,936 " in text(report)
        assert "fewer than half" in text(report)

    @pytest.mark.parametrize(
        ("wanted", "kind"), [(9, "incomplete"), (16, "incomplete"), (17, None), (7, "surplus"), (8, None)]
    )
    def test_half_or_more_of_a_split_is_an_incomplete_copy(self, market, as_published, wanted, kind):
        as_published(train=Published(wanted, 4, 2))
        report = look(market)
        assert kinds(report) == ([kind] if kind else []) and report.wrong == bool(kind)

    @pytest.mark.parametrize(
        ("wanted", "shown"), [(8, "8 ✓"), (9, "8 of 9 (−1)"), (7, "8 of 7 (+1)"), (17, "8 of 17")]
    )
    def test_counts_stand_beside_the_published_ones(self, market, as_published, wanted, shown):
        as_published(train=Published(wanted, 4, 2))
        assert f" train {shown} 4 ✓ 2 ✓" in " ".join(text(look(market)).split())

    @pytest.mark.parametrize("wanted", [Published(8, 5, 2), Published(8, 4, 6), Published(8, 4, videos=3)])
    def test_all_images_with_other_pids_or_cameras_are_misread(self, market, as_published, wanted):
        as_published(train=wanted)
        assert kinds(look(market)) == ["miscounted"]

    def test_the_markets_footnote(self):
        def lines(name, images):
            split = Split("gallery", images, 750, 6, 0)
            return "\n".join(Report("r", False, (Found(name, "f", False, (split,), ()),)).lines())

        for images in (15_913, 19_732):
            assert "19,732 files" in lines("market1501", images)
            assert "19,732" not in lines("dukemtmc", images).replace("19,732  ", "")
        assert "junk" not in lines("market1501", 15_912)

    def test_published_figures_add_up(self):
        def images(name, *splits):
            return sum(PUBLISHED[name][split].images for split in splits or PUBLISHED[name])

        assert images("market1501") - 2_798 == 29_419 and published.JUNK_OF_MARKET == 19_732 - 15_913
        assert images("dukemtmc") == 36_411
        assert images("cuhk03_detected") == 14_097 and images("cuhk03_labeled") == 14_096
        assert images("msmt17") == images("msmt17_merged") == 126_441
        assert images("cuhk02") == 7_264 and images("grid") == 1_275 and images("viper") == 4 * 316
        for splits in PUBLISHED.values():
            if "query" in splits:
                assert splits["query"].pids <= splits["gallery"].pids


JPEG, PNG, BMP = "jpeg", "png", "bmp"


def encoded(form, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (48, 24, 3)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, form)
    return buffer.getvalue()


def broken_inside(form):
    """Ends and size as they were; what lies between cannot be decoded."""
    whole = encoded(form)
    at = whole.index(b"\xff\xdb") if form == JPEG else len(whole) // 2
    return whole[:at] + b"\0" * 60 + whole[at + 60 :]


DAMAGE = {
    "empty": b"",
    "alien": b"<html>not found</html>",
    "zeros": b"\0" * 500,
    "jpeg cut": encoded(JPEG)[:-40],
    "jpeg half zeros": encoded(JPEG)[:400] + b"\0" * 3000,
    "png cut": encoded(PNG)[:-40],
    "bmp cut": encoded(BMP)[:-1],
    "webp cut": encoded("webp")[:-40],
    "tiff cut": encoded("tiff")[:-400],
    "film": b"RIFF\0\2\0\0AVI LIST" + b"\0" * 500,
}
EXPECTED = {"empty": "empty", "alien": "alien", "zeros": "alien", "film": "alien"} | dict.fromkeys(
    ("bmp cut", "webp cut", "tiff cut"), "undecodable"
)


class TestFiles:
    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest.mark.parametrize("split", ["train", "gallery"])
    def test_every_kind_of_damage_is_listed(self, market, damage, split):
        name = "0009_c3s1_000099_00.jpg" if split == "train" else "0003_c3s1_000099_00.jpg"
        (market / FOLDERS[split] / name).write_bytes(DAMAGE[damage])
        report = look(market)
        kind = EXPECTED.get(damage, "truncated")
        assert report.wrong and kinds(report) == [kind]
        (item,) = report.datasets[0].problems[0].items
        assert item.partition(" ")[0] == f"{FOLDERS[split]}/{name}"
        assert f"{FOLDERS[split]}/{name}" in text(report) and text(report).endswith("1 dataset, 1 problem")
        assert kinds(look(market, deep=True)) == [kind]  # not listed twice

    @pytest.mark.parametrize(
        "content",
        [
            encoded(JPEG) + b"\0" * 300 + b"\n",
            encoded(BMP)[:2] + b"\xff" * 4 + encoded(BMP)[6:],  # a wrong size in its header
            *map(encoded, (JPEG, PNG, BMP, "webp", "tiff", "gif", "ppm", "jpeg2000", "tga", "pcx", "ico")),
        ],
    )
    @pytest.mark.parametrize("deep", [False, True])
    def test_sound_files_are_judged_by_their_own_magic(self, market, content, deep):
        (market / FOLDERS["train"] / "0009_c3s1_000099_00.jpg").write_bytes(content)
        assert kinds(look(market, deep=deep)) == []

    def test_a_file_longer_than_a_piece(self, market, monkeypatch):
        monkeypatch.setattr(files, "PIECE", 512)
        monkeypatch.setattr(files, "TAIL", 128)
        path = market / FOLDERS["train"] / "0009_c3s1_000099_00.jpg"
        path.write_bytes(encoded(JPEG))
        (market / FOLDERS["query"] / "0003_c3s1_000099_00.jpg").write_bytes(encoded(JPEG)[:-9] + b"\0" * 9)
        assert kinds(look(market)) == ["truncated"]
        shutil.copy(path, market / FOLDERS["query"] / "0003_c3s1_000099_00.jpg")
        assert kinds(look(market)) == ["leak"]
        (market / FOLDERS["query"] / "0003_c3s1_000099_00.jpg").write_bytes(encoded(JPEG, seed=1))
        assert kinds(look(market)) == []

    @pytest.mark.parametrize("form", [JPEG, PNG])
    def test_only_deep_finds_what_is_broken_inside(self, market, form):
        (market / FOLDERS["query"] / "0003_c1s1_000099_00.jpg").write_bytes(broken_inside(form))
        assert kinds(look(market)) == []
        report = look(market, deep=True)
        assert kinds(report) == ["undecodable"] and report.wrong and report.deep
        (item,) = report.datasets[0].problems[0].items
        assert re.fullmatch(r"query/0003_c1s1_000099_00\.jpg \(.+\)", item)

    def test_a_file_that_cannot_be_opened(self, tmp_path):
        table = from_columns(
            "x", Paths.of(["a.jpg"], f"{tmp_path}/"), np.zeros(1, int), camids=np.zeros(1, int)
        )
        with ThreadPoolExecutor(1) as pool:
            found = files.examine(table, deep=False, hashed=True, pool=pool, advance=lambda n: None)
        assert [(seen.row, seen.kind) for seen in found.bad] == [(0, "missing")]
        (problem,) = findings.damage({"train": table}, {"train": found}, str(tmp_path))
        assert problem.items == ("a.jpg (No such file or directory)",)

    def test_a_name_of_any_bytes_can_be_printed(self, market):
        name = os.fsdecode(b"caf\xe9 holiday.jpg")
        (market / FOLDERS["query"] / name).write_bytes(encoded(JPEG))
        report = look(market)
        assert kinds(report) == ["refused"] and "holiday.jpg" in text(report)
        text(report).encode()
        json.dumps(report.as_dict()).encode()

    def test_names_that_do_not_parse(self, market):
        for number in range(2):
            (market / FOLDERS["query"] / f"holiday{number}.jpg").write_bytes(encoded(JPEG))
        report = look(market)
        assert kinds(report) == ["refused"] and report.wrong
        assert "2 files of query cannot be placed" in text(report) and "holiday0.jpg" in text(report)

    def test_refused_names_are_complete_where_the_reader_tells_them(self, market, monkeypatch):
        class Skipped(UserWarning):
            problems = ("one is bad", "two is bad")

        def read(root, split, **options):
            warnings.warn(Skipped("x: skipped 2 images, first: one is bad"), stacklevel=1)
            return market1501(root, split)

        monkeypatch.setitem(data.DATASETS, "market1501", replace(data.DATASETS["market1501"], read=read))
        problems = look(market).datasets[0].problems
        assert [problem.items for problem in problems] == [("one is bad", "two is bad")] * 3


class TestContent:
    def test_the_same_image_in_train_and_test(self, market):
        copied = market / FOLDERS["train"] / "0002_c1s1_000015_00.jpg"
        shutil.copy(copied, market / FOLDERS["query"] / "0005_c3s1_000099_00.jpg")
        shutil.copy(copied, market / FOLDERS["gallery"] / "0005_c4s1_000099_00.jpg")
        report = look(market)
        assert kinds(report) == ["leak", "repeated"] and report.wrong
        leak, repeated = report.datasets[0].problems
        pair = "bounding_box_train/0002_c1s1_000015_00.jpg = query/0005_c3s1_000099_00.jpg"
        assert len(leak.items) == 2 and pair in leak.items
        assert repeated.items == (
            "query/0005_c3s1_000099_00.jpg = bounding_box_test/0005_c4s1_000099_00.jpg",
        )

    def test_the_same_image_twice_in_one_split_is_no_leak(self, market):
        folder = market / FOLDERS["train"]
        shutil.copy(folder / "0002_c1s1_000015_00.jpg", folder / "0002_c1s1_000016_00.jpg")
        assert kinds(look(market)) == []

    def test_long_lists_are_cut_in_the_text_only(self, market):
        for number in range(15):
            (market / FOLDERS["train"] / f"0002_c1s1_{number + 100:06d}_00.jpg").write_bytes(b"")
        report = look(market)
        assert "15 images of zero bytes" in text(report) and "and 12 more" in text(report)
        values = json.loads(json.dumps(report.as_dict()))
        assert values["wrong"] is True and len(values["datasets"][0]["problems"][0]["items"]) == 15
        assert values["datasets"][0]["splits"][0]["published"]["images"] == 12_936


def tables_of(train=(), query=(), gallery=()):
    """Tables from (pid, camid) pairs."""

    def one(pairs):
        pids, camids = np.array(pairs, np.int64).T
        paths = Paths.of([f"{number}.jpg" for number in range(len(pairs))], "/nowhere/")
        return from_columns("x", paths, pids, camids=camids)

    parts = {"train": train, "query": query, "gallery": gallery}
    return {split: one(pairs) for split, pairs in parts.items() if pairs}


TRAIN = ((1, 0), (1, 1))


class TestProtocol:
    def found(self, name="market1501", **parts):
        return findings.protocol(name, tables_of(**parts))

    def test_nothing(self):
        assert self.found(train=TRAIN, query=((2, 0), (3, 1)), gallery=((2, 1), (2, 0), (3, 0), (0, 0))) == []
        assert self.found(train=TRAIN) == [] and self.found(query=((2, 0),)) == []

    def test_one_camera(self):
        (problem,) = self.found(query=((2, 3),), gallery=((2, 3), (4, 3)))
        assert problem.kind == "one camera" and "camids read from the names: 3" in problem.text

    def test_no_true_match_in_another_camera(self):
        (problem,) = self.found(query=((2, 0), (4, 1)), gallery=((2, 0), (4, 1), (5, 0), (2, 0)))
        assert problem.kind == "no match" and "0, 1" in problem.text
        assert self.found(query=((2, 0), (4, 1)), gallery=((2, 0), (4, 1), (4, 0))) == []  # one has

    def test_the_largest_numbers(self):
        most, camera = 2**53, 10**6
        assert self.found(query=((most, camera),), gallery=((most, 0), (1, camera))) == []

    def test_a_query_pid_without_gallery_images(self):
        (problem,) = self.found(query=((2, 0), (4, 1), (9, 0)), gallery=((2, 1), (3, 0)))
        assert problem.kind == "lonely" and problem.items == ("4", "9")

    def test_pids_in_train_and_test(self):
        test = {"query": ((1, 0), (2, 0)), "gallery": ((1, 1), (2, 1), (-1, 1))}
        (problem,) = self.found(train=((1, 0), (5, 1), (-1, 0)), **test)
        assert problem.kind == "overlap" and problem.items == ("1",)
        assert self.found("msmt17", train=((1, 0), (0, 0), (5, 1)), **test) == []  # numbered from 0 twice


class TestFinding:
    def test_several_with_a_stranger(self, tmp_path, market):
        write(tmp_path / "DukeMTMC-reID", PATTERNS["dukemtmc"])
        (tmp_path / "holidays" / "market1501").mkdir(parents=True)
        (tmp_path / "videos").mkdir()  # may be anything
        (tmp_path / "__MACOSX").mkdir()
        report = look(tmp_path)
        folders = [("market1501", "market1501/Market-1501-v15.09.15"), ("dukemtmc", "DukeMTMC-reID")]
        assert names(report) == folders and not report.wrong
        assert report.unrecognized == ("holidays", "videos")
        assert "not recognized: holidays, videos" in text(report)

    @pytest.mark.parametrize("name", ["market1501", "dukemtmc"])
    @pytest.mark.parametrize("folder", ["it", "query", "msmt17", "plaza", "cuhk03"])
    def test_a_dataset_s_own_folder_is_told_by_its_names(self, tmp_path, name, folder):
        home = write(tmp_path / folder, PATTERNS[name])
        report = look(home)
        assert names(report) == [(name if (name, folder) != ("market1501", "plaza") else "plaza", ".")]
        assert report.unrecognized == () and not report.wrong

    def test_relative_roots_and_links(self, tmp_path, market, monkeypatch):
        monkeypatch.chdir(market)
        assert names(look(".")) == [("market1501", ".")]
        (tmp_path / "roots").mkdir()
        (tmp_path / "roots" / "market").symlink_to(market)
        (tmp_path / "roots" / "Market-1501").symlink_to(market)
        report = look(tmp_path / "roots")
        assert len(report.datasets) == 1 and report.unrecognized == ()

    def test_every_copy_is_reported_once(self, tmp_path, market):
        write(tmp_path / "market")
        folders = {"market1501/Market-1501-v15.09.15", "market"}
        assert {folder for _, folder in names(look(tmp_path))} == folders

    def test_a_folder_of_another_dataset_s_name(self, tmp_path):
        write(tmp_path / "market1501", PATTERNS["dukemtmc"])
        report = look(tmp_path)
        assert names(report) == [("market1501", "market1501")] and kinds(report) == ["unreadable"]
        (problem,) = report.datasets[0].problems
        assert "no usable image" in problem.text and "0002_c1_f0000015.jpg is not named like" in problem.text

    def test_a_named_folder_that_cannot_be_read_is_a_row(self, tmp_path, market):
        (tmp_path / "VIPeR" / "cam_c").mkdir(parents=True)
        report = look(tmp_path)
        assert names(report)[1] == ("viper", "VIPeR") and kinds(report) == ["unreadable"] and report.wrong
        assert report.datasets[1].splits == () and "cannot be read, see below" in text(report)
        assert "none of cam_a, cam_b" in report.datasets[1].problems[0].text
        assert kinds(look(tmp_path / "VIPeR")) == ["unreadable"]

    def test_a_split_that_is_missing(self, market):
        shutil.rmtree(market / "query")
        report = look(market)
        assert kinds(report) == ["unreadable"] and len(report.datasets[0].splits) == 2
        assert report.datasets[0].problems[0].text.startswith("query cannot be read: ")

    def test_any_error_of_a_reader_is_one_line(self, market, monkeypatch):
        def read(root, split, **options):
            raise KeyError("what\nis this")

        monkeypatch.setitem(data.DATASETS, "market1501", replace(data.DATASETS["market1501"], read=read))
        report = look(market.parent.parent)
        assert kinds(report) == ["unreadable"] and all("\n" not in line for line in report.lines())

    def test_nothing_found(self, tmp_path):
        (tmp_path / "stuff").mkdir()
        report = look(tmp_path)
        assert report.wrong and report.datasets == ()
        assert "no dataset in" in text(report) and "it holds stuff" in text(report)
        assert "Market-1501-v15.09.15" in text(report) and "LUPerson-NL" in text(report)
        with pytest.raises(FileNotFoundError, match="is no folder"):
            look(tmp_path / "none")

    def test_only_some(self, tmp_path, market):
        write(tmp_path / "duke", PATTERNS["dukemtmc"])
        (tmp_path / "x").mkdir()
        report = look(tmp_path, names=("market",))
        assert [name for name, _ in names(report)] == ["market1501"] and report.unrecognized == ("x",)
        report = look(tmp_path, names=("duke", "viper"))
        assert [name for name, _ in names(report)] == ["dukemtmc", "viper"] and kinds(report) == ["absent"]
        assert text(report).endswith("1 dataset, 1 problem")
        with pytest.raises(ValueError, match="unknown dataset 'mars'"):
            look(tmp_path, names=("mars",))

    def test_worlds_are_marked(self, tmp_path, world_roots):
        for name, folder in world_roots.items():
            (tmp_path / name).symlink_to(folder)
        report = look(tmp_path)
        assert names(report)[:2] == [("plaza", "plaza"), ("hall", "hall")] and not report.wrong
        assert [found.mannequins for found in report.datasets] == [True] * 3
        assert all(split.published is None for found in report.datasets for split in found.splits)
        assert "plaza (Mannequins): plaza" in text(report) and "videos (Mannequins): videos" in text(report)

    @pytest.mark.parametrize(("folder", "name"), [("plaza", ["plaza"]), ("market1501", [])])
    def test_a_world_is_never_called_by_a_real_name(self, tmp_path, world_roots, monkeypatch, folder, name):
        shutil.copytree(world_roots["plaza"], tmp_path / folder)
        assert [found.name for found in look(tmp_path / folder).datasets] == name
        monkeypatch.chdir(tmp_path / folder)
        assert [found.name for found in look(".").datasets] == name

    def test_worlds_in_the_layouts_they_stand_for(self, tmp_path):
        worlds.write(SMALL, tmp_path, worlds=("hall", "station", "studio"), layout="native", progress=False)
        report = look(tmp_path)
        assert [found.name for found in report.datasets] == ["hall", "station", "studio"]
        assert kinds(report) == [] and all(found.mannequins for found in report.datasets)
        assert [split.split for split in report.datasets[2].splits] == ["all"]
        (tmp_path / "hall" / "layout.json").write_text("{}")
        assert kinds(look(tmp_path)) == ["unreadable"]

    def test_a_broken_world(self, tmp_path, world_roots):
        (tmp_path / "videos").mkdir()
        shutil.copy(world_roots["videos"] / copies.TRUTH, tmp_path / "videos")
        assert kinds(look(tmp_path)) == ["unreadable"]


class TestDatabases:
    @pytest.fixture
    def videos(self, tmp_path, world_roots):
        shutil.copytree(world_roots["videos"], tmp_path / "lupnl_lmdb", ignore=lambda *_: {copies.TRUTH})
        return tmp_path / "lupnl_lmdb"

    def damage(self, videos, row, value):
        key = data.load("luperson_nl", videos).paths[row].rpartition("::")[2]
        with lmdb.open(str(videos / "lmdb")) as environment, environment.begin(write=True) as transaction:
            transaction.put(key.encode(), value)
        return key

    def test_counts(self, videos):
        report = look(videos.parent)
        (split,) = report.datasets[0].splits
        assert names(report)[0][0] == "luperson_nl" and not report.wrong
        assert split.videos == 6 and split.cameras == 0 and "videos" in text(report)

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (b"", "empty"),
            (b"hello", "alien"),
            (encoded(JPEG)[:-60], "truncated"),
            (broken_inside(JPEG), "undecodable"),
        ],
    )
    def test_damaged_values(self, videos, value, kind):
        key = self.damage(videos, 3, value)
        report = look(videos.parent)
        assert (
            kinds(report) == [kind] and f"lupnl_lmdb/lmdb::{key}" in report.datasets[0].problems[0].items[0]
        )

    def test_only_a_sample_is_looked_at_without_deep(self, videos, monkeypatch):
        monkeypatch.setattr(files, "SAMPLE", 5)
        table = data.load("luperson_nl", videos)
        assert files.rows_of(table, deep=False).tolist()[0::4] == [0, len(table) - 1]
        self.damage(videos, 1, b"hello")  # between the first two of the sample
        report = look(videos.parent)
        assert not report.wrong and f"decoded 5 of {len(table):,} images, --deep decodes all" in text(report)
        report = look(videos.parent, deep=True)
        assert kinds(report) == ["alien"] and "decoded" not in text(report)


def write_all(root):
    """A miniature of every layout under its usual folder name."""
    large.write_market1501(root / "market1501" / "Market-1501-v15.09.15")
    large.write_dukemtmc(root / "DukeMTMC-reID")
    large.write_msmt17(root / "MSMT17_V1", "V1")
    large.write_msmt17(root / "MSMT17_V2", "V2")
    large.write_msmt17(root / "msmt", "market")
    large.write_randperson(root / "randperson_subset")
    luperson.write_luperson(root / "lup_lmdb")
    luperson.write_luperson_nl(root / "LUPerson-NL")
    luperson.write_luperson_nl(root / "lup-nl", "tree")
    cuhk.write_cuhk03(root / "cuhk03-np")
    cuhk.write_cuhk02(root / "cuhk02")
    cuhk.write_cuhk_sysu(root / "CUHK-SYSU", "c")
    small.write_prid(root / "prid2011" / "prid_2011")
    small.write_grid(root / "grid" / "underground_reid")
    small.write_viper(root / "viper" / "VIPeR")
    small.write_ilids(root / "ilids" / "i-LIDS_Pedestrian")


@pytest.fixture(scope="module")
def root(tmp_path_factory, world_roots):
    root = tmp_path_factory.mktemp("all")
    write_all(root)
    for name in ("plaza", "videos"):
        shutil.copytree(world_roots[name], root / name)
    return root


class TestAll:
    def test_the_whole_table(self, root, capsys):
        report = look(root)
        found = [name for name, _ in names(report)]
        assert kinds(report) == ["several"] and report.unrecognized == ()  # of MSMT17's three versions
        assert list(dict.fromkeys(found)) == [
            name
            for name in data.DATASETS
            if name not in ("campus", "hall", "station", "studio", "own", "own_videos")
        ]
        assert found.count("msmt17") == found.count("msmt17_merged") == 3 and len(found) == 22
        shown = text(report)
        assert all(f"\n{name}: " in shown or f"\n{name} (Mannequins): " in shown for name in found)
        assert max(map(len, report.lines())) <= 110
        assert capsys.readouterr().out == ""
        json.dumps(report.as_dict())

    def test_each_alone_is_found_under_its_own_name(self, root):
        whole = {}
        for name, folder in names(look(root)):
            whole.setdefault(Path(folder).parts[0], set()).add(name)
        for child, expected in whole.items():
            assert {name for name, _ in names(look(root / child))} == expected

    def test_one_variant_of_cuhk03_is_enough(self, tmp_path):
        cuhk.write_cuhk03(tmp_path / "cuhk03-np", variants=("detected",))
        report = look(tmp_path)
        assert names(report) == [("cuhk03_detected", "cuhk03-np/detected")] and not report.wrong
        (tmp_path / "cuhk03-np" / "labeled" / "query").mkdir(parents=True)
        (tmp_path / "cuhk03-np" / "labeled" / "query" / "me.png").write_bytes(encoded(PNG))
        assert names(look(tmp_path))[1] == ("cuhk03_labeled", "cuhk03-np") and look(tmp_path).wrong

    def test_msmt17_is_not_looked_at_again_as_its_merger(self, tmp_path):
        entries = large.write_msmt17(tmp_path / "MSMT17")
        first = next(entry.path for entry in entries if entry.split == "train")
        (path,) = tmp_path.rglob(Path(first).name)
        path.write_bytes(b"")
        report = look(tmp_path)
        assert [found.name for found in report.datasets] == ["msmt17", "msmt17_merged"]
        assert kinds(report) == ["empty"]

    def test_raw_cuhk03_is_reported_where_it_lies(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
        cuhk.write_cuhk03_raw(tmp_path / "data" / "cuhk03")
        report = look(tmp_path / "data")
        assert names(report) == [("cuhk03_detected", "cuhk03"), ("cuhk03_labeled", "cuhk03")]
        assert not report.wrong and report.unrecognized == ()
