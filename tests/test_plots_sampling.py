"""Pictures of Data Sampling say who was chosen, barred and pushing; what a notebook reads is counted."""

import json

import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle

from dynamix import plots
from dynamix.experiments.contribution import contribution
from dynamix.experiments.lessons import sampling as lesson
from dynamix.experiments.pictures.dynamix_figures import pairs_of
from dynamix.plots.batches import signed
from dynamix.plots.pushes import PARTNER, Push
from dynamix.plots.sampling import RING, SHADE, SINGLE, Choice, Rest
from tests.test_contribution import scene  # noqa: F401
from tests.test_plots import count_crops, crops, inside, texts

SIMILARITY = np.array([[0.5, -0.1, 0.2], [0.1, -0.2, 0.9]])
COST = np.abs(SIMILARITY - 0.1)


def drawn(**more):
    options = {"cost": COST, "title": "T"} | more
    return plots.assignment(SIMILARITY, np.array([2, 0]), crops(2), crops(3), **options)


def rings(figure):
    """Corners of the framed cells, from the top left on."""
    boxes = [b for b in figure.findobj(FancyBboxPatch) if to_hex(b.get_edgecolor()) == RING.lower()]
    return sorted((b.get_y(), b.get_x()) for b in boxes if b.get_width() > 0.5)


def bars(figure, color):
    found = [p for p in figure.findobj(Rectangle) if to_hex(p.get_facecolor()) == color.lower()]
    return [p for p in found if p.get_height() == pytest.approx(0.34)]


def every_figure():
    halves = np.array([[True, False, False], [False, True, False]])
    return {
        "strangers": plots.strangers(
            crops(2), [Choice("hard", "rule", crops(2), np.array([0.5, 0.7]))], title="T", note="N"
        ),
        "assignment": drawn(wanted=np.array([1, 0]), kept=COST < 0.3, note="N"),
        "queues": plots.queues([Rest("one", halves, ~halves)], title="T"),
        "push_shares": plots.push_shares([Push("hard", np.array([0.5]), np.array([0.2]))], 8, title="T"),
        "push_matrix": plots.push_matrix([("hard", np.eye(3) / 2)], title="T"),
    }


@pytest.mark.parametrize("name", every_figure())
def test_titles_and_margins(name):
    figure = every_figure()[name]
    assert "T" in texts(figure) and inside(figure)


def test_strangers_stand_below_with_their_similarity():
    choices = [
        Choice(name, "rule", crops(4), np.full(4, value)) for name, value in (("hard", 0.5), ("soft", -0.25))
    ]
    figure = plots.strangers(crops(4), choices, title="T")
    assert count_crops(figure) == 4 * 3
    said = texts(figure)
    assert said.count("0.50") == 4 and said.count("\N{MINUS SIGN}0.25") == 4
    assert "on average 0.50" in said and "on average \N{MINUS SIGN}0.25" in said


@pytest.mark.parametrize(
    "choices, why",
    [
        ([], "choices is empty"),
        ([Choice("hard", "", crops(3), np.zeros(2))], "single of hard must hold 2 crops"),
        ([Choice("hard", "", crops(2), np.zeros(3))], "similarity of hard"),
    ],
)
def test_strangers_refuse_other_shapes(choices, why):
    with pytest.raises(ValueError, match=why):
        plots.strangers(crops(2), choices, title="T")


def test_the_chosen_cells_are_framed_and_the_cheapest_is_darkest():
    figure = drawn()
    assert count_crops(figure) == 5
    (first, right), (second, left) = rings(figure)
    wide = (8.5 - 2 * 0.28 - 0.62) / 3
    assert first < second and right - left == pytest.approx(2 * wide)
    said = texts(figure)
    assert {"0.50", "\N{MINUS SIGN}0.20", "cost 0.40", "cost 0.80", "chosen", "high cost"} <= set(said)
    assert "each row's own best" not in said and "not looked at" not in said
    cells = [p for p in figure.findobj(Rectangle) if p.get_width() == pytest.approx(wide - 0.04)]
    dark = [to_hex(p.get_facecolor()) for p in cells]
    assert dark[3] == SHADE.lower() and dark.count(SHADE.lower()) == 1  # cost 0: similarity 0.1


