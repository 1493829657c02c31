import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from dynamix.losses import augmentation_loss, camera_centroids_loss, centroids_loss, instance_loss
from tests import naive

torch.set_num_threads(1)
FAR = 2**40  # identity keys may be any int64


def random(n, D=5, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(high, n, seed=0):
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))


def plain(x):
    return x.tolist() if isinstance(x, Tensor) else x


def batch(B, ids, seed=0):
    """Labels (even: multi-camera, odd: single-camera, apart as the types are) and types."""
    labels = integers(ids, B, seed)
    return labels * FAR - 3, labels % 2 == 1


def table(ids, seed=0):
    """Centroids of all identities but the last, and of one that no batch has, shuffled."""
    names = torch.tensor([*range(max(1, ids - 1)), ids + 7])
    names = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))]
    return random(len(names), seed=seed + 1), names * FAR - 3


def camera_table(ids, cameras, seed=0):
    """Some of all (identity, camera) pairs, each once."""
    pairs = torch.tensor(list(itertools.product(range(ids), range(cameras))))
    pairs = pairs[torch.rand(len(pairs), generator=torch.Generator().manual_seed(seed)) < 0.7]
    return random(len(pairs), seed=seed + 1), pairs[:, 0] * FAR - 3, pairs[:, 1]


def case(loss, B, ids, seed=0):
    """Arguments of `loss`: features first."""
    f, (labels, single) = random(B, seed=seed), batch(B, ids, seed + 1)
    if loss in (instance_loss, augmentation_loss):
        return f, random(B, seed=seed + 2), labels, single
    if loss is centroids_loss:
        return f, labels, single, *table(ids, seed + 3)
    return f, labels, integers(4, B, seed + 4), *camera_table(ids, 4, seed + 5)


def switches(**options):
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


CASES = (
    [(instance_loss, s) for s in switches(
        negatives=["mixed", "same_type"], denominator=["one_pos", "all_pos"], include_self=[True, False])]
    + [(augmentation_loss, s) for s in switches(negatives=["mixed", "same_type"])]
    + [(centroids_loss, s) for s in switches(
        feature=["raw", "unit"], centroid=["asis", "unit"], scope=["batch", "all"])]
    + [(camera_centroids_loss, s) for s in switches(
        exclude_own=[False, True], denominator=["joint", "per_positive"], reduction=["mean", "camera_sum"],
        hard_negatives=[50, 3])]
)  # fmt: skip
every_switch = pytest.mark.parametrize(
    "loss, options", CASES, ids=lambda x: x.__name__ if callable(x) else "-".join(map(str, x.values()))
)
every_loss = pytest.mark.parametrize(
    "loss", [instance_loss, augmentation_loss, centroids_loss, camera_centroids_loss]
)


def value(loss, arguments, options):
    return getattr(naive, loss.__name__)(*map(plain, arguments), **options)


@every_switch
@settings(deadline=None, max_examples=15)
@given(
    B=st.integers(1, 9), ids=st.integers(1, 6), seed=st.integers(0, 999), scale=st.sampled_from([0.01, 1, 30])
)
def test_the_loss_is_the_loop(loss, options, B, ids, seed, scale):
    f, *rest = case(loss, B, ids, seed)
    taus = (
        {"tau": 0.11}
        if loss in (augmentation_loss, camera_centroids_loss)
        else {"tau_multi": 0.3, "tau_single": 0.7}
    )
    for extra in ({}, taus):
        found = loss(scale * f, *rest, **options, **extra)
        assert found.shape == () and found.dtype == torch.float64
        assert math.isclose(
            found.item(), value(loss, (scale * f, *rest), options | extra), rel_tol=1e-10, abs_tol=1e-10
        )


@every_switch
def test_the_gradient_is_the_slope(loss, options):
    f, *rest = case(loss, 7, 4, seed=3)
    f.requires_grad_()
    assert loss(f, *rest, **options) > 0
    # The finite steps must not change which centroids are the hardest: they are far enough apart.
    assert torch.autograd.gradcheck(lambda x: loss(x, *rest, **options), f)


