"""One training by the names of its datasets, as `dynamix train` runs it: table, training, scores, result.

Every result says what was trained on and tested on in full: splits, variants, counts, weights, settings.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from dynamix import checkpoint, data, disk, distributed, encoders, trainer
from dynamix.config import Config, identity, to_json
from dynamix.data.table import Table
from dynamix.experiments import datasets
from dynamix.experiments.datasets import METRICS, Part, Scored
from dynamix.experiments.records import RESULT, provenance, read_lines, write


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train on, what to test on, and with which settings."""

    config: Config
    sources: tuple[Part, ...]
    single: tuple[Part, ...] = ()
    targets: tuple[Part, ...] = ()
    folder: Path | None = None  # holds the datasets; None: the embedded benchmark
    weights: Path | None = None
    allow_partial: bool = False
    protocol: str = ""

    @property
    def name(self) -> str:
        """Of the run's folder: profile, settings, sources."""
        sources = "+".join(str(part).replace(":", "-") for part in (*self.sources, *self.single))
        return f"{self.config.profile}-{identity(self.config)}-{sources}"

    def roots(self) -> dict[str, Path]:
        """Where every dataset of the job lies."""
        names = [part.name for part in (*self.sources, *self.single, *self.targets)]
        return datasets.roots_of(names, self.folder, self.config, named_by="--sources, --single, --targets")

    def check(self, out: Path) -> None:
        """Raise what the end of the training would: on a folder `out` or a target that cannot be used."""
        disk.check_file(out / RESULT)
        roots, skip = self.roots(), self.config.on_bad_image
        for part in self.targets:
            tables = datasets.sides(part.name, roots[part.name], on_bad_image=skip)
            datasets.check_images(tables if skip == "error" else ())

    def table(self) -> Table:
        """What it trains on. Raises ValueError when an image of a target is among it."""
        skip, roots = self.config.on_bad_image, self.roots()
        datasets.refuse_leaks(self.sources, self.targets, roots, on_bad_image=skip)
        return datasets.training_table(self.sources, self.single, roots, on_bad_image=skip)


def train(job: Job, out: Path) -> dict[str, Any]:
    """Train (or resume) in `out`, score on the targets, write `out/result.json` and return what it holds.

    Of several processes (torchrun) the first does what comes after training; the others return {}.
    """
    with distributed.started():
        leads = distributed.leader()
        with distributed.first_here_first():
            if leads:
                job.check(out)
            table = job.table()
        if leads:
            print("\n".join(describe(table)))
        records = trainer.train(
            job.config, table, out, weights=job.weights, allow_partial=job.allow_partial, progress=leads
        )
        try:
            trainer.show(_with_weights_report(records, out), job.config)
        except encoders.Misfit as error:
            raise ValueError(f"{error}, or start from the part that fits (--allow-partial)") from error
    if not leads:
        return {}
    scores = evaluate(out, job.targets, job.folder, on_bad_image=job.config.on_bad_image)
    result = {
        "protocol": job.protocol,
        "trained_on": trained_on(table),
        "scores": {name: found.as_dict() for name, found in scores.items()},
        "weights": None if job.weights is None else job.weights.name,
        "seconds": round(sum(line["seconds"] for line in read_lines(out / trainer.LOG)), 1),
        "config": json.loads(to_json(job.config)),
        "provenance": provenance(),
    }
    write(out / RESULT, result)
    return result


def _with_weights_report(
    records: Iterator[trainer.Step | trainer.Epoch], out: Path
) -> Iterator[trainer.Step | trainer.Epoch]:
    """The records; with the first of a new run, what matched of its pretrained weights is printed."""
    said = (out / trainer.WEIGHTS).exists() or not distributed.leader()
    for record in records:
        if not said and (out / trainer.WEIGHTS).exists():
            tqdm.write((out / trainer.WEIGHTS).read_text("utf-8", "surrogateescape").rstrip())
        said = True
        yield record


def evaluate(
    run: Path,
    targets: tuple[Part, ...],
    folder: Path | None,
    *,
    on_bad_image: str = "error",
    keep: Path | None = None,
) -> dict[str, Scored]:
    """Scores of a trained run, or of a file of pretrained weights, printed and kept in a file as they come.

    Whether all targets are there and `keep` can be written is looked at first.
    """
    if not targets:
        return {}
    if keep is not None:
        disk.check_file(keep)
    encoder, config = checkpoint.load_encoder(run, say=print)
    roots = datasets.roots_of([part.name for part in targets], folder, config)
    for name, root in roots.items():
        datasets.sides(name, root, on_bad_image=on_bad_image)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device)
    print(f"{'':16}  rank-1 rank-5 rank-10    mAP   mINP  queries  gallery")
    found: dict[str, Scored] = {}
    for name, root in roots.items():
        found[name] = datasets.score(
            encoder, config, root, name, device, on_bad_image=on_bad_image, progress=True
        )
        print(line(name, found[name]), flush=True)
        if keep is not None:
            scores = {name: scored.as_dict() for name, scored in found.items()}
            write(keep, {"run": str(run), "scores": scores, "provenance": provenance()})
    return found


def line(name: str, scored: Scored) -> str:
    """One target's scores for a terminal, percent."""
    widths = dict(zip(METRICS, (7, 6, 7, 6, 6), strict=True))
    percents = "".join(f" {getattr(scored, metric):{width}.1%}" for metric, width in widths.items())
    return f"{name:16}{percents}  {scored.valid_queries:7,}  {scored.gallery:7,}  {scored.note}".rstrip()


def describe(table: Table) -> list[str]:
    """One line per source: counts, split, variant."""
    lines = []
    for one in trained_on(table):
        seen = f"{one['videos']:,} videos" if one["videos"] else f"{one['cameras']} cameras"
        counts = f"{one['images']:>12,} images {one['pids']:>9,} pids  {seen:>14}"
        lines.append(f"{one['source']:16}{counts}  {one['note']}")
    return lines


def trained_on(table: Table) -> list[dict[str, Any]]:
    """Counts (paper Table 1), split and variant of every source."""
    counts = data.statistics(table)
    return [asdict(one) | {"note": note} for one, note in zip(counts, table.notes, strict=True)]
