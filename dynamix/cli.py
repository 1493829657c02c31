"""`dynamix demo | worlds | check | train | reproduce | report | evaluate | search | ...`: the commands.

Every command has `--help`, one-line errors, and exit code 0 only on success.
"""

import io
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from dynamix import disk

if TYPE_CHECKING:
    from dynamix.experiments.job import Job


@dataclass(frozen=True)
class AtLeast:
    """The least number that an option takes, noted in its type."""

    least: int

    def check(self, option: str, value: Any) -> None:
        """Raise ValueError unless `value`, or each of several, is as large; None is no number given."""
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and each < self.least:
                raise ValueError(f"{option} must be at least {self.least}, got {each}")


@dataclass
class Demo:
    """Train on the embedded benchmark and show that noisy single-camera videos help, once relabeled."""

    profile: Literal["tiny", "mini", "gpu"] = "mini"
    """how large; tiny is too short to rank methods"""
    seeds: Annotated[tuple[int, ...], AtLeast(0)] = (0,)
    """training seeds; the table shows mean ± std"""
    out: Path = Path("figures/demo")
    """where tables and pictures go"""
    runs: Path = Path("runs")
    """where runs live; finished ones are read back, interrupted ones resume"""
    jobs: Annotated[int | None, AtLeast(1)] = None
    """runs at a time; default: one per core"""
    record: Path | None = None
    """keep the results in this file as well"""

    def __call__(self) -> None:
        from dynamix.experiments.demo import demo

        demo(self.profile, self.seeds, out=self.out, runs=self.runs, jobs=self.jobs, record=self.record)


@dataclass
class Worlds:
    """Write the Mannequins worlds to a folder, in the layouts of real datasets."""

    out: Path
    """folder to write plaza/, campus/, hall/, station/, studio/ and videos/ into"""
    profile: str = "mini"
    """sizes: tiny, mini or gpu"""
    worlds: tuple[str, ...] = ()
    """only these; default: all six"""
    layout: Literal["market", "native"] = "market"
    """native: each world as the dataset it stands in for (campus as DukeMTMC-reID, station as MSMT17, ...)"""

    def __call__(self) -> None:
        from dynamix.config import profile
        from dynamix.data.mannequins import worlds

        names = self.worlds or worlds.NAMES
        settings = profile(self.profile).mannequins
        for root in worlds.write(settings, self.out, worlds=names, layout=self.layout).values():
            print(root)


@dataclass
class Check:
    """Say which datasets a folder holds, their counts beside the published ones, and what is wrong with them.

    Exit code 1 when something is: a damaged, misnamed or duplicated image, a split that cannot be read or
    scored, no dataset at all, or an incomplete copy. A split with at least half of its published images but
    not all is incomplete; with fewer it is taken as a chosen subset.
    """

    root: Annotated[Path, tyro.conf.Positional]
    """folder holding the datasets, or one dataset's own"""
    deep: bool = False
    """decode every image as well; else files are judged by their ends and compared by content"""
    json: bool = False
    """print JSON instead of the table: complete lists, for scripts"""
    only: tuple[str, ...] = ()
    """only these datasets, which must then be there"""

    def __call__(self) -> None:
        from dynamix.data.check import check

        report = check(self.root, deep=self.deep, names=self.only or None)
        if self.json:
            from json import dumps

            print(dumps(report.as_dict(), indent=1))
        else:
            print("\n".join(report.lines()))
        if report.wrong:
            sys.exit(1)


