"""What notebook 03 prepares: a large person, and what an altered search loses after each layer."""

import json
from pathlib import Path

import pytest
import torch

from dynamix import checkpoint, data, encoders
from dynamix.config import change
from dynamix.experiments.lessons import encoders as lesson

RESULTS = Path(__file__).parent.parent / "figures/results"
LAYERS = {
    "ibn_cnn": ["convolution", "residual 1", "residual 2", "residual 3", "embedding"],
    "hybrid": ["convolution", "residual 1", "residual 2", "attention 1", "attention 2", "embedding"],
}


def test_a_person_at_another_size_is_the_same_each_time(small_config):
    drawn = lesson.person(small_config.mannequins, (96, 48), row=1)
    assert drawn.shape == (3, 96, 48) and drawn.dtype == torch.uint8
    assert torch.equal(drawn, lesson.person(small_config.mannequins, (96, 48), row=1))
    assert not torch.equal(drawn, lesson.person(small_config.mannequins, (96, 48), row=0))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_its_score(name, world_roots, small_config):
    query, gallery = (data.load("plaza", world_roots["plaza"], split) for split in ("query", "gallery"))
    config = change(small_config, encoder__name=name)
    encoder = encoders.build(config.encoder)
    found = lesson.stages(encoder, config, query, gallery)
    assert [each.stage for each in found] == LAYERS[name]
    assert all(0 < each.plain <= 1 and 0 < each.altered <= 1 for each in found)
    assert any(each.plain != each.altered for each in found)
    same = lesson.stages(encoder, config, query, gallery, change="as they are")
    assert all(each.plain == each.altered for each in same)
    assert not encoder.neck._forward_hooks and not encoder.training


def test_pooling_takes_four_stripes_of_maps_and_of_tokens():
    maps = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 2)
    assert lesson._pooled(maps, None).tolist() == [[0.5, 2.5, 4.5, 6.5]]
    tokens = maps.flatten(2).transpose(1, 2)  # (1, 16, 1)
    assert lesson._pooled(tokens, (8, 2)).tolist() == [[0.5, 2.5, 4.5, 6.5]]
    assert lesson._pooled(torch.ones(2, 3), (8, 2)).shape == (2, 3)


def test_the_command_keeps_a_row_per_layer(tmp_path, small_config, world_roots, monkeypatch):
    encoder = encoders.build(small_config.encoder)
    monkeypatch.setattr(checkpoint, "load_encoder", lambda run: (encoder, small_config))
    monkeypatch.setattr("dynamix.experiments.spec.Spec.roots", lambda spec: world_roots)
    lesson.main((tmp_path / "a",), tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert [row["stage"] for row in kept] == LAYERS[small_config.encoder.name]
    assert {(row["run"], row["world"], row["change"]) for row in kept} == {("a", "plaza", "color cast")}


def test_recorded_rows_stand_beside_the_papers():
    rows = {"cnn": ("table3", "ReMix, given labels"), "transformer": ("table3", "+ ViT")}
    found = lesson.recorded(rows, RESULTS / "runs")
    assert [each.mAP.paper for each in found.values()] == ["60.1", "63.9"]
    worlds = found["cnn"].worlds
    assert list(worlds) == ["plaza", "campus", "station", "hall"]
    assert found["cnn"].mAP.mean == pytest.approx((worlds["station"] + worlds["hall"]) / 2)
    shown = lesson.beside_the_paper(found).splitlines()
    assert len(shown) == 4 and shown[2].startswith("| cnn | Table 3: ReMix, given labels | 60.1 | ")
    assert f"| {worlds['hall']:.1f} |" in shown[2]
    said = lesson.gain(found, "cnn", "transformer")
    here = found["transformer"].mAP.mean - found["cnn"].mAP.mean
    assert (
        said.startswith("transformer instead of cnn: the paper +3.8 points") and f"here {here:+.1f}" in said
    )


def test_rows_that_have_not_run_say_so(tmp_path):
    rows = {"cnn": ("table3", "ReMix, given labels"), "transformer": ("table3", "+ ViT")}
    found = lesson.recorded(rows, tmp_path)
    assert lesson.beside_the_paper(found).splitlines()[3] == (
        "| transformer | Table 3: + ViT | 63.9 | not run | – | – | – | – |"
    )
    assert lesson.gain(found, "cnn", "transformer").endswith("+3.8 points of mAP; here not run yet")


def test_seeds_of_a_network_side_by_side(tmp_path):
    rows = [
        {"encoder": "a", "stage": "first", "plain": 0.5, "altered": 0.2},
        {"encoder": "b", "stage": "first", "plain": 0.9, "altered": 0.9},
        {"encoder": "a", "stage": "first", "plain": 0.6, "altered": 0.1},
        {"encoder": "a", "stage": "last", "plain": 0.7, "altered": 0.3},
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": rows}))
    both = lesson.of_networks(file, {"net": "a"}, "stage", ("plain", "altered"))
    assert both == {"net": {"first": [(0.5, 0.2), (0.6, 0.1)], "last": [(0.7, 0.3)]}}
    assert lesson.of_networks(file, {"net": "b"}, "stage", ("plain",)) == {"net": {"first": [0.9]}}


def test_what_cameras_cost_is_the_mean_of_the_seeds(tmp_path):
    known = {"encoder": "a", "world": "hall", "videos": True, "pretrained": True}
    rows = [
        known | {"mAP": 0.2, "own_first": 0.8, "centered": 0.7},
        known | {"mAP": 0.4, "own_first": 0.6, "centered": 0.6},
        known | {"mAP": 0.5, "own_first": 0.1, "centered": 0.5, "videos": False, "pretrained": False},
        known | {"mAP": 0.9, "own_first": 0.9, "centered": 0.9, "pretrained": False},
        known | {"mAP": 0.1, "own_first": 0.0, "centered": 0.1, "encoder": "b"},
        known | {"mAP": 0.3, "own_first": 0.2, "centered": 0.4, "world": "station"},
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": rows}))
    found = {place: vars(each) for place, each in lesson.camera_biases(file, {"net": "a"})["net"].items()}
    assert list(found) == ["hall, neither", "hall, joint training", "hall, both", "station, both"]
    assert found["hall, both"] == pytest.approx({"mAP": 0.3, "own_first": 0.7, "centered": 0.65})
    assert found["hall, neither"] == {"mAP": 0.5, "own_first": 0.1, "centered": 0.5}
    assert found["hall, joint training"]["mAP"] == 0.9 and found["station, both"]["mAP"] == 0.3
