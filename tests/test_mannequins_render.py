"""Mannequins: who is drawn, by what, and that the same shot always gives the same bytes."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamix.data.mannequins import people as p
from dynamix.data.mannequins.body import NAMES, PART, pose
from dynamix.data.mannequins.cameras import STYLES, cameras, moments, panoramas
from dynamix.data.mannequins.people import PALETTES, people
from dynamix.data.mannequins.render import Shots, render

SIZE = (64, 32)


def shots(count: int, **changes: torch.Tensor) -> Shots:
    index = torch.arange(count)
    columns = dict(
        person=index % 5, camera=index % 3, azimuth=index * 0.7, phase=index * 1.1,
        offset=torch.zeros(count, 2),
        zoom=torch.ones(count), occluder=index % 3, seed=index + 40,
    )  # fmt: skip
    return Shots(**(columns | changes))


@pytest.fixture(scope="module")
def who():
    return people(5, seed=3)


@pytest.fixture(scope="module")
def cams():
    return cameras(3, seed=4, spread=0.8)


def still(who, **changes):
    """A plain setting without noise and blur, to compare what is drawn."""
    flat = cameras(1, seed=0, spread=0.0, style="studio")
    changed = dataclasses.replace(flat, noise=torch.zeros(1), blur=torch.zeros(1))
    columns = dict(person=torch.zeros(1).long(), camera=torch.zeros(1).long(), azimuth=torch.zeros(1),
                   phase=torch.zeros(1), occluder=torch.zeros(1).long())  # fmt: skip
    return render(who, changed, shots(1, **(columns | changes)), (128, 64))[0].int()


def test_same_shots_same_bytes(who, cams):
    again = render(people(5, seed=3), cameras(3, seed=4, spread=0.8), shots(12), SIZE)
    assert torch.equal(render(who, cams, shots(12), SIZE), again)
    other = render(who, cams, shots(12, seed=torch.arange(12)), SIZE)
    assert all((a != b).any() for a, b in zip(again, other, strict=True))


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 12), st.sampled_from([(64, 32), (40, 24), (128, 64)]))
def test_chunks_and_company_never_change_a_byte(chunk, size):
    who, cams = people(5, seed=3, palette="studio"), cameras(3, seed=4, spread=1.0)
    zoom = torch.tensor([1.0, 1, 1.7, 2.2]).repeat(3)
    offset = torch.linspace(-0.5, 0.5, 24).view(12, 2)
    some = shots(12, zoom=zoom, offset=offset, person=torch.arange(12) % 6 - 1)
    whole = render(who, cams, some, size)
    assert torch.equal(render(who, cams, some, size, chunk=chunk), whole)
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(chunk))[:chunk]
    assert torch.equal(render(who, cams, some.select(rows), size), whole[rows])


def test_threads_never_change_a_byte(who, cams):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = render(who, cams, shots(30), (128, 64))
        torch.set_num_threads(2)
        assert torch.equal(render(who, cams, shots(30), (128, 64)), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_bytes(who, cams):
    assert torch.equal(render(who, cams, shots(30), SIZE, device="cuda"), render(who, cams, shots(30), SIZE))


def test_no_shots(who, cams):
    assert render(who, cams, shots(0), SIZE).shape == (0, 3, 64, 32)
    assert people(0, seed=0).select(torch.zeros(0).long()).skin.shape == (0, 3)
    assert len(cameras(0, seed=0, spread=1.0)) == 0


def test_an_empty_box_is_the_background_around_a_person(who):
    person, empty = still(who), still(who, person=torch.tensor([-1]))
    difference = (person - empty).abs().amax(0)
    assert difference[20:110, 28:36].float().mean() > 15  # somebody stands in the middle
    assert difference[:90, :6].max() == 0 and difference[:90, -6:].max() == 0  # and nobody at the edges


def test_an_empty_box_ignores_everybody(cams):
    empty = shots(6, person=torch.full((6,), -1))
    drawn = render(people(5, seed=1), cams, empty, SIZE)
    assert torch.equal(render(people(5, seed=2), cams, empty, SIZE), drawn)


def test_a_backpack_is_seen_from_behind(who):
    worn = dataclasses.replace(
        who.select(torch.zeros(1).long()), backpack=torch.tensor([True]),
        backpack_color=torch.tensor([[0.9, 0.1, 0.1]]),
        top_color=torch.full((1, 3), 0.2), pattern=torch.zeros(1).long(), top=torch.zeros(1).long(),
        skin=torch.full((1, 3), 0.4), hair=torch.full((1, 3), 0.1), haircut=torch.zeros(1).long(),
        bag=torch.zeros(1).long(),
        bottom_color=torch.full((1, 3), 0.3), shoes=torch.full((1, 3), 0.1), sole=torch.full((1, 3), 0.1),
    )  # fmt: skip

    def red(azimuth: float) -> int:
        image = still(worn, azimuth=torch.tensor([azimuth]))
        return int(((image[0] - image[1]) > 40).sum())

    assert red(math.pi) > 3 * red(0.0) > 0  # from ahead only the straps
    assert red(math.pi) > red(math.pi / 2) > red(0.0)


def test_mirrored_azimuth_mirrors_the_person(who):
    straight = dataclasses.replace(who.select(torch.ones(1).long()), bag=torch.zeros(1).long())

    def shape(azimuth: float, phase: float) -> torch.Tensor:
        view = dict(azimuth=torch.tensor([azimuth]), phase=torch.tensor([phase]))
        difference = still(straight, **view) - still(straight, person=torch.tensor([-1]), **view)
        return difference.abs().amax(0) > 12

    left, right = shape(-math.pi / 2, 0.8), shape(math.pi / 2, 0.8 + math.pi).flip(1)
    best = max(
        float((left & right.roll(k, 1)).sum()) / float((left | right.roll(k, 1)).sum()) for k in range(-5, 6)
    )
    assert best > 0.8
    assert not torch.equal(shape(0.0, 0.8), shape(math.pi / 2, 0.8))


def test_walking_moves_legs_and_occluders_hide(who):
    assert (still(who, phase=torch.tensor([1.6])) - still(who, phase=torch.tensor([0.0])))[
        :, 80:
    ].abs().sum() > 0
    low = still(who, occluder=torch.tensor([1]))
    assert (low - still(who))[:, 120:].abs().max() > 0 and torch.equal(low[:, :80], still(who)[:, :80])
    assert not torch.equal(still(who, occluder=torch.tensor([2])), still(who))


def test_the_lower_foot_stands_on_the_ground():
    crowd = people(40, seed=0, palette="studio")
    parts = pose(crowd, torch.linspace(0, 6.28, 40).double(), torch.zeros(40).double())
    feet = [PART["shoe_l"], PART["shoe_r"]]
    sole = (parts.end[:, feet, 1] - parts.caps[:, feet, 1]).amin(1)
    assert sole.abs().max() < 0.01
    top = parts.start[:, PART["head"], 1] + parts.caps[:, PART["head"], 0]
    assert 0.93 < float(top.min()) and float(top.max()) < 1.02
    assert parts.colors.shape == (40, len(NAMES), 2, 3)


@pytest.mark.parametrize("palette", PALETTES)
def test_people_are_within_range(palette):
    crowd = people(300, seed=0, palette=palette, clumping=0.3)
    assert len(crowd) == 300
    for field in dataclasses.fields(crowd):
        column = getattr(crowd, field.name)
        assert len(column) == 300 and bool(torch.isfinite(column.float()).all())
        if column.dim() == 2:
            assert column.min() >= 0 and column.max() <= 1
    assert len({tuple(row.tolist()) for row in crowd.top_color}) > 200


def test_a_person_does_not_depend_on_how_many_are_drawn():
    few, many = (
        people(10, seed=5, palette="campus"),
        people(50, seed=5, palette="campus").select(torch.arange(10)),
    )
    for field in dataclasses.fields(few):
        assert torch.equal(getattr(few, field.name), getattr(many, field.name)), field.name


@pytest.mark.parametrize("clumping", [0.0, 0.4, 0.8])
def test_clumping_makes_people_share_outfits(clumping):
    crowd = people(1000, seed=1, clumping=clumping)
    shared = crowd.outfit >= 0
    assert abs(float(shared.float().mean()) - 0.6 * clumping) < 0.05  # two fifths only dress dark
    if not clumping:
        return
    sizes = torch.bincount(crowd.outfit[shared])
    assert sizes.min() >= 6 and sizes.max() <= 10
    for outfit in range(5):
        group = crowd.select(torch.nonzero(crowd.outfit == outfit)[:, 0])
        for name in ("top", "top_color", "bottom_color", "pattern", "pattern_scale", "sleeve"):
            assert len(getattr(group, name).unique(dim=0)) == 1, name
        assert len(group.girth.unique()) == len(group)

    def dark(c):
        return float((c.top_color.mean(1) < 0.4).float().mean())

    assert dark(crowd) > dark(people(1000, seed=1))


def test_spread_sets_cameras_apart():
    same, far = cameras(8, seed=0, spread=0.0), cameras(8, seed=0, spread=1.0)
    assert same.gain.std(0).max() == 0 and same.scene.std(0).max() == 0
    assert far.gain.std(0).min() > 0.1 and far.scene.std(0).min() > 0.05
    assert not torch.equal(cameras(8, seed=0, spread=1.0, style="indoor").gain, far.gain)
    assert torch.allclose(far.light.norm(dim=1), torch.ones(8))


def test_moments_lie_around_their_camera():
    base = cameras(4, seed=0, spread=1.2, style="street")
    near, far = (moments(base, 6, seed=1, strength=s) for s in (0.0, 1.0))
    own = torch.arange(4).repeat_interleave(6)
    assert (
        len(near) == 24
        and torch.allclose(near.gain, base.gain[own])
        and torch.equal(near.scale, base.scale[own])
    )
    half = moments(base, 6, seed=1, strength=0.5)
    assert torch.allclose(half.gain, (near.gain + far.gain) / 2, atol=1e-6)
    assert len(half.scene.unique(dim=0)) == 24 and torch.equal(half.noise, base.noise[own])


@pytest.mark.parametrize("style", STYLES)
def test_scenes_are_images(style):
    cams = cameras(3, seed=2, spread=1.0, style=style)
    drawn = panoramas(cams.scene, cams.style, (32, 16))
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.std() > 0.02
    assert not torch.equal(drawn[0], drawn[1])


def test_wrong_calls_raise(who, cams):
    wrong = shots(3, person=torch.tensor([0, 5, 1]))
    with pytest.raises(ValueError, match=r"shots.person\[1\] is 5"):
        render(who, cams, wrong, SIZE)
    with pytest.raises(ValueError, match=r"shots.camera\[2\] is -1"):
        render(who, cams, shots(3, camera=torch.tensor([0, 1, -1])), SIZE)
    for size in ((0, 32), (64, -1)):
        with pytest.raises(ValueError, match="size"):
            render(who, cams, shots(3), size)
    with pytest.raises(ValueError, match="chunk"):
        render(who, cams, shots(3), SIZE, chunk=0)
    with pytest.raises(ValueError, match="palette"):
        people(3, seed=0, palette="moon")
    with pytest.raises(ValueError, match="clumping"):
        people(3, seed=0, clumping=1.5)
    with pytest.raises(ValueError, match="style"):
        cameras(3, seed=0, spread=1.0, style="moon")
    with pytest.raises(ValueError, match="strength"):
        moments(cams, 2, seed=0, strength=2.0)


def test_bags_and_hats_have_parts(who):
    parts = pose(who, torch.zeros(5).double(), torch.zeros(5).double())
    assert torch.equal(parts.visible[:, PART["bag"]], who.bag != p.NO_BAG)
    assert torch.equal(parts.visible[:, PART["brim"]], who.hat == p.CAP)
