"""What a reader of the stored notebooks sees: no errors, in order, small, free of paths and timings."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest

from dynamix import config

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


TEXTS = [*NOTEBOOKS, FOLDER / "README.md", FOLDER.parent / "README.md"]
MODULES: dict[str, list[str]] = {}  # last part of a name -> the modules so called
for file in (FOLDER.parent / "dynamix").rglob("*.py"):
    full = ".".join(file.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")
    MODULES.setdefault(full.rpartition(".")[2], []).append(full)


def prose(path):
    text = path.read_text()
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def absent(name):
    """What `name` promises and is not there; "" where it promises nothing that can be looked up."""
    if re.fullmatch(r"(dynamix|tests|figures|notebooks)/[\w/.]*", name):
        return "" if (FOLDER.parent / name).exists() else "no such file"
    if re.fullmatch(r"[\w/]+\.py", name):
        found = list(FOLDER.parent.glob(f"dynamix/**/{name}"))
        return "" if found else "no such module"
    if not (dotted := re.match(r"(\w+)\.(\w+)", name)):
        return ""
    owner, attribute = dotted.groups()
    if dataclasses.is_dataclass(section := getattr(config.paper, owner, None)):
        return "" if hasattr(section, attribute) or name.endswith("_*") else "no such setting"
    if owner not in MODULES or attribute in ("pkl", "json"):
        return ""  # a variable of the notebook, a file
    there = [hasattr(importlib.import_module(module), attribute) for module in MODULES[owner]]
    return "" if any(there) else f"not in {owner}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_name_in_prose_exists(path):
    names = set(re.findall(r"`([^`\n]+)`", prose(path)))
    assert not {name: why for name in names if (why := absent(name))}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dynamix/trainers.py", "no such file"),
        ("trainers.py", "no such module"),
        ("rm.tau_merged", "no such setting"),
        ("sampling.medians", "not in sampling"),
        ("encoders.slow_copy(encoder)", "not in encoders"),
    ],
)
def test_a_name_that_is_not_there_is_found(name, why):
    assert absent(name) == why
