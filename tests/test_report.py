"""A table's report drops nothing, computes what it says, and claims no more than the numbers hold."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dynamix.experiments import report
from dynamix.experiments import tables as report_tables
from dynamix.experiments.report import Failure
from dynamix.experiments.tables.kinds import Column, Data, PaperTable, Row, Setting, pair
from tests import naive

DATA = Data(worlds=Setting(sources=("station",), single=("videos",), targets=("plaza",)), real=None)
COLUMNS = pair(("plaza",), ("market1501",))


def run(seed: int, mAP: float, rank1: float = 50.0) -> dict:
    return {"seed": seed, "scores": {"plaza": {"rank1": rank1 / 100, "mAP": mAP / 100, "mINP": 0.1}}}


def table(printed: dict[str, float], *more: Row, **options) -> PaperTable:
    rows = [Row(name=name, printed={"mAP": value}) for name, value in printed.items()]
    return PaperTable(
        **{
            "name": "table8", "title": "Selection", "claim": "Median is best.", "columns": COLUMNS,
            "rows": (*rows, *more), "data": DATA, "ranked_by": "mAP",
        } | options
    )  # fmt: skip


def scored(**values: list[float]) -> dict[str, list]:
    return {name: [run(seed, value) for seed, value in enumerate(each)] for name, each in values.items()}


def said(of: PaperTable, found: dict) -> str:
    return report.agreement.sentence(report.agreement.agreement(of, "mini", found), of)


# --- cells --------------------------------------------------------------------------------------------


MIXED = table(
    {"hard": 60.1, "soft": 65.4},
    Row(name="same cost", kind="control", note="as many images"),
    Row(name="truth", kind="bound"),
    Row(name="M3L <2021> | x", kind="printed", printed={"mAP": 50.2}),
    Row(name="longer", kind="ours"),
    Row(name="diverged"),
    notes=("Read as *printed*.",),
)
OOM = "RuntimeError: out of\nmemory <b>|"
FOUND = {
    "hard": [run(1, 40.5), run(0, 41.25), run(2, 43.0)],
    "soft": [run(0, 44.0), Failure(1, OOM)],
    "same cost": [Failure(0, OOM), Failure(1, "killed")],
    "truth": [run(0, 60.0)],
    "diverged": [run(0, math.nan)],
}


def one(name: str, title: str = "mAP", of: PaperTable = MIXED, found: dict = FOUND) -> report.cells.Cell:
    row = next(row for row in of.rows if row.name == name)
    column = next(column for column in of.columns if column.title == title)
    return report.cells.cell(of, row, column, found)


def test_a_cell_has_mean_std_and_seeds_in_order():
    cell = one("hard")
    assert cell.seeds == (0, 1, 2) and cell.values == pytest.approx((41.25, 40.5, 43.0))
    assert cell.std == pytest.approx(naive.sample_std([41.25, 40.5, 43.0]), abs=1e-9)
    assert cell.text == f"41.6 ± {naive.sample_std([41.25, 40.5, 43.0]):.1f} (3)"


@pytest.mark.parametrize(
    "name, paper, text, status",
    [
        ("soft", "65.4", "44.0 (1), 1 failed", "partly failed"),
        ("same cost", "–", "failed: RuntimeError: out of memory <b>|; killed", "failed"),
        ("truth", "–", "60.0 (1)", "ran"),
        ("M3L <2021> | x", "50.2", "–", "not implemented here"),
        ("longer", "–", "not run", "not run"),
        ("diverged", "not printed", "failed: mAP is nan", "failed"),
    ],
)
def test_a_cell_without_a_number_says_why(name, paper, text, status):
    cell = one(name)
    assert (cell.paper, cell.text, cell.status) == (paper, text, status)


def test_a_cell_of_the_paper_that_nobody_could_read_is_not_printed():
    assert one("hard", "rank-1").paper == "not printed"
    assert one("truth", "rank-1").paper == "–"


def test_a_result_without_this_number_is_not_called_missing():
    of = replace(MIXED, columns=(Column(title="junk", read=lambda row, result: None), COLUMNS[1]))
    cell = one("hard", "junk", of)
    assert (cell.text, cell.status, cell.paper) == ("–", "no number", "–")


def test_measurements_need_no_seeds():
    of = table({"a": 1.0, "b": 2.0}, measured="cost", ranked_by="")
    cell = one("a", of=of, found={"a": {"mAP": 3.25}})
    assert (cell.values, cell.text, cell.std, cell.status) == ((3.25,), "3.2", None, "ran")
    assert one("b", of=of, found={"a": {}}).text == "not run"


def test_bad_results_are_refused():
    with pytest.raises(ValueError, match="'hard': several results of one seed"):
        one("hard", found={"hard": [run(0, 1.0), Failure(0, "x")]})
    with pytest.raises(ValueError, match="table8 has no row 'else'; it has hard, soft"):
        report.text.markdown(MIXED, "mini", {"else": []})
    with pytest.raises(ValueError, match="ranked by 'F1', which is none of its columns: rank-1, mAP"):
        report.agreement.agreement(replace(MIXED, ranked_by="F1"), "mini", {})


# --- agreement ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=5))
def test_tau_and_its_chance_are_those_of_the_definition(points):
    x, y = map(list, zip(*points, strict=True))
    tau, p = report.order.kendall(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert (tau, p) == (None, None)
    else:
        assert tau == pytest.approx(naive.tau_b(x, y), abs=1e-9)
        assert p == pytest.approx(naive.order_chance(x, y), abs=1e-9)


def test_many_rows_are_drawn_the_same_each_time_and_near_the_exact_chance():
    x = list(range(9))
    y = [0, 2, 1, 4, 3, 8, 5, 7, 6]
    tau, p = report.order.kendall(x, y)
    assert (tau, p) == report.order.kendall(x, y) and tau == pytest.approx(naive.tau_b(x, y), abs=1e-9)
    rng = np.random.default_rng(5)
    other = np.mean([naive.tau_b(x, rng.permutation(y).tolist()) >= tau - 1e-9 for _ in range(3000)])
    assert p == pytest.approx(other, abs=0.004)
    assert report.order.kendall(x, x)[1] == pytest.approx(1 / 10_001, abs=2e-4)


def test_the_permutation_chance_of_equal_orders_is_one_over_all_orders():
    assert report.order.kendall([1, 2, 3, 4], [5, 6, 7, 8]) == (1.0, 1 / 24)
    assert report.order.kendall([1, 2, 3, 4], [8, 7, 6, 5]) == (-1.0, 1.0)


def test_the_same_seeds_are_compared_seed_by_seed():
    of = table({"a": 1.0, "b": 2.0, "c": 3.0})
    found = scored(a=[40.0, 50.0, 60.0], b=[41.1, 51.0, 60.9], c=[42.0, 52.1, 62.0])
    spread = report.agreement.agreement(of, "mini", found).spread
    assert spread.paired and (spread.best, spread.worst) == ("c", "a")
    assert spread.error == pytest.approx(naive.sample_std([2.0, 2.1, 2.0]) / math.sqrt(3), abs=1e-9)
    assert spread.std == pytest.approx(math.sqrt((100 + 98.01 + 100.003333333) / 3), abs=1e-2)
    assert spread.clear
    other = found | {"c": [run(seed, value) for seed, value in ((0, 42.0), (1, 52.1), (7, 62.0))]}
    apart = report.agreement.agreement(of, "mini", other).spread
    assert not apart.paired and not apart.clear
    assert apart.error == pytest.approx(apart.std * math.sqrt(2 / 3), abs=1e-9)


def test_the_chance_of_the_range_is_that_of_rows_that_do_not_differ():
    rng = np.random.default_rng(0)
    of, clear = table({name: float(i) for i, name in enumerate("abcdef")}), 0
    for _ in range(150):
        found = scored(**{name: list(50 + rng.normal(size=3)) for name in "abcdef"})
        clear += bool(report.agreement.agreement(of, "mini", found).spread.clear)
    assert clear <= 16  # 5 % of 150 are 7.5; two standard errors alone would call about a third clear


def test_only_rows_with_both_numbers_are_compared():
    found = report.agreement.agreement(MIXED, "mini", FOUND)
    assert found.rows == ("hard", "soft") and found.expected == 2 and found.seeds == (1, 3)
    assert report.agreement.agreement(replace(MIXED, ranked_by=""), "mini", FOUND) is None
    assert report.agreement.sentence(None, MIXED) == ""


FIVE = {"hard": 60.0, "soft": 65.0, "random": 70.0, "mean": 71.0, "median": 71.7}


def noisy(*means: float, noise=(-0.1, 0.0, 0.1)) -> dict[str, list]:
    return scored(**{n: [m + e for e in noise] for n, m in zip(FIVE, means, strict=True)})


@pytest.mark.parametrize(
    "found, words",
    [
        ({}, "Nothing to compare yet: of the 5 rows that the paper prints none has a number."),
        (
            scored(hard=[40.0, 41.0]),
            "Cannot tell: only one row has a number of the paper's and of ours from 2 seeds.",
        ),
        (scored(hard=[40.0, 41.0], soft=[40.1, 40.8]), "Cannot tell from the order of only 2 of the 5 rows"),
        (noisy(40, 42, 44, 46, 48, noise=(0.0,)), "Cannot tell from 1 seed, which says nothing about noise"),
        (noisy(40, 40, 40, 40, 40), "Cannot tell from 3 seeds: the 5 rows score the same here."),
        (
            noisy(40, 42, 44, 46, 48),
            "The order is the paper's (Kendall's tau 1.00 over 5 rows, one-sided p = 0.008)",
        ),
        (noisy(40, 42, 44, 48, 46), "mostly agrees with the paper's"),
        (noisy(40, 46, 42, 48, 44), "The order leans towards the paper's no more than chance may"),
        (
            noisy(48, 46, 44, 42, 40),
            "The order here contradicts the paper's (Kendall's tau -1.00 over 5 rows, one-sided p = 1.00)",
        ),
    ],
)
def test_the_sentence_follows_the_case(found, words):
    text = said(table(FIVE), found)
    assert words in text and text.endswith(".") and text.count(". ") == 0


def test_the_sentence_of_a_clear_order_names_the_difference_and_the_seeds():
    text = said(table(FIVE), noisy(40, 42, 44, 46, 48))
    assert "the paper's best row, median, is best here too, and leads hard by 8.0 points of mAP" in text
    assert "3 seeds, compared seed by seed" in text
    assert "but the paper's best row, median, is 2nd of 5 here, and mean leads hard" in said(
        table(FIVE), noisy(40, 42, 44, 48, 46)
    )


def test_within_the_noise_of_seeds_the_effect_does_not_show():
    wide = {
        "hard": [48.0, 50.0, 52.9], "soft": [52.0, 48.0, 50.3], "random": [50.0, 52.0, 48.6],
        "mean": [49.0, 53.0, 48.2], "median": [52.0, 50.0, 48.0],
    }  # fmt: skip
    text = said(table(FIVE), scored(**wide))
    assert text.startswith("The paper's best row, median, is ") and text.endswith("the effect does not show.")
    alone = said(table(FIVE), scored(**(wide | {"hard": [48.0]})))
    assert alone.endswith("whether there is an effect cannot be told yet.") and "(1 to 3 seeds)" in alone
    pooled = math.sqrt(sum(naive.sample_std(values) ** 2 for values in wide.values()) / 5)
    assert f"less than the {pooled:.1f} that seeds alone differ by" in text and "(3 seeds, compared" in text
    ordered = {name: [v + i * 0.05 for v in (48.0, 52.0, 50.0)[:: (-1) ** i]] for i, name in enumerate(FIVE)}
    text = said(table(FIVE), scored(**ordered))
    assert text.startswith("The order is the paper's (Kendall's tau 1.00")
    assert text.endswith("the effect is not larger than the noise.")


def test_two_rows_and_ties_are_not_overclaimed():
    two = table({"with": 70.0, "without": 60.0})
    lead = scored(**{"with": [50.1, 51.0, 52.0], "without": [40.0, 41.0, 42.05]})
    assert "agrees by chance every second time; with leads without by 10.0 points of mAP, as in" in said(
        two, lead
    )
    assert "within the noise of seeds" in said(two, scored(**{"with": [50.0, 40.0], "without": [45.0, 46.0]}))
    assert "cannot say whether that is noise" in said(two, scored(**{"with": [50.0], "without": [45.0]}))
    assert "against the paper" in said(two, scored(**{"with": [45.0], "without": [50.0]}))
    assert "score the same in the paper" in said(table({"a": 1.0, "b": 1.0}), scored(a=[1.0], b=[2.0]))
    tied = table({"a": 70.0, "b": 70.0, "c": 60.0})
    assert "of the paper's best rows, a and b, one is best here too" in said(
        tied, scored(a=[50.0], b=[52.0], c=[40.0])
    )


def test_three_rows_in_order_are_no_proof():
    text = said(table({"a": 1.0, "b": 2.0, "c": 3.0}), scored(a=[40.0, 40.1], b=[45.0, 45.2], c=[50.0, 50.1]))
    assert "as chance alone may make it" in text and "p = 0.17" in text


# --- agreement within blocks ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("ab")), min_size=2, max_size=6)
)
def test_tau_and_its_chance_within_groups_are_those_of_the_definition(points):
    x, y, groups = map(list, zip(*points, strict=True))
    tau, p = report.order.kendall(x, y, groups)
    try:
        wanted = naive.tau_within(x, y, groups)
    except ZeroDivisionError:
        assert (tau, p) == (None, None)
        return
    assert tau == pytest.approx(wanted, abs=1e-9)
    assert p == pytest.approx(naive.order_chance_within(x, y, groups), abs=1e-9)


def test_the_chance_of_a_perfect_order_within_three_blocks_of_three():
    x, groups = [1, 2, 3] * 3, [*"aaabbbccc"]
    assert report.order.kendall(x, x, groups) == (1.0, 1 / 216)
    mixed = [2, 0, 1, 5, 3, 4, 8, 6, 7]  # rows of other groups in between change nothing
    apart = [[values[i] for i in np.argsort(mixed)] for values in (x, groups)]
    assert report.order.kendall(apart[0], apart[0], apart[1]) == (1.0, 1 / 216)
    high = [1, 2, 3, 11, 12, 13, 21, 22, 23]  # which block is higher is not counted
    assert report.order.kendall(x, high, groups) == report.order.kendall(x, [-30 + v for v in x], groups)


def test_large_blocks_are_drawn_within_themselves():
    groups = ["a"] * 6 + ["b"] * 5  # 86,400 orders
    tau, p = report.order.kendall(range(11), [1, 0, 2, 3, 5, 4, 6, 7, 8, 10, 9], groups)
    assert (tau, p) == report.order.kendall(range(11), [1, 0, 2, 3, 5, 4, 6, 7, 8, 10, 9], groups)
    assert tau == pytest.approx((25 - 2 * 3) / 25) and 1 / 10_001 <= p < 0.01
    assert report.order.kendall(range(11), range(11), groups)[1] <= 3 / 10_001


def blocked(*names: str, **groups: str) -> PaperTable:
    """Rows of rising printed numbers; a block is a letter, and a row's group is its block's."""
    rows = tuple(
        Row(name=name, printed={"mAP": 50.0 + i}, group=groups[name[0]]) for i, name in enumerate(names)
    )
    return table({}, rows=rows)


TWO = blocked("a1", "a2", "a3", "b1", "b2", "b3", a="first", b="second")


def stepped(*means: float, noise=(-0.1, 0.0, 0.1)) -> dict[str, list]:
    names = [row.name for row in TWO.rows]
    return scored(**{n: [m + e for e in noise] for n, m in zip(names, means, strict=True)})


def test_only_rows_of_one_group_are_compared():
    found = report.agreement.agreement(TWO, "mini", stepped(60, 61, 64, 40, 41, 42))
    assert (found.tau, found.p) == (1.0, 1 / 36) and found.kept == 2
    assert (found.spread.best, found.spread.worst) == ("a3", "a1")
    assert found.spread.difference == pytest.approx(4.0) and found.spread.clear
    text = report.agreement.sentence(found, TWO)
    assert text.startswith(
        "The order within blocks of rows is the paper's (Kendall's tau 1.00 over 6 rows in 2 blocks, "
        "one-sided p = 0.028), the paper's best row is best here too in all 2 blocks, and “a3” leads “a1” by "
        "4.0 points"
    )


@pytest.mark.parametrize(
    "found, words",
    [
        (stepped(64, 61, 60, 42, 41, 40), "The order here within blocks of rows contradicts the paper's"),
        (stepped(64, 61, 60, 42, 41, 40), "(Kendall's tau -1.00 over 6 rows in 2 blocks, one-sided p"),
        (stepped(60, 61, 64, 42, 41, 40), "the paper's best row is best here in 1 of 2 blocks"),
        (stepped(60, 60, 60, 40, 40, 40), "from 3 seeds: all rows of a block score the same here."),
        (
            scored(a1=[50, 52.1], a2=[52, 50], b1=[40, 43], b2=[42, 41.2]),
            "the rows of each block lie within 0.1 points of mAP",
        ),
        (stepped(60, 61, 64, 40, 41, 42, noise=(0,)), "and the rows of the widest block span 4.0 points"),
        (scored(a1=[1.0], b1=[2.0]), "Nothing to compare yet: no two rows of one block have a number"),
        (scored(a1=[1.0], a2=[2.0], b2=[3.0]), "from the order of only 2 of the 6 rows that the paper"),
    ],
)
def test_the_sentence_says_what_was_compared(found, words):
    assert words in said(TWO, found)


def test_rows_of_other_profiles_and_rows_apart_are_shown_only():
    of = blocked("a1", "a2", "b1", "b2", "c1", a="scope @worlds", b="scope @real", c="-")
    found = scored(a1=[1.0], a2=[2.0], b1=[3.0], b2=[1.0], c1=[9.0])
    seen = {name: report.agreement.agreement(of, name, found) for name in ("mini", "gpu")}
    assert all(each.rows == ("a1", "a2") and each.tau == 1 and each.expected == 2 for each in seen.values())
    real = [run_ | {"scores": {"market1501": run_["scores"]["plaza"]}} for run_ in sum(found.values(), [])]
    found = {name: [one] for name, one in zip(found, real, strict=True)}
    paper = report.agreement.agreement(of, "paper", found)
    assert (paper.rows, paper.tau, paper.expected) == (("b1", "b2"), -1.0, 2)
    for name in ("a1", "b1", "c1"):
        assert name in report.text.markdown(of, "mini", {})


def test_several_blocks_are_no_better_chance_to_look_clear():
    rng = np.random.default_rng(1)
    names = [f"{block}{i}" for block in "abc" for i in range(3)]
    of, clear = blocked(*names, a="a", b="b", c="c"), 0
    for _ in range(60):
        found = scored(**{n: list(50 + 20 * (n[0] == "b") + rng.normal(size=3)) for n in names})
        clear += bool(report.agreement.agreement(of, "mini", found).spread.clear)
    assert clear <= 8  # 5 % of 60 are 3


# --- rows that cannot run ------------------------------------------------------------------------------


WHY = {"longer": "nobody knows\nthe true identities"}


def test_what_cannot_run_is_said_with_its_reason(tmp_path):
    from matplotlib.text import Text

    note = "Not run (nobody knows the true identities): longer."
    text = plain(report.text.markdown(MIXED, "mini", FOUND, absent=WHY))
    assert f"- {note}" in text and "Not run" not in report.text.markdown(MIXED, "mini", FOUND)
    section = report.page.section(MIXED, "mini", FOUND, absent=WHY)
    assert section.notes[-1] == note
    assert note in Seen.of(report.page.page([section], tmp_path / "r.html").read_text()).text
    lines = csv.DictReader(io.StringIO(report.text.table_csv(MIXED, "mini", FOUND, absent=WHY), newline=""))
    status = {line["row"]: line["status"] for line in lines}
    assert status["longer"] == "not run: nobody knows the true identities" and status["hard"] == "ran"
    figure = report.picture.picture(MIXED, "mini", FOUND, absent=WHY)
    assert note in " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
    two = WHY | {"truth": "nobody knows\nthe true identities"}
    few = {name: each for name, each in FOUND.items() if name != "truth"}
    assert [*report.text.reasons(two)] == [note.replace("longer.", "longer, truth.")]
    assert [*report.text.notes(MIXED, few, two)][-1].endswith("longer, truth.")


@pytest.mark.parametrize("show", [report.text.markdown, report.text.table_csv, report.picture.picture])
def test_a_row_cannot_both_run_and_be_absent(show):
    with pytest.raises(ValueError, match="table8 has no row 'else' to be absent; it has hard, soft"):
        show(MIXED, "mini", FOUND, absent={"else": "x"})
    with pytest.raises(ValueError, match="row 'hard': it has results and cannot run"):
        show(MIXED, "mini", FOUND, absent={"hard": "x"})


def test_what_the_deviation_is_of_stands_below_pretrained_tables():
    shared = "Seeds share one pre-trained start and one drawing of the worlds: ± is of batches and"
    assert shared in report.text.basis(MIXED, "mini") and shared not in report.text.basis(MIXED, "paper")
    assert shared not in report.text.basis(replace(MIXED, start="scratch"), "mini")


@pytest.mark.parametrize("printed, unit, text", [(149.0, "ms", "149"), (6.5, "h", "6.5"), (6.0, "%", "6.00")])
def test_the_papers_measurements_keep_the_papers_digits(printed, unit, text):
    column = Column(title="x", key="x", read=lambda row, result: None, unit=unit, digits=2)
    assert report.cells.Cell(row=MIXED.rows[0], column=column, printed=printed).paper == text


# --- text ---------------------------------------------------------------------------------------------


def test_csv_keeps_every_number_to_the_last_digit():
    lines = list(csv.DictReader(io.StringIO(report.text.table_csv(MIXED, "mini", FOUND), newline="")))
    assert [(line["row"], line["column"]) for line in lines] == [
        (row.name, column.title) for row in MIXED.rows for column in MIXED.columns
    ]
    for line in lines:
        cell = one(line["row"], line["column"])
        assert tuple(map(float, line["values"].split())) == cell.values
        assert tuple(map(int, line["seeds"].split())) == cell.seeds and int(line["n"]) == len(cell.values)
        for name in ("mean", "std"):
            assert (float(line[name]) if line[name] else None) == getattr(cell, name)
        assert (float(line["paper"]) if line["paper"] else None) == cell.printed
        assert [Failure(*each) for each in json.loads(line["failures"] or "[]")] == list(cell.failures)
        assert (line["status"], line["kind"], line["profile"]) == (cell.status, cell.row.kind, "mini")


def test_csv_ends_its_lines_as_the_standard_says():
    text = report.text.table_csv(MIXED, "mini", FOUND)
    assert text.endswith("\r\n") and text.count("\r\n") == 1 + 2 * len(MIXED.rows)


def plain(markdown: str) -> str:
    return re.sub(r"\\(.)", r"\1", markdown).replace("&lt;", "<").replace("&gt;", ">")


def test_nothing_is_dropped_anywhere(tmp_path):
    markdown, section = report.text.markdown(MIXED, "mini", FOUND), report.page.section(MIXED, "mini", FOUND)
    html = Seen.of(report.page.page([section], tmp_path / "r.html").read_text()).text
    table_csv = report.text.table_csv(MIXED, "mini", FOUND)
    for text in (plain(markdown), html, table_csv):
        for row in MIXED.rows:
            assert row.name in text
        assert "not run" in text and "not implemented here" in text
    for text in (plain(markdown), html):
        assert "(control)" in text and "(upper bound)" in text and "(not in the paper)" in text
        assert "as many images" in text and "Read as *printed*." in text
        assert "soft, seed 1, failed: RuntimeError: out of memory <b>|" in text
        assert "profile mini" in text.lower()
        assert "numbers on Mannequins are not comparable with the paper's" in text
        assert "1 seed, 1 failed" in text and "2 failed" in text and MIXED.claim in text


def test_markdown_tables_have_equal_rows_whatever_the_names():
    lines = [line for line in report.text.markdown(MIXED, "mini", FOUND).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(MIXED.rows)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {2 * len(COLUMNS) + 3}
    assert "<b>" not in "".join(lines)


def test_on_real_data_our_column_is_not_called_mannequins():
    assert "Mannequins" not in report.text.markdown(MIXED, "paper", FOUND)
    measured = table({"a": 1.0}, measured="cost", ranked_by="")
    assert "without trainings" in report.text.markdown(measured, "mini", {"a": {"mAP": 3.0}})


# --- page ---------------------------------------------------------------------------------------------

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Seen(HTMLParser):
    """What a browser would see; every tag must be closed in its order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts, self.ids, self.targets = [], [], [], [], []

    @classmethod
    def of(cls, html: str) -> "Seen":
        seen = cls()
        seen.feed(html)
        seen.close()
        assert seen.open == []
        return seen

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.targets += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def figure(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(path)
    return path


def test_the_page_needs_nothing_but_itself(tmp_path, figure):
    sections = [
        report.page.section(MIXED, "mini", FOUND, [figure]),
        report.page.Section(name="fig.1", title="A <figure>"),
    ]
    html = report.page.page(sections, tmp_path / "deep" / "r.html").read_text()
    seen = Seen.of(html)
    assert html.startswith("<!DOCTYPE html>") and "prefers-color-scheme: dark" in html
    assert "http" not in html and "<script" not in html and "url(" not in html and "@import" not in html
    assert len(seen.ids) == len(set(seen.ids))
    for target in seen.targets:
        assert target.startswith("data:image/png;base64,") or target.removeprefix("#") in seen.ids
    assert {"#table8", "#fig-1"} <= set(seen.targets) and "A <figure>" in seen.text
    images = [attrs for tag, attrs in seen.tags if tag == "img"]
    assert [image["alt"].startswith("Selection") for image in images] == [True]
    assert [("width", "60"), ("height", "30")] == [(k, images[0][k]) for k in ("width", "height")]
    assert [tag for tag, _ in seen.tags].count("h1") == 1
    assert ("html", {"lang": "en"}) in seen.tags and any(a.get("name") == "viewport" for _, a in seen.tags)


def test_every_cell_of_the_html_table_belongs_to_a_header(tmp_path):
    seen = Seen.of(
        report.page.page([report.page.section(MIXED, "mini", FOUND)], tmp_path / "r.html").read_text()
    )
    assert all("scope" in attrs for tag, attrs in seen.tags if tag == "th")
    assert sum(tag == "td" for tag, _ in seen.tags) == len(MIXED.rows) * (2 * len(COLUMNS) + 1)


def test_the_page_refuses_what_it_cannot_hold(tmp_path, figure):
    good = report.page.Section(name="a", title="A", figures=(figure,))
    with pytest.raises(ValueError, match="no sections"):
        report.page.page([], tmp_path / "r.html")
    with pytest.raises(ValueError, match=r"several sections \['a'\]"):
        report.page.page([good, good], tmp_path / "r.html")
    with pytest.raises(FileNotFoundError, match="section 'a' has no figure .*absent.png: draw it first"):
        report.page.page([replace(good, figures=(tmp_path / "absent.png",))], tmp_path / "r.html")
    for html in (
        '<img src="https://x/y.png">',
        "<script>1</script>",
        "<p style='background:url(x)'>",
        "<img src=x>",
    ):
        with pytest.raises(ValueError, match="section 'a' has .* must fetch nothing"):
            report.page.page([replace(good, html=html)], tmp_path / "r.html")
    report.page.page(
        [replace(good, html='<a href="https://x">x</a> src="y" <img src="data:,">')], tmp_path / "r.html"
    )
    assert [path.name for path in tmp_path.glob("r.html*")] == ["r.html"]


def test_large_figures_are_narrowed_rather_than_left_out(tmp_path, monkeypatch):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 1700, 3), dtype=np.uint8)).save(path)
    sections = [report.page.Section(name="a", title="A", figures=(path,))]
    full = report.page.page(sections, tmp_path / "r.html").read_text()
    monkeypatch.setattr(report.page, "BUDGET", 1_000_000)
    narrow = report.page.page(sections, tmp_path / "r.html").read_text()
    assert "image/jpeg" in narrow and len(narrow) < 1_000_000 < len(full) and 'width="1700"' in narrow
    monkeypatch.setattr(report.page, "BUDGET", 1_000)
    with pytest.raises(ValueError, match="more than 1,000: leave figures out"):
        report.page.page(sections, tmp_path / "r.html")


