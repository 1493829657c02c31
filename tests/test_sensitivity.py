"""Altered queries: what each change does to pixels, and that only queries are changed."""

import json

import numpy as np
import pytest
import torch

from dynamix import checkpoint, data, encoders, evaluation
from dynamix.experiments import figures, sensitivity
from dynamix.experiments.sensitivity import CHANGES, Loss, lines

IMAGES = torch.randint(0, 256, (3, 3, 16, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_the_shape_and_is_the_same_every_time(name):
    before = IMAGES.clone()
    changed = CHANGES[name](IMAGES)
    assert changed.shape == IMAGES.shape and changed.dtype == torch.uint8
    assert torch.equal(changed, CHANGES[name](IMAGES)) and torch.equal(IMAGES, before)
    assert torch.equal(changed, IMAGES) == (name == "as they are")


def test_the_changes_by_hand():
    pixel = IMAGES[0, :, 5, 3].tolist()
    cast = CHANGES["color cast"](IMAGES)[0, :, 5, 3].tolist()
    assert cast == [
        round(min(255.0, level * gain)) for level, gain in zip(pixel, (1.25, 1, 0.75), strict=True)
    ]
    for name, gamma in (("darker", 1.8), ("brighter", 0.55)):
        expected = [255 * (level / 255) ** gamma for level in pixel]
        assert CHANGES[name](IMAGES)[0, :, 5, 3].tolist() == pytest.approx(expected, abs=1.0)
    assert len(set(CHANGES["gray"](IMAGES)[0, :, 5, 3].tolist())) == 1
    shifted = CHANGES["box shifted"](IMAGES)
    assert torch.equal(shifted[..., 2:, :], IMAGES[..., :-2, :])
    assert torch.equal(shifted[..., :2, :], IMAGES[..., :1, :].expand(-1, -1, 2, -1))
    noise = CHANGES["noise"](IMAGES).float() - IMAGES
    assert 5 < float(noise.std()) < 13
    flat = torch.full((1, 3, 16, 8), 90, dtype=torch.uint8)
    assert torch.equal(CHANGES["half the resolution"](flat), flat)


def test_only_the_queries_are_altered(world_roots, small_config, monkeypatch):
    query, gallery = (data.load("plaza", world_roots["plaza"], split) for split in ("query", "gallery"))
    encoder = encoders.build(small_config.encoder).eval()
    found = sensitivity.sensitivity(encoder, small_config, query, gallery)
    assert [each.change for each in found] == list(CHANGES)
    known = (query.pids, gallery.pids, query.camids, gallery.camids)
    plain, searched = (figures.embedded(encoder, small_config, table) for table in (query, gallery))
    assert found[0].mAP == evaluation.evaluate(plain, searched, *known).mAP
    black = {"as they are": lambda images: images * 0}
    monkeypatch.setattr(sensitivity, "CHANGES", black)
    (lost,) = sensitivity.sensitivity(encoder, small_config, query, gallery)
    same = encoder(torch.full((1, 3, *small_config.encoder.image), -1.0)).detach()  # black, normalized
    unit = torch.nn.functional.normalize(same).expand(len(query), -1)
    assert lost.mAP == pytest.approx(evaluation.evaluate(unit, searched, *known).mAP, abs=0.02)


def test_the_command_keeps_what_it_prints(tmp_path, small_config, monkeypatch, capsys):
    rows = [Loss("as they are", 0.5), Loss("gray", 0.25)]
    monkeypatch.setattr(checkpoint, "load_encoder", lambda run: (None, small_config))
    monkeypatch.setattr(
        "dynamix.experiments.spec.Spec.roots", lambda spec: dict.fromkeys(spec.score_on, tmp_path)
    )
    monkeypatch.setattr(data, "load", lambda world, root, split: np.zeros(0))
    monkeypatch.setattr(sensitivity, "sensitivity", lambda *_: rows)
    sensitivity.main((tmp_path / "a",), world="hall", record=tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert [(row["change"], row["mAP"], row["world"], row["run"]) for row in kept] == [
        ("as they are", 0.5, "hall", "a"),
        ("gray", 0.25, "hall", "a"),
    ]
    printed = capsys.readouterr().out
    assert "queries of hall" in printed and lines(rows)[1] in printed and "-25.0" in printed
