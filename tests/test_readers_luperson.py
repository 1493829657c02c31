"""LUPerson-NL and LUPerson: every form, everything wrong with it, the cached index, sharing with workers."""

import io
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dynamix import data
from dynamix.data import stores
from dynamix.data.images import Images, chunks, decode
from dynamix.data.luperson import KEY, index, keys, luperson, luperson_nl, tree
from dynamix.data.table import Table
from tests.layouts.luperson import VIDEOS, write_luperson, write_luperson_nl

KEYS = [
    "00003_000011_0000100_01",
    "00003_000011_0000200_01",
    "00007_000011_0000100_02",
    "00007_000012_0000100_03",
]
COLUMNS = ("pids", "labels", "camids", "videos", "sources")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYNAMIX_CACHE", str(folder))
    return folder / "indexes"


@pytest.fixture
def cached(monkeypatch):
    """Small tables are kept too."""
    monkeypatch.setattr(index, "ROWS", 1)


def write(root, content=None, stored=KEYS):
    """An LMDB of the keys `stored` beside a keys.pkl of any content."""
    content = {"keys": KEYS, "pids": [11, 11, 20, 12]} if content is None else content
    (root / "lmdb").mkdir(parents=True)
    (root / "keys.pkl").write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 16), (200, 0, 0)).save(buffer, "PNG")
    with lmdb.open(str(root / "lmdb"), map_size=1 << 23) as store, store.begin(write=True) as writing:
        for key in stored:
            writing.put(key.encode(), buffer.getvalue())
    return root


def assert_same(left: Table, right: Table):
    assert list(left.paths) == list(right.paths) and left.notes == right.notes
    for name in COLUMNS:
        assert getattr(left, name).tolist() == getattr(right, name).tolist()


class TestForms:
    @pytest.mark.parametrize("content", ["dict", "list"])
    def test_lmdb(self, tmp_path, content):
        entries = write_luperson_nl(tmp_path, content=content)
        table = data.load("luperson_nl", tmp_path)
        assert list(table.paths) == [f"{tmp_path / 'lmdb'}::{entry.path}" for entry in entries]
        assert table.pids.tolist() == table.labels.tolist() == [entry.pid for entry in entries]
        assert table.videos.tolist() == np.repeat([0, 1, 2], 12).tolist()
        assert (table.camids == -1).all() and table.source_names == ("luperson_nl",)
        source = {"dict": "pids of keys.pkl", "list": "pids per video from the keys"}[content]
        assert table.notes == (f"train, LMDB, {source}",)
        assert Images.of(table, (32, 16)).pixels.shape == (36, 3, 32, 16)

    @pytest.mark.parametrize("form", ["tree", "flat"])
    @pytest.mark.parametrize("parent", ["", "lup-nl", "LUPerson-NL"])
    def test_extracted_images(self, tmp_path, form, parent):
        entries = write_luperson_nl(tmp_path / parent, form)
        table = data.load("luperson_nl", tmp_path, "all")
        assert list(table.paths) == [str(tmp_path / parent / entry.path) for entry in entries]
        assert table.pids.tolist() == table.labels.tolist() == [entry.pid for entry in entries]
        assert table.videos.tolist() == np.repeat([0, 1, 2], 12).tolist()
        said = f", in {parent}" if parent else ""
        assert table.notes == (f"all, extracted images, pids per video from the file names{said}",)
        assert Images.of(table, (32, 16)).pixels.shape == (36, 3, 32, 16)

    @pytest.mark.parametrize("content", ["list", "dict"])
    def test_luperson(self, tmp_path, content):
        entries = write_luperson(tmp_path, content)
        table = data.load("luperson", tmp_path)
        assert list(table.paths) == [f"{tmp_path / 'lmdb'}::{entry.path}" for entry in entries]
        assert table.pids.tolist() == table.labels.tolist() == [entry.pid for entry in entries]
        assert table.videos.tolist() == np.repeat([0, 1, 2, 3], 6).tolist()
        assert (table.camids == -1).all() and table.source_names == ("luperson",)
        assert table.notes == ("train, LMDB, no labels, every image its own pid",)
        assert Images.of(table, (32, 16)).pixels.shape == (24, 3, 32, 16)

    @pytest.mark.parametrize("parent", ["lupnl_lmdb", "luperson_nl/lupnl_lmdb", "LUP-NL", "lmdb", "lmdbs"])
    def test_usual_folders_of_luperson_nl(self, tmp_path, parent):
        write_luperson_nl(tmp_path / parent)
        assert len(luperson_nl(str(tmp_path))) == 36

    @pytest.mark.parametrize("parent", ["lup_lmdb", "luperson", "LUPerson", "lmdbs"])
    def test_usual_folders_of_luperson(self, tmp_path, parent):
        write_luperson(tmp_path / parent)
        assert len(luperson(tmp_path)) == 24

    @pytest.mark.parametrize("store", ["lup_lmdb", ""])
    def test_where_the_lmdb_lies(self, tmp_path, store):
        write_luperson(tmp_path)
        (tmp_path / "lmdb" / "data.mdb").rename(tmp_path / "data.mdb")
        if store:
            (tmp_path / store).mkdir()
            (tmp_path / "data.mdb").rename(tmp_path / store / "data.mdb")
        table = luperson(tmp_path)
        assert (
            table.paths[0] == f"{tmp_path / store}::00_00_0000_00000000" and len(decode(table.paths[0])) == 3
        )

    def test_the_lmdb_comes_before_extracted_images(self, tmp_path):
        write_luperson_nl(tmp_path, "tree")
        write_luperson_nl(tmp_path)
        assert luperson_nl(tmp_path).notes[0].startswith("train, LMDB")

    @pytest.mark.parametrize("reader", [luperson, luperson_nl])
    def test_missing(self, tmp_path, reader):
        (tmp_path / "photos").mkdir()
        with pytest.raises(FileNotFoundError, match="no keys.pkl beside lmdb/data.mdb.*found photos"):
            reader(tmp_path)
        write(tmp_path / "a" / "lmdb")
        (tmp_path / "a" / "lmdb" / "keys.pkl").unlink()
        with pytest.raises(FileNotFoundError, match="found lmdb in"):
            reader(tmp_path / "a")
        with pytest.raises(ValueError, match="no split 'query'"):
            reader(tmp_path, "query")
        with pytest.raises(ValueError, match="on_bad_image must be"):
            reader(tmp_path, on_bad_image="ignore")


