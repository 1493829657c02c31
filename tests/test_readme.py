"""The README's numbers are those of the recorded results."""

import re
from pathlib import Path

import pytest

from dynamix.experiments import conclusions, readme
from dynamix.experiments.findings import findings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_table_3_is_the_one_that_was_written():
    shown = TEXT.partition(readme.START)[2].partition(readme.END)[0]
    assert shown == readme.block(ROOT / "figures/tables/table3.mini.md")


@pytest.fixture(scope="module")
def values():
    return findings(ROOT / "figures/results")


def test_findings_are_those_of_the_results(values):
    assert TEXT.partition(readme.FINDINGS)[2].partition(readme.FINDINGS_END)[0] == conclusions.short(values)
    assert (ROOT / "figures/tables" / conclusions.PAGE).read_text() == conclusions.page(values)


def test_findings_quote_every_number_that_is_read_for_them(values):
    texts = " ".join(" ".join(vars(each).values()) for each in conclusions.conclusions())
    quoted = set(re.findall(r"\{([^{}]+)\}", texts))
    assert {name for name in values if not name.startswith("paper, ") and ": " not in name} <= quoted


def test_one_seed_is_no_verdict(values):
    for each in conclusions.conclusions():
        one = conclusions.ONE in conclusions.written(each.here, values)
        assert one == ("so far" in each.holds), each.says


def test_a_number_that_nobody_has_measured_is_named():
    with pytest.raises(KeyError, match="no number is called 'wings'; there are: .*mAP"):
        conclusions.written("{wings}", {"mAP": "1"})


@pytest.mark.parametrize("part", ["no colon here\n\nwhy", "yes: 1", "yes: 1\n\nwhy\n\nmore\n\nmost", ""])
def test_a_conclusion_that_lacks_a_part_is_named(part, tmp_path):
    (tmp_path / "texts.md").write_text(f"<!-- about -->\n\n## wings help\n\n{part}\n")
    with pytest.raises(ValueError, match="texts.md: the part 'wings help' is not a paragraph"):
        conclusions.conclusions(tmp_path / "texts.md")


def test_paragraphs_of_a_conclusion_are_told_apart(tmp_path):
    (tmp_path / "texts.md").write_text("## a\n\nso far: 1: {2}\nand 3\n\nw\n\nm\n\n## b\n\nno: 4\n\nv\n")
    assert conclusions.conclusions(tmp_path / "texts.md") == [
        conclusions.Conclusion("a", "1: {2} and 3", "so far", "w", "m"),
        conclusions.Conclusion("b", "4", "no", "v"),
    ]


def test_links_of_the_page_lead_from_its_folder():
    found = re.findall(r"\]\(([^)]+)\)", (ROOT / "figures/tables" / conclusions.PAGE).read_text())
    assert found and all((ROOT / "figures/tables" / link).is_file() for link in found)


def test_the_report_shows_findings_without_markup(values):
    shown = conclusions.html(dict.fromkeys(values, "<1>"))
    assert "&lt;1&gt;" in shown and "<strong>no effect</strong>" in shown
    assert not re.search(r"\*\*|\]\(|\{", shown)


@pytest.mark.parametrize("text", ["neither", "start <!-- a -->\n", "end <!-- b -->"])
def test_a_mark_that_the_readme_lacks_is_named(text):
    with pytest.raises(ValueError, match="lacks its mark <!-- a --> or <!-- b -->"):
        readme.filled(text, "<!-- a -->\n", "<!-- b -->", "between")
