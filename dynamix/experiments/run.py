"""One run: train, score, keep the result. Several go at once, each in a process and a thread of its own.

A run is a folder named by what it depends on. Finished runs are read back, killed ones resume.
"""

import contextlib
import json
import os
import queue
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from dynamix import checkpoint, disk, encoders, evaluation, trainer
from dynamix.config import change, to_json
from dynamix.data.images import cores
from dynamix.experiments import starts
from dynamix.experiments.datasets import Scored, score
from dynamix.experiments.job import trained_on
from dynamix.experiments.records import RESULT, checked, provenance, read_lines, write
from dynamix.experiments.spec import Spec, table_of

ON_ONE_GPU = 6  # trainings of the smaller profiles that share a GPU
KILLED = (
    "its process was killed, alone on the machine: most likely it wants more memory than there is; "
    "what it has done is kept, and the same command goes on with it"
)
PASSES = 30  # forward passes that the time of inference is the median of

Progress = Callable[[str, int, int], None]  # name, steps done, steps in all


def score_all(
    encoder: nn.Module, spec: Spec, roots: dict[str, Path], device: torch.device
) -> dict[str, dict[str, Any]]:
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
    gone = kept < 0  # removed, or without a label (ReMix's noise and the videos it did not draw)
    return quality | {
        "junk_removed": float(gone[junk].mean()) if junk.any() else 0.0,
        "good_removed": float(gone[~junk].mean()) if (~junk).any() else 0.0,
        "pids": len(np.unique(kept[kept >= 0])),
    }


def run(spec: Spec, folder: Path, report: Progress | None = None) -> dict[str, Any]:
    """Train and score `spec` in `folder/key`; returns the result, which `result.json` there keeps."""
    home = folder / spec.key
    done = home / RESULT
    if done.exists() and set(spec.score_on) <= set((result := checked(done))["scores"]):
        return result
    with _alone(home):
        return _trained(spec, home, report)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two commands must not train in one folder. Raises RuntimeError naming it."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / ".lock", "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # a system without such locks
            pass
        except OSError as error:
            raise RuntimeError(f"another process trains in {home}: wait for it, or end it") from error
        yield


def _trained(spec: Spec, home: Path, report: Progress | None) -> dict[str, Any]:
    done, config, weights, roots = home / RESULT, spec.config, spec.weights, spec.roots()
    if spec.start == "pretrained":
        weights = weights or starts.make(config, progress=False)
        config = change(config, encoder__weights=encoders.fingerprint(weights))
    table, truth = table_of(spec, roots)
    single = table.videos >= 0
    known = truth if single.any() else None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    total = config.epochs * config.iterations
    curve = _Curve(home / "quality.jsonl", spec, roots, device, known, single)
    curve.mend()
    for record in trainer.train(config, table, home, device=device, weights=weights):
        if isinstance(record, trainer.Step):
            if report:
                report(spec.name, record.epoch * config.iterations + record.step + 1, total)
            continue
        curve.add(record.as_json(), record.labels, record.removed, record.momentum)
    # From the checkpoint, not from the last record: a run killed after its last epoch ends the same.
    saved = checkpoint.load(home, ("epoch.",)).tensors
    encoder, _ = checkpoint.load_encoder(home)
    labels, removed = saved["epoch.labels"].numpy(), saved["epoch.removed"].numpy()
    # Worlds that it was scored on before stay in the result.
    before = {} if not done.exists() else checked(done)["scores"]
    epochs, scores = curve.read(), before | score_all(encoder.to(device), spec, roots, device)
    if epochs and epochs[-1]["epoch"] == config.epochs - 1:  # a kill may have cost the curve its last point
        epochs[-1]["scores"] = scores
    nothing = np.zeros(len(table), bool)
    result = {
        "key": spec.key,
        "name": spec.name,
        "profile": config.profile,
        "seed": config.seed,
        "labels": spec.labels,
        "start": spec.start,
        "sources": list(map(str, spec.trained_on[0])),
        "single": list(map(str, spec.trained_on[1])),
        "trained_on": trained_on(table),
        "scores": scores,
        "quality_before": None if known is None else label_state(table.labels, nothing, known, single),
        "quality_after": None if known is None else label_state(labels, removed, known, single),
        "report": _last_report(home),
        "epochs": epochs,
        "seconds": round(sum(line["seconds"] for line in epochs), 1),
        "inference_ms": inference_ms(encoder.cpu(), config.encoder.image),
        "config": json.loads(to_json(config)),
        "provenance": provenance(),
    }
    write(done, result)
    return result