@every_loss
def test_gradient_flows_through_the_features_only(loss):
    arguments = [x.requires_grad_() if x.is_floating_point() else x for x in case(loss, 8, 3)]
    loss(*arguments).backward()
    assert arguments[0].grad.abs().sum() > 0
    assert all(x.grad is None for x in arguments[1:])


@every_loss
def test_one_tensor_as_both_sides_is_detached_on_one(loss):
    if loss in (instance_loss, augmentation_loss):
        f, _, *rest = case(loss, 8, 3)
        once, twice = f.clone().requires_grad_(), f.clone().requires_grad_()
        loss(once, f, *rest).backward()
        loss(twice, twice, *rest).backward()
        torch.testing.assert_close(twice.grad, once.grad, rtol=0, atol=0)


@every_switch
def test_float32_is_close(loss, options):
    arguments = case(loss, 12, 5, seed=1)
    single = [x.float() if x.is_floating_point() else x for x in arguments]
    found = loss(*single, **options)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(*arguments, **options), rtol=1e-4, atol=1e-5)


@every_switch
def test_order_and_names_of_identities_do_not_matter(loss, options):
    f, *rest = case(loss, 12, 5, seed=2)
    expected = loss(f, *rest, **options)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    rows = {instance_loss: 3, augmentation_loss: 3, centroids_loss: 2, camera_centroids_loss: 2}[loss]
    permuted = [x[order] for x in (f, *rest[:rows])] + rest[rows:]
    torch.testing.assert_close(loss(*permuted, **options), expected, rtol=1e-12, atol=0)
    labels = {
        instance_loss: [1],
        augmentation_loss: [1],
        centroids_loss: [0, 3],
        camera_centroids_loss: [0, 3],
    }[loss]
    renamed = [11 - 2 * x if i in labels else x for i, x in enumerate(rest)]
    torch.testing.assert_close(loss(f, *renamed, **options), expected, rtol=1e-12, atol=0)
    if loss is not centroids_loss or options["feature"] == "unit":
        torch.testing.assert_close(loss(7 * f, *rest, **options), expected, rtol=1e-12, atol=0)


@every_switch
def test_nothing_to_contrast_is_a_zero_with_gradient(loss, options):
    rows = 3 if loss in (instance_loss, augmentation_loss) else 2
    f, *rest = case(loss, 4, 2)
    empty = [f[:0], *(x[:0] for x in rest[:rows]), *rest[rows:]]
    batches = [empty]
    if loss in (centroids_loss, camera_centroids_loss):
        batches.append([f, *rest[:2], *(x[:0] for x in rest[2:])])  # no centroid at all
        batches.append([f, rest[0] + 1, *rest[1:]])  # none of these identities
    elif options.get("denominator") != "all_pos":
        batches.append([f, rest[0], torch.zeros_like(rest[1]), rest[2]])  # one identity: no negative
    for arguments in batches:
        x = arguments[0].clone().requires_grad_()
        loss(x, *arguments[1:], **options).backward()
        assert x.grad is not None and torch.equal(x.grad, torch.zeros_like(x))


@every_switch
def test_a_zero_feature_gives_a_finite_gradient(loss, options):
    f, *rest = case(loss, 6, 3)
    f[2] = 0
    f.requires_grad_()
    loss(f, *rest, **options).backward()
    assert torch.isfinite(f.grad).all()


