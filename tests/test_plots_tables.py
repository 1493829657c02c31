"""The picture of a table writes every row, keeps its scales apart, and stays on its page."""

import math

import pytest
from matplotlib.text import Text

from dynamix import plots
from dynamix.plots import TableLine
from dynamix.plots.axis import _tick_values, axis_of
from dynamix.plots.style import WIDTH
from dynamix.plots.tables import _std
from tests import naive

LINES = [
    TableLine(name="ReMix", paper=60.1, paper_text="60.1", values=(40.0, 42.0, 41.5), text="41.2 ± 1.0 (3)"),
    TableLine(name="control row", kind="control", values=(44.0,), text="44.0 (1)"),
    TableLine(
        name="true identities",
        kind="bound",
        values=(60.0, 61.0),
        text="60.5 ± 0.7 (2)",
        trouble="1 of 3 failed",
    ),
    TableLine(
        name="others' method", kind="printed", paper=50.0, paper_text="50.0", trouble="not implemented here"
    ),
    TableLine(name="not read", paper_text="not printed", trouble="not run"),
    TableLine(
        name="a row of ours with a very long name " * 4,
        kind="ours",
        trouble="failed: " + "out of memory " * 9,
    ),
]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def inside(figure) -> bool:
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def overlapping(figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over each other."""
    figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in shown]
    return [
        (a, b)
        for i, (a, one) in enumerate(boxes)
        for b, two in boxes[:i]
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 2 and min(one.y1, two.y1) - max(one.y0, two.y0) > 6
    ]


def with_others(lines: list[TableLine], count: int) -> list[TableLine]:
    fields = ("name", "kind", "paper", "paper_text", "values", "text", "trouble")
    return [
        TableLine(
            **{field: getattr(line, field) for field in fields}, others=[("70.1", "50.0 ± 1.1 (3)")] * count
        )
        for line in lines
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("rows", [LINES[:3], LINES, LINES * 5], ids=["3", "6", "30"])
def test_every_row_stands_on_the_page(count, rows):
    figure = plots.paper_table(
        with_others(rows, count), title="Table", metric="Market-1501 mAP", note="A sentence.",
        foot="Profile mini.", ours="Ours on Mannequins",
        others=[f"CUHK03-NP metric {k}" for k in range(count)],
    )  # fmt: skip
    written = texts(figure)
    for line in rows[:5]:
        assert written.count(line.name) == sum(each.name == line.name for each in rows) * (
            2 if count > 1 else 1
        )
        assert line.paper_text in written and (line.text in written or line.trouble in written)
    assert {"Table", "A sentence.", "Profile mini.", "Ours on Mannequins", "Market-1501 mAP"} <= set(written)
    assert sum(text == "70.1" for text in written) == count * len(rows)
    assert figure.get_size_inches()[0] == WIDTH and inside(figure)
    assert overlapping(figure) == []


def test_our_side_does_not_bear_a_real_dataset_s_name():
    written = texts(plots.paper_table(LINES[:1], title="T", metric="Market-1501 mAP"))
    assert sum("Market" in text for text in written) == 1 and "mAP" in written


def test_a_table_that_nobody_ran_still_has_its_rows():
    lines = [TableLine(name=name, trouble="not run") for name in "abc"]
    assert texts(plots.paper_table(lines, title="T", metric="mAP")).count("not run") == 3


@pytest.mark.parametrize("count", [0, 1, 5])
def test_rows_that_no_paper_has_need_no_column_of_the_paper(count):
    own = [LINES[2], TableLine(name="mine", kind="ours", values=(50.0, 52.0), text="51.0 ± 1.4 (2)")]
    titles = {"title": "T", "metric": "mAP", "others": [f"metric {k}" for k in range(count)]}
    bare, beside = (plots.paper_table(with_others(rows, count), **titles) for rows in (own, [*own, LINES[0]]))
    assert {"Paper", "paper"} <= set(texts(beside))
    words = texts(bare)
    assert not {"Paper", "paper", "paper ", "/ ours", "–", "70.1"} & set(words)
    assert words.count("50.0 ± 1.1 (3)") == 2 * count and inside(bare) and overlapping(bare) == []


def test_a_long_heading_loses_no_word():
    heads = [
        "DukeMTMC-reID / campus, rank-1",
        "DukeMTMC-reID / campus, mAP",
        "rank-1",
        "the first of many words",
    ]
    drawn = plots.paper_table(with_others(LINES, 4), title="T", metric="mAP", others=heads)
    assert {"DukeMTMC-reID", "/ campus, rank-1", "/ campus, mAP", "rank-1"} <= set(texts(drawn))
    assert inside(drawn) and overlapping(drawn) == []


def test_the_spread_is_the_sample_s():
    assert _std(LINES[0]) == pytest.approx(naive.sample_std([40.0, 42.0, 41.5]), abs=1e-9)
    assert _std(LINES[1]) == 0.0


def test_scales_hold_their_numbers_and_go_by_powers_where_these_span_them():
    plain, powers = axis_of(1.0, 2.0, [40.0, 60.0]), axis_of(1.0, 2.0, [1.0, 1000.0])
    for scale, values in ((plain, (40.0, 60.0)), (powers, (1.0, 1000.0)), (axis_of(1.0, 2.0, [5.0]), (5.0,))):
        assert all(1.0 < scale(value) < 3.0 for value in values)
    assert not plain.log and powers.log and not axis_of(1.0, 2.0, [0.0, 1000.0]).log
    assert powers(10.0) - powers(1.0) == pytest.approx(powers(100.0) - powers(10.0))
    assert _tick_values(powers, 4) == [1.0, 10.0, 100.0, 1000.0]


@pytest.mark.parametrize(
    "lines, message",
    [
        ([], "lines is empty"),
        ([TableLine(name="a", kind="else")], "row 'a' is of kind 'else'; there are paper, control"),
        ([TableLine(name="a", others=[("1", "2")])], "row 'a' has 1 further texts for 0 columns"),
        ([TableLine(name="a", values=(math.nan,))], "row 'a' has a number that is not finite"),
    ],
)
def test_bad_lines_are_refused(lines, message):
    with pytest.raises(ValueError, match=message):
        plots.paper_table(lines, title="T", metric="mAP")


def test_saving_twice_gives_the_same_bytes(tmp_path):
    first, second = (
        plots.save(plots.paper_table(LINES, title="T", metric="mAP"), tmp_path / f"{name}.png")
        for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


def test_where_nobody_ran_there_is_no_scale():
    written = texts(plots.paper_table([TableLine(name="a", trouble="not run")], title="T", metric="hours"))
    assert written.count("hours") == 2 and not any(text.replace(".", "").isdigit() for text in written)


def test_a_world_that_stands_for_a_dataset_is_named_on_our_side_alone():
    written = texts(plots.paper_table(LINES[:1], title="T", metric="Market-1501 / plaza, mAP"))
    assert {"Market-1501, mAP", "plaza, mAP"} <= set(written)


def test_the_line_of_the_order_stops_at_rows_without_both_numbers():
    full = [TableLine(name=name, paper=float(i), values=(2.0 * i,)) for i, name in enumerate("abcd", 1)]
    gap, beside = TableLine(name="gap"), TableLine(name="control", kind="control", values=(3.0,))

    def strokes(lines: list[TableLine]) -> list[int]:
        drawn = plots.paper_table(lines, title="T", metric="mAP").axes[0].lines
        return [len(line.get_xdata()) for line in drawn if line.get_alpha() == 0.35]

    assert strokes([*full[:2], beside, *full[2:]]) == [4, 4]
    assert strokes([*full[:2], gap, *full[2:]]) == [2, 2, 2, 2]
