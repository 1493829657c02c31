"""`dynamix demo | worlds | train | evaluate`: every command with `--help`, one-line errors, exit code 0
only on success."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass
class Demo:
    """Train on the embedded benchmark and show that noisy single-camera videos help, once relabeled."""

    profile: Literal["tiny", "mini", "gpu"] = "mini"
    """how large; tiny is too short to rank methods"""
    seeds: tuple[int, ...] = (0,)
    """training seeds; the table shows mean ± std"""
    out: Path = Path("figures/demo")
    """where tables and pictures go"""
    runs: Path = Path("runs")
    """where runs live; finished ones are read back, interrupted ones resume"""
    jobs: int | None = None
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

    def __call__(self) -> None:
        from dynamix.config import profile
        from dynamix.data.mannequins import worlds

        for root in worlds.write(
            profile(self.profile).mannequins, self.out, worlds=self.worlds or worlds.NAMES
        ).values():
            print(root)


@dataclass
class Train:
    """Train an encoder on multi-camera sources mixed with single-camera ones."""

    out: Path
    """the run's folder: checkpoint, log, config; a run that it holds is resumed"""
    profile: str = "mini"
    """tiny, mini, gpu or paper"""
    data: Path | None = None
    """folder holding the datasets; default: the embedded benchmark"""
    sources: Annotated[tuple[str, ...], tyro.conf.arg(help="multi-camera datasets")] = ("plaza",)
    single: Annotated[tuple[str, ...], tyro.conf.arg(help="single-camera datasets")] = ("videos",)
    seed: int = 0
    epochs: int | None = None
    """fewer or more epochs than the profile's"""
    set: tuple[str, ...] = ()
    """any setting of dynamix/config.py: --set rm.tau_merge=0.85 dsm.mode=random"""
    on_bad_image: Literal["error", "skip"] = "error"
    """skip: leave unreadable images out and say which"""

    def __call__(self) -> None:
        from dynamix import data, trainer
        from dynamix.config import change, override, profile
        from dynamix.experiments.run import roots_of

        config = change(profile(self.profile), seed=self.seed, on_bad_image=self.on_bad_image)
        config = config if self.epochs is None else change(config, epochs=self.epochs)
        config = override(config, self.set)
        if not self.single:
            config = change(config, batch__ids_single=0)
        roots = roots_of((*self.sources, *self.single), self.data, config)
        table = data.concat([data.load(name, roots[name], "train") for name in roots])
        print(table)
        trainer.show(trainer.train(config, table, self.out, progress=True), config)
        print(f"trained: {self.out} (evaluate it with `dynamix evaluate {self.out}`)")


@dataclass
class Evaluate:
    """Score a trained run on query and gallery images."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of a run, or its checkpoint file"""
    targets: tuple[str, ...] = ("station", "hall")
    """datasets with query and gallery"""
    data: Path | None = None
    """folder holding the datasets; default: the embedded benchmark"""

    def __call__(self) -> None:
        import torch

        from dynamix import checkpoint
        from dynamix.experiments.run import roots_of, score

        encoder, config = checkpoint.load_encoder(self.run)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        print(f"{'':16}  rank-1    mAP   mINP  queries")
        for name, root in roots_of(self.targets, self.data, config).items():
            s = score(encoder.to(device), config, root, name, device)
            print(f"{name:16}  {s.rank1:6.1%} {s.mAP:6.1%} {s.mINP:6.1%}  {s.valid_queries}")


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": Demo,
    "worlds": Worlds,
    "train": Train,
    "evaluate": Evaluate,
}


def main() -> None:
    """Entry point. Errors are one line; `--debug` anywhere shows the traceback."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="dynamix",
        description="DynaMix, reproduced. Add --debug to see an error's traceback.",
        args=arguments,
    )
    try:
        command()
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"dynamix: {error}")
    except KeyboardInterrupt:
        sys.exit("dynamix: interrupted; run the same command again to go on")