def test_the_picture_shows_every_row_and_the_sentence():
    from matplotlib.text import Text

    figure = report.picture.picture(MIXED, "mini", FOUND)
    texts = " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
    for row in MIXED.rows:
        assert row.name in texts
    assert said(MIXED, FOUND) in texts and "not implemented here" in texts and "1 of 2 failed" in texts


def test_a_column_beside_another_of_the_same_data_is_named_by_its_metric():
    alone, several = (
        words(report.picture.picture(report_tables.table(n), "mini", {})) for n in ("table2b", "table11")
    )
    assert "rank-1" in alone and "the dataset left out, mAP" in alone
    assert "rank-1" not in several and any(
        "hall, rank-1" in " ".join(pair) for pair in zip(several, several[1:], strict=False)
    )


def test_whole_numbers_are_numbers_too():
    of = table({"a": 3.0, "b": 4.0}, measured="cost")
    found = {"a": {"mAP": 5}, "b": {"mAP": 6}}
    assert "3.0 | 5.0" in report.text.markdown(of, "mini", found)
    assert report.picture.picture(of, "mini", found).get_size_inches()[0] == 8.5


def test_the_picture_shows_equal_numbers_twice_and_a_dash_once():
    equal, nothing = report_tables.table("table1"), report_tables.table("table4")
    counts = {column.title: 2.0 for column in equal.columns}
    texts = words(report.picture.picture(equal, "mini", {"CUHK03-NP": counts}))
    row = equal.rows[0]
    assert row.name == "CUHK03-NP" and row.printed["scenes"] == 2
    assert texts.count("2") >= 5  # ours in all columns but the drawn one, and the paper's scenes
    assert report.picture.drawn(nothing).title == "images change"  # a share, before counts of another scale
    assert "hall" in report.text.markdown(equal, "mini", {})
    assert "ours on Mannequins" in report.text.markdown(equal, "mini", {})  # never by a real dataset's name
    timed = report.text.markdown(report_tables.table("table6"), "mini", {})
    assert "Mannequins" not in timed.partition("| row |")[0] and "made-up features" in timed


def words(figure):
    """Everything that is written in a figure."""
    return [each.get_text() for axes in figure.axes for each in axes.texts]