class TestTree:
    def test_a_video_in_two_cities_is_taken_once(self, tmp_path):
        entries = write_luperson_nl(tmp_path, "tree")
        again = tmp_path / "germany" / "munich"
        again.mkdir()
        (tmp_path / "germany" / "berlin" / VIDEOS[0][2]).rename(again / VIDEOS[0][2])
        (tmp_path / "germany" / "bonn" / VIDEOS[0][2]).mkdir()  # sorts before munich, holds nothing
        table = luperson_nl(tmp_path)
        assert len(table) == len(entries) - 12 and not any("berlin" in path for path in table.paths)
        (tmp_path / "germany" / "bonn" / VIDEOS[0][2] / "000000_0000001_00.jpg").write_bytes(b"")
        table = luperson_nl(tmp_path)
        assert len(table) == len(entries) - 11
        assert table.notes[0].endswith(", 1 videos that lie in two cities taken once")

    def test_folders_mean_nothing_to_names_that_tell_the_video(self, tmp_path):
        entries = write_luperson_nl(tmp_path, "flat")
        for number, entry in enumerate(entries):
            part = tmp_path / "ab"[number % 2] / "images"
            part.mkdir(parents=True, exist_ok=True)
            (tmp_path / entry.path).rename(part / entry.path)
        table = luperson_nl(tmp_path)
        assert len(table) == 36 and table.pids.tolist() == [
            entry.pid for entry in entries[::2] + entries[1::2]
        ]

    def test_numbers_restart_in_each_video(self, tmp_path):
        for video in ("a/b/one", "a/b/two"):
            (tmp_path / video).mkdir(parents=True)
            for name in ("000003_0000001_00.jpg", "000003_0000002_00.jpg", "000001_0000001_00.jpg"):
                (tmp_path / video / name).write_bytes(b"")
        table = luperson_nl(tmp_path)
        assert table.pids.tolist() == [0, 1, 1, 2, 3, 3] and table.videos.tolist() == [0] * 3 + [1] * 3

    def test_clutter_and_links(self, tmp_path):
        write_luperson_nl(tmp_path, "tree")
        video = tmp_path.joinpath(*VIDEOS[0])
        (video / "._000000_0000017_00.jpg").write_bytes(b"")
        (video / "readme.txt").write_bytes(b"")
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / "__MACOSX" / "000000_0000017_00.jpg").write_bytes(b"")
        (tmp_path / "zz").symlink_to(tmp_path)  # a circle
        assert len(luperson_nl(tmp_path)) == 36

    @pytest.mark.parametrize("name", ["cat.jpg", "000000_0000017_0.jpg", "cat.png"])
    def test_a_name_that_does_not_parse(self, tmp_path, name):
        entries = write_luperson_nl(tmp_path, "tree")
        bad = tmp_path.joinpath(*VIDEOS[1]) / name
        bad.write_bytes(b"")
        with pytest.raises(ValueError, match=f"{re.escape(str(bad))} is not named like"):
            luperson_nl(tmp_path)
        with pytest.warns(UserWarning, match=f"luperson_nl: skipped 1 images, first: .*{name}"):
            table = luperson_nl(tmp_path, on_bad_image="skip")
        assert len(table) == len(entries) and table.notes[0].endswith(", 1 images skipped")
        assert table.pids.tolist() == [entry.pid for entry in entries]

    def test_two_kinds_of_names(self, tmp_path):
        write_luperson_nl(tmp_path, "tree")
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / f"{KEYS[0]}.jpg").write_bytes(b"")
        with pytest.raises(ValueError, match="one kind"):
            luperson_nl(tmp_path)

    @pytest.mark.parametrize("form", ["tree", "flat"])
    def test_pids_of_keys_pkl_win(self, tmp_path, form):
        entries = write_luperson_nl(tmp_path, form)
        listed = write_luperson_nl(tmp_path / "other")
        order = np.random.default_rng(0).permutation(len(listed))
        content = {"keys": [listed[at].path for at in order], "pids": [listed[at].pid + 70 for at in order]}
        (tmp_path / "keys.pkl").write_bytes(pickle.dumps(content))
        for name in ("lmdb", ""):
            for file in list((tmp_path / "other" / name).glob("*.*")):
                file.unlink()
        table = luperson_nl(tmp_path)
        assert table.pids.tolist() == [entry.pid + 70 for entry in entries]
        assert list(table.paths) == [str(tmp_path / entry.path) for entry in entries]
        assert table.notes == ("train, extracted images, pids of keys.pkl",)

    def test_keys_pkl_that_differs(self, tmp_path):
        entries = write_luperson_nl(tmp_path, "flat")
        names = [entry.path.removesuffix(".jpg") for entry in entries]
        (tmp_path / "keys.pkl").write_bytes(pickle.dumps({"keys": names[1:], "pids": list(range(35))}))
        with pytest.raises(ValueError, match=f"image {names[0]} is not in .*keys.pkl"):
            luperson_nl(tmp_path)
        (tmp_path / "keys.pkl").write_bytes(pickle.dumps([*names, KEYS[3]]))
        with pytest.raises(ValueError, match=f"no image {KEYS[3]} below"):
            luperson_nl(tmp_path)
        (tmp_path / "keys.pkl").write_bytes(
            pickle.dumps({"keys": names[2:] + [KEYS[3]], "pids": [*range(35)]})
        )
        with pytest.warns(UserWarning, match=f"skipped 3 images, first: image {names[0]}"):
            table = luperson_nl(tmp_path, on_bad_image="skip")
        assert table.pids.tolist() == list(range(34)) and table.paths[0] == str(tmp_path / f"{names[2]}.jpg")

    def test_only_bad_names(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "000000_0000017.jpg").write_bytes(b"")
        with pytest.raises(FileNotFoundError, match="nor images named"):
            luperson_nl(tmp_path)
        with pytest.raises(ValueError, match="no usable image"):
            tree.read(tmp_path, keys.Refused("skip"))


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