def test_what_each_row_wants_is_starred_and_what_is_not_kept_is_blank():
    kept = np.array([[True, False, True], [True, True, False]])
    figure = drawn(wanted=np.array([2, 0]), kept=kept)
    stars = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert len(stars) == 3  # one a row, one in the legend
    cells = [p for p in figure.findobj(Rectangle) if 2 < p.get_width() < 3]
    assert [p.get_facecolor()[3] > 0 for p in cells] == kept.ravel().tolist()
    assert {"each row's own best", "not looked at"} <= set(texts(figure))
    assert "high cost" not in texts(figure)  # its color is next to that of what nobody looks at


def test_many_columns_leave_no_room_for_costs():
    wide = np.linspace(-0.5, 0.5, 20).reshape(2, 10)
    figure = plots.assignment(wide, np.array([0, 1]), crops(2), crops(10), cost=np.abs(wide), title="T")
    assert not [text for text in texts(figure) if text.startswith("cost")] and inside(figure)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"cost": COST[:1]}, "cost must have shape"),
        ({"kept": COST[:1] > 0}, "kept must have shape"),
        ({"wanted": np.array([0])}, "wanted must have shape"),
    ],
)
def test_assignment_refuses_other_shapes(change, why):
    with pytest.raises(ValueError, match=why):
        drawn(**change)
    with pytest.raises(ValueError, match="need 2 and 3 crops, got 2 and 2"):
        plots.assignment(SIMILARITY, np.array([0, 1]), crops(2), crops(2), cost=COST, title="T")
    with pytest.raises(ValueError, match="two dimensions"):
        plots.assignment(SIMILARITY[0], np.array([0]), crops(1), crops(3), cost=COST[0], title="T")


def test_queues_sort_identities_by_their_first_draw():
    chosen = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]], bool)
    resting = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], bool)
    figure = plots.queues([Rest("queue of 1", chosen, resting), Rest("again", chosen, resting)], title="T")
    mesh = figure.findobj(QuadMesh)
    assert len(mesh) == 2
    shown = np.asarray(mesh[0].get_array()).reshape(3, 4)
    assert shown.tolist() == [[2, 0, 0, 0], [1, 2, 0, 0], [2, 1, 0, 0]]
    assert texts(figure).count("2 of 4 identities drawn") == 2
    for bad in ([], [Rest("a", chosen, resting), Rest("b", chosen[:2], resting)]):
        with pytest.raises(ValueError, match="panels is empty|chosen of b"):
            plots.queues(bad, title="T")


def test_push_shares_are_as_long_as_they_say():
    figure = plots.push_shares(
        [
            Push("hard", np.array([0.7, 0.9]), np.array([0.5, 0.5])),
            Push("soft", np.array([0.4]), np.zeros(1)),
        ],
        8,
        title="T",
    )
    rest, own = bars(figure, SINGLE), bars(figure, PARTNER)
    whole = sum(p.get_width() for p in figure.findobj(Rectangle) if p.get_height() == pytest.approx(0.34)) / 2
    assert [p.get_width() / whole for p in rest] == pytest.approx([0.4, 0.4])
    assert [p.get_width() / whole for p in own] == pytest.approx([0.4, 0.0])
    assert {"50%", "0%", "20%", "60%", "40%", "partner by chance: 1 in 8"} <= set(texts(figure))
    ticks = [line.get_xdata()[0] for line in figure.axes[0].lines[:2]]
    start = min(p.get_x() for p in figure.findobj(Rectangle) if p.get_height() == pytest.approx(0.34))
    assert [(x - start) / whole for x in ticks] == pytest.approx([1 - 0.8 / 8, 1 - 0.4 / 8])


@pytest.mark.parametrize(
    "bad", [[], [Push("a", np.array([]), np.array([]))], [Push("a", np.array([1.2]), np.array([0.5]))]]
)
def test_push_shares_refuse_what_is_no_share(bad):
    with pytest.raises(ValueError, match="at least one rule|shares between 0 and 1"):
        plots.push_shares(bad, 8, title="T")


