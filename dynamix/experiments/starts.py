"""What runs start from: encoders pre-trained without labels on the single-camera images (`methods.moco`).

Made once per encoder and kept in the cache under a hash of everything it depends on; those of the mini
profile come with the package, so that its tables start from the same weights everywhere.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm

from dynamix import data, disk
from dynamix.config import Config, change, identity, profile
from dynamix.data.mannequins import worlds
from dynamix.methods import moco

SHIPPED = Path(__file__).parent / "weights"
VERSION = 1  # raised when the same settings give other weights


def key(config: Config) -> str:
    """Hash of what pre-training depends on: encoder, schedule, the images; not of the run that follows.

    Like `config.identity`, of what differs from the profile: a new option leaves old weights valid.
    """
    base, alone = profile(config.profile), _alone(config)
    settings = identity(dataclasses.replace(base, encoder=alone.encoder, moco=alone.moco))
    text = json.dumps([VERSION, settings, worlds.key("videos", config.mannequins)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(config: Config) -> str:
    """Of the file of weights."""
    return f"{config.profile}-{config.encoder.name}-{key(config)}.safetensors"


def existing(config: Config, cache: Path | None = None) -> Path | None:
    """The weights, where they are shipped or in the cache."""
    if (SHIPPED / name(config)).is_file():
        return SHIPPED / name(config)
    path = _cache(cache) / name(config)
    return path if path.is_file() else None


def make(
    config: Config,
    cache: Path | None = None,
    *,
    out: Path | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> Path:
    """The weights, pre-trained on the videos world now if there are none; goes on where it was stopped.

    `out` is a folder that gets a copy; `fresh` trains from nothing although they are there. Of processes that
    ask at once, one trains and the others wait. Raises ValueError for the profile "paper".
    """
    if config.profile == "paper":
        raise ValueError(
            'profile "paper" cannot start from the embedded benchmark: name a file of weights pre-trained on '
            "person images where it trains (dynamix train --weights FILE)"
        )
    if out is not None:
        disk.check_file(out / name(config))
    found = None if fresh else existing(config, cache)
    found = found or _by_one(config, cache, fresh, progress)
    if out is None:
        return found
    if (out / found.name).resolve() != found.resolve():
        _copy(found, out / found.name)
    return out / found.name


def _by_one(config: Config, cache: Path | None, fresh: bool, progress: bool) -> Path:
    folder, stem = _cache(cache), name(config).removesuffix(".safetensors")
    disk.check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with worlds.lock(folder / f".{stem}.lock") as alone:
        found = None if fresh else existing(config, cache)
        if found:  # another process was faster
            return found
        # Without locks every process trains in a folder of its own: slower, never broken.
        home = folder / (stem if alone else f"{stem}.{os.getpid()}")
        if fresh:
            shutil.rmtree(home, ignore_errors=True)
        return _trained(config, home, folder / name(config), progress)


def _trained(config: Config, home: Path, final: Path, progress: bool) -> Path:
    """Train in folder `home`, or go on there; then `final` appears at once and `home` is gone."""
    alone = _alone(config)
    videos = worlds.build(alone.mannequins, worlds=("videos",), progress=progress)["videos"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    records = moco.pretrain(alone, data.load("videos", videos), home, device=device)
    title = f"pre-training {alone.encoder.name}"
    bar = tqdm(total=alone.moco.epochs, desc=title, unit="epoch", disable=not progress)
    with bar, one_thread():
        for record in records:
            bar.update(record.epoch + 1 - bar.n)
            bar.set_postfix_str(f"loss {record.loss:.3f}", refresh=False)
    _copy(home / moco.WEIGHTS, final)
    shutil.rmtree(home)
    return final


def _copy(weights: Path, to: Path) -> None:
    with disk.replacing(to) as temporary:
        shutil.copyfile(weights, temporary)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """On one thread: the same bits on every number of cores, and times that compare."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _alone(config: Config) -> Config:
    """The settings of pre-training: the same for all runs that start from it, so that any of them goes on."""
    base = profile(config.profile)
    worlds_of = {name: getattr(base.mannequins, name) for name in worlds.NAMES if name != "videos"}
    mannequins = dataclasses.replace(config.mannequins, **worlds_of)
    alone = dataclasses.replace(base, encoder=config.encoder, moco=config.moco, mannequins=mannequins)
    return change(alone, seed=0, encoder__weights="", encoder__seed=0)


def _cache(cache: Path | None) -> Path:
    return (cache or disk.cache()) / "starts"