def test_instance_loss_by_hand():
    """Two identities at right angles, two images each: every positive at cosine 1, negatives at 0."""
    f = torch.eye(2, dtype=torch.float64).repeat_interleave(2, 0)
    y, multi = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.bool)
    one = math.log(1 + 2 * math.exp(-10))  # tau 0.1; two negatives
    assert math.isclose(instance_loss(f, f, y, multi).item(), one, abs_tol=1e-12)
    joint = math.log(2 + 2 * math.exp(-10))
    assert math.isclose(instance_loss(f, f, y, multi, denominator="all_pos").item(), joint, abs_tol=1e-12)
    soft = math.log(1 + 2 * math.exp(-5))  # tau 0.2
    assert math.isclose(instance_loss(f, f, y, ~multi).item(), soft, abs_tol=1e-12)
    mixed = instance_loss(f, f, y, y == 1)
    assert math.isclose(mixed.item(), (one + soft) / 2, abs_tol=1e-12)
    assert instance_loss(f, f, y, y == 1, negatives="same_type") == 0


def test_the_mean_is_over_contributing_anchors():
    """Identity 2 is one image alone: without `include_self` it has no positive."""
    f = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    y, multi = torch.tensor([0, 0, 2]), torch.zeros(3, dtype=torch.bool)
    expected = math.log(1 + math.exp(-10))
    assert math.isclose(instance_loss(f, f, y, multi, include_self=False).item(), expected, abs_tol=1e-12)


def test_centroids_loss_by_hand():
    """Unit centroids at right angles, 16 identities: log(1 + 15 e^-2) at tau 0.5 (method 7 g)."""
    f, y, multi = torch.eye(16, dtype=torch.float64), torch.arange(16), torch.zeros(16, dtype=torch.bool)
    assert math.isclose(
        centroids_loss(f, y, multi, f, y).item(), math.log(1 + 15 * math.exp(-2)), abs_tol=1e-12
    )
    far = centroids_loss(45 * f, y, multi, f, y)
    assert 0 <= far.item() < 1e-12  # 15 e^-90: raw features of norm 45 leave nothing to learn
    half = centroids_loss(f[:8], y[:8], multi[:8], f, y)
    assert math.isclose(half.item(), math.log(1 + 7 * math.exp(-2)), abs_tol=1e-12)
    everyone = centroids_loss(f[:8], y[:8], multi[:8], f, y, scope="all")
    assert math.isclose(everyone.item(), math.log(1 + 15 * math.exp(-2)), abs_tol=1e-12)


def test_camera_centroids_loss_by_hand():
    """An identity seen in two cameras, at cosine 1 and 0, and one other identity at cosine 0; tau 1."""
    q = torch.eye(3, dtype=torch.float64)
    args = q[:1], torch.tensor([4]), torch.tensor([0]), q, torch.tensor([4, 4, 9]), torch.tensor([0, 1, 0])
    e = math.e
    for options, expected in [
        ({}, math.log(e + 2) - 0.5),
        ({"denominator": "per_positive"}, (math.log(e + 1) - 1 + math.log(2)) / 2),
        ({"exclude_own": True}, math.log(2)),
        ({"hard_negatives": 0}, math.log(e + 1) - 0.5),
        ({"hard_negatives": 0, "denominator": "per_positive"}, 0),
    ]:
        found = camera_centroids_loss(*args, tau=1, **options).item()
        assert math.isclose(found, expected, abs_tol=1e-12), options


def test_camera_sum_adds_the_means_of_cameras():
    f, y, c, *q = case(camera_centroids_loss, 12, 3)
    total = sum(camera_centroids_loss(f[c == k], y[c == k], c[c == k], *q) for k in c.unique())
    torch.testing.assert_close(camera_centroids_loss(f, y, c, *q, reduction="camera_sum"), total)


def test_a_masked_positive_does_not_come_back_as_a_negative():
    """Own camera excluded, one negative, two wanted: the excluded positive must stay out."""
    q = torch.eye(3, dtype=torch.float64)
    labels, cameras = torch.tensor([4, 4, 9]), torch.tensor([0, 1, 0])
    found = camera_centroids_loss(
        q[:1], labels[:1], cameras[:1], q, labels, cameras, tau=1, hard_negatives=2, exclude_own=True
    )
    assert math.isclose(found.item(), math.log(2), abs_tol=1e-12)


