"""Whether two work trees draw, train and resume to the same bits: `python tests/golden/compare.py OTHER`.

Run from the tree that was changed; OTHER is a work tree of the commit before (`git worktree add`).
Both run on this machine, one after the other: bits differ between kinds of processor, so none are kept.
Compared are the files of two tiny worlds, and the weights after tiny trainings of DynaMix and ReMix, whole
and interrupted, and after pre-training without labels.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
WORLDS = ("plaza", "videos")
METHODS = ("dynamix", "remix")
# Public names only, so that the same lines run in both trees.
TRAIN = """
import sys
from dynamix import config, data, train
from dynamix.config import change
worlds, folder, method, stop = sys.argv[1:]
settings = change(config.tiny, method=method, epochs=3, iterations=6, workers=0)
table = data.concat([data.load("plaza", f"{worlds}/plaza"), data.load("videos", f"{worlds}/videos")])
for record in train(settings, table, folder):
    if hasattr(record, "report") and record.epoch == int(stop):
        break
"""


def run(tree: Path, *command: str, cache: Path) -> None:
    """Run `command` with the package of `tree`, on one thread."""
    given = {"PYTHONPATH": str(tree), "DYNAMIX_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=tree, env=os.environ | given, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(command)[:200]}\n{done.stderr}")


def tensors(path: Path) -> str:
    """A digest of the tensors of a file, whatever stands beside them."""
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode() + file.get_tensor(name).tobytes())
    return digest.hexdigest()[:16]


def files(folder: Path) -> str:
    """A digest of the files of a folder and of their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name != "lock.mdb":
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def digests(tree: Path, room: Path) -> dict[str, str]:
    """What `tree` draws and trains, by name."""
    worlds, cache = room / "worlds", room / "cache"
    run(
        tree,
        "-m",
        "dynamix",
        "worlds",
        "--profile",
        "tiny",
        "--out",
        str(worlds),
        "--worlds",
        *WORLDS,
        cache=cache,
    )
    found = {f"world {name}": files(worlds / name) for name in WORLDS}
    for method in METHODS:
        for kind, stops in (("whole", ("-1",)), ("resumed", ("0", "-1"))):
            folder = room / f"{method}-{kind}"
            for stop in stops:
                run(tree, "-c", TRAIN, str(worlds), str(folder), method, stop, cache=cache)
            found[f"{method}, {kind}"] = tensors(folder / "checkpoint.safetensors")
    run(tree, "-m", "dynamix", "pretrain", "--profile", "tiny", "--out", str(room / "moco"), cache=cache)
    found["pre-training"] = tensors(next((room / "moco").glob("*.safetensors")))
    return found


def main(other: Path) -> None:
    with tempfile.TemporaryDirectory() as room:
        before, after = (
            digests(tree, Path(room) / name) for name, tree in (("before", other), ("after", HERE))
        )
    print(json.dumps(after, indent=1))
    different = [name for name in before if before[name] != after[name]]
    different += [
        f"{name}, resumed" for name in METHODS if after[f"{name}, resumed"] != after[f"{name}, whole"]
    ]
    if different:
        sys.exit(f"different bits: {', '.join(different)}")
    print(f"the same bits in both trees: {len(after)} of {len(after)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
