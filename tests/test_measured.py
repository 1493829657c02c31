"""Tables without trainings: counts of what is on disk, timings from where they are kept."""

import dataclasses
import json

import numpy as np
import pytest

from dynamix import config, data
from dynamix.data.mannequins import worlds
from dynamix.experiments import measured, tables
from dynamix.experiments.tables.kinds import Data, Row, Setting
from tests.conftest import SMALL
from tests.layouts import cuhk, large, luperson


@pytest.fixture
def small_worlds(tmp_path, monkeypatch):
    """The tiny profile with the worlds of the tests."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path))
    small = config.change(config.tiny, mannequins=SMALL)
    monkeypatch.setitem(config.PROFILES, "tiny", small)
    return tmp_path


def test_counts_are_those_of_the_readers(small_worlds, world_roots):
    found = measured.read(tables.table("table1"), "tiny")
    assert set(found) == {row.name for row in tables.table("table1").rows}
    splits = {s: data.load("plaza", world_roots["plaza"], s) for s in ("train", "query", "gallery")}
    market = found["Market-1501"]
    assert [market[f"{s} images"] for s in splits] == [len(each) for each in splits.values()]
    pids = set(np.concatenate([each.pids for each in splits.values()]).tolist())
    assert market["PIDs"] == len(pids - {0}) and market["scenes"] == 3  # 0: distractors
    videos = data.load("videos", world_roots["videos"])
    clips = {name: number for name, number in found["LUPerson-NL"].items()}
    assert clips == {"train images": len(videos), "PIDs": len(np.unique(videos.pids)), "scenes": 6}
    merged = found["MSMT17-merged"]
    everything = data.load("station", worlds.build(SMALL, worlds=("station",))["station"], "all")
    assert merged["train images"] == len(everything) and "query images" not in merged  # without distractors
    images = measured.read(tables.table("remix.table1"), "tiny")["Market-1501"]
    assert images["images"] == sum(len(each) for each in splits.values())


def written(folder, msmt17="V1"):
    """Every dataset of Table 1 in miniature; dataset -> its entries."""
    return {
        "Market-1501": large.write_market1501(folder / "market1501"),
        "DukeMTMC-reID": large.write_dukemtmc(folder / "dukemtmc"),
        "CUHK03-NP": cuhk.write_cuhk03(folder / "cuhk03_detected")["detected"],
        "MSMT17": large.write_msmt17(folder / "msmt17", msmt17),
        "MSMT17-merged": large.write_msmt17(folder / "msmt17_merged", msmt17),
        "RandPerson (part)": large.write_randperson(folder / "randperson"),
        "LUPerson-NL": luperson.write_luperson_nl(folder / "luperson_nl"),
    }


@pytest.mark.parametrize("msmt17", ["V1", "V2", "market"])
def test_counts_of_real_layouts(tmp_path, msmt17):
    """MSMT17 numbers train and test from 0 each: 0 is a person there, a distractor in Market-1501."""
    entries = written(tmp_path, msmt17)
    found = measured.read(tables.table("table1"), "paper", tmp_path)
    assert set(found) == set(entries)
    for name, counts in found.items():
        people, images = {"train": set(), "test": set()}, dict.fromkeys(("train", "query", "gallery"), 0)
        for split, _, pid, _ in entries[name]:
            if pid >= 0:  # junk is nobody's
                images[split] += 1
                people["train" if split == "train" else "test"].add(pid)
        if name == "Market-1501":
            people["test"].remove(0)
        assert counts["PIDs"] == len(people["train"]) + len(people["test"]), name
        if name == "MSMT17-merged":
            assert counts["train images"] == sum(images.values()) and "query images" not in counts
        else:
            shown = {f"{split} images": number for split, number in images.items() if number}
            assert {title: counts[title] for title in counts if "images" in title} == shown, name
    assert found["MSMT17"]["PIDs"] == found["MSMT17-merged"]["PIDs"] == 9
    assert (found["Market-1501"]["PIDs"], found["DukeMTMC-reID"]["PIDs"]) == (9, 10)


def test_all_of_a_dataset_leaves_its_distractors_out(tmp_path):
    entries = large.write_market1501(tmp_path / "market1501")
    everything = Setting(sources=("market1501:all",), single=(), targets=())
    table = dataclasses.replace(
        tables.table("table1"), rows=(Row(name="M", data=Data(worlds=None, real=everything)),)
    )
    counts = measured.read(table, "paper", tmp_path)["M"]
    people = [entry for entry in entries if entry.pid > 0]
    assert counts["train images"] == len(people) < len([e for e in entries if e.pid >= 0])
    assert counts["PIDs"] == len({entry.pid for entry in people})


def test_nothing_is_counted_without_the_real_data():
    assert measured.read(tables.table("table1"), "paper") == {}


def test_the_cost_of_a_refresh_is_the_benchmarks(tmp_path):
    rows = [
        {
            "what": "0.05 of the PIDs, K = 4: 86,800 images",
            "ours": 90.0,
            "note": "0.47 GB host, 0.00 GB device",
        },
        {"what": "0.05 of the PIDs, K = 16: 346,282 images", "ours": 1.0, "note": "0.69 GB host"},
        {"what": "the paper, K = 4", "ours": 900.0, "note": "4.9 GB"},
    ]
    (tmp_path / "bench.refresh.cpu.json").write_text(json.dumps({"rows": rows}))
    found = measured.read(tables.table("table6"), "mini", results=tmp_path)
    assert found == {"K=4": {"minutes": 1.5, "memory": 0.47}}  # K = 16 is no row of the paper's
    rows[0]["ours"] = 6.0
    (tmp_path / "bench.refresh.cuda.json").write_text(json.dumps({"rows": rows}))  # preferred
    assert measured.read(tables.table("table6"), "mini", results=tmp_path)["K=4"]["minutes"] == 0.1


def test_no_benchmark_leaves_the_rows_empty(tmp_path):
    assert measured.read(tables.table("table6"), "mini", results=tmp_path) == {}


def test_retrieval_is_timed_once_and_then_read(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "QUERIES", 40)
    monkeypatch.setattr(measured, "GALLERY", 300)
    first = measured.read(tables.table("retrieval"), "mini", results=tmp_path)
    assert set(first) == {"768", "2048"} and first["2048"]["times faster"] == 1
    assert first["768"]["time per query"] > 0
    monkeypatch.setattr(measured, "time_search", lambda: pytest.fail("timed again"))
    assert measured.read(tables.table("retrieval"), "mini", results=tmp_path) == first
    (tmp_path / "retrieval.cpu.json").write_text('{"rows"')
    with pytest.raises(ValueError, match="retrieval.cpu.json is not a result file"):
        measured.read(tables.table("retrieval"), "mini", results=tmp_path)
