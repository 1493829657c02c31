"""`load_pretrained`: published weights into an encoder, whatever their layout, and what of them matched."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynamix.encoders import layouts
from dynamix.encoders.positions import OVERLAPPING, Grid, resized, source_grid
from dynamix.encoders.recognize import saved_settings
from dynamix.encoders.weight_files import EMA, WeightFile, network_of, read

LISTED = 3  # names in an error
COUNTER = "num_batches_tracked"  # of batch normalization: how often it was called, no matter to features
_REMEDY = f"choose weights of {layouts.SUPPORTED}, or build the encoder that these are of"


class Misfit(ValueError):
    """Weights of another network than the encoder, of which `allow_partial` would take what fits."""


@dataclass(frozen=True)
class Report:
    """What `load_pretrained` found: names of the encoder's tensors, or (the last two) of the file's.

    `misfit` says why features are not those of the network that the weights are of; "" where they are.
    """

    path: Path
    family: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]  # left as they were
    resized: tuple[str, ...]
    grids: tuple[Grid, Grid] | None  # position embeddings: the file's patches, the encoder's
    shares: tuple[float, float]  # matched, of the encoder's tensors and of their elements
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]  # heads, queues, a second network: known not to belong to an encoder
    misfit: str

    @property
    def matched_share(self) -> float:
        """Of the encoder's tensors or of their elements, whichever is less."""
        return min(self.shares)

    def __str__(self) -> str:
        """A few lines for people."""
        total = len(self.matched) + len(self.missing)
        lines = [
            f"{self.path}: {self.family}",
            f"matched {len(self.matched)} of {total} tensors, {100 * self.shares[1]:.1f} % of the values",
        ]
        if self.resized and self.grids:
            lines.append(
                "position embeddings resized from {}x{} to {}x{} patches".format(*sum(self.grids, ()))
            )
        if self.misfit:
            lines.append(f"features are not those of these weights' own network: {self.misfit}")
        for word, names in (
            ("missing, left as they were", self.missing),
            ("unexpected", self.unexpected),
            ("left out", self.dropped),
        ):
            if names:
                lines.append(f"{word}: {_some(names, 6)}")
        return "\n".join(lines)


def load_pretrained(encoder: nn.Module, path: str | Path, allow_partial: bool = False) -> Report:
    """Fill the encoder's body, and its neck from our own files, with a file's weights; says what matched.

    Names and shapes tell the layout: TransReID-SSL, PASS, PersonViT, raw DINO, LUPerson, LUPerson-NL,
    torchvision, timm, ISR, fine-tuned models, runs of this package. What they do not show (attention heads,
    activations, strides) is taken to be the encoder's. Raises FileNotFoundError, OSError; ValueError where
    the file holds no weights; Misfit, a ValueError, where it lacks a tensor of the encoder or has layers that
    the encoder has not (what fits is accepted with `allow_partial`); ValueError always where nothing fits, or
    where a shape, the stem or the kind of network differs. The encoder is then as it was.
    """
    file = read(path)
    given, state = layouts.translated(file), encoder.state_dict()
    wanted = _wanted(state, neck=any(name.startswith("neck.") and name in given.tensors for name in state))
    _check_architecture(file, given, {name: state[full] for name, full in wanted.items()})
    found = {name: value for name, value in given.tensors.items() if name in wanted}
    report = _report(file, given, wanted, found, state)
    _check_report(report, allow_partial)
    place = wanted.get("pos_embed", "")
    if "pos_embed" in found and (grids := _grids(file, found["pos_embed"], state[place], encoder)):
        found["pos_embed"] = resized(found["pos_embed"], *grids)
        report = _resized(report, grids, place, own="config" in file.metadata)
        _check_report(report, allow_partial)
    for name, value in found.items():
        _check_shape(file.path, given.names[name], value, state[wanted[name]])
    with torch.no_grad():
        for name, value in found.items():
            state[wanted[name]].copy_(value)
    return report


def _wanted(state: dict[str, Tensor], neck: bool) -> dict[str, str]:
    """The tensors to fill, under the names that files have: {name: the encoder's name}."""
    parts = ("body.", "neck.") if neck else ("body.",)
    names = (name for name in state if name.startswith(parts) and not name.endswith(COUNTER))
    return network_of(names)[0]