BAD_KEYS = [
    "", "00003_000011_0000100_1", "00003_000011_0000100_011", "00003-000011_0000100_01", 5, None, ["x"],
    b"00003_000011_0000100_01", "0000x_000011_0000100_01", "00003_000011_0000100_0é",
    "00003_000011_0000100_01.jpg", "00003_000011_0000100\n01", "00003_000011_0000100_01\n",
    "00003_000011_0000100_0١", "000030_00011_0000100_01",
]  # fmt: skip


class TestKeys:
    def test_a_number_is_one_person_per_video_without_pids(self, tmp_path):
        for at, content in enumerate([{"keys": KEYS}, KEYS, {"keys": KEYS, "pids": None}]):
            assert luperson_nl(write(tmp_path / str(at), content)).labels.tolist() == [0, 0, 1, 2]

    def test_pids_are_the_files_own(self, tmp_path):
        table = luperson_nl(write(tmp_path))
        assert table.pids.tolist() == [11, 11, 20, 12] and table.labels.tolist() == [0, 0, 2, 1]

    def test_minus_one_is_nobody(self, tmp_path):
        table = luperson_nl(write(tmp_path, {"keys": KEYS, "pids": [4, -1, 9, -1]}))
        assert table.labels.tolist() == [0, -1, 1, -1]

    def test_a_pickle_that_runs_code_is_refused(self, tmp_path):
        target = tmp_path / "owned"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for content in ({"keys": KEYS, "pids": Exploit(str(target))}, [*KEYS, Exploit(str(target))]):
                path = tmp_path / f"{protocol}{type(content).__name__}"
                write(path, pickle.dumps(content, protocol=protocol))
                for reader in (luperson_nl, luperson):
                    with pytest.raises(ValueError, match="keys.pkl is not a plain pickle.*mkdir") as caught:
                        reader(path, on_bad_image="skip")
                    assert "\n" not in str(caught.value)
        assert not target.exists()

    @pytest.mark.parametrize("content", [b"", b"\x80\x04junk", pickle.dumps({"keys": KEYS})[:-9]])
    def test_a_broken_pickle(self, tmp_path, content):
        with pytest.raises(ValueError, match="not a plain pickle"):
            luperson_nl(write(tmp_path, content))

    def test_even_numpy_arrays_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="numpy"):
            luperson_nl(write(tmp_path, {"keys": KEYS, "pids": np.arange(4)}))

    @pytest.mark.parametrize(
        "content, message",
        [
            ({"keys": KEYS, "pids": [1, 2]}, "4 keys but 2 pids"),
            ({"keys": KEYS[:3], "pids": [1, 2, 3, 4]}, "3 keys but 4 pids"),
            ({"keys": KEYS, "pids": ["a"] * 4}, "not a list of integers"),
            ({"keys": KEYS, "pids": [1.5] * 4}, "not a list of integers"),
            ({"keys": KEYS, "pids": [True] * 4}, "not a list of integers"),
            ({"keys": KEYS, "pids": [2**70] * 4}, "not a list of integers"),
            ({"keys": KEYS, "pids": [[1], [1, 2], 3, 4]}, "not a list of integers"),
            ({"keys": KEYS, "pids": 7}, "not a list of integers"),
            ({"keys": KEYS, "pids": [1, 2, -5, 3]}, r"pid -5 \(number 2\)"),
            ({"names": KEYS}, "no dict with a list 'keys'"),
            ({"keys": "all"}, "no dict with a list 'keys'"),
            (7, "no dict with a list 'keys'"),
            ({"keys": []}, "lists no image"),
            ([], "lists no image"),
        ],
    )
    def test_bad_content(self, tmp_path, content, message):
        with pytest.raises(ValueError, match=message) as caught:
            luperson_nl(write(tmp_path, content))
        assert "keys.pkl" in str(caught.value)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_bad_key_is_named(self, tmp_path, key):
        write(tmp_path, {"keys": [*KEYS[:2], key, *KEYS[3:]], "pids": [11, 11, 20, 12]})
        with pytest.raises(ValueError, match=r"\(number 2\)") as caught:
            luperson_nl(tmp_path)
        assert "\n" not in str(caught.value)
        with pytest.warns(UserWarning, match=r"luperson_nl: skipped 1 images, first: key .*\(number 2\)"):
            table = luperson_nl(tmp_path, on_bad_image="skip")
        assert [path[-23:] for path in table.paths] == [KEYS[0], KEYS[1], KEYS[3]]
        assert table.pids.tolist() == [11, 11, 12] and table.notes[0].endswith(", 1 images skipped")

    def test_only_bad_keys(self, tmp_path):
        write(tmp_path, ["a", "b"])
        with pytest.raises(ValueError, match="no usable image .*key 'a'"):
            luperson_nl(tmp_path, on_bad_image="skip")

    @pytest.mark.parametrize(
        "key", ["00_00_0000", "00_00_0000_00000000_1", "00_00__00000000", "0_0_0_" + "1" * 19, "0_-1_0_1", 3]
    )
    def test_a_bad_key_of_luperson(self, tmp_path, key):
        write(tmp_path, ["00_00_0000_00000000", key], stored=["00_00_0000_00000000"])
        with pytest.raises(ValueError, match=r"\(number 1\) .*\{country:02d\}_\{city:02d\}"):
            luperson(tmp_path)
        with pytest.warns(UserWarning, match="luperson: skipped 1 images"):
            assert len(luperson(tmp_path, on_bad_image="skip")) == 1

    def test_other_widths_of_luperson(self, tmp_path):
        some = ["0_0_7_1", "0_0_7_22", "0_11_7_1", "1_1_7_333", "00_011_0007_5", "123456789012345678_1_7_1"]
        table = luperson(write(tmp_path, some, stored=some))
        assert [path.rpartition("::")[2] for path in table.paths] == some
        assert table.videos.tolist() == [0, 0, 1, 2, 1, 3] and table.labels.tolist() == [0, 1, 2, 3, 4, 5]

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(
            st.one_of(
                st.tuples(*[st.integers(0, 10**6)] * 3).map(lambda n: "_".join(map(str, n))),
                st.tuples(*[st.integers(0, 99)] * 3).map(lambda n: "_".join(f"{x:02d}" for x in n)),
                st.text("01_\n", max_size=6),
                st.none(),
            ),
            max_size=20,
        ),
        st.integers(1, 7),
    )
    def test_take_apart_is_the_loop(self, some, block):
        layout = keys.Layout("any", (None, None, None))
        good = [isinstance(key, str) and bool(re.fullmatch(r"[0-9]+_[0-9]+_[0-9]+", key)) for key in some]
        wanted = [key for key, fits in zip(some, good, strict=True) if fits]
        before, keys.BLOCK = keys.BLOCK, block
        try:
            refused = keys.Refused("skip")
            parsed = keys.take_apart(
                list(some) or ["1_1_1"], layout, slice(1, 3), refused, lambda key, at: f"{at} {key!r}"
            )
        finally:
            keys.BLOCK = before
        first = [f"{at} {key!r}" for at, key in enumerate(some) if not good[at]][:1]
        assert (refused.count, refused.first) == (len(some) - len(wanted), first[0] if first else "")
        if some:
            assert list(parsed.paths()) == wanted and parsed.kept.tolist() == good
            assert parsed.numbers.tolist() == [[int(n) for n in key.split("_")[1:]] for key in wanted]

    def test_fixed_widths_take_no_memory_for_lengths(self):
        parsed = keys.take_apart(list(KEYS), tree.KEY, slice(0, 2), keys.Refused(), lambda key, at: "")
        assert parsed.paths().lengths.strides == (0,) and list(parsed.paths()) == KEYS
        assert parsed.numbers.tolist() == [[3, 11], [3, 11], [7, 11], [7, 12]]
        assert KEY.format(video=3, pid=11, frame=100, box=1) == KEYS[0]


