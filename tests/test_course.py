"""The README shows the pictures that the notebooks show."""

import json
from pathlib import Path

import pytest

from dynamix.experiments import course

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("name", "cell_id"), course.PICTURES.items(), ids=course.PICTURES)
def test_each_is_the_notebooks_own_and_stands_in_the_readme(name, cell_id):
    content, suffix = course.picture(ROOT / f"notebooks/{name}.ipynb", cell_id)
    assert (ROOT / f"figures/course/{name}.{suffix}").read_bytes() == content
    readme = (ROOT / "README.md").read_text()
    assert f"(figures/course/{name}.{suffix})" in readme and f"(notebooks/{name}.ipynb)" in readme


def test_nothing_else_lies_there():
    assert {path.stem for path in (ROOT / "figures/course").iterdir()} == set(course.PICTURES)


@pytest.mark.parametrize("cell_id", ["a", "b", "c"])
def test_a_cell_without_a_picture_is_named(tmp_path, cell_id):
    cells = [
        {"id": "a", "outputs": []},
        {"id": "b", "outputs": [{"output_type": "stream", "text": "1"}]},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(ValueError, match=rf"n\.ipynb: cell {cell_id} shows no picture"):
        course.picture(tmp_path / "n.ipynb", cell_id)
