"""The ledger of `reproduce`: the runs behind the rows, which are there, and how long the others take.

A run is counted once, however many rows of however many tables show it.
"""

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynamix import checkpoint, encoders
from dynamix.config import READING, Encoder, change, override, profile
from dynamix.experiments import estimate, kept, plan, starts, tables
from dynamix.experiments.presence import Present
from dynamix.experiments.run import at_once, images_of
from dynamix.experiments.spec import Spec
from dynamix.experiments.tables import changes_of
from dynamix.experiments.tables.kinds import PaperTable, Result, Row, Setting

RESULTS = Path("figures/results/runs")
SEEN = ("plaza", "campus", "hall", "station")  # worlds with query and gallery; every run is scored on all


@dataclass
class Entry:
    """A run, and the rows that show it."""

    spec: Spec
    shown: list[tuple[str, str]] = field(default_factory=list)  # (table, row)
    result: Result | None = None
    begun: bool = False  # a checkpoint waits in the folder of runs
    why: str = ""  # it failed when it ran last
    asked: bool = True  # False: another seed that is there already, shown as well


@dataclass
class Ledger:
    """All runs behind the asked tables, in the order of their worth."""

    profile: str
    seeds: int
    entries: dict[str, Entry]  # by key
    rows: dict[tuple[str, str], list[str]]  # (table, row) -> keys of its seeds
    absent: dict[tuple[str, str], str] = field(default_factory=dict)  # rows that cannot run here, and why
    one_seed: tuple[str, ...] = ()  # tables of which one seed is asked for

    @property
    def missing(self) -> list[Entry]:
        """What has still to run."""
        return [entry for entry in self.entries.values() if entry.asked and entry.result is None]

    def why(self, table: str) -> dict[str, str]:
        """Rows of a table that cannot run here, and why."""
        return {row: why for (name, row), why in self.absent.items() if name == table}

    def lines(self, jobs: int | None = None, *, timed: bool = False) -> Iterator[str]:
        """For `--plan`: every missing run, then the sums.

        `timed`: runs of which none like them has ended are estimated, which takes seconds to minutes.
        """
        missing, rates = self.missing, _Rates(self.entries.values())
        if timed:
            rates.estimated = estimate.runs([e.spec for e in missing if rates.seconds(e.spec) is None])
        yield from _rows(missing, rates)
        absent = {starts.name(e.spec.config): e.spec.config for e in missing if _untrained(e.spec)}
        for name, config in sorted(absent.items()):
            long = f"~{plan.time_text(estimate.pretraining(config))}" if timed else "?"
            yield f"first    {long:>9}       pre-training {name.removesuffix('.safetensors')}"
        yield self._counted(len(missing))
        if missing:
            several = min(jobs or at_once([e.spec for e in missing]), len(missing))
            yield from rates.summed([e.spec for e in missing], several)
        for (table, row), why in self.absent.items():
            yield f"not run  {table} {row!r}: {why}"

    def _counted(self, missing: int) -> str:
        spent = sum(e.result["seconds"] for e in self.entries.values() if e.result is not None)
        asked = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        if self.one_seed and self.seeds > 1:
            asked += ", one in the tables at the end"
        return (
            f"{len(self.entries)} runs stand behind {len(self.rows)} rows of {asked}: "
            f"{len(self.entries) - missing} are there ({spent / 3600:.1f} hours of one core), "
            f"{missing} to run"
        )


