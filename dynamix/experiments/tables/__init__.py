"""Every table of DynaMix and ReMix as data: `table("table3")`, `row(table, "+ RM")`, `changes_of(...)`.

A row's changes are `config.change`'s, `section__field=value`, and five whose meaning depends on the profile:

queue             (epochs, share of the live PIDs): the queue's length in the unit that the profile counts in
iterations_times  factor on the profile's iterations
height_times      factor on the height of the profile's image, and of the worlds drawn for it
neighbors         (on real data, on Mannequins): k1 of the k-reciprocal Jaccard distance
recipe            "remix": that paper's optimizer, in the paper profile; the others have one for all
"""

from collections.abc import Callable
from typing import Any

from dynamix.config import Config, profile
from dynamix.experiments.tables import (
    dynamix,
    dynamix_comparisons,
    dynamix_relabeling,
    mistakes,
    regimes,
    remix,
    remix_comparisons,
    remix_settings,
)
from dynamix.experiments.tables.kinds import PaperTable, Row
from dynamix.experiments.tables.roles import encoder_changes

_MADE: tuple[PaperTable, ...] = (
    dynamix_comparisons.table1(),
    dynamix_comparisons.table2a(),
    dynamix_comparisons.table2b(),
    dynamix.table3(),
    dynamix_relabeling.table4(),
    dynamix.table5(),
    dynamix_comparisons.table6(),
    dynamix.table7(),
    dynamix.table8(),
    dynamix.table9(),
    dynamix_relabeling.table10(),
    dynamix.table11(),
    dynamix.table12(),
    dynamix_comparisons.retrieval(),
    remix_comparisons.table1(),
    remix_settings.table2a(),
    remix_settings.table2b(),
    remix_settings.table2c(),
    remix_settings.table3(),
    remix.table4(),
    remix.table5(),
    remix_comparisons.table6a(),
    remix_comparisons.table6b(),
    remix_comparisons.table6c(),
    remix_comparisons.table7(),
    remix.table8(),
    remix_settings.table9a(),
    remix_settings.table9b(),
    remix_settings.table10a(),
    remix_settings.table10b(),
    remix.table11(),
    remix.table12(),
    remix_comparisons.table13(),
    remix_comparisons.table14(),
    mistakes.mistakes(),
    regimes.regimes(),
)
TABLES: dict[str, PaperTable] = {each.name: each for each in _MADE}


def table(name: str) -> PaperTable:
    """The table called `name`; raises ValueError listing those that exist."""
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; there are {', '.join(TABLES)}")
    return TABLES[name]


def row(of: PaperTable, name: str) -> Row:
    """The row of a table called `name`; raises ValueError listing those that exist."""
    for each in of.rows:
        if each.name == name:
            return each
    there = ", ".join(repr(each.name) for each in of.rows)
    raise ValueError(f"unknown row {name!r} of {of.name}; there are {there}")


def changes_of(of: PaperTable, row: Row, profile_name: str) -> dict[str, Any]:
    """What `config.change` makes the row's config of a profile with: its encoder's, the table's, its own.

    Later ones win. A row that is only printed has none.
    """
    if row.kind == "printed":
        return {}
    base = profile(profile_name)
    found: dict[str, Any] = {}
    for key, wanted in {**encoder_changes(profile_name, row.encoder), **of.base, **row.changes}.items():
        found |= _BY_PROFILE[key](base, wanted) if key in _BY_PROFILE else {key: wanted}
    return found


def _queue(base: Config, length: tuple[float, float]) -> dict[str, Any]:
    epochs, share = length
    return (
        {"dsm__queue_epochs": epochs} if base.dsm.queue_fraction is None else {"dsm__queue_fraction": share}
    )


def _iterations(base: Config, factor: float) -> dict[str, Any]:
    return {"iterations": max(1, round(base.iterations * factor))}


def _height(base: Config, factor: float) -> dict[str, Any]:
    height, width = base.encoder.image
    image = (round(height * factor), width)
    drawn = base.mannequins.image == base.encoder.image  # the paper profile reads real images, of any size
    return {"encoder__image": image} | ({"mannequins__image": image} if drawn else {})


def _neighbors(base: Config, counts: tuple[int, int]) -> dict[str, Any]:
    return {"remix__k1": counts[base.profile != "paper"]}


def _recipe(base: Config, name: str) -> dict[str, Any]:
    return dict(_RECIPES.get((base.profile, name), {}))


_RECIPES = {
    ("paper", "remix"): {"opt__name": "adam", "opt__lr": 3.5e-4, "opt__weight_decay": 5e-4},
}
_BY_PROFILE: dict[str, Callable[[Config, Any], dict[str, Any]]] = {
    "queue": _queue,
    "iterations_times": _iterations,
    "height_times": _height,
    "neighbors": _neighbors,
    "recipe": _recipe,
}