CUTS = """
import sys
from pathlib import Path
from dynamix.data.luperson import luperson_nl
from dynamix.data.stores import value
root, whole = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
for cut in map(int, sys.argv[3:]):
    (root / "lmdb" / "data.mdb").write_bytes(whole[:cut])
    for read in (lambda: luperson_nl(root), lambda: value(f"{root}/lmdb", "00003_000011_0000100_01")):
        try:
            read()
            print(cut, "read", flush=True)
        except ValueError as error:
            print(cut, "refused", str(error).count("\\n"), "data.mdb" in str(error) or "LMDB" in str(error))
"""


class TestStore:
    def test_cut_short(self, tmp_path):
        write(tmp_path, stored=[*KEYS, *(f"{row:05d}" for row in range(300))])
        whole = tmp_path / "whole.mdb"
        (tmp_path / "lmdb" / "data.mdb").rename(whole)
        size = whole.stat().st_size
        cuts = [0, 1, 4095, 4096, 8191, 8192, 12288, size // 2, size - 4096, size - 1, size]
        assert size > 40_000
        command = [sys.executable, "-c", CUTS, str(tmp_path), str(whole), *map(str, cuts)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"killed by signal {-done.returncode} after {done.stdout!r}"
        wanted = [f"{cut} refused 0 True" for cut in cuts[:-1] for _ in range(2)] + [f"{size} read"] * 2
        assert done.stdout.split("\n")[:-1] == wanted

    def test_no_lmdb(self, tmp_path):
        write(tmp_path)
        (tmp_path / "lmdb" / "data.mdb").write_bytes(b"x" * 9000)
        with pytest.raises(ValueError, match="cannot open the LMDB"):
            luperson_nl(tmp_path)

    def test_fewer_entries_than_keys(self, tmp_path):
        write(tmp_path, stored=KEYS[:3])
        with pytest.raises(ValueError, match="has 3 entries, but keys.pkl lists 4 images"):
            luperson_nl(tmp_path, on_bad_image="skip")
        assert len(luperson_nl(write(tmp_path / "more", stored=[*KEYS, "extra"]))) == 4

    @pytest.mark.parametrize("row", [0, 3])
    def test_the_first_and_last_key_are_looked_up(self, tmp_path, row):
        write(tmp_path, stored=[*KEYS[:row], "x", *KEYS[row + 1 :]])
        with pytest.raises(ValueError, match=f"no key {KEYS[row]} in the LMDB .*another build"):
            luperson_nl(tmp_path)

    def test_another_key_is_named_when_decoded(self, tmp_path):
        table = luperson_nl(write(tmp_path, stored=[KEYS[0], "x", KEYS[2], KEYS[3]]))
        with pytest.raises(ValueError, match=f"no key {KEYS[1]}"):
            Images.of(table, (16, 8))
        with pytest.warns(UserWarning, match="skipped 1 unreadable"):
            assert Images.of(table, (16, 8), on_bad_image="skip").skipped == {1}

    def test_a_page_that_is_no_page(self, tmp_path):
        write(tmp_path)
        file = tmp_path / "lmdb" / "data.mdb"
        content = bytearray(file.read_bytes())
        content[8192:] = bytes(len(content) - 8192)
        file.write_bytes(content)
        with pytest.raises(ValueError, match="cannot read key .* of the LMDB"):
            decode(f"{tmp_path}/lmdb::{KEYS[0]}")

    def test_nothing_stays_open_after_loading(self, tmp_path):
        write(tmp_path)
        folder = str(tmp_path / "lmdb")
        luperson_nl(tmp_path)
        assert folder not in stores._environments
        held = stores.environment(folder)
        luperson_nl(tmp_path)
        assert stores.environment(folder) is held and len(decode(f"{folder}::{KEYS[0]}")) == 3

    def test_an_environment_held_by_the_parent_is_no_use_to_a_fork(self, tmp_path):
        entries = write_luperson_nl(tmp_path)
        table = luperson_nl(tmp_path)
        images = Images.of(table, (32, 16), memory_gb=0.0)
        first = images.load(0)
        got = list(chunks(images, np.arange(len(entries)), 5, workers=2))
        assert torch.equal(got[0][0][0], first) and sum(len(rows) for _, rows in got) == len(entries)

    def test_from_threads(self, tmp_path):
        write(tmp_path)
        problems = []

        def read():
            try:
                for _ in range(10):
                    decode(f"{tmp_path}/lmdb::{KEYS[0]}")
                    luperson_nl(tmp_path)
            except Exception as error:
                problems.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert problems == []


def forbidden(*_):
    raise AssertionError("read again")


WIDTHS = ["0_0_7_1", "0_0_7_22", "0_11_7_1"]
WRITERS = {
    "lmdb": lambda root: write_luperson_nl(root),
    "tree": lambda root: write_luperson_nl(root, "tree"),
    "flat": lambda root: write_luperson_nl(root, "flat"),
    "luperson": lambda root: write_luperson(root),
    "widths": lambda root: write(root, WIDTHS, WIDTHS),
}  # fmt: skip


def reader(form):
    return luperson if form in ("luperson", "widths") else luperson_nl


class TestIndex:
    @pytest.mark.parametrize("form", WRITERS)
    def test_the_same_table_from_the_cache(self, tmp_path, monkeypatch, form, cache):
        WRITERS[form](tmp_path / "data")
        plain = reader(form)(tmp_path / "data")
        assert not cache.exists()  # so few rows are not kept
        other = luperson_nl(write(tmp_path / "other"), source="other")
        monkeypatch.setattr(index, "ROWS", 3)
        built = reader(form)(tmp_path / "data")
        assert [folder.name[0] == "." for folder in cache.iterdir()] == [False]
        for place in ("restricted_load", "take_apart"):
            monkeypatch.setattr(keys, place, forbidden)
        monkeypatch.setattr(tree, "take_apart", forbidden)
        again = reader(form)(tmp_path / "data", "all")
        assert again.notes == (plain.notes[0].replace("train", "all"),)
        again = reader(form)(tmp_path / "data")
        for table in (built, again):
            assert_same(table, plain)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                for name in COLUMNS:
                    assert torch.from_numpy(getattr(table, name)).tolist() == getattr(plain, name).tolist()
        rows = np.array([2, 0])
        assert_same(again.select(rows), plain.select(rows))
        assert_same(data.concat([again, other]), data.concat([plain, other]))
        assert_same(data.concat([other, again]), data.concat([other, plain]))
        assert data.statistics(again) == data.statistics(plain)
        assert len(Images.of(again, (16, 8)).pixels) == len(plain)

    def test_relative_roots_share_it(self, tmp_path, monkeypatch, cached, cache):
        write(tmp_path / "data")
        luperson_nl(tmp_path / "data")
        monkeypatch.setattr(keys, "restricted_load", forbidden)
        monkeypatch.chdir(tmp_path)
        assert luperson_nl("data").paths[0] == f"data/lmdb::{KEYS[0]}"

    def test_a_changed_keys_pkl(self, tmp_path, cached, cache):
        write(tmp_path)
        before = luperson_nl(tmp_path)
        file = tmp_path / "keys.pkl"
        state = file.stat()
        file.write_bytes(pickle.dumps({"keys": KEYS, "pids": [11, 11, 20, 13]}))
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert luperson_nl(tmp_path).pids.tolist() == [11, 11, 20, 13]
        assert before.pids.tolist() == [11, 11, 20, 12]  # still mapped
        assert len(list(cache.iterdir())) == 1  # the old one is gone
        fresh = tmp_path / "fresh.pkl"
        fresh.write_bytes(pickle.dumps({"keys": KEYS, "pids": [11, 11, 20, 14]}))
        os.utime(fresh, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # same size and time, other file
        fresh.replace(file)
        assert luperson_nl(tmp_path).pids.tolist() == [11, 11, 20, 14]

    def test_another_version(self, tmp_path, cached, monkeypatch):
        write(tmp_path)
        luperson_nl(tmp_path)
        monkeypatch.setattr(keys, "restricted_load", forbidden)
        luperson_nl(tmp_path)
        monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
        with pytest.raises(AssertionError, match="read again"):
            luperson_nl(tmp_path)

    def test_readers_do_not_mix(self, tmp_path, cached):
        some = [f"{row:05d}_000000_0000000_00" for row in range(3)]
        write(tmp_path, {"keys": some, "pids": [5, 5, 6]}, stored=some)
        assert luperson_nl(tmp_path).pids.tolist() == [5, 5, 6]
        with pytest.raises(ValueError, match="luperson_nl"):  # what the other reader keeps is not taken
            luperson(tmp_path)

    def test_a_changed_tree(self, tmp_path, cached, monkeypatch):
        tmp_path = tmp_path / "data"
        write_luperson_nl(tmp_path, "tree")
        assert len(luperson_nl(tmp_path)) == 36
        video = tmp_path.joinpath(*VIDEOS[2])
        (video / "000006_0000001_00.jpg").write_bytes(b"")
        assert len(luperson_nl(tmp_path)) == 37
        (video.parent / "new").mkdir()
        (video.parent / "new" / "000099_0000001_00.jpg").write_bytes(b"")
        assert len(luperson_nl(tmp_path)) == 38
        (video / "000006_0000001_00.jpg").unlink()
        assert len(luperson_nl(tmp_path)) == 37
        monkeypatch.setattr(tree, "take_apart", forbidden)
        assert len(luperson_nl(tmp_path)) == 37

    @pytest.mark.parametrize("harm", ["empty", "cut", "gone", "junk", "other", "short", "float"])
    def test_a_damaged_cache_is_built_again(self, tmp_path, cached, cache, harm):
        write_luperson_nl(tmp_path / "data", "tree")
        plain = luperson_nl(tmp_path / "data")
        files = sorted(file.name for file in next(cache.iterdir()).iterdir())
        assert files == sorted([*(f"{name}.npy" for name in index.COLUMNS), "index.json"])
        for name in files:
            file = next(cache.iterdir()) / name
            content = file.read_bytes()
            column = np.load(file) if file.suffix == ".npy" else np.zeros(2)
            file.unlink()  # the table still has it mapped
            if harm in ("short", "float") and file.suffix == ".npy":
                np.save(file, column[:-1] if harm == "short" else column.astype(np.float64))
            elif harm != "gone":
                harmed = {"empty": b"", "cut": content[: len(content) // 2], "junk": os.urandom(300)}
                file.write_bytes(harmed.get(harm, b'{"a": [1]}'))
            assert_same(luperson_nl(tmp_path / "data"), plain)
            assert file.exists() and file.read_bytes() == content, name

    def test_what_killed_processes_leave(self, tmp_path, cached, cache):
        write(tmp_path)
        luperson_nl(tmp_path)
        name = next(cache.iterdir()).name
        old, young = cache / f".{name}-old", cache / f".{name}-young"
        for folder in (old, young):
            folder.mkdir()
            (folder / "pids.npy").write_bytes(b"half")
        os.utime(old, (1, 1))
        (cache / name / "index.json").unlink()
        assert luperson_nl(tmp_path).pids.tolist() == [11, 11, 20, 12]
        assert sorted(folder.name for folder in cache.iterdir()) == [f".{name}-young", name]

    def test_a_cache_that_cannot_be_written(self, tmp_path, cached, monkeypatch):
        write(tmp_path)
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="cannot keep the index .*DYNAMIX_CACHE"):
            assert luperson_nl(tmp_path).pids.tolist() == [11, 11, 20, 12]

    def test_a_full_disk_leaves_nothing(self, tmp_path, cached, cache, monkeypatch):
        write(tmp_path)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(index.np, "save", full)
        with pytest.warns(UserWarning, match="No space left"):
            luperson_nl(tmp_path)
        assert list(cache.iterdir()) == []

    def test_skipped_keys_are_told_every_time(self, tmp_path, cached):
        write(tmp_path, {"keys": [*KEYS, "bad"], "pids": [11, 11, 20, 12, 1]})
        for _ in range(2):
            with pytest.warns(UserWarning, match="skipped 1 images, first: key 'bad'"):
                table = luperson_nl(tmp_path, on_bad_image="skip")
            assert len(table) == 4 and table.notes[0].endswith(", 1 images skipped")
        with pytest.raises(ValueError, match="key 'bad'"):
            luperson_nl(tmp_path)

    def test_the_store_is_checked_at_every_opening(self, tmp_path, cached):
        write(tmp_path)
        luperson_nl(tmp_path)
        file = tmp_path / "lmdb" / "data.mdb"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(ValueError, match="cut short"):
            luperson_nl(tmp_path)

    def test_processes_at_once(self, tmp_path, cached, cache):
        entries = write_luperson_nl(tmp_path)
        code = (
            "import sys; from dynamix.data.luperson import index, luperson_nl; index.ROWS = 1\n"
            "for turn in range(15):\n"
            "    index.VERSION = turn % 3\n"  # so that every turn replaces what another process wrote
            "    assert luperson_nl(sys.argv[1]).pids.tolist() == eval(sys.argv[2])"
        )
        pids = str([entry.pid for entry in entries])
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), pids]
        running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
        assert len(list(cache.iterdir())) == 1


class Touching(Dataset):
    """Every item reads the whole table and says how much memory only this process has written."""

    def __init__(self, table, copy):
        self.table, self.copy, self.kept = table, copy, []

    def __len__(self):
        return 2

    def __getitem__(self, item):
        before = self.private()
        for column in (*(getattr(self.table, name) for name in COLUMNS), self.table.paths.buffer):
            if self.copy:
                self.kept.append(column.copy())
            column.max()
        [self.table.paths[row] for row in range(0, len(self.table), 999)]
        return self.private() - before

    @staticmethod
    def private():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


class TestWorkers:
    @pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="tells memory on Linux only")
    @pytest.mark.parametrize("copy", [False, True])
    def test_workers_share_the_table(self, tmp_path, monkeypatch, copy):
        count = 150_000
        some = [KEY.format(video=row // 1000, pid=row // 20, frame=row, box=0) for row in range(count)]
        (tmp_path / "keys.pkl").write_bytes(
            pickle.dumps({"keys": some, "pids": [r // 20 for r in range(count)]})
        )
        (tmp_path / "lmdb").mkdir()
        with (
            lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 26, sync=False) as store,
            store.begin(write=True) as to,
        ):
            for key in some:
                to.put(key.encode(), b"", append=True)
        del some
        monkeypatch.setattr(index, "ROWS", count)
        table = luperson_nl(tmp_path)
        size = sum(getattr(table, name).nbytes for name in COLUMNS) + table.paths.buffer.nbytes
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            grown = list(DataLoader(Touching(table, copy), batch_size=None, num_workers=2))
        assert (max(grown) < size / 10) is not copy, (
            f"{grown} of {size} bytes"
        )  # the copy shows the test sees


def test_luperson_refuses_the_keys_of_luperson_nl(tmp_path):
    write_luperson_nl(tmp_path)
    with pytest.raises(ValueError, match="LUPerson-NL's keys.*read it as luperson_nl"):
        data.load("luperson", tmp_path)


def test_keys_nested_deeply_are_refused_in_one_line(tmp_path):
    write_luperson_nl(tmp_path)
    (tmp_path / "keys.pkl").write_bytes(b"]" * 5000 + b"a" * 4999 + b".")
    for name in ("luperson_nl", "luperson"):
        with pytest.raises(ValueError, match="keys.pkl") as caught:
            data.load(name, tmp_path)
        assert "\n" not in str(caught.value)