def _rows(missing: Sequence[Entry], rates: "_Rates") -> Iterator[str]:
    """A line for every row with runs that are missing."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in missing:
        groups.setdefault(entry.shown[0], []).append(entry)
    for (table, row), entries in groups.items():
        seeds = ", ".join(str(entry.spec.config.seed) for entry in entries)
        more = len(entries[0].shown) - 1
        also = f" (also {more} other row{'s' if more > 1 else ''})" if more else ""
        state = "goes on" if any(entry.begun for entry in entries) else "to run"
        yield f"{state:8} {rates.text(entries[0].spec):>9} each  {table} {row!r}, seed {seeds}{also}"


def ledger(
    names: Sequence[str],
    profile_name: str,
    seeds: int,
    *,
    one_seed: Sequence[str] = (),
    rows: Sequence[str] = (),
    folder: Path | None = None,
    weights: Sequence[Path] = (),
    imagenet: Sequence[Path] = (),
    results: Path = RESULTS,
    runs: Path = Path("runs"),
    reading: Sequence[str] = (),
) -> Ledger:
    """What stands behind the tables `names`; results are read, nothing is run. Of the tables `one_seed` one
    is asked for. Further seeds that are there are shown as well.

    For the paper profile: `weights` are files of weights pre-trained on person images, `imagenet` those that
    runs without such pre-training start from; each serves the rows with its encoder. `reading` are settings
    of how images are read, NAME=VALUE. Raises ValueError on unknown tables or rows, on result files of other
    settings, of other data or half written.
    """
    for text in reading:
        if text.partition("=")[0] not in READING:
            raise ValueError(
                f"--set {text}: a table's rows have their settings; what may be set is how images are read, "
                f"{', '.join(READING)} (other settings: dynamix train --set)"
            )
    if seeds < 1:
        raise ValueError(f"--seeds is the number of seeds, at least 1; got {seeds}")
    asked = [tables.table(name) for name in dict.fromkeys(names)]
    _check_rows(asked, rows)
    made = Ledger(profile_name, seeds, {}, {}, one_seed=tuple(one_seed))
    present = Present(folder) if folder is not None else None
    known = {"pretrained": _by_encoder(weights), "scratch": _by_encoder(imagenet)}
    for table in asked:
        wanted = 1 if table.name in one_seed else seeds
        for row in table.rows:
            if row.kind == "printed" or table.measured or (rows and row.name not in rows):
                continue
            for seed in itertools.count():
                spec = spec_of(table, row, profile_name, seed, folder=folder, weights=known, reading=reading)
                why = spec if isinstance(spec, str) else present.why_not(spec) if present else ""
                if isinstance(spec, str) or why:
                    made.absent[table.name, row.name] = why
                    break
                if seed >= wanted and not (results / f"{spec.key}.json").exists():
                    break
                _enter(made, table, row, spec, seed < wanted)
    kept.check_files(results, profile_name)
    for key, entry in made.entries.items():
        entry.result = kept.found(entry.spec, results)
        if entry.result is not None and present:
            present.check(results / f"{key}.json", entry.result, entry.spec)
        entry.begun = (runs / key / checkpoint.NAME).exists()
        entry.why = kept.failure(runs / key)
    _check_starts(made)
    return made


def _enter(made: Ledger, table: PaperTable, row: Row, spec: Spec, asked: bool) -> None:
    entry = made.entries.setdefault(spec.key, Entry(spec, asked=False))
    entry.asked |= asked
    entry.shown.append((table.name, row.name))
    both = dict.fromkeys((*entry.spec.score_on, *spec.score_on))
    entry.spec = replace(entry.spec, score_on=tuple(both))
    made.rows.setdefault((table.name, row.name), []).append(spec.key)


def _check_starts(made: Ledger) -> None:
    """Refuse rows that began from different weights under one name: pre-trained on machines of two kinds."""
    found: dict[str, tuple[str, str]] = {}
    for key, entry in made.entries.items():
        _, mark, start = key.partition("-moco")
        if entry.result is None or not mark:
            continue
        weights = entry.result["config"]["encoder"]["weights"]
        other, known = found.setdefault(start, (key, weights))
        if known != weights:
            raise ValueError(
                f"{other} and {key} started from different pre-trained weights ({known}, {weights}): "
                "delete the results of one of them, and reproduce runs them again"
            )


def _untrained(spec: Spec) -> bool:
    return spec.start == "pretrained" and spec.weights is None and starts.existing(spec.config) is None


def spec_of(
    table: PaperTable,
    row: Row,
    profile_name: str,
    seed: int,
    *,
    folder: Path | None = None,
    weights: "Mapping[str, Mapping[str, Weights]] | None" = None,
    reading: Sequence[str] = (),
) -> Spec | str:
    """The run behind one seed of a row, or why it cannot run here.

    `weights` of the paper profile: start -> encoder -> file.
    """
    setting = setting_of(table, row, profile_name)
    if setting is None or not setting.sources:
        return "it has no stand-in among the worlds"
    real = profile_name == "paper"
    if table.profiles and profile_name not in table.profiles:
        return f"its settings are written for the {' and '.join(table.profiles)} profile"
    if real and row.labels != "tracker":
        return "nobody knows the true identities of real videos"
    config = change(profile(profile_name), **changes_of(table, row, profile_name), seed=seed)
    config = override(config, reading)
    start = table.start if row.start == "table" else row.start
    file = None
    if real:
        file = (weights or {}).get(start, {}).get(config.encoder.name)
        if file is None:
            kind, option = ("pretrained", "weights") if start == "pretrained" else ("ImageNet", "imagenet")
            return f"it starts from {kind} weights of {config.encoder.name}: name their file (--{option})"
        config = change(config, encoder=file.fitted(config.encoder))
    whole = {name.partition(":")[0] for name in setting.sources if name.endswith(":all")}
    return Spec(
        name=f"{table.name} {row.name!r} (seed {seed})", config=config, labels=row.labels,
        sources=setting.sources, single=setting.single or (), start=start, folder=folder,
        weights=None if file is None else file.path,
        score_on=setting.targets if real else tuple(name for name in SEEN if name not in whole),
        score_every=8,
    )  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """A file of weights, looked into once."""

    path: Path
    fingerprint: str
    encoder: Encoder

    def fitted(self, encoder: Encoder) -> Encoder:
        """`encoder` as these weights need it; what follows the network and the image size stay the row's."""
        needed = ("name", "dim", "stem", "patch", "normalization")
        made = {name: getattr(self.encoder, name) for name in needed}
        return replace(encoder, **made, weights=self.fingerprint)


