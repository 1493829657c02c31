"""One run on the Mannequins worlds: train on plaza (and videos), score on worlds never trained on.

A run is a folder named by what it depends on. Finished runs are read back, killed ones resume, several
go at once in processes of their own (one thread each).
"""

import json
import os
import platform
import queue
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from dynamix import checkpoint, data, evaluation, trainer
from dynamix.config import Config, identity, to_json
from dynamix.data.images import cores
from dynamix.data.mannequins import worlds
from dynamix.data.table import Table
from dynamix.experiments.datasets import Scored, score

RESULT = "result.json"
TEST_WORLDS = ("station", "hall")  # reported; whatever must be chosen is chosen on campus

Progress = Callable[[str, int, int], None]  # name, steps done, steps in all


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A run: its config, the labels it starts from, the worlds it is scored on."""

    name: str
    config: Config
    labels: Literal["tracker", "truth"] = "tracker"  # truth: the upper bound, junk left out
    score_on: tuple[str, ...] = TEST_WORLDS
    score_every: int = 4  # epochs between scores on the way, for the curves

    @property
    def key(self) -> str:
        """Folder name: the config's identity, seed included, and what is not in the config."""
        suffix = "-truth" if self.labels == "truth" else ""
        return f"{self.config.profile}-{identity(self.config)}-w{worlds.VERSION}{suffix}"


def training_table(spec: Spec, roots: dict[str, Path]) -> tuple[Table, np.ndarray]:
    """Rows to train on and their true identities (N,): −1 for junk; multi-camera rows by their label."""
    plaza = data.load("plaza", roots["plaza"], "train")
    if spec.config.batch.ids_single == 0:
        return plaza, plaza.labels.copy()
    videos = data.load("videos", roots["videos"], "train")
    table = data.concat([plaza, videos])
    known = worlds.truth(roots["videos"]).of(videos)
    truth = table.labels.copy()
    first = truth.max() + 1  # true identities share no number with the labels of plaza
    truth[len(plaza) :] = np.where(known >= 0, known + first, -1)
    if spec.labels == "truth":
        table = replace(table, labels=truth)
    return table, truth


def score_all(
    encoder: nn.Module, spec: Spec, roots: dict[str, Path], device: torch.device
) -> dict[str, dict[str, float]]:
    """World -> scores, for every world that `spec` is scored on."""
    return {
        world: _plain(score(encoder, spec.config, roots[world], world, device)) for world in spec.score_on
    }


def label_state(
    labels: np.ndarray, removed: np.ndarray, truth: np.ndarray, single: np.ndarray
) -> dict[str, float]:
    """Quality of single-camera pseudo-labels against the truth real data never has; shares in [0, 1]."""
    kept = np.where(removed, -1, labels)[single]
    quality = asdict(evaluation.label_quality(kept, truth[single]))
    junk = truth[single] < 0
    gone = removed[single]
    return quality | {
        "junk_removed": float(gone[junk].mean()) if junk.any() else 0.0,
        "good_removed": float(gone[~junk].mean()) if (~junk).any() else 0.0,
        "pids": len(np.unique(kept[kept >= 0])),
    }


def run(spec: Spec, folder: Path, report: Progress | None = None) -> dict[str, Any]:
    """Train and score `spec` in `folder/key`; returns the result, which `result.json` there keeps."""
    home = folder / spec.key
    done = home / RESULT
    if done.exists() and set(spec.score_on) <= set(read(done)["scores"]):
        return read(done)
    config = spec.config
    roots = worlds.build(config.mannequins, worlds=("plaza", "videos", *spec.score_on), progress=False)
    table, truth = training_table(spec, roots)
    single = table.videos >= 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    total = config.epochs * config.iterations
    raw = label_state(table.labels, np.zeros(len(table), bool), truth, single) if single.any() else None
    lines = _Lines(home / "quality.jsonl")
    for record in trainer.train(config, table, home, device=device):
        if isinstance(record, trainer.Step):
            if report:
                report(spec.name, record.epoch * config.iterations + record.step + 1, total)
            continue
        line: dict[str, Any] = {"epoch": record.epoch, "terms": record.terms, "seconds": record.seconds}
        if single.any():
            line["quality_after"] = label_state(record.labels, record.removed, truth, single)
        if (record.epoch + 1) % spec.score_every == 0 and record.epoch + 1 < config.epochs:
            line["scores"] = score_all(record.momentum, spec, roots, device)
        lines.add(line)
    # From the checkpoint, not from the last record: a run killed after its last epoch ends the same.
    saved = checkpoint.load(home, ("epoch.",)).tensors
    encoder, _ = checkpoint.load_encoder(home)
    labels, removed = saved["epoch.labels"].numpy(), saved["epoch.removed"].numpy()
    epochs, scores = lines.read(), score_all(encoder.to(device), spec, roots, device)
    if epochs and epochs[-1]["epoch"] == config.epochs - 1:  # a kill may have cost the curve its last point
        epochs[-1]["scores"] = scores
    result = {
        "name": spec.name,
        "profile": config.profile,
        "seed": config.seed,
        "labels": spec.labels,
        "scores": scores,
        "quality_before": raw,
        "quality_after": label_state(labels, removed, truth, single) if single.any() else None,
        "epochs": epochs,
        "seconds": round(sum(line["seconds"] for line in epochs), 1),
        "config": json.loads(to_json(config)),
        "provenance": provenance(),
    }
    write(done, result)
    return result


