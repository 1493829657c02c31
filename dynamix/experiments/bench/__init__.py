"""`dynamix bench`: what this machine can do, and what the paper's training would take on it.

made.py      features, tables and JPEG files to measure on
measure.py   rates and seconds, on sizes that take about a minute
model.py     the epoch at the paper's size, scaled from them, on one and on several ranks
lines.py     the text
count.py     operations and bytes: costs that come out the same twice
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dynamix import disk
from dynamix.config import Config
from dynamix.experiments.bench import lines, measure, model
from dynamix.experiments.bench.measure import Machine
from dynamix.experiments.bench.model import Forecast
from dynamix.experiments.records import provenance, write
from dynamix.plots import scale, style


def bench(
    config: Config,
    *,
    ranks: Sequence[int] = (1, 8),
    link: float | int = 12.5,
    quick: bool = False,
    keep: Path | None = None,
    picture: Path | None = None,
    progress: bool = True,
) -> Iterator[str]:
    """Measure this machine and forecast `config` on the paper's data: lines of text; `link` in GB/s.

    Raises:
        ValueError: ranks that cannot share a batch, a link without speed, a picture that is no .png.
        OSError: a file that cannot be written.
    """
    if not ranks:
        raise ValueError("--ranks is empty: name how many processes, as --ranks 1 8")
    for count in ranks:
        model.check_ranks(count, config)
    if not 0 < link < math.inf:
        raise ValueError(
            f"--link is the rate between ranks in GB/s and must be positive and finite, got {link:g}"
        )
    if picture is not None and picture.suffix != ".png":
        raise ValueError(f"--figure {picture}: figures are saved as .png, name it {picture.stem}.png")
    for file in (keep, picture):
        if file is not None:
            disk.check_file(file)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = measure.QUICK if quick else measure.GPU if device == "cuda" else measure.FULL
    about: dict[str, Any] = provenance() | {"threads": torch.get_num_threads(), "device_type": device}
    yield f"{about['device']}, {about['threads']} threads, torch {about['torch']}, commit {about['commit']}"
    if quick:
        yield "quick: sizes of a test; do not quote these figures"
    yield ""
    found = measure.machine(config, sizes, progress=progress)
    if found.cost.busy:
        yield found.cost.busy
    forecasts = [model.forecast(found, config, n, link=link * 1e9, device=device) for n in ranks]
    measured = list(lines.rates(found, config, sizes))
    yield from (f"{what:<30}{value:>20}   {how}" for what, value, how in measured)
    yield ""
    yield from lines.epoch(found, config, forecasts, link, device)
    if keep is not None:
        asked = {"quick": quick, "link": link, "provenance": about}
        write(keep, as_json(found, config, forecasts, measured) | asked)
        yield f"kept: {keep}"
    if picture is not None:
        bars = {
            f"{each.ranks} rank{'s' if each.ranks > 1 else ''}": {
                name: each.seconds[part] for part, name in lines.NAMES.items()
            }
            for each in forecasts
        }
        title = f"Where the time of an epoch goes: profile {config.profile} on {about['device']}"
        yield f"look: {style.save(scale.epoch_bars(bars, title=title), picture)}"


def as_json(
    found: Machine, config: Config, forecasts: Sequence[Forecast], measured: Sequence[lines.Line]
) -> dict[str, Any]:
    """Everything printed, as plain numbers and text."""
    return {
        "profile": config.profile,
        "machine": asdict(found),
        "lines": [dict(zip(("what", "value", "how"), line, strict=True)) for line in measured],
        "forecasts": [asdict(each) | {"epoch": each.epoch, "refresh": each.refresh} for each in forecasts],
        "refresh_bytes": model.refresh_memory(found, config),
        "paper_refresh": model.paper_refresh(config.ecm.K),
    }
