"""Figures say what they should, refuse wrong shapes by name, and give the same bytes twice."""

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from PIL import Image

from dynamix import plots
from dynamix.plots.clips import tracker_errors
from dynamix.plots.marks import letter
from dynamix.plots.relabeling import decisions
from dynamix.plots.style import MARGIN, WIDTH, _few_colors, text_width, wrap


def crops(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (*shape, 3, 16, 8), dtype=torch.uint8, generator=generator)


def rows(*columns: list) -> list[np.ndarray]:
    return [np.array(column) for column in columns]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def count_crops(figure: Figure) -> int:
    return len(figure.findobj(AxesImage))


def inside(figure: Figure) -> bool:
    """Nothing that is drawn leaves the page."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def record(epoch: int, **more) -> dict:
    return {"epoch": epoch, "terms": {"ins": 1.0, "total": 5.0 - epoch}, **more}


TRUTH = np.array([[0, 0, -1, 0], [1, 1, 1, 1]])
TRACKER = np.array([[7, 7, 7, 8], [9, 9, 7, 7]])  # a cut in the first row, a switch in the second


def every_figure() -> dict[str, Figure]:
    quality = {"precision": 0.9, "recall": 0.8, "f1": 0.85, "v_measure": 0.9}
    flat = {"before": TRACKER.ravel(), "truth": TRUTH.ravel()}
    after = np.where(flat["before"] == 8, 7, flat["before"])
    found = {"before": (crops(2, 3), np.zeros((2, 3), bool)), "after": (crops(2, 3), np.ones((2, 3), bool))}
    run = [record(0), record(1, quality_before=quality, quality_after=quality, scores={"hall": {"mAP": 0.5}})]
    return {
        "sheet": plots.sheet(crops(2, 3), title="T", rows=["a", "b"], columns=["x", "y", "z"]),
        "clips": plots.clips(crops(2, 4), TRACKER, TRUTH, title="T"),
        "ranked_lists": plots.ranked_lists(crops(2), found, title="T"),
        "mixed_batch": plots.mixed_batch(
            crops(2, 3),
            crops(2, 3),
            torch.tensor([0.1, 0.3]),
            title="T",
            target=0.2,
            candidates=torch.tensor([[0.1, 0.5, 0.5], [-0.4, 0.3, 0.3]]),
        ),  # fmt: skip
        "training_curves": plots.training_curves({"one": run, "two": run}, title="T"),
        "relabeling": plots.relabeling(
            crops(8), flat["before"], after, flat["truth"] < 0, flat["truth"], title="T"
        ),
        "results_bars": plots.results_bars(
            [{"name": "a", "rank1": [0.5, 0.6], "mAP": {"mean": 0.4, "std": 0.1}}], title="T"
        ),
        "similarity_histograms": plots.similarity_histograms(
            {"own": np.linspace(0, 1, 9)}, {"remove": 0.5}, title="T"
        ),
        "hero": plots.hero(
            crops(2, 4), TRACKER, TRUTH, after.reshape(2, 4), TRUTH < 0, crops(2), found, title="T"
        ),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_title_and_nothing_leaves_the_page(name):
    assert "T" in texts(FIGURES[name])
    assert FIGURES[name].get_size_inches()[0] == WIDTH
    assert inside(FIGURES[name])


@pytest.mark.parametrize(
    "name, number",
    [("sheet", 6), ("clips", 8), ("ranked_lists", 14), ("mixed_batch", 12), ("relabeling", 8), ("hero", 30)],
)
def test_every_crop_is_drawn_once(name, number):
    assert count_crops(FIGURES[name]) == number


@pytest.mark.parametrize("name", ["clips", "results_bars"])
def test_saving_twice_gives_the_same_bytes(name, tmp_path):
    first, second = (
        plots.save(FIGURES[name], tmp_path / "a.png"),
        plots.save(every_figure()[name], tmp_path / "b.png"),
    )
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.size[0] == 1700 and not image.info.keys() & {"Software", "Creation Time", "date:create"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_saving_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match="name it a.png"):
        plots.save(FIGURES["clips"], tmp_path / "a.jpg")


def test_the_look_does_not_depend_on_use_style(tmp_path):
    import matplotlib

    with matplotlib.rc_context():
        plain = plots.save(every_figure()["training_curves"], tmp_path / "a.png").read_bytes()
        plots.use_style()
        assert plots.save(every_figure()["training_curves"], tmp_path / "b.png").read_bytes() == plain


def test_importing_the_package_does_not_import_plots():
    code = "import sys, dynamix; print('matplotlib' in sys.modules, 'dynamix.plots' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


# --- what the pictures say ----------------------------------------------------------------------------


def test_tracker_errors_are_found_against_the_truth():
    marks = tracker_errors(TRACKER, TRUTH)
    assert np.argwhere(marks.cut).tolist() == [[0, 3]]
    assert np.argwhere(marks.switch).tolist() == [[1, 2]]
    assert np.argwhere(marks.wrong).tolist() == [[1, 2], [1, 3]]
    assert np.argwhere(marks.junk).tolist() == [[0, 2]]


def test_a_swap_is_two_switches_and_no_cut():
    marks = tracker_errors(np.array([[4, 4, 5, 5], [5, 5, 4, 4]]), np.array([[0] * 4, [1] * 4]))
    assert np.argwhere(marks.switch).tolist() == [[0, 2], [1, 2]]
    assert not marks.cut.any()


def test_coming_back_from_a_switch_is_no_error():
    marks = tracker_errors(np.array([[4, 5, 4, 4], [5, 5, 5, 5]]), np.array([[0] * 4, [1] * 4]))
    assert np.argwhere(marks.switch).tolist() == [[0, 1]] and not marks.cut.any()


def test_junk_between_two_labels_does_not_hide_the_cut():
    marks = tracker_errors(np.array([[4, 4, 5, 5]]), np.array([[0, -1, -1, 0]]))
    assert np.argwhere(marks.cut).tolist() == [[0, 2]]  # the label changes on the junk box


def test_decisions_are_told_apart_and_judged():
    #          kept  kept  moved merged merged removed removed missed
    before = np.array([1, 1, 2, 3, 3, 1, 2, 2])
    after = np.array([1, 1, 1, 1, 1, 1, 2, 2])
    removed = np.array([0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    truth = np.array([0, 0, 0, 0, 5, -1, 0, -1])
    made = decisions(before, after, removed, truth)
    assert made.kind.tolist() == ["kept", "kept", "moved", "merged", "merged", "removed", "removed", "kept"]
    assert made.right.tolist() == [True, True, True, True, False, True, False, False]
    assert made.owner == {1: 0, 2: -1}


def test_clips_name_labels_and_count_errors():
    shown = texts(FIGURES["clips"])
    assert any("1 cut, 1 identity switch, 1 junk box." in text for text in shown)
    assert {"A", "B", "C", "junk"} <= set(shown)


def test_relabeling_says_what_it_did():
    shown = texts(FIGURES["relabeling"])
    note = "Of 8 images: 0 moved (0 rightly), 1 merged (1 rightly), 1 removed (1 rightly), 2 kept"
    assert any(text.replace("\n", " ").startswith(note) for text in shown)
    assert {"removed", "merged", "missed", "person 1: A + B merged"} <= set(shown)


def test_ranked_lists_count_what_is_right():
    shown = texts(FIGURES["ranked_lists"])
    assert shown.count("3 of 3") == 2 and shown.count("0 of 3") == 2 and shown.count("query") == 2


def test_mixed_batch_shows_each_similarity_and_the_target():
    shown = texts(FIGURES["mixed_batch"])
    assert {"0.10", "0.30", "median of all candidates 0.20"} <= set(shown)
    assert any(text.startswith("cosine similarity of the pair") for text in shown)


def test_mixed_batch_shows_whom_each_could_have_met():
    axes = next(each for each in FIGURES["mixed_batch"].axes if each.get_label() == "similarity")
    hills = [each.get_data() for each in axes.patches if isinstance(each, StepPatch)]
    tall = [np.abs(hill.values - hill.baseline) for hill in hills]
    assert [sorted(set(np.round(each / max(map(np.max, tall)), 2))) for each in tall] == [[0, 0.5, 1]] * 2
    at = [hill.edges[np.flatnonzero(each)] for hill, each in zip(hills, tall, strict=True)]
    np.testing.assert_allclose(at, [[0.1, 0.5], [-0.4, 0.3]], atol=0.03)


def test_curves_leave_out_panels_without_data():
    whole = {axes.get_label() for axes in FIGURES["training_curves"].axes}
    assert whole == {"page", "Total loss", "Pseudo-label F1", "mAP on unseen worlds"}
    bare = plots.training_curves({"run": [record(0, quality_after=None, scores={})]}, title="T")
    assert {axes.get_label() for axes in bare.axes} == {"page", "Total loss"}
    drawn = next(axes for axes in bare.axes if axes.get_label() == "Total loss").lines[0]
    assert drawn.get_xydata().tolist() == [[1.0, 5.0]]


def test_bars_print_mean_and_spread_over_seeds():
    shown = texts(FIGURES["results_bars"])
    assert {"55.0 ± 7.1", "40.0 ± 10.0", "Rank-1", "mAP", "a"} <= set(shown)


def test_histograms_name_groups_and_thresholds():
    assert {"own", "9 values", "remove 0.5", "cosine similarity"} <= set(
        texts(FIGURES["similarity_histograms"])
    )


# --- degenerate sizes ---------------------------------------------------------------------------------


def test_one_of_everything():
    one = np.array([[3]])
    figures = [
        plots.sheet(crops(1, 1), title="T"),
        plots.clips(crops(1, 1), one, one, title="T"),
        plots.clips(crops(1, 2), np.array([[3, 3]]), np.array([[-1, -1]]), title="T"),
        plots.ranked_lists(crops(1), {"m": (crops(1, 1), np.array([[True]]))}, title="T"),
        plots.mixed_batch(crops(1, 1), crops(1, 1), np.array([-0.5]), title="T"),
        plots.relabeling(crops(1), one[0], one[0], np.array([False]), one[0], title="T"),
        plots.relabeling(
            crops(2), np.array([1, 2]), np.array([1, 2]), np.ones(2, bool), np.array([0, -1]), title="T"
        ),
        plots.results_bars([{"name": "a", "rank1": [0.0], "mAP": 0.0}], title="T"),
        plots.similarity_histograms({"g": [0.5]}, {}, title="T"),
    ]
    assert all(inside(figure) for figure in figures)


def test_many_labels_rows_and_long_titles_stay_on_the_page():
    n = 40
    labels = np.arange(n)
    figures = [
        plots.relabeling(crops(n), labels, labels, labels > 35, labels, title="word " * 60),
        plots.clips(
            crops(3, 12), labels[:36].reshape(3, 12), np.repeat([[0], [1], [2]], 12, 1), title="word " * 30
        ),
        plots.training_curves({f"a run with a long name {i}": [record(0)] for i in range(8)}, title="T"),
        plots.ranked_lists(crops(3), {"a model": (crops(3, 5), np.ones((3, 5), bool))}, title="T"),
    ]
    assert all(inside(figure) for figure in figures)


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: plots.sheet(crops(4), title="T"), "images"),
        (lambda: plots.sheet(crops(2, 2).float(), title="T"), "images"),
        (lambda: plots.sheet(crops(2, 2), title="T", rows=["a"]), "rows"),
        (lambda: plots.sheet(crops(2, 2), title="T", columns=["a"]), "columns"),
        (lambda: plots.clips(crops(2, 4), TRACKER[:, :3], TRUTH, title="T"), "tracker"),
        (lambda: plots.clips(crops(2, 4), TRACKER, TRUTH[:1], title="T"), "truth"),
        (lambda: plots.ranked_lists(crops(2), {}, title="T"), "results"),
        (lambda: plots.ranked_lists(crops(2), {"m": (crops(3, 2), np.ones((3, 2)))}, title="T"), "'m'"),
        (
            lambda: plots.ranked_lists(crops(2), {"m": (crops(2, 2), np.ones((2, 3)))}, title="T"),
            "correct of .*'m'",
        ),
        (lambda: plots.mixed_batch(crops(2, 3), crops(2, 2), np.ones(2), title="T"), "single"),
        (lambda: plots.mixed_batch(crops(2, 3), crops(2, 3), np.ones(3), title="T"), "similarity"),
        (
            lambda: plots.mixed_batch(
                crops(2, 3), crops(2, 3), np.ones(2), title="T", candidates=np.ones((3, 4))
            ),
            "candidates",
        ),
        (lambda: plots.training_curves({}, title="T"), "runs"),
        (lambda: plots.training_curves({"a": []}, title="T"), "runs"),
        (lambda: plots.relabeling(crops(2), *rows([1], [1, 1], [False] * 2, [0, 0]), title="T"), "before"),
        (lambda: plots.relabeling(crops(2), *rows([1, 1], [1, 1], [False], [0, 0]), title="T"), "removed"),
        (lambda: plots.results_bars([], title="T"), "table"),
        (lambda: plots.results_bars([{"name": "a", "mAP": 0.1}], title="T"), "'a' has no 'rank1'"),
        (
            lambda: plots.results_bars([{"name": "a", "rank1": 0, "mAP": 0}], title="T", highlight="b"),
            "highlight",
        ),
        (lambda: plots.similarity_histograms({}, {}, title="T"), "groups"),
        (lambda: plots.similarity_histograms({"g": [float("nan")]}, {}, title="T"), r"groups\['g'\]"),
    ],
)
def test_wrong_shapes_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# --- words and colors ---------------------------------------------------------------------------------


def test_letters_go_on_after_z():
    assert [letter(i) for i in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


@pytest.mark.parametrize("weight", ["normal", "bold"])
@pytest.mark.parametrize("text", ["Kendall's tau 0.20 ± 1.2", "“+ RM” → Σ(x_i)² – 95 %", "jfQ&@@gW", "é¹τ−"])
def test_the_width_of_a_text_is_that_of_its_outlines(text, weight):
    font = FontProperties(family="DejaVu Sans", weight=weight)
    outlines = TextPath((0, 0), text, size=8.5, prop=font).get_extents()
    assert text_width(text, 8.5, weight) == pytest.approx(outlines.x1 / 72, abs=1e-9)


def test_titles_are_balanced_and_never_too_wide():
    text = "Noisy street video, once its labels are repaired, teaches a model to find people in new cameras"
    lines = wrap(text, 13.0, "bold")
    widths = [text_width(line, 13.0, "bold") for line in lines]
    assert " ".join(lines) == text and len(lines) == 2
    assert max(widths) <= WIDTH - 2 * MARGIN and min(widths) > 0.7 * max(widths)


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(color: str, vision: str) -> np.ndarray:
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    white = np.array([0.9505, 1.0, 1.089])
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ seen
        / white
    )
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_meanings_differ_for_every_kind_of_color_vision(vision):
    assert list(plots.PALETTE) == ["multi-camera", "single-camera", "correct", "wrong", "removed", "neutral"]
    meanings = [name for name in plots.PALETTE if name != "neutral"]
    for a, b in itertools.combinations(meanings, 2):
        distance = np.linalg.norm(lab(plots.PALETTE[a], vision) - lab(plots.PALETTE[b], vision))
        assert distance > 20, f"{a} and {b} look alike to {vision} eyes"


def test_pictures_of_notebooks_keep_the_colors_of_areas():
    """256 colors: the frequent ones exactly, every other pixel the nearest of them."""
    rng = np.random.default_rng(0)
    pixels = np.tile(np.array([251, 250, 246], np.uint8), (40, 50, 1))
    pixels[5:20, 5:30] = (31, 95, 176)
    shades = rng.integers(0, 256, (400, 3))
    pixels[25:35, 5:45] = shades.reshape(10, 40, 3)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "png")
    few = _few_colors(png.getvalue())
    with Image.open(io.BytesIO(few)) as image:
        reduced = np.asarray(image.convert("RGB"))
    area = np.ones((40, 50), bool)
    area[25:35, 5:45] = False
    assert np.array_equal(reduced[area], pixels[area])
    kept = np.unique(reduced.reshape(-1, 3), axis=0).astype(int)
    assert len(kept) == 256
    nearest = ((shades[:, None] - kept) ** 2).sum(-1).min(1)
    assert np.array_equal(((reduced[~area].astype(int) - shades) ** 2).sum(-1), nearest)
    assert _few_colors(png.getvalue()) == few and len(few) < len(png.getvalue())