def _check_architecture(file: WeightFile, given: layouts.Given, wanted: dict[str, Tensor]) -> None:
    theirs, ours = (layouts.architecture(layouts.shapes(each)) for each in (given.tensors, wanted))
    if theirs is None or ours is None:
        return
    differs = [f.name for f in fields(theirs) if getattr(theirs, f.name) != getattr(ours, f.name)]
    if differs == ["dim"]:
        return  # Swin's head is optional
    if differs:
        change = ", ".join(f"encoder.{name} = {json.dumps(getattr(theirs, name))}" for name in differs)
        raise ValueError(f"{file.path} holds {theirs}, the encoder is {ours}: set {change}")


def _grids(file: WeightFile, positions: Tensor, ours: Tensor, encoder: nn.Module) -> tuple[Grid, Grid] | None:
    """The file's grid of patches and the encoder's; None where shapes do not even allow the question."""
    if positions.ndim != 3 or positions.shape[2] != ours.shape[2]:
        return None
    body: Any = encoder.body
    rows, columns = body.patch_embed.grid_size
    count, saved = positions.shape[1] - 1, saved_settings(file)
    if saved is not None:
        source: Grid | None = (saved.image[0] // saved.patch, saved.image[1] // saved.patch)
    else:
        source = source_grid(count, (rows, columns))
    if source is None or math.prod(source) != count:
        raise ValueError(
            f"{file.path}: {file.names['pos_embed']} has shape {tuple(positions.shape)}, of no known grid of "
            f"patches, the encoder's has {tuple(ours.shape)}, {rows}x{columns}: "
            "only an encoder for the size of the file's images takes it (encoder.image)"
        )
    return source, (rows, columns)


def _check_shape(path: Path, name: str, value: Tensor, ours: Tensor) -> None:
    if value.shape != ours.shape:
        raise ValueError(
            f"{path}: {name} has shape {tuple(value.shape)}, the encoder's has {tuple(ours.shape)}: {_REMEDY}"
        )


def _report(
    file: WeightFile,
    given: layouts.Given,
    wanted: dict[str, str],
    found: dict[str, Tensor],
    state: dict[str, Tensor],
) -> Report:
    rest = [name for name in given.tensors if name not in wanted and not name.endswith(COUNTER)]
    heads = [name for name in rest if layouts.HEADS.match(name)]
    more = [name for name in rest if name not in heads]
    elements = sum(state[wanted[name]].numel() for name in found)
    return Report(
        path=file.path,
        family=_origin(file),
        matched=tuple(full for name, full in wanted.items() if name in found),
        missing=tuple(full for name, full in wanted.items() if name not in found),
        resized=(),
        grids=None,
        shares=(len(found) / len(wanted), elements / sum(state[full].numel() for full in wanted.values())),
        unexpected=tuple(given.names[name] for name in more),
        dropped=(*(given.names[name] for name in heads), *given.others, *file.others),
        misfit=_misfit(given, wanted, more),
    )


def _origin(file: WeightFile) -> str:
    """Where the weights come from, and which of two networks was taken."""
    if saved_settings(file) is not None:
        return "a run of this package"
    averages = [part for part in file.trail if EMA.search(part)]
    return layouts.family(file).words + "".join(f", its {part}" for part in averages[:1])


def _resized(report: Report, grids: tuple[Grid, Grid], name: str, own: bool) -> Report:
    """The report with what became of the position embeddings."""
    if grids[0] == grids[1]:
        return replace(report, grids=grids)
    overlap = not own and grids[0] in OVERLAPPING.values()
    why = "its patches overlap ({}x{} of them)".format(*grids[0]) if overlap else ""
    return replace(report, grids=grids, resized=(name,), misfit=report.misfit or why)


def _misfit(given: layouts.Given, wanted: dict[str, str], more: Sequence[str]) -> str:
    """How the file's network differs from the encoder, in words."""
    lacks = [wanted[name] for name in wanted if name not in given.tensors and not layouts.NEW.match(name)]
    has = [given.names[name] for name in more if not layouts.idle(name, given.tensors[name])]
    parts = [f"missing {_some(lacks)}" if lacks else "", f"it has {_some(has)} as well" if has else ""]
    return "; ".join(filter(None, [*parts, given.differs]))


def _check_report(report: Report, allow_partial: bool) -> None:
    """Refuse weights of another network: features would be neither its own nor any trained network's."""
    if report.matched and (allow_partial or not report.misfit):
        return
    kind = Misfit if report.matched else ValueError
    raise kind(
        f"{report.path} ({report.family}) fits {report.matched_share:.1%} of the encoder but is of another "
        f"network: {report.misfit}; {_REMEDY}"
    )


def _some(names: Sequence[str], most: int = LISTED) -> str:
    """A few names and how many more."""
    if not names:
        return "nothing"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
