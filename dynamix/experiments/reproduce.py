"""`dynamix reproduce`: the papers' tables and figures, from what has been run and what has still to run.

Finished runs are small files in figures/results/runs; killed ones resume; tables share runs. A run that
fails is a row that says so.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dynamix import disk, plots
from dynamix.config import profile
from dynamix.experiments import figure_run, kept, measured, starts, tables
from dynamix.experiments.ledger import RESULTS, Entry, Ledger, ledger
from dynamix.experiments.report import Failure, Found, Measured, picture, text
from dynamix.experiments.run import run_all
from dynamix.experiments.tables.kinds import PaperTable, Result

OUT, PICTURES = Path("figures/tables"), Path("figures/paper")
# What is worth most first: a training that is stopped early leaves the tables that matter. Of the tables
# after these, ReMix's further ones, `all` asks one seed; by name each is run with as many as are asked for.
ORDER = (
    "table3", "table4", "table10", "table8", "table9", "table5", "table7", "table12", "table11", "table2a",
    "table2b", "remix.table4", "remix.table5",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `dynamix reproduce` was asked for."""

    names: tuple[str, ...]
    profile: str = "mini"
    seeds: int = 1
    one_seed: tuple[str, ...] = ()  # tables of which one is enough
    rows: tuple[str, ...] = ()
    folder: Path | None = None  # real datasets
    weights: tuple[Path, ...] = ()  # pretrained on person images, for the real datasets
    imagenet: tuple[Path, ...] = ()  # for their runs without such pre-training
    runs: Path = Path("runs")
    results: Path = RESULTS
    out: Path = OUT
    jobs: int | None = None
    reading: tuple[str, ...] = ()  # NAME=VALUE

    def ledger(self) -> Ledger:
        """The runs behind it. Raises ValueError where its data are not there or names are unknown."""
        profile(self.profile)
        if self.profile == "paper" and self.folder is None:
            raise ValueError("the paper profile trains on the real datasets: say where with --data FOLDER")
        if self.folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(
                f"no folder {self.folder}: give the one that holds the datasets with --data"
            )
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs is the number of runs at a time, at least 1; got {self.jobs}")
        if self.profile != "paper" and self.folder is not None:
            raise ValueError(f"the {self.profile} profile trains on the embedded benchmark: leave --data out")
        return ledger(
            self.names, self.profile, self.seeds, one_seed=self.one_seed, rows=self.rows,
            folder=self.folder, weights=self.weights, imagenet=self.imagenet, results=self.results,
            runs=self.runs, reading=self.reading,
        )  # fmt: skip