def inference_ms(encoder: nn.Module, image: tuple[int, int]) -> float:
    """Median milliseconds for one image on one CPU core (ReMix Tables 11 and 12)."""
    pixels, taken = torch.zeros(1, 3, *image), []
    with starts.one_thread(), torch.inference_mode():
        for _ in range(PASSES):
            began = time.perf_counter()
            encoder(pixels)
            taken.append(time.perf_counter() - began)
    return round(1000 * statistics.median(taken), 2)


def _last_report(home: Path) -> dict[str, Any] | None:
    """What the last epoch's relabeling did."""
    lines = read_lines(home / trainer.LOG)
    return lines[-1]["report"] if lines else None


def run_all(
    specs: Sequence[Spec],
    folder: Path,
    *,
    jobs: int | None = None,
    progress: bool = True,
    in_order: bool = False,
) -> Iterator[tuple[Spec, dict[str, Any] | BaseException]]:
    """Yield each spec with its result as it ends, several runs at once; a failed one yields its error.

    Longest first, so that the last core is not left alone with the longest run; or in the order given. When a
    process is killed its pool ends with it: runs that had begun go on alone, from their checkpoints, so that
    the one too many for this machine is found; the others go on as before. Raises ValueError for jobs < 1.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs is the number of runs at a time, at least 1; got {jobs}")
    order = list(specs) if in_order else sorted(specs, key=lambda spec: -images_of(spec))
    context = get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(_watch, (os.getpid(),))
    with manager, _Bars(order, progress) as bars:
        waiting, begun = order, list[Spec]()
        while waiting or begun:
            alone = not waiting
            group = begun[:1] if alone else waiting
            waiting, begun = [], begun[1:] if alone else begun
            size = min(len(group), jobs or at_once(specs))
            for spec, result in _in_a_pool(group, folder, size, context, manager.Queue(), bars):
                if not isinstance(result, BrokenProcessPool):
                    yield spec, result
                elif alone:
                    yield spec, RuntimeError(KILLED)
                else:
                    (begun if spec.name in bars.begun else waiting).append(spec)
            if len(waiting) == len(group):  # not one came to its first line: each by itself says more
                waiting, begun = [], begun + waiting


def _in_a_pool(
    specs: Sequence[Spec], folder: Path, jobs: int, context: Any, messages: Any, bars: "_Bars"
) -> Iterator[tuple[Spec, dict[str, Any] | BaseException]]:
    number = context.Value("i", 0)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(os.getpid(), number))
    try:
        futures = {pool.submit(_run_in_process, spec, folder, messages): spec for spec in specs}
        yield from _as_they_end(futures, messages, bars)
    except BaseException:  # interrupted: what trains stops at once, and resumes from its checkpoint
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def at_once(specs: Sequence[Spec]) -> int:
    """Runs at a time: one per core; on GPUs one large or several small ones on each."""
    if not torch.cuda.is_available():
        return cores()
    large = any(spec.config.profile == "paper" for spec in specs)
    return max(1, torch.cuda.device_count() * (1 if large else min(ON_ONE_GPU, cores())))


def images_of(spec: Spec) -> int:
    """Images that its training steps see: what its time goes with."""
    return spec.config.batch.size * spec.config.epochs * spec.config.iterations


def _plain(found: Scored) -> dict[str, Any]:
    plain = {
        "rank1": found.rank1, "mAP": found.mAP, "mINP": found.mINP, "queries": found.valid_queries
    }  # fmt: skip
    return plain | ({"note": found.note} if found.note else {})


def _prepare(parent: int, number: Any) -> None:
    """What a process of the pool does first."""
    # Ctrl-C reaches all processes of a terminal: the command alone answers, and ends its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)  # runs share the cores: two threads of two runs fight for the same core
    if torch.cuda.is_available():
        with number.get_lock():
            torch.cuda.set_device(number.value % torch.cuda.device_count())
            number.value += 1
    _watch(parent)


def _watch(parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A run whose command was killed must not go on beside the one that resumes it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run_in_process(spec: Spec, folder: Path, messages: Any) -> dict[str, Any]:
    messages.put((spec.name, 0, 1))
    return run(spec, folder, lambda *message: messages.put(message))


def _as_they_end(
    futures: "dict[Future[dict[str, Any]], Spec]", messages: Any, bars: "_Bars"
) -> Iterator[tuple[Spec, dict[str, Any] | BaseException]]:
    waiting = dict(futures)
    while waiting:
        ended = [future for future in waiting if future.done()]
        with contextlib.suppress(queue.Empty):
            bars.show(*messages.get(timeout=0.2))
            while ended:  # whatever they had still to say
                bars.show(*messages.get(block=False))
        for future in ended:
            spec, error = waiting.pop(future), future.exception()
            if not isinstance(error, BrokenProcessPool):
                bars.finish(spec.name)
            yield spec, error if error is not None else future.result()


class _Bars:
    """A progress bar over all steps of all runs, with the time left."""

    def __init__(self, specs: Sequence[Spec], progress: bool):
        self.total = {s.name: s.config.epochs * s.config.iterations for s in specs}
        self.work = {s.name: s.config.batch.size for s in specs}  # a step's cost goes with its images
        self.done = dict.fromkeys(self.total, 0)
        self.begun = set[str]()
        amount = sum(self.total[name] * self.work[name] for name in self.total)
        self.bar = tqdm(total=amount, unit="img", unit_scale=True, disable=not progress, desc="training")

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, name: str, done: int, total: int) -> None:
        self.begun.add(name)
        if not any(self.done.values()):
            self.bar.reset()  # starting the processes took seconds: the time left counts from the first step
        self.bar.update((done - self.done[name]) * self.work[name])
        self.done[name] = done
        running = [f"{k} {v}/{self.total[k]}" for k, v in self.done.items() if 0 < v < self.total[k]]
        self.bar.set_postfix_str("; ".join(running), refresh=False)

    def finish(self, name: str) -> None:
        self.show(name, self.total[name], self.total[name])


@dataclass
class _Curve:
    """What is shown of each finished epoch, line by line in a file that a resumed run goes on with."""

    path: Path
    spec: Spec
    roots: dict[str, Path]
    device: torch.device
    truth: np.ndarray | None  # (N,), where it is known
    single: np.ndarray  # (N,)

    def add(
        self, logged: Mapping[str, Any], labels: np.ndarray, removed: np.ndarray, encoder: nn.Module
    ) -> None:
        """`logged` is the epoch's line of the log; it trained with `labels` and `removed` (N,)."""
        line = {name: logged[name] for name in ("epoch", "terms", "seconds")}
        if self.truth is not None:
            line["quality_after"] = label_state(labels, removed, self.truth, self.single)
        done = line["epoch"] + 1
        if done % self.spec.score_every == 0 and done < self.spec.config.epochs:
            line["scores"] = score_all(encoder, self.spec, self.roots, self.device)
        kept = [old for old in self.read() if old["epoch"] < line["epoch"]]
        disk.write_text(self.path, "".join(json.dumps(one) + "\n" for one in [*kept, line]))

    def mend(self) -> None:
        """The line of the last epoch anew, from its checkpoint, where a kill cost it or a part of it."""
        home = self.path.parent
        if not (home / checkpoint.NAME).exists():
            return
        saved = checkpoint.load(home, ("epoch.",))
        if not saved.line:  # an earlier version's checkpoint
            return
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        disk.write_text(self.path, text[: text.rfind("\n") + 1])
        if not any(line["epoch"] == saved.epoch for line in self.read()):
            labels, removed = (saved.tensors[f"epoch.{name}"].numpy() for name in ("labels", "removed"))
            encoder = checkpoint.load_encoder(home)[0].to(self.device)
            self.add(json.loads(saved.line), labels, removed, encoder)

    def read(self) -> list[dict[str, Any]]:
        return read_lines(self.path)