def run_all(
    specs: Sequence[Spec], folder: Path, *, jobs: int | None = None, progress: bool = True
) -> Iterator[tuple[Spec, dict[str, Any] | BaseException]]:
    """Yield each spec with its result as it ends, several runs at once; a failed one yields its error.

    Longest first, so that the last core is not left alone with the longest run.
    """
    jobs = jobs or max(1, min(len(specs), cores()))
    order = sorted(specs, key=lambda s: -s.config.batch.size * s.config.epochs * s.config.iterations)
    context = get_context("spawn")
    with context.Manager() as manager:
        messages = manager.Queue()
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
            futures = {pool.submit(_run_in_process, spec, folder, messages): spec for spec in order}
            with _Bars(order, progress) as bars:
                yield from _as_they_end(futures, messages, bars)


def read(path: Path) -> dict[str, Any]:
    """A result file; a half-written or foreign one is an error naming it."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a result file ({error}): delete it and run again") from error


def write(path: Path, result: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename it: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(temporary, path)


def provenance() -> dict[str, str]:
    """Commit, versions and hardware that stand beside every number."""
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True).stdout
    except OSError:  # no git on this machine
        commit = ""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()
    return {
        "commit": commit.strip() or "unknown",
        "device": device,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _plain(found: Scored) -> dict[str, float]:
    return {
        "rank1": found.rank1, "mAP": found.mAP, "mINP": found.mINP, "queries": found.valid_queries
    }  # fmt: skip


def _one_thread() -> None:
    torch.set_num_threads(1)  # runs share the cores: two threads of two runs fight for the same core


def _run_in_process(spec: Spec, folder: Path, messages: Any) -> dict[str, Any]:
    return run(spec, folder, lambda *message: messages.put(message))


def _as_they_end(
    futures: "dict[Future[dict[str, Any]], Spec]", messages: Any, bars: "_Bars"
) -> Iterator[tuple[Spec, dict[str, Any] | BaseException]]:
    waiting = dict(futures)
    while waiting:
        try:
            bars.show(*messages.get(timeout=0.2))
        except queue.Empty:
            pass
        for future in [f for f in waiting if f.done()]:
            spec = waiting.pop(future)
            bars.finish(spec.name)
            error = future.exception()
            yield spec, error if error is not None else future.result()


class _Bars:
    """A progress bar over all steps of all runs, with the time left."""

    def __init__(self, specs: Sequence[Spec], progress: bool):
        self.total = {s.name: s.config.epochs * s.config.iterations for s in specs}
        self.work = {s.name: s.config.batch.size for s in specs}  # a step's cost goes with its images
        self.done = dict.fromkeys(self.total, 0)
        amount = sum(self.total[name] * self.work[name] for name in self.total)
        self.bar = tqdm(total=amount, unit="img", unit_scale=True, disable=not progress, desc="training")

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, name: str, done: int, total: int) -> None:
        if not any(self.done.values()):
            self.bar.reset()  # starting the processes took seconds: the time left counts from the first step
        self.bar.update((done - self.done[name]) * self.work[name])
        self.done[name] = done
        running = [f"{k} {v}/{self.total[k]}" for k, v in self.done.items() if 0 < v < self.total[k]]
        self.bar.set_postfix_str("; ".join(running), refresh=False)

    def finish(self, name: str) -> None:
        self.show(name, self.total[name], self.total[name])


class _Lines:
    """Records of finished epochs in a file that a resumed run goes on with."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, line: dict[str, Any]) -> None:
        kept = [old for old in self.read() if old["epoch"] < line["epoch"]]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(one) + "\n" for one in [*kept, line]))
        os.replace(temporary, self.path)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.path.read_text().splitlines()] if self.path.exists() else []
