"""Imports point one way, importing the package stays light, the dependency lists agree."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lower numbers know nothing of higher ones; the longest matching prefix decides.
TIERS = {
    "dynamix.fields": 0,
    "dynamix.config": 0,
    "dynamix.disk": 0,
    "dynamix.forks": 0,
    "dynamix.storage": 0,
    "dynamix.data.table": 1,
    "dynamix.data.views": 1,
    "dynamix.data.folders": 1,
    "dynamix.data.stores": 1,
    "dynamix.data.find": 1,
    "dynamix.distributed": 1,
    "dynamix.data.market1501": 2,
    "dynamix.data.dukemtmc": 2,
    "dynamix.data.msmt17": 2,
    "dynamix.data.randperson": 2,
    "dynamix.data.cuhk02": 2,
    "dynamix.data.cuhk03": 2,
    "dynamix.data.cuhk_sysu": 2,
    "dynamix.data.small": 2,
    "dynamix.data.luperson": 2,
    "dynamix.data.own": 2,
    "dynamix.data.images": 3,
    "dynamix.data.mannequins": 3,
    "dynamix.data": 4,
    "dynamix.encoders": 5,
    "dynamix.features": 6,
    "dynamix.similarity": 6,
    "dynamix.centroids": 7,
    "dynamix.relabeling": 8,
    "dynamix.sampling": 9,
    "dynamix.losses": 9,
    "dynamix.methods": 10,
    "dynamix.checkpoint": 11,
    "dynamix.trainer": 12,
    "dynamix.evaluation": 13,
    "dynamix.retrieval": 14,
    "dynamix.export": 14,
    "dynamix.plots": 15,
    "dynamix.experiments": 16,
    "dynamix.cli": 17,
    "dynamix.__main__": 18,
    "dynamix": 99,  # the package's own front door re-exports everything
}


def tier(module: str) -> int:
    while module not in TIERS:
        module, _, tail = module.rpartition(".")
        assert module, f"no tier for {tail}: add it to TIERS"
    return TIERS[module]


def own_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, modules: set[str]) -> set[str]:
    """Modules of this package that `path` imports, at top level or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & modules
            found |= submodules
            if len(submodules) < len(names):
                found.add(str(node.module))
    return {name for name in found if name.split(".")[0] == "dynamix"}


def upward(sources: dict[str, Path]) -> list[str]:
    wrong = []
    for name, path in sources.items():
        if name == "dynamix":
            continue
        for target in imports(path, set(sources)):
            same_family = name.rpartition(".")[0] == target or tier(name) == tier(target)
            if tier(target) > tier(name) and not same_family:
                wrong.append(f"{name} (tier {tier(name)}) imports {target} (tier {tier(target)})")
    return wrong


SOURCES = {own_name(path): path for path in sorted((ROOT / "dynamix").rglob("*.py"))}


def test_no_upward_import():
    assert len(SOURCES) > 20
    assert upward(SOURCES) == []


@pytest.mark.parametrize(
    "line", ["from dynamix import trainer", "import dynamix.cli", "from dynamix.methods import x"]
)
def test_an_upward_import_is_caught(tmp_path, line):
    path = tmp_path / "losses.py"
    path.write_text(f"def f():\n    {line}\n")
    assert upward({**SOURCES, "dynamix.losses": path}) != []


def test_importing_the_package_is_light():
    heavy = ("faiss", "lmdb", "h5py", "scipy.io", "onnx", "matplotlib", "sklearn")
    code = f"import sys, dynamix, dynamix.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dependencies_stand_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != "all"]
    lines = sum(extras, project["dependencies"])
    names = {re.split(r"[<>=;\[ ]", line)[0] for line in lines}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert names <= set(pinned), f"not in constraints.txt: {sorted(names - set(pinned))}"
    environment = (ROOT / "environment.yml").read_text()
    assert "-e .[all]" in environment and "-c constraints.txt" in environment
    low, high = re.findall(r"(\d+)\.(\d+)", project["requires-python"])
    python = re.search(r"python=(\d+)\.(\d+)", environment)
    assert python and tuple(map(int, low)) <= tuple(map(int, python.groups())) < tuple(map(int, high))


def test_nothing_is_called_utils():
    vague = {"utils", "helpers", "common", "misc"}
    assert not [name for name in SOURCES if vague & set(name.split("."))]
