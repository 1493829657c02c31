"""What single-camera negatives do to a multi-camera anchor, against loops over the formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from dynamix.experiments.contribution import push
from dynamix.losses import instance_loss


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