def test_push_matrix_frames_the_diagonal():
    values = np.array([[0.3, 0.05], [0.2, 0.1]])
    figure = plots.push_matrix([("median", values), ("hard", values.T)], title="T")
    said = texts(figure)
    assert said.count("30") == 2 and "5" not in said and "strangers 32%, partner 20%" in said
    frames = [p for p in figure.findobj(Rectangle) if to_hex(p.get_edgecolor()) == RING.lower()]
    assert len(frames) == 4
    with pytest.raises(ValueError, match="push of hard"):
        plots.push_matrix([("median", values), ("hard", values[:1])], title="T")
    with pytest.raises(ValueError, match="rules is empty"):
        plots.push_matrix([], title="T")


# --- what the notebook reads --------------------------------------------------------------------------


def test_barred_is_who_waits_in_the_queue():
    picks, pool = np.array([[3, 5], [7, 9], [3, 7]]), np.array([3, 5, 7, 9])
    assert lesson.barred(picks, pool, 0).sum() == 0
    assert lesson.barred(picks, pool, 2).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    # As long as the pool: the oldest are let out when a batch needs them.
    assert lesson.barred(picks, pool, 4).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_nobody_who_is_barred_is_drawn(scene, fraction):  # noqa: F811
    picks = lesson.planned(scene, "median", fraction).pairs[..., 1]
    resting = lesson.barred(picks, scene.pool, round(fraction * len(scene.pool)))
    chosen = np.stack([np.isin(scene.pool, batch) for batch in picks])
    assert not (chosen & resting).any() and (fraction == 0 or resting[1:].any())


def test_a_full_queue_leaves_no_choice(scene):  # noqa: F811
    picks = [
        np.sort(lesson.planned(scene, mode, 1.0, scene.pool.tolist()).pairs[..., 1]) for mode in lesson.RULES
    ]
    assert all(np.array_equal(each, picks[0]) for each in picks)


def test_contested_is_the_first_batch_in_which_two_want_the_same(scene):  # noqa: F811
    everyone, places = pairs_of(scene, "median")[0], []
    for strangers in range(3, 13):
        multi, single = lesson.contested(scene, 2, strangers)
        clashes = []
        for people in everyone[:, :2]:
            similarity = scene.similarity(people, single).numpy()
            wanted = np.abs(similarity - np.median(similarity)).argmin(1)
            clashes.append(len(set(wanted.tolist())) < 2)
        places.append(clashes.index(True) if any(clashes) else 0)
        assert len(set(single.tolist())) == strangers and set(single.tolist()) <= set(scene.pool.tolist())
        assert multi.tolist() == everyone[places[-1], :2].tolist()
    assert len(set(places)) > 1


def test_matrix_says_its_target(scene, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lesson, "typical", lambda scene, labels: crops(len(labels)))
    multi, single = lesson.contested(scene, 2, 5)
    target = float(np.median(scene.similarity(multi, single).numpy()))
    figure = lesson.matrix(scene, multi, single, np.array([0, 1]), title="T")
    said = f"the target, their median, is {signed(target)}"
    assert any(said in " ".join(text.split()) for text in texts(figure)) and inside(figure)


def test_between_adds_up_to_the_strangers_share(scene):  # noqa: F811
    steps = scene.config.iterations
    found = torch.stack([lesson.between(scene, "hard", step) for step in range(steps)])
    assert found.shape == (steps, 3, 3) and (found > 0).all() and (found.sum(2) < 1).all()
    whole = contribution(scene, "hard")
    assert float(found.sum(2).mean()) == pytest.approx(whole.single, abs=0.1)  # a mean of ratios


def test_recorded_are_means_over_runs_in_the_order_of_the_rules(tmp_path):
    rows = [
        {"mode": mode, "push": push, "single": 0.5, "partner": 0.25}
        for mode, push in (("median", 1.0), ("median", 3.0), ("hard", 4.0), ("hard", 4.0), ("off", 1.0))
    ]
    path = tmp_path / "contribution.json"
    path.write_text(json.dumps({"rows": rows}))
    means, figure = lesson.recorded(path, 8)
    assert list(means) == ["hard", "median"] and means["median"]["push"] == 2.0
    assert any("2 finished median runs" in text for text in texts(figure))