@dataclass
class Train:
    """Train an encoder on multi-camera datasets mixed with single-camera ones, then score it.

    On several GPUs or machines: torchrun --nproc-per-node N -m dynamix train ...
    A dataset is written NAME or NAME:SPLIT, several with commas or spaces: --sources market1501 msmt17:all.
    """

    out: Path | None = None
    """the run's folder: checkpoint, log, config, result; one that it holds is resumed (default: runs/NAME)"""
    profile: str = "mini"
    """tiny, mini, gpu or paper"""
    data: Path | None = None
    """folder holding the datasets; default: the embedded benchmark"""
    sources: tuple[str, ...] | None = None
    """multi-camera datasets; None: plaza, or the protocol's"""
    single: tuple[str, ...] | None = None
    """single-camera datasets, none if empty; None: videos, or the protocol's"""
    targets: tuple[str, ...] | None = None
    """datasets to score on at the end; None: the protocol's"""
    protocol: str | None = None
    """a protocol of the papers, as cross-msmt17-merged or leave-out-market1501; `list` shows all"""
    weights: Path | None = None
    """pretrained weights to start from; the encoder is built as they need it"""
    allow_partial: bool = False
    """accept weights of another network, as far as they fit the encoder"""
    plan: bool = False
    """only say what would be trained: data, steps, memory, time on this machine"""
    seed: Annotated[int, AtLeast(0)] = 0
    epochs: Annotated[int | None, AtLeast(1)] = None
    """fewer or more epochs than the profile's"""
    set: tuple[str, ...] = ()
    """any setting of dynamix/config.py: --set rm.tau_merge=0.85 dsm.mode=random"""
    on_bad_image: Literal["error", "skip"] = "error"
    """skip: leave unusable images out and say which"""

    def __call__(self) -> None:
        from dynamix.experiments import job as jobs
        from dynamix.experiments import protocols
        from dynamix.experiments.plan import plan

        if self.protocol == "list":
            print("\n".join(f"{name:22} {each.about}" for name, each in protocols.PROTOCOLS.items()))
            return
        job = self.job()
        if self.plan:
            print("\n".join(plan(job)))
            return
        out = self.out or Path("runs") / job.name
        if jobs.train(job, out):  # of several processes the first
            print(f"trained: {out} (evaluate it with `dynamix evaluate {out}`)")

    def job(self) -> "Job":
        """What the options ask for."""
        from dynamix import encoders
        from dynamix.config import change, override, profile
        from dynamix.experiments.datasets import parts
        from dynamix.experiments.job import Job
        from dynamix.experiments.protocols import MANNEQUINS, protocol

        config = change(profile(self.profile), seed=self.seed, on_bad_image=self.on_bad_image)
        config = config if self.epochs is None else change(config, epochs=self.epochs)
        # What is given beside a protocol replaces that part of it.
        asked = MANNEQUINS if self.protocol is None else protocol(self.protocol)
        sources = asked.sources if self.sources is None else self.sources
        single = asked.single if self.single is None else self.single
        targets = asked.targets if self.targets is None else self.targets
        if self.weights is not None:
            config = change(config, encoder=encoders.encoder_config(self.weights, config.encoder))
            config = change(config, encoder__weights=encoders.fingerprint(self.weights))
        if not parts(single):
            config = change(config, batch__ids_single=0)
        config = override(config, self.set)
        return Job(
            config=config, sources=parts(sources), single=parts(single), targets=parts(targets, tested=True),
            folder=self.data, weights=self.weights, allow_partial=self.allow_partial,
            protocol=self.protocol or "",
        )  # fmt: skip


@dataclass
class Pretrain:
    """Train an encoder without labels (MoCo v2) on the videos world: what the tables' runs start from."""

    profile: str = "mini"
    """tiny, mini or gpu"""
    encoder: Literal["profile", "cnn", "plain", "vit", "small", "base"] = "profile"
    """which of the tables' encoders: the profile's own, or what stands for ResNet50-IBN, ResNet50, a ViT"""
    out: Path | None = None
    """copy the weights into this folder as well; default: they stay in the cache"""
    fresh: bool = False
    """train even where the weights are there already, to compare"""

    def __call__(self) -> None:
        from dynamix.config import change, profile
        from dynamix.experiments import starts
        from dynamix.experiments.tables.roles import encoder_changes

        config = change(profile(self.profile), **encoder_changes(self.profile, self.encoder))
        print(starts.make(config, out=self.out, fresh=self.fresh))


@dataclass
class Reproduce:
    """The papers' tables and figures: run what is missing, write each beside the printed numbers.

    Finished runs are kept as small files in figures/results/runs and shared between tables; a command that
    is interrupted goes on where it was when it is given again.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """all, or tables and figures: table3, remix.table4, figure4, ..."""
    profile: str = "mini"
    """mini or gpu: the embedded benchmark; paper: the real datasets (--data); tiny: a smoke test"""
    seeds: Annotated[int, AtLeast(1)] = 1
    """how many seeds: 3 shows mean ± std; `all` asks one of ReMix's further tables (by name: this many)"""
    rows: tuple[str, ...] = ()
    """only these rows"""
    plan: bool = False
    """only say what would run, and how long it would take"""
    data: Path | None = None
    """folder holding the real datasets, for the paper profile"""
    weights: tuple[Path, ...] = ()
    """paper profile: files of weights pre-trained on person images; each serves the rows with its encoder"""
    imagenet: tuple[Path, ...] = ()
    """paper profile: ImageNet weights, for the rows without such pre-training"""
    runs: Path = Path("runs")
    """where runs live while they train"""
    jobs: Annotated[int | None, AtLeast(1)] = None
    """runs at a time; default: one per core, or several on a GPU"""
    set: tuple[str, ...] = ()
    """how images are read: workers=16, memory_gb=32.0"""
    on_bad_image: Literal["error", "skip"] = "error"
    """skip: leave unusable images out and say which"""

    def __call__(self) -> None:
        from dynamix.experiments.reproduce import Request, reproduce

        request = Request(
            names=self.names, profile=self.profile, seeds=self.seeds, rows=self.rows, folder=self.data,
            weights=self.weights, imagenet=self.imagenet, runs=self.runs, jobs=self.jobs,
            reading=(f"on_bad_image={self.on_bad_image}", *self.set),
        )  # fmt: skip
        reproduce(request, plan=self.plan)


