"""Tables without trainings: counts of what is on disk, timings from where they are kept."""

import json

import numpy as np
import pytest

from dynamix import config, data
from dynamix.experiments import measured, tables
from tests.conftest import SMALL


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
    assert merged["train images"] > found["MSMT17"]["train images"] and "query images" not in merged
    images = measured.read(tables.table("remix.table1"), "tiny")["Market-1501"]
    assert images["images"] == sum(len(each) for each in splits.values())


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
