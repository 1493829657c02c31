"""Several processes (gloo) against one: gradients, batches, whole trainings, failures, a killed rank."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynamix import checkpoint, distributed, trainer
from dynamix.data.table import Table
from tests import ranks
from tests.conftest import SMALL

ROOT = Path(__file__).parent.parent
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], env=QUIET | environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def output(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Of a process that must succeed; it ends in any case."""
    try:
        out, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return out, errors


def together(count: int, out: Path, roots: list[str]) -> list[subprocess.Popen[str]]:
    """`count` processes of one job, as torchrun would start them."""
    job = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    asked = ["-m", "tests.ranks", "everything", str(out), *roots]
    return [start(asked, **job, RANK=str(k), LOCAL_RANK=str(k)) for k in range(count)]


@pytest.fixture(scope="module")
def out(world_roots: dict[str, Path], mixed_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What 1, 2 and 3 processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    roots = [str(world_roots[name]) for name in ("plaza", "videos")]
    jobs = [together(count, folder, roots) for count in (2, 3)]
    ranks.everything(folder, *roots)
    try:
        for process in sum(jobs, []):
            output(process)
    finally:
        for process in sum(jobs, []):
            process.kill()
            process.communicate()
    return folder


@pytest.fixture(scope="module")
def one(out: Path) -> dict[str, Any]:
    return torch.load(out / "1-0.pt", weights_only=False)


def several(out: Path, count: int) -> list[dict[str, Any]]:
    return [torch.load(out / f"{count}-{rank}.pt", weights_only=False) for rank in range(count)]


many = pytest.mark.parametrize("count", [2, 3])


@many
def test_every_term_and_its_gradient_equal_those_of_one_process(out, one, count):
    assert len(one["gradients"]) == 5 * len(ranks.SETTINGS)
    for found in several(out, count):
        for name, (value, gradient) in one["gradients"].items():
            torch.testing.assert_close(found["gradients"][name][0], value, rtol=1e-12, atol=1e-12, msg=name)
            torch.testing.assert_close(found["gradients"][name][1], gradient, rtol=1e-9, atol=1e-12, msg=name)
            assert gradient.abs().sum() > 0


def test_rows_that_one_rank_could_not_read_are_missing_everywhere(out, one):
    for found in several(out, 2):
        for name, expected in one["missing"].items():
            torch.testing.assert_close(found["missing"][name], expected, rtol=1e-9, atol=1e-12, msg=name)
        complete = one["gradients"]["paper: total"][1]
        assert not torch.allclose(found["missing"]["paper: total"][1], complete, rtol=0.01)


@many
@pytest.mark.parametrize("name", ["plain", "from disk", "two views", "ReMix"])
def test_batches_and_views_are_those_of_one_process(out, one, count, name):
    runs = several(out, count)
    assert len(one[name]) == 4 * ranks.configuration(**ranks.TRAININGS[name][1]).epochs
    for step, (rows, sums) in enumerate(one[name]):
        for run in runs:
            assert torch.equal(run[name][step][0], rows)
        shares = torch.stack([run[name][step][1] for run in runs], 1).flatten()
        assert torch.equal(shares, sums)


def test_workers_and_memory_do_not_change_batches(one):
    for (rows, sums), (from_disk, its_sums) in zip(one["plain"], one["from disk"], strict=False):
        assert torch.equal(rows, from_disk) and torch.equal(sums, its_sums)


@many
@pytest.mark.parametrize("name", ["plain", "from disk", "two views", "ReMix"])
def test_training_ends_where_one_process_ends(out, count, name):
    a, b = (checkpoint.load(out / f"{n} {name}") for n in (1, count))
    assert a.epoch == b.epoch and a.queue == b.queue and a.tensors.keys() == b.tensors.keys()
    for key, value in a.tensors.items():
        torch.testing.assert_close(b.tensors[key], value, rtol=1e-5, atol=1e-5, msg=key)
    first = checkpoint.load(out / f"1 {name}", ("encoder.",)).tensors["encoder.layers.2.weight"]
    assert (first - ranks.Small(0).layers[2].weight).abs().max() > 1e-3  # it did move


@many
def test_batch_norm_takes_shares_and_stays_alike(out, one, count):
    """On CPUs statistics are each rank's own: the run differs from one process's, but never between ranks."""
    runs = several(out, count)
    for steps in zip(*(run["batch norm"] for run in runs), strict=True):
        assert all(torch.equal(rows, steps[0][0]) for rows, _ in steps)
    tensors = checkpoint.load(out / f"{count} batch norm").tensors
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert tensors["encoder.norm.running_mean"].abs().max() > 0
    (rows, _), (expected, _) = runs[0]["batch norm"][0], one["batch norm"][0]
    assert torch.equal(rows, expected)  # nothing was trained before the first batch


@many
def test_exchanges(out, count):
    runs = [run["exchanges"] for run in several(out, count)]
    rows = np.concatenate([np.arange(10 * k, 12 * k) for k in range(count)])
    whole = torch.cat([torch.full((3 - (k == 1), 2), float(k)) for k in range(count)])
    gradient = torch.arange(whole.numel(), dtype=torch.float32).view_as(whole) * count
    for found in runs:
        assert [part.tolist() for part in found["joined"]] == [x.tolist() for x in (rows, 2 * rows, rows / 2)]
        assert [part.dtype for part in found["joined"]] == [np.int64, np.int64, np.float32]
        assert found["sum"].tolist() == [count * (count + 1) // 2] * 3
        mean = (count - 1) / 2
        assert torch.equal(found["mean"][0], torch.full((2, 2), mean)) and found["mean"][1] == 10 * mean
        assert torch.equal(found["gathered"], whole)
        assert found["everyone"] == [{"rank": k} for k in range(count)]
    assert torch.equal(torch.cat([found["gradient"] for found in runs]), gradient)


@many
def test_a_failure_on_one_rank_stops_all_with_its_message(out, count):
    runs, last = [run["failures"] for run in several(out, count)], count - 1
    for name, message in (
        ("loader", "cannot read image 7.jpg"),
        ("embedding", "the feature of row 3 is not finite"),
    ):
        assert [found[name] for found in runs[:-1]] == [
            f"RuntimeError: rank {last} stopped: {message}"
        ] * last
        assert runs[-1][name] == f"ValueError: {message}"
    for found in runs:
        assert found["unreadable"].startswith(f"ValueError: none of the 4 images of rank {last}'s share")
        assert found["same"] == f"ValueError: rank 0 has one, rank {last} has two: give the same data"


@many
def test_identities_must_divide_among_processes(out, count):
    for run in several(out, count):
        assert run["failures"]["divides"].startswith(
            f"nothingValueError: batch.ids_single = 7 identities do not divide among {count} processes: "
        )


def test_one_process_alone(one):
    assert one["failures"]["loader"] == "ValueError: cannot read image 7.jpg"
    assert one["failures"]["same"] == "nothing"
    assert one["exchanges"]["joined"][2].dtype == np.float64
    x = torch.ones(2, 3)
    assert (
        distributed.gather(x) is x and distributed.sum_(x) is x and distributed.share() == slice(0, None, 1)
    )
    assert distributed.own_part(1000, 256) == slice(0, 1000) and distributed.leader()


@pytest.mark.parametrize("count, block", [(0, 4), (1, 4), (17, 4), (40, 4), (41, 8), (3, 1)])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_chunks_are_shared_whole_and_in_order(monkeypatch, count, block, processes):
    monkeypatch.setattr(distributed, "ranks", lambda: processes)
    parts = []
    for k in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda k=k: k)
        parts.append(np.arange(count)[distributed.own_part(count, block)])
    assert np.concatenate(parts).tolist() == list(range(count))
    assert all(part[0] % block == 0 for part in parts if len(part))
    assert max(map(len, parts)) <= math.ceil(math.ceil(count / block) / processes) * block


def test_missing_variables_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is 4 but RANK.* not set: start .* torchrun"):
        with distributed.started():
            pass


@pytest.mark.parametrize("count, fits", [(3, False), (4, True)])
def test_processes_and_gpus(monkeypatch, count, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4 if fits else 2)
    monkeypatch.setenv("LOCAL_RANK", str(count - 1))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
    if fits:
        assert distributed.device() == torch.device("cuda", count - 1)
    else:
        with pytest.raises(ValueError, match="3 processes on a machine of 2 GPUs"):
            distributed.device()


def torchrun(*arguments: str, restarts: int = 0, **environment: str) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    options = ["--max-restarts", str(restarts), "-m", *arguments]
    return start([*launcher, *options], **environment, PYTHONWARNINGS="ignore")


def test_a_killed_rank_stops_the_job_and_a_restart_resumes_it(out, world_roots):
    roots = [str(world_roots[name]) for name in ("plaza", "videos")]
    _, errors = output(torchrun("tests.ranks", "killed", str(out), *roots, restarts=1))
    assert "exitcode: -9" in errors  # torchrun says who died
    unbroken, resumed = (checkpoint.load(out / name) for name in ("2 plain", "killed"))
    different = [k for k, v in unbroken.tensors.items() if not torch.equal(v, resumed.tensors[k])]
    assert different == [] and unbroken.queue == resumed.queue
    logs = [(out / name / trainer.LOG).read_text().splitlines() for name in ("2 plain", "killed")]
    assert len(logs[0]) == len(logs[1]) == 2


def test_from_the_command_line(world_roots, tmp_path):
    """Only the first process writes and speaks, and it alone scores."""
    worlds = [
        f"mannequins.{name}={getattr(SMALL, name)}".replace(" ", "")
        for name in ("plaza", "campus", "hall", "station", "studio", "videos")
    ]
    small = [
        "iterations=2",
        "batch.images_multi=2",
        "batch.images_single=2",
        "encoder.width=8",
        "encoder.dim=16",
    ]
    asked = ["--profile", "tiny", "--epochs", "1", "--targets", "hall", "--out", str(tmp_path / "run")]
    cache = {"DYNAMIX_CACHE": str(world_roots["plaza"].parent.parent)}
    said, _ = output(torchrun("dynamix", "train", *asked, "--set", *small, *worlds, **cache))
    assert said.count("trained: ") == said.count("rank-1 rank-5") == said.count("plaza  ") == 1
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.json", "log.jsonl", checkpoint.NAME, "result.json"}