@dataclass
class Report:
    """One self-contained HTML page with every table and figure that has been reproduced."""

    profile: str = "mini"
    """whose results"""
    out: Path = Path("figures/report.html")
    """where the page goes"""
    data: Path | None = None
    """folder holding the real datasets, for the paper profile"""
    weights: tuple[Path, ...] = ()
    """the weights that its runs started from"""
    imagenet: tuple[Path, ...] = ()
    """and those of its runs without pre-training"""

    def __call__(self) -> None:
        from dynamix.experiments.everything import report_page
        from dynamix.experiments.reproduce import Request

        request = Request(
            names=(), profile=self.profile, folder=self.data, weights=self.weights, imagenet=self.imagenet
        )
        print(f"look: {report_page(request, self.out)}")


@dataclass
class Evaluate:
    """Score a trained run, or a file of pretrained weights, on query and gallery images."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of a run, its checkpoint file, or a file of pretrained weights (.pth, .safetensors)"""
    targets: tuple[str, ...] = ("station", "hall")
    """datasets with query and gallery"""
    data: Path | None = None
    """folder holding the datasets; default: the embedded benchmark"""
    on_bad_image: Literal["error", "skip"] = "error"
    """skip: leave unusable images out and say how many"""
    json: Path | None = None
    """keep the scores in this file as well"""

    def __call__(self) -> None:
        from dynamix.experiments import job as jobs
        from dynamix.experiments.datasets import parts

        targets = parts(self.targets, tested=True)
        if not targets:
            raise ValueError("nothing to score on: name datasets with --targets")
        jobs.evaluate(self.run, targets, self.data, on_bad_image=self.on_bad_image, keep=self.json)
        if self.json is not None:
            print(f"kept: {self.json}")


@dataclass
class Search:
    """Rank a folder of person crops by similarity to query images, with a trained encoder.

    Images are of any format that Pillow reads and stand upright, as EXIF says; other files are left out, and
    counted.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """folder of a run, its checkpoint file, or a file of pretrained weights (.pth, .safetensors)"""
    gallery: Path | None = None
    """folder of person crops, subfolders included; default: the embedded benchmark's station world"""
    query: tuple[Path, ...] = ()
    """images, or folders of images; default: five of station's queries"""
    top: int = 10
    """results per query"""
    out: Path = Path("runs/search")
    """folder that ranking.png and ranking.csv go into"""
    index: Path | None = None
    """folder that keeps the gallery's features; used again while its images stay the same"""
    sheets: int = 10
    """pictures at most; ranking.csv holds every query"""
    on_bad_image: Literal["error", "skip"] = "error"
    """skip: leave unreadable images of the gallery out and say how many"""

    def __call__(self) -> None:
        import torch

        from dynamix import checkpoint, retrieval
        from dynamix.plots.search import save_sheets

        if (self.gallery is None) != (not self.query):
            raise ValueError("give both --gallery FOLDER and --query IMAGE ..., or neither for the example")
        if self.top < 1 or self.sheets < 0:
            raise ValueError(
                f"--top must be at least 1 and --sheets at least 0, got {self.top} and {self.sheets}"
            )
        out = _folder(self.out, "--out")
        if self.index is not None and not retrieval.is_kept(self.index):
            _folder(self.index, "--index")
        queries = retrieval.query_images(self.query)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        encoder, config = checkpoint.load_encoder(self.run, say=print)
        encoder, pids = encoder.to(device), None
        if self.gallery is None:
            folder, queries, pids = retrieval.example(config)
        else:
            folder = self.gallery
        gallery, how = retrieval.open_gallery(
            encoder, config, folder, self.index, progress=True, on_bad_image=self.on_bad_image
        )
        left = f", {len(gallery.skipped):,} unreadable left out" if len(gallery.skipped) else ""
        print(retrieval.shown(f"gallery: {len(gallery):,} images below {folder}{left}, {how}"))
        if gallery.listing.others:
            print(gallery.listing.left_out())
        top = min(self.top, len(gallery))
        ranking = retrieval.rank(gallery, encoder, config, queries, top, device=device)
        table = ranking.write(out / "ranking.csv")
        pictures = save_sheets(ranking, config, out, pids, most=self.sheets)
        lines = [*ranking.lines(), *(f"look: {path}" for path in pictures), f"all results: {table}"]
        print("\n".join(map(retrieval.shown, lines)))


