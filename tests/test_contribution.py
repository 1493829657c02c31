"""What single-camera negatives do to a multi-camera anchor, against loops over the formula."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dynamix.config import Config, change
from dynamix.experiments.contribution import EDGES, MODES, Contribution, contribution, lines, push
from dynamix.experiments.pictures.dynamix_figures import pairs_of
from dynamix.experiments.pictures.scene import Scene
from dynamix.losses import instance_loss
from dynamix.methods import dynamix as method
from tests.test_dynamix_method import embedder, features_of, mixed


def batch(seed=0, ids=3, images=2):
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(2 * ids * images, 5, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.arange(2 * ids).repeat_interleave(images)
    return features, labels, labels >= ids


def test_push_is_the_probability_of_each_negative():
    features, labels, single = batch()
    found, cosines = push(features, labels, single, 0.1)
    for i in range(6):
        negatives = [k for k in range(12) if labels[k] != labels[i]]
        for k in range(12):
            if k not in negatives:
                assert found[i, k] == 0
                continue
            terms = []
            for j in (j for j in range(12) if labels[j] == labels[i]):
                scores = {k: math.exp(float(features[i] @ features[k]) / 0.1) for k in (j, *negatives)}
                terms.append(scores[k] / sum(scores.values()))
            assert float(found[i, k]) == pytest.approx(sum(terms) / len(terms), rel=1e-12)
        assert torch.allclose(cosines[i], features @ features[i])


def test_push_is_the_gradient_of_the_instance_loss():
    """The derivative of the summed loss by an anchor's similarity to a negative is p over the temperature."""
    features, labels, single = batch(1)
    found, _ = push(features, labels, single, 0.1)
    anchor = features[0].clone().requires_grad_()
    anchors = torch.cat((anchor[None], features[1:]))
    loss = 12 * instance_loss(anchors, features, labels, single, tau_multi=0.1)  # a mean over 12 anchors
    (gradient,) = torch.autograd.grad(loss, anchor)
    tangent = lambda v: v - (v @ features[0]) * features[0]  # noqa: E731
    pull = sum(found[0, k] * features[k] for k in range(12)) / 0.1
    for j in (0, 1):  # both positives pull with what is missing from their probability
        own = float(features[0] @ features[j]) / 0.1
        others = [float(features[0] @ features[k]) / 0.1 for k in range(2, 12)]
        p = math.exp(own) / (math.exp(own) + sum(map(math.exp, others)))
        pull = pull - (1 - p) / 2 * features[j] / 0.1
    assert torch.allclose(tangent(gradient), tangent(pull), rtol=1e-9, atol=1e-12)


# ---- an epoch


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The first epoch of a method that knows made-up features: 3 identities and 12 tracks."""
    table = mixed(videos=4, people=3, images=4, seed=3)
    sizes = {"ids_multi": 3, "ids_single": 3, "images_multi": 2, "images_single": 3}
    config = change(Config(), iterations=4, epochs=1, **{f"batch__{k}": v for k, v in sizes.items()})
    config = change(config, rm__on=False, ins__tau_multi=0.2)
    features = features_of(table, 5, 1, spread=2.0)[0]
    state = method.start(table)
    _, done = method.refresh(state, table, embedder(features), config, 0)
    return Scene(config, table, table.pids, torch.from_numpy(features), state, done)


def looped(scene, mode, tau):
    """(push, single, partner, by similarity) by Eq. 3, one anchor, positive and negative after the other."""
    x, size, labels = scene.features.tolist(), scene.config.batch, scene.refreshed.labels
    many = size.ids_multi * size.images_multi
    everything, single, own, anchors = 0.0, 0.0, 0.0, 0
    bins = [0.0] * (len(EDGES) - 1)
    for rows in scene.batches(mode):
        chosen = [labels[rows[many + i * size.images_single]] for i in range(size.ids_single)]
        for place, i in enumerate(rows[:many]):
            anchors += 1
            cos = [sum(a * b for a, b in zip(x[i], x[k], strict=True)) for k in rows]
            positives = [n for n, k in enumerate(rows) if labels[k] == labels[i]]
            negatives = [n for n in range(len(rows)) if n not in positives]
            rest = sum(math.exp(cos[n] / tau) for n in negatives)
            for n in negatives:
                p = sum(math.exp(cos[n] / tau) / (math.exp(cos[j] / tau) + rest) for j in positives)
                p /= len(positives)
                everything += p
                if n < many:
                    continue
                single += p
                bins[sum(cos[n] > edge for edge in EDGES[1:-1])] += p
                if labels[rows[n]] == chosen[place // size.images_multi]:
                    own += p
    return everything / anchors, single / everything, own / single, [each / single for each in bins]


@pytest.mark.parametrize("tau", [None, 0.7])
@pytest.mark.parametrize("mode", MODES)
def test_contribution_is_the_loop(scene, mode, tau):
    found = contribution(scene, mode, tau)
    everything, single, partner, bins = looped(scene, mode, tau or 0.2)
    assert found.mode == mode and found.push == pytest.approx(everything, rel=1e-9)
    assert found.single == pytest.approx(single, rel=1e-9) and 0 < single < 1
    assert found.partner == pytest.approx(partner, rel=1e-9) and 0 < partner < 1
    assert found.by_similarity == pytest.approx(bins, rel=1e-9)
    assert sum(found.by_similarity) == pytest.approx(1, rel=1e-12)
    assert sum(share > 0 for share in bins) >= 2
    means = [
        float(np.mean([float(scene.similarity(m[i : i + 1], s[i : i + 1])) for i in range(3)]))
        for m, s in zip(*pairs_of(scene, mode), strict=True)
    ]
    assert found.pair == pytest.approx(np.mean(means), abs=1e-9)


def test_hard_pairs_contribute_more_than_soft_ones(scene):
    hard, soft = (contribution(scene, mode) for mode in ("hard", "soft"))
    assert hard.pair > soft.pair and hard.partner > soft.partner


def test_single_precision_is_counted_too(scene):
    half = Scene(scene.config, scene.table, scene.truth, scene.features.float(), scene.state, scene.refreshed)
    found, expected = (contribution(each, "off") for each in (half, scene))
    assert found.single == pytest.approx(expected.single, rel=1e-5)


def test_lines_are_a_table_in_percent():
    found = [
        Contribution("hard", 0.5, 0.25, 0.125, (0.0, 0.1, 0.6, 0.3), 0.456),
        Contribution("off", 1.25, 1.0, 0.04, (1.0, 0.0, 0.0, 0.0), -0.1),
    ]
    head, *rows = lines(found)
    assert head.split() == [
        "pairs", "cosine", "push", "single", "partner", "by", "cosine:", "-1..0", "0..0.3", "0.3..0.6",
        "0.6..1",
    ]  # fmt: skip
    assert rows[0].split() == ["hard", "0.46", "50.0", "25.0", "12.5", "0.0", "10.0", "60.0", "30.0"]
    assert rows[1].split() == ["off", "-0.10", "125.0", "100.0", "4.0", "100.0", "0.0", "0.0", "0.0"]
    ends = [[row.index(word) + len(word) for word in words] for row, words in (
        (head, ("cosine", "push", "single", "partner")), (rows[0], ("0.46", "50.0", "25.0", "12.5"))
    )]  # fmt: skip
    assert ends[0] == ends[1]  # numbers stand under their titles
    assert lines([]) == [head]
