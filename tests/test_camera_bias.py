"""What cameras cost a search: against a loop in float64, and where the answer is known."""

import json

import numpy as np
import pytest
import torch

from dynamix import checkpoint, encoders
from dynamix.data.table import Paths, from_columns
from dynamix.experiments import camera_bias
from dynamix.experiments.camera_bias import CameraBias

PEOPLE, CAMERAS = 6, 3


def made(camera, noise=0.3, seed=0):
    """Queries and gallery: a direction per person, `camera` times one per camera, and noise."""
    rng = np.random.default_rng(seed)
    people, cameras = rng.normal(size=(PEOPLE, 8)), rng.normal(size=(CAMERAS, 8))
    sides = []
    for shots in (1, 2):
        pids = np.repeat(np.arange(PEOPLE), CAMERAS * shots)
        camids = np.tile(np.arange(CAMERAS), PEOPLE * shots)
        features = people[pids] + camera * cameras[camids] + noise * rng.normal(size=(len(pids), 8))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        pids[: 2 * (shots - 1)] = -1  # junk in the gallery
        paths = Paths.fixed_width(np.zeros((len(pids), 1), np.uint8))
        sides.append((torch.from_numpy(features), from_columns("made", paths, pids, camids=camids)))
    return sides


def by_hand(query, gallery):
    """The definition, image by image."""
    (q, asked), (g, searched) = ((features.numpy(), table) for features, table in (query, gallery))

    def ranking(i, q, g):
        unit = [row / np.linalg.norm(row) for row in g]
        sims = [row @ q[i] / np.linalg.norm(q[i]) for row in unit]
        own = [
            j
            for j in range(len(g))
            if searched.pids[j] < 0
            or (searched.pids[j] == asked.pids[i] and searched.camids[j] == asked.camids[i])
        ]
        return [j for j in np.argsort(np.negative(sims), kind="stable") if j not in own]

    def mean_precision(q, g):
        found = []
        for i in range(len(q)):
            hits = [searched.pids[j] == asked.pids[i] for j in ranking(i, q, g)]
            if any(hits):
                ranks = np.flatnonzero(hits) + 1
                found.append(np.mean([(n + 1) / rank for n, rank in enumerate(ranks)]))
        return np.mean(found)

    first = [ranking(i, q, g)[0] for i in range(len(q))]
    own = np.mean([searched.camids[j] == asked.camids[i] for i, j in enumerate(first)])
    centered = [q.copy(), g.copy()]
    for camera in set(asked.camids) | set(searched.camids):
        both = np.concatenate([q[asked.camids == camera], g[searched.camids == camera]])
        for side, table in zip(centered, (asked, searched), strict=True):
            side[table.camids == camera] -= both.mean(axis=0)
    return CameraBias(mean_precision(q, g), own, mean_precision(*centered))


@pytest.mark.parametrize("camera", [0.0, 1.0, 4.0])
def test_equals_the_definition(camera):
    query, gallery = made(camera, noise=0.6)
    before = query[0].clone(), gallery[0].clone()
    found, expected = camera_bias.camera_bias(query, gallery), by_hand(query, gallery)
    for name in ("mAP", "own_first", "centered"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-9), name
    assert torch.equal(query[0], before[0]) and torch.equal(gallery[0], before[1])  # not centered in place


def test_strong_cameras_lead_a_search_and_centering_frees_it():
    none, strong = (camera_bias.camera_bias(*made(camera, noise=0.05)) for camera in (0.0, 20.0))
    assert none.mAP > 0.95 and none.own_first < 0.05
    assert strong.own_first == 1.0 and strong.mAP < 0.6 < 0.9 < strong.centered


def test_the_command_keeps_what_it_prints(tmp_path, world_roots, small_config, monkeypatch, capsys):
    encoder = encoders.build(small_config.encoder).eval()
    monkeypatch.setattr(checkpoint, "load_encoder", lambda run: (encoder, small_config))
    monkeypatch.setattr("dynamix.experiments.spec.Spec.roots", lambda spec: world_roots)
    camera_bias.main((tmp_path / "a",), worlds=("hall", "plaza"), record=tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())["rows"]
    assert [(row["run"], row["world"], row["videos"], row["encoder"]) for row in kept] == [
        ("a", "hall", True, small_config.encoder.name),
        ("a", "plaza", True, small_config.encoder.name),
    ]
    found = camera_bias.measure(encoder, small_config, world_roots["hall"], "hall")
    assert {name: kept[0][name] for name in ("mAP", "own_first", "centered")} == vars(found)
    printed = capsys.readouterr().out.splitlines()
    assert (
        "own camera first" in printed[0]
        and f"{found.centered:.1%}" in printed[1]
        and "joint training" in printed[1]
    )