@dataclass
class Export:
    """Write a trained encoder for use elsewhere: ONNX, and weights for timm; each is checked."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of a run, its checkpoint file, or a file of pretrained weights (.pth, .safetensors)"""
    out: Path
    """folder to write encoder.onnx, model.safetensors and config.json into"""
    formats: tuple[Literal["onnx", "timm"], ...] = ("onnx", "timm")
    """onnx: images in [0, 1] to unit features; timm: normalized images to features"""

    def __call__(self) -> None:
        from dynamix import checkpoint, export

        if not self.formats:
            raise ValueError("nothing to write: name onnx, timm or both with --formats")
        folder = export.check(_folder(self.out, "--out"), self.formats)
        encoder, config = checkpoint.load_encoder(self.run, say=print)
        for exported in export.export(encoder, config, folder, self.formats):
            print(exported)


@dataclass
class Bench:
    """Measure this machine, and say what the paper's training would take on it and on several like it.

    Takes about a minute on two cores; every line says whether it was measured, scaled or assumed.
    """

    profile: str = "paper"
    """whose encoder and schedule: tiny, mini, gpu or paper; the data are the paper's"""
    ranks: tuple[int, ...] = (1, 8)
    """how many machines (or GPUs) like this one to forecast for"""
    link: float = 12.5
    """GB/s between them: 12.5 is a network of 100 Gbit/s"""
    json: Path | None = None
    """keep everything in this file as well"""
    figure: Path | None = None
    """draw where the time of an epoch goes, as .png"""
    quick: bool = False
    """seconds instead of a minute, on sizes too small to quote"""

    def __call__(self) -> None:
        from dynamix.config import profile
        from dynamix.experiments.bench import bench

        config = profile(self.profile)
        for line in bench(
            config, ranks=self.ranks, link=self.link, quick=self.quick, keep=self.json, picture=self.figure
        ):
            print(line, flush=True)


# Endings that name a file where a folder is asked for; a folder may have any other, as runs/v1.2.
FILES = frozenset(".bin .csv .faiss .html .jpg .json .onnx .pdf .png .pt .pth .safetensors .txt".split())


def _folder(path: Path, option: str) -> Path:
    """The folder that `option` names, `~` expanded. Raises ValueError or OSError where there can be none."""
    folder = Path(os.path.expanduser(path))
    if folder.is_file() or (folder.suffix.lower() in FILES and not folder.is_dir()):
        raise ValueError(f"{folder} is a file, or named like one: name a folder with {option}")
    disk.check_folder(folder)
    return folder


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": Demo,
    "worlds": Worlds,
    "check": Check,
    "train": Train,
    "pretrain": Pretrain,
    "reproduce": Reproduce,
    "report": Report,
    "evaluate": Evaluate,
    "search": Search,
    "export": Export,
    "bench": Bench,
}


def _say(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, without the place in the code that it comes from."""
    print(f"dynamix: {message}", file=sys.stderr)


def _prepared(command: Any) -> Any:
    """The parsed command: its numbers in their ranges, `~` in its paths as the shell would have it.

    The shell itself leaves the one of --data=~/datasets as it is.
    """
    for option, hint in get_type_hints(type(command), include_extras=True).items():
        value = getattr(command, option)
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, AtLeast):
                note.check(f"--{option.replace('_', '-')}", value)
        setattr(command, option, _at_home(value))
    return command


def _at_home(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_at_home, value))
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


def main() -> None:
    """Entry point. Errors are one line; `--debug` anywhere shows the traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the console has no letters for is replaced
            stream.reconfigure(errors="replace")
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="dynamix",
        description="DynaMix, reproduced. Add --debug to see an error's traceback.",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say
            _prepared(command)()
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        if "--debug" in sys.argv:
            raise
        said = disk.explained(error) if isinstance(error, OSError) else str(error)
        sys.exit(f"dynamix: {' '.join(said.splitlines())}")
    except KeyboardInterrupt:
        sys.exit("dynamix: interrupted; run the same command again to go on")