def test_single_camera_rows_have_no_camera_centroids():
    """Their keys are no multi-camera keys, so a whole mixed batch may be passed."""
    f, y, c, *q = case(camera_centroids_loss, 8, 3)
    more = (
        torch.cat([f, random(4, seed=9)]),
        torch.cat([y, torch.arange(4) + 1]),
        torch.cat([c, c.new_full((4,), -1)]),
    )
    for reduction in ("mean", "camera_sum"):
        torch.testing.assert_close(
            camera_centroids_loss(*more, *q, reduction=reduction),
            camera_centroids_loss(f, y, c, *q, reduction=reduction),
        )


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    given = [x.to(dtype) if x.is_floating_point() else x for x in case(loss, 12, 5, seed=2)]
    exact = [x.float() if x.is_floating_point() else x for x in given]
    for arguments in (given, exact):
        arguments[0].requires_grad_()
    assert loss(*given).dtype == torch.float32
    torch.testing.assert_close(loss(*given), loss(*exact), rtol=0, atol=0)
    slopes = [torch.autograd.grad(loss(*arguments), arguments[0])[0] for arguments in (given, exact)]
    assert torch.equal(slopes[0], slopes[1].to(dtype)) and slopes[1].abs().max() > 0


def test_autocast_does_not_touch_the_products():
    for loss in (instance_loss, augmentation_loss, centroids_loss, camera_centroids_loss):
        arguments = [x.float() if x.is_floating_point() else x for x in case(loss, 8, 3)]
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(*arguments)
        torch.testing.assert_close(inside, loss(*arguments), rtol=0, atol=0)


def test_batch_scope_multiplies_few_centroids_only():
    """Of a long table only the rows of identities in the batch are touched."""
    P = 200_000
    centroids = torch.zeros(1, 8).expand(P, 8).clone()
    f, labels = torch.randn(4, 8), torch.tensor([5, 5, 77, P - 1])
    centroids[[5, 77, P - 1]] = torch.eye(8)[:3]
    centroids[1000:2000] = torch.nan  # would poison every product it entered
    single = torch.tensor([True, True, False, False])
    few = centroids_loss(f, labels, single, torch.eye(8)[:3], torch.tensor([5, 77, P - 1]))
    torch.testing.assert_close(centroids_loss(f, labels, single, centroids, torch.arange(P)), few)


@pytest.mark.parametrize(
    "loss, options, words",
    [
        (instance_loss, {"denominator": "joint"}, "denominator"),
        (instance_loss, {"negatives": "all"}, "negatives"),
        (instance_loss, {"tau_multi": 0.0}, "tau_multi"),
        (instance_loss, {"tau_single": -1.0}, "tau_single"),
        (augmentation_loss, {"tau": float("nan")}, "tau"),
        (augmentation_loss, {"negatives": "same"}, "negatives"),
        (centroids_loss, {"feature": "asis"}, "feature"),
        (centroids_loss, {"centroid": "raw"}, "centroid"),
        (centroids_loss, {"scope": "epoch"}, "scope"),
        (camera_centroids_loss, {"denominator": "one_pos"}, "denominator"),
        (camera_centroids_loss, {"reduction": "sum"}, "reduction"),
        (camera_centroids_loss, {"hard_negatives": -1}, "hard_negatives"),
    ],
)
def test_a_wrong_option_is_named(loss, options, words):
    with pytest.raises((ValueError, TypeCheckError), match=words):
        loss(*case(loss, 4, 2), **options)


def test_wrong_sizes_and_missing_types_are_named():
    f, m, labels, single = case(instance_loss, 4, 2)
    with pytest.raises(ValueError, match="pass single"):
        augmentation_loss(f, m, labels, negatives="same_type")
    for bad in ((f, m[:3], labels, single), (f, m, labels[:1], single), (f, m, labels, single[:1])):
        with pytest.raises((ValueError, TypeCheckError)):
            instance_loss(*bad)
