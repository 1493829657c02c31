"""`load_pretrained`: published weights into an encoder, whatever their layout, and what of them matched."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynamix.encoders import layouts
from dynamix.encoders.positions import Grid, resized, source_grid
from dynamix.encoders.recognize import saved_settings
from dynamix.encoders.weight_files import WeightFile, network_of, read

ENOUGH = 0.9  # share of the encoder's weights that a file must hold
LISTED = 3  # names in an error


@dataclass(frozen=True)
class Report:
    """What `load_pretrained` found: names of the encoder's tensors, or (the last two) of the file's."""

    path: Path
    family: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]  # left as they were
    resized: tuple[str, ...]
    grids: tuple[Grid, Grid] | None  # position embeddings: the file's patches, the encoder's
    shares: tuple[float, float]  # matched, of the encoder's tensors and of their elements
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]  # heads, queues, a second network: known not to belong to an encoder

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
        for word, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("left out", self.dropped),
        ):
            if names:
                lines.append(f"{word}: {_some(names, 6)}")
        return "\n".join(lines)


def load_pretrained(encoder: nn.Module, path: str | Path, allow_partial: bool = False) -> Report:
    """Fill the encoder's body, and its neck from our own files, with a file's weights; says what matched.

    Names and shapes tell the layout: TransReID-SSL, PASS, PersonViT, raw DINO, LUPerson, LUPerson-NL,
    torchvision, timm, ISR, fine-tuned models, runs of this package. Raises FileNotFoundError; ValueError
    where the file is unreadable, where it fits less than 90 % of the encoder's tensors or of their elements
    or is of a larger network (both accepted with `allow_partial`), and always where a shape, the stem or
    the kind of network differs. The encoder is then as it was.
    """
    file = read(path)
    given, state = layouts.translated(file), encoder.state_dict()
    wanted = _wanted(state, neck=any(name.startswith("neck.") for name in given.tensors))
    _check_architecture(file, given, {name: state[full] for name, full in wanted.items()})
    found = {name: value for name, value in given.tensors.items() if name in wanted}
    grids = None
    if "pos_embed" in found:
        grids = _grids(file, found["pos_embed"], state[wanted["pos_embed"]], encoder)
    if grids:
        found["pos_embed"] = resized(found["pos_embed"], *grids)
    for name, value in found.items():
        _check_shape(file.path, given.names[name], value, state[wanted[name]])
    report = _report(file, given, wanted, found, grids, state)
    _check_report(report, given, set(wanted), allow_partial)
    with torch.no_grad():
        for name, value in found.items():
            state[wanted[name]].copy_(value)
    return report


def _wanted(state: dict[str, Tensor], neck: bool) -> dict[str, str]:
    """The tensors to fill, under the names that files have: {name: the encoder's name}."""
    parts = ("body.", "neck.") if neck else ("body.",)
    names = (name for name in state if name.startswith(parts) and not name.endswith("num_batches_tracked"))
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
            "set encoder.image to the size of the file's images"
        )
    return source, (rows, columns)


def _check_shape(path: Path, name: str, value: Tensor, ours: Tensor) -> None:
    if value.shape != ours.shape:
        raise ValueError(
            f"{path}: {name} has shape {tuple(value.shape)}, the encoder's has {tuple(ours.shape)}: "
            "build the encoder that these weights are of"
        )


def _report(
    file: WeightFile,
    given: layouts.Given,
    wanted: dict[str, str],
    found: dict[str, Tensor],
    grids: tuple[Grid, Grid] | None,
    state: dict[str, Tensor],
) -> Report:
    rest = [name for name in given.tensors if name not in wanted]
    heads = [name for name in rest if layouts.HEADS.match(name)]
    elements = sum(state[wanted[name]].numel() for name in found)
    return Report(
        path=file.path,
        family=layouts.family(file).words,
        matched=tuple(full for name, full in wanted.items() if name in found),
        missing=tuple(full for name, full in wanted.items() if name not in found),
        resized=(wanted["pos_embed"],) if grids and grids[0] != grids[1] else (),
        grids=grids,
        shares=(len(found) / len(wanted), elements / sum(state[full].numel() for full in wanted.values())),
        unexpected=tuple(given.names[name] for name in rest if name not in heads),
        dropped=(*(given.names[name] for name in heads), *file.others),
    )


def _check_report(report: Report, given: layouts.Given, wanted: set[str], allow_partial: bool) -> None:
    """Refuse weights that fit too little of the encoder, and those of a network that does more than it."""
    if not report.matched or (report.matched_share < ENOUGH and not allow_partial):
        raise ValueError(
            f"{report.path} ({report.family}) fits {report.matched_share:.1%} of the encoder, at least "
            f"{ENOUGH:.0%} are needed: missing {_some(report.missing)}; "
            f"unexpected {_some(report.unexpected)}; "
            "build the encoder that these weights are of, or accept a part of them (--allow-partial)"
        )
    tops = {name.split(".")[0] for name in wanted}
    unexpected = set(report.unexpected)
    more = [full for name, full in given.names.items() if full in unexpected and name.split(".")[0] in tops]
    extra = sum(given.tensors[name].numel() for name, full in given.names.items() if full in unexpected)
    kept = sum(given.tensors[name].numel() for name in wanted & given.tensors.keys())
    if (more or given.differs or extra > (1 - ENOUGH) * kept) and not allow_partial:
        why = given.differs or f"it has {_some(more or report.unexpected)} as well"
        raise ValueError(
            f"{report.path} ({report.family}) fits the encoder but is of another network: {why}; "
            "build the encoder that these weights are of, or start from them all the same (--allow-partial)"
        )


def _some(names: Sequence[str], most: int = LISTED) -> str:
    """A few names and how many more."""
    if not names:
        return "nothing"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
