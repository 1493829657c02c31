"""What opening LUPerson-NL takes: `python tests/benchmarks/luperson_index.py [--rows N] [--folder F]`.

Writes an LMDB of tiny values and a keys.pkl of N rows in the real key format, then measures in fresh
processes: the first opening (unpickling, checking, writing the index), later ones, and, as the baseline of
the same run, a plain pickle.load of keys.pkl.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS, PIDS, VIDEOS = 10_683_716, 433_997, 21_697

PLAIN = """
import pickle
content = None
def run():
    global content
    with open(root + "/keys.pkl", "rb") as file:
        content = pickle.load(file)
"""
OPEN = """
import torch
from dynamix import data
def run():
    global table
    table = data.load("luperson_nl", root)
    assert len(table) == rows, len(table)
"""
MEASURE = """
import json, resource, sys, time
root, rows = sys.argv[1], int(sys.argv[2])
{code}
start = time.perf_counter(), time.process_time()
run()
seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([seconds, cpu, peak]))
"""


def key(row: int, rows: int) -> str:
    """Row's key: videos and pids in ascending order, about 25 images a pid."""
    pid = row * PIDS // rows
    return f"{pid * VIDEOS // PIDS + 1:05d}_{pid:06d}_{row % 10_000_000:07d}_{row % 7:02d}"


def write(root: Path, rows: int) -> None:
    """keys.pkl and lmdb/, every key with a value of a few bytes."""
    import lmdb

    keys = sorted(key(row, rows) for row in range(rows))
    with open(root / "keys.pkl", "wb") as file:
        pickle.dump({"keys": keys, "pids": [int(name[6:12]) for name in keys]}, file)
    (root / "lmdb").mkdir()
    with (
        lmdb.open(str(root / "lmdb"), map_size=1 << 34, sync=False) as store,
        store.begin(write=True) as writing,
    ):
        for name in keys:
            writing.put(name.encode(), b"jpeg", append=True)


def measure(code: str, root: Path, rows: int, cache: Path) -> list[float]:
    """Seconds and CPU seconds of `run()`; the peak memory (2^30 bytes) of its process, torch included."""
    command = [sys.executable, "-c", MEASURE.format(code=code), str(root), str(rows)]
    env = os.environ | {"DYNAMIX_CACHE": str(cache)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, help="where to put the files (removed afterwards)")
    given = parser.parse_args()
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        # In a process of its own: a large parent would count into its children's peak.
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(root, given.rows))
        writer.start(), writer.join()
        assert writer.exitcode == 0, "the data could not be written"
        runs = {"pickle.load": PLAIN, "first opening": OPEN, "second": OPEN, "third": OPEN}
        titles = ("seconds", "CPU s", "ratio", "peak GB", "ratio")
        print(f"{f'{given.rows:,} rows':>24}", *(f"{title:>8}" for title in titles))
        base: list[float] = []
        for name, code in runs.items():
            seconds, cpu, peak = found = measure(code, root, given.rows, root / "cache")
            base = base or found
            figures = (seconds, cpu, cpu / base[1], peak, peak / base[2])
            print(f"{name:>24}", *(f"{figure:>8.2f}" for figure in figures))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