def _by_encoder(paths: Sequence[Path]) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    for path in paths:
        held = Weights(path, encoders.fingerprint(path), encoders.encoder_config(path, Encoder()))
        name = held.encoder.name
        if name in found:
            raise ValueError(f"{found[name].path} and {path} both hold weights of {name}: name one of them")
        found[name] = held
    return found


def setting_of(table: PaperTable, row: Row, profile_name: str) -> Setting | None:
    """What a row trains on and tests on in a profile."""
    data = row.data or table.data
    return data.real if profile_name == "paper" else data.worlds


def _check_rows(asked: Sequence[PaperTable], rows: Sequence[str]) -> None:
    there = {row.name for table in asked for row in table.rows}
    for name in rows:
        if not there:
            raise ValueError(f"--rows {name!r}: rows are of tables, and none is asked for")
        if name not in there:
            raise ValueError(
                f"--rows: no row {name!r} in {', '.join(table.name for table in asked)}; "
                f"there are {', '.join(map(repr, sorted(there)))}"
            )


class _Rates:
    """Seconds a run takes, told by those of its kind that have ended, else by an estimate."""

    def __init__(self, entries: Iterable[Entry]):
        self.found: dict[tuple[Any, ...], list[float]] = {}
        self.estimated: dict[str, float] = {}  # by key
        for entry in entries:
            if entry.result is not None and entry.result["seconds"] > 0:
                rate = entry.result["seconds"] / images_of(entry.spec)
                for kind in _kinds(entry.spec):
                    self.found.setdefault(kind, []).append(rate)

    def seconds(self, spec: Spec) -> float | None:
        for kind in _kinds(spec):
            if kind in self.found:
                return statistics.median(self.found[kind]) * images_of(spec)
        return self.estimated.get(spec.key)

    def text(self, spec: Spec) -> str:
        seconds, mark = self.seconds(spec), "~" if spec.key in self.estimated else ""
        return "?" if seconds is None else mark + plan.time_text(seconds)

    def summed(self, specs: Sequence[Spec], several: int) -> Iterator[str]:
        """Hours of all, and what they are known from."""
        known = [seconds for spec in specs if (seconds := self.seconds(spec)) is not None]
        if len(known) < len(specs):
            yield "how long they take is known once the first run has ended; --plan estimates it"
            return
        hours = sum(known) / 3600
        yield f"about {hours:.1f} hours of one core, {hours / several:.1f} with {several} at once"
        if self.estimated:
            yield "~: a few steps of the encoder timed here; the first run that ends says it better"


def _kinds(spec: Spec) -> Iterator[tuple[Any, ...]]:
    """From the closest likeness to the loosest."""
    encoder = (spec.config.encoder.name, spec.config.encoder.width, spec.config.encoder.image)
    yield (*encoder, spec.config.batch.ids_single > 0, spec.config.method)
    yield encoder
    yield (spec.config.profile,)
