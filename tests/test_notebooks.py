"""What a reader of the stored notebooks sees: no errors, in order, small, free of paths and timings."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def stored_text(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            yield "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_ran_in_order_without_errors(self, path):
        code = cells(path, "code")
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]

    def test_is_small_and_readable(self, path):
        assert path.stat().st_size <= 500_000
        assert max(len(cell["source"]) for cell in cells(path, "code")) <= 25

    def test_shows_no_paths_bars_or_warnings(self, path):
        text = "\n".join(stored_text(path))
        assert not re.search(r"(/home/|/root/|/tmp/|/work/|it/s|img/s|Warning)", text)

    def test_has_no_switch_of_its_own(self, path):
        source = "".join("".join(cell["source"]) for cell in cells(path, "code"))
        assert not re.search(r"skip-execution|nbmake|os\.environ|sys\.path", source)

    def test_links_resolve(self, path):
        for cell in cells(path, "markdown"):
            for target in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])):
                assert target.startswith("http") or (path.parent / target).exists(), target