def named(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tables and figures of a request; `all` is everything, in the order of worth.

    Raises ValueError on an unknown name, listing those that exist.
    """
    from dynamix.experiments.pictures import FIGURES

    every = (*ORDER, *(name for name in tables.TABLES if name not in ORDER))
    there = ("all", *tables.TABLES, *FIGURES)
    if not texts:
        raise ValueError(f"name what to reproduce: {', '.join(there)}")
    for name in texts:
        if name not in there:
            raise ValueError(f"unknown table or figure {name!r}; there are {', '.join(there)}")
    if "all" in texts:
        return every, tuple(FIGURES)
    each = tuple(dict.fromkeys(texts))
    return tuple(n for n in each if n in tables.TABLES), tuple(n for n in each if n in FIGURES)


def run_missing(request: Request, made: Ledger) -> list[Entry]:
    """Run what is missing, keep every result as it comes; those that failed, whose entries say why."""
    missing = [entry.spec for entry in made.missing]
    for spec in missing:
        spec.roots()  # worlds are drawn here, once
    pretrained = [spec.config for spec in missing if spec.start == "pretrained" and spec.weights is None]
    for config in {starts.name(config): config for config in pretrained}.values():
        starts.make(config)
    began = time.perf_counter()
    ended = run_all(missing, request.runs, jobs=request.jobs, in_order=True) if missing else iter(())
    for number, (spec, result) in enumerate(ended, 1):
        entry = made.entries[spec.key]
        entry.why = f"{type(result).__name__}: {result}" if isinstance(result, BaseException) else ""
        kept.failed(request.runs / spec.key, entry.why)
        if isinstance(result, BaseException):
            print(f"failed: {spec.name}: {result}", flush=True)
            continue
        entry.result = kept.keep(spec, result, request.results)
        hours = (time.perf_counter() - began) / number * (len(missing) - number) / 3600
        print(f"{number} of {len(missing)}: {spec.name}, {hours:.1f} hours left", flush=True)
    return [entry for entry in made.missing if entry.why]


def found_of(table: PaperTable, made: Ledger) -> Found:
    """Row -> results and failures of its seeds."""
    found: dict[str, list[Result | Failure]] = {}
    for row in table.rows:
        keys = made.rows.get((table.name, row.name), [])
        ended = [each for key in keys if (each := _ended(made.entries[key])) is not None]
        if ended:
            found[row.name] = ended
    return found


def _ended(entry: Entry) -> Result | Failure | None:
    """What a run came to, under this command or an earlier one; None: it has not run."""
    return entry.result or (Failure(entry.spec.config.seed, entry.why) if entry.why else None)


def write_tables(
    names: Iterable[str],
    made: Ledger,
    out: Path = OUT,
    folder: Path | None = None,
    results: Path = measured.RESULTS,
) -> Iterator[Path]:
    """Markdown, CSV and PNG of every table, in `out`; yields the pictures' paths."""
    for name in names:
        table = tables.table(name)
        found: Found | Measured = found_of(table, made)
        if table.measured:
            found = measured.read(table, made.profile, folder, results)
        shown, why = (table, made.profile, found), made.why(name)
        stem = f"{name}.{made.profile}"
        disk.write_text(out / f"{stem}.md", text.markdown(*shown, absent=why))
        disk.write_text(out / f"{stem}.csv", text.table_csv(*shown, absent=why))
        yield plots.save(picture.picture(*shown, absent=why), out / f"{stem}.png")


def reproduce(request: Request, *, plan: bool = False) -> None:
    """Run what is missing and write every table and figure asked for.

    Raises RuntimeError, after everything is written, where a run failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("reproduce trains several runs side by side by itself: start it without torchrun")
    asked, (names, figures) = request.names, named(request.names)
    further = tuple(name for name in names if name not in ORDER) if "all" in asked else ()
    request = replace(request, names=names, one_seed=further)
    made = request.ledger()
    if not plan:  # before hours of training, not after them
        for folder in (request.out, request.results, request.runs, *([PICTURES] if figures else [])):
            disk.check_folder(folder)
    nothing = ["a figure is drawn of what has run: nothing to run"]
    print("\n".join(made.lines(request.jobs, timed=plan) if names else nothing))
    if made.absent and not made.rows:
        raise ValueError(f"nothing of this can run here: {next(iter(made.absent.values()))}")
    if plan:
        return
    failed = run_missing(request, made)
    if request.rows:  # the other rows are shown as they stand
        made = replace(request, rows=()).ledger()
    for path in write_tables(names, made, request.out, request.folder, request.results.parent):
        print(f"look: {path}")
    drawn = list(draw_figures(figures, request, PICTURES))
    for line in drawn:
        print(line)
    if "all" in asked:
        print(draw_claims(request))
    if failed:
        raise RuntimeError("; ".join(f"run {each.spec.key} failed: {each.why}" for each in failed))
    undrawn = [line for line in drawn if line.startswith("not drawn")]
    if undrawn and "all" not in asked:  # asked for by name
        raise RuntimeError("; ".join(undrawn))


def draw_figures(names: Sequence[str], request: Request, out: Path = PICTURES) -> Iterator[str]:
    """Draw the papers' figures in `out`; yields a line about each.

    Most show a trained DynaMix: from the folder of runs, else as it is kept with the results. Where it is in
    neither place the picture that is there stays, and is said to.
    """
    from dynamix.experiments import pictures

    if names and request.profile == "paper":
        yield "not drawn: the figures show the embedded benchmark; use another profile"
    if not names or request.profile == "paper":
        return
    made = replace(request, names=tuple({table for table, _ in SHOWN.values()}), rows=()).ledger()
    spec = made.entries[made.rows[SHOWN["DynaMix"]][0]].spec
    run = figure_run.found(spec, request.runs, request.results.parent / figure_run.KEPT.name)
    context = pictures.Context(config=spec.config, roots=spec.roots(), results=_rank1(made), run=run)
    for name in names:
        path = out / figure_file(name, request.profile)
        try:
            yield f"look: {plots.save(pictures.draw(name, context), path)}"
        except FileNotFoundError as error:
            yield f"{'kept: ' if path.exists() else 'not drawn: '}{path} ({error})"


def figure_file(name: str, profile_name: str) -> str:
    """Its file; those that the README shows, of the mini profile, bear the plain name."""
    return f"{name}.png" if profile_name == "mini" else f"{name}.{profile_name}.png"


def draw_claims(request: Request) -> str:
    """Draw what the papers conclude beside what shows here, next to the tables; says where, or why not."""
    from dynamix.experiments import claims

    made = replace(request, names=claims.TABLES, rows=()).ledger()
    try:
        return f"look: {plots.save(claims.figure(made), request.out / f'claims.{made.profile}.png')}"
    except ValueError as error:
        return f"not drawn: claims.{made.profile}.png ({error})"


SHOWN = {  # rows in Figure 1, beside the printed methods; the last is the run that the other figures show
    "multi-camera only": ("table3", "multi-camera only, same batch size"),
    "ReMix": ("remix.table4", "both"),
    "DynaMix": ("table3", "profile encoder: + RM"),
}


def _rank1(made: Ledger) -> dict[str, list[float]]:
    """Method -> rank-1 of its seeds on the unseen worlds, percent."""
    table, shown = tables.table("table3"), {}
    column = table.columns[0]
    for method, place in SHOWN.items():
        results = [made.entries[key].result for key in made.rows.get(place, [])]
        values = [column.read(table.rows[0], result) for result in results if result is not None]
        if values:
            shown[method] = [value for value in values if value is not None]
    return shown
