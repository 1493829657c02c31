"""The numbers that `conclusions` quotes in "What reproduces, what does not"."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynamix.experiments import causes, regimes, tables
from dynamix.experiments.causes import signed, spread
from dynamix.experiments.claims import CLAIMS
from dynamix.experiments.ledger import Ledger, ledger
from dynamix.experiments.paired import by_seed, differences
from dynamix.experiments.report import agreement
from dynamix.experiments.reproduce import found_of
from dynamix.experiments.tables.kinds import Result
from dynamix.experiments.tables.shared import LEFT_OUT_COLUMN

# As the README speaks of them -> row of a table.
LADDER = {
    "labeled alone": "multi-camera only",
    "labeled alone, same batch size": "multi-camera only, same batch size",
    "given labels, CNN": "ReMix, given labels",
    "given labels, transformer": "+ ViT",
    "raw labels": "profile encoder: naive centroids",
    "Efficient Centroids": "profile encoder: + ECM",
    "Data Sampling": "profile encoder: + DSM",
    "Relabeling": "profile encoder: + RM",
    "Data Sampling, transformer": "+ DSM",
    "Relabeling, transformer": "+ RM",
    "true identities": "true identities",
}
RELABELED = {
    "global scope": "global scope",
    "stricter thresholds": ".65/.65/.8",
    "calibrated thresholds": "calibrated",
}
STAGED = {
    f"{name} {value}": f"tau_{name}={value} video"
    for name, values in (
        ("rel", (".5", ".6", ".7")),
        ("remove", (".3", ".4", ".5")),
        ("merge", (".7", ".8", ".9")),
    )
    for value in values
}
DRAWN = {  # another drawing of people and cameras
    "another drawing, labeled alone": "as in the tables: labeled alone",
    "another drawing, raw labels": "as in the tables: naive centroids",
    "another drawing, Relabeling": "as in the tables: + RM",
    "cameras that stand still, raw labels": "cameras that stand still: naive centroids",
    "cameras that stand still, Relabeling": "cameras that stand still: + RM",
}
MENDED = {  # on the other drawing; its row of raw labels stands above
    f"another drawing, {row}": row
    for row in (
        "junk left out", "people under one label each", "true identities", "RM", "RM, merging at .7",
        "RM, junk left out", "ReMix's clusters",
    )
}  # fmt: skip
BATCHES = {f"a batch of {name}": name for n in (32, 128, 256) for name in (f"{n}", f"{n}, same images seen")}
ADDED = ("w/o single-camera data", "+ in L_aug", "+ in L_ins", "+ in L_cen only as centroids", "+ in L_cen")
QUOTED: Mapping[str, Mapping[str, str]] = {
    "table3": LADDER,
    "table4": RELABELED,
    "table8": {f"{mode} pairs": mode for mode in ("random", "hard", "soft", "mean")},
    "table5": {f"K = {k}": f"K={k}" for k in (2, 4, 8)},
    "table7": {f"alpha = {a}": f"alpha={a}" for a in (".2", ".4", ".5", ".7")},
    "table9": {f"a queue of {n}": f"queue={n}" for n in (0, 1, 10, 20, 40)},
    "table10": STAGED,
    "table12": BATCHES,
    "regimes": DRAWN,
    "mistakes": MENDED,
    "remix.table5": {f"ReMix Table 5, {row}": row for row in ADDED},
    "remix.table4": {"ReMix on both worlds": "both", "ReMix, true identities": "true identities"},
}
# Further ones, under a column of their own: name -> table, row, column.
MARKET = "Market-1501 / station, mAP"
LEFT_OUT = {"CUHK03-NP": "hall", "Market-1501": "plaza", "DukeMTMC-reID": "campus", "MSMT17": "station"}
VIDEOS_IN = {  # ReMix's Table 12: where its videos are -> end of a row's name
    "neither": " without", "pre-training": ", pre-training alone", "joint training": ", joint training alone",
    "both": " with",
}  # fmt: skip
ELSEWHERE: Mapping[str, tuple[str, str, str]] = (
    {
        f"ReMix Table 4, {row}": ("remix.table4", row, MARKET)
        for row in ("neither", "pre-training", "joint training", "both")
    }
    | {
        f"{method}, tested on {world}": ("table2b", f"{method} to {dataset}", LEFT_OUT_COLUMN)
        for method in ("ReMix", "DynaMix")
        for dataset, world in LEFT_OUT.items()
    }
    | {
        f"{method}, trained on {world}": ("table2a", f"{method}, {dataset}", "CUHK03-NP / hall, mAP")
        for method in ("ReMix", "DynaMix")
        for dataset, world in (("Market-1501", "plaza"), ("MSMT17", "station"), ("RandPerson", "studio"))
    }
    | {
        f"{size} transformer on {column.split()[2].rstrip(',')}": ("table11", f"ViT-{size}", column)
        for size in ("small", "base")
        for column in (MARKET, "CUHK03-NP / hall, mAP")
    }
    | {
        f"{kind} CNN, {where} on {column.split()[2].rstrip(',')}": ("remix.table12", f"{row}{ending}", column)
        for kind, row in (("IBN", "ResNet50-IBN"), ("plain", "ResNet50"))
        for where, ending in VIDEOS_IN.items()
        for column in (MARKET, "DukeMTMC-reID / hall, mAP")
    }
)


def findings(results: Path = Path("figures/results")) -> dict[str, str]:
    """What `conclusions` calls a number -> the number as text: mean ± std of mAP, shares in percent.

    Raises ValueError where a row that is quoted has not run, FileNotFoundError where a measurement is absent.
    """
    asked = {*QUOTED, *(table for table, _, _ in ELSEWHERE.values())}
    made = ledger((*sorted(asked),), "mini", 3, results=results / "runs")
    ended = {name: _ended(table, row, made) for table, rows in QUOTED.items() for name, row in rows.items()}
    column = tables.table("table3").columns[1]
    row = tables.table("table3").rows[0]
    values = {name: [column.read(row, result) or 0.0 for result in each] for name, each in ended.items()}
    means = {name: statistics.mean(each) for name, each in values.items()}
    texts = {name: f"{means[name]:.1f}{spread(each)}" for name, each in values.items()}
    gain, most = (means[name] - means["raw labels"] for name in ("Relabeling", "true identities"))
    texts["share of the most"] = f"{100 * gain / most:.0f} %"
    lead, closed = (means[name] - means["merge .8"] for name in ("ReMix on both worlds", "merge .7"))
    texts["share of ReMix's lead"] = f"{100 * closed / lead:.0f} %"
    texts |= (
        _elsewhere(made)
        | _printed()
        | _regimes(made)
        | _mended(made)
        | _added(made)
        | _filtered(made)
        | _orders(made)
        | _labels(ended)
        | _on_their_cameras(ended)
    )
    return texts | causes.quoted(results)


def _ended(table: str, row: str, made: Ledger) -> list[Result]:
    """Results of a row's trainings that have ended well, at least one."""
    found = found_of(tables.table(table), made).get(row, [])
    ended = [each for each in found if isinstance(each, dict)]
    if not ended:
        raise ValueError(f"{table} '{row}' has not run: dynamix reproduce {table} --seeds 3")
    return ended


def _elsewhere(made: Ledger) -> dict[str, str]:
    """What stands under other columns, and how right the labels are that ReMix clusters."""
    texts = {}
    for name, (table_name, row, title) in ELSEWHERE.items():
        table = tables.table(table_name)
        column = next(each for each in table.columns if each.title == title)
        scores = [column.read(tables.row(table, row), each) or 0.0 for each in _ended(table_name, row, made)]
        texts[name] = f"{statistics.mean(scores):.1f}{spread(scores)}"
    for method in ("ReMix", "DynaMix"):
        rows = [row for _, row, _ in ELSEWHERE.values() if row.startswith(f"{method} to")]
        quality = [each["quality_after"] for row in rows for each in _ended("table2b", row, made)]
        for name in ("f1", "precision", "junk_removed"):
            share = statistics.mean(each[name] for each in quality)
            texts[f"{name} in Table 2b, {method}"] = f"{100 * share:.0f} %"
    return texts


def _printed() -> dict[str, str]:
    """What the paper's own steps are worth."""
    steps = {claim.says: claim.paper for claim in CLAIMS["DynaMix, step by step"]}
    paper = {row.name: row.printed for row in tables.table("table8").rows if row.printed}
    unsampled = tables.row(tables.table("table3"), "+ ECM").printed
    steps["random with the queue"] = paper["random"]["mAP"] - unsampled["mAP"]
    return {f"paper, {name}": f"(+{points:.1f})" for name, points in steps.items()}


def _regimes(made: Ledger) -> dict[str, str]:
    """What a step is worth in each regime, of those that have run."""
    found = regimes.effects(found_of(tables.table("regimes"), made))
    return {f"{each.regime}: {each.step}": signed(each.points) for each in found}


def _mended(made: Ledger) -> dict[str, str]:
    """What mending one kind of the tracker's mistakes is worth, seed by seed."""
    found = {name: found_of(tables.table(name), made) for name in ("mistakes", "regimes")}
    scores = {name: by_seed(tables.table(name), each) for name, each in found.items()}
    raw, texts = scores["regimes"][DRAWN["another drawing, raw labels"]], {}
    for kind, row in (("junk", "junk left out"), ("parts and joins", "people under one label each")):
        texts[f"another drawing, {kind}"] = signed(differences(scores["mistakes"][row], raw))
    return texts


def _added(made: Ledger) -> dict[str, str]:
    """What the videos add in each loss of ReMix's Table 5, over the row before, seed by seed."""
    table = tables.table("remix.table5")
    scores = by_seed(table, found_of(table, made))
    pairs = itertools.pairwise(ADDED)
    return {f"ReMix Table 5, step {b}": signed(differences(scores[b], scores[a])) for a, b in pairs}


def _filtered(made: Ledger) -> dict[str, str]:
    """Images that the last epoch's filter left out, over thresholds and seeds, in either scope."""
    texts = {}
    for scope in ("global", "video"):
        rows = (_ended("table10", f"tau_remove={value} {scope}", made) for value in (".3", ".4", ".5"))
        counts = [each["report"]["removed"] for row in rows for each in row]
        texts[f"filtered, {scope}"] = f"{min(counts)} to {max(counts)}"
    return texts


def _orders(made: Ledger) -> dict[str, str]:
    """How far the order of Table 8's rules, and of Table 7's alphas, agrees with the paper's."""
    texts = {}
    for number in ("7", "8"):
        table = tables.table(f"table{number}")
        found = agreement.agreement(table, "mini", found_of(table, made))
        if found is not None and found.tau is not None and found.p is not None:
            tau, p = (f"{value:.2g}".replace("0.", ".") for value in (found.tau, found.p))
            texts[f"order of Table {number}"] = f"(Kendall's tau {tau}, p = {p})"
    return texts


def _labels(ended: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    """F1 of pseudo-labels, what relabeling leaves out, and the largest component where it percolates."""
    texts = {}
    for name, when in (("Relabeling", "before"), *((name, "after") for name in ("Relabeling", *RELABELED))):
        f1 = [result[f"quality_{when}"]["f1"] for result in ended[name]]
        texts[f"F1 {when}, {name}"] = f"{100 * statistics.mean(f1):.0f}"
    for what in ("images", "pids"):
        reports = [result["report"] for result in ended["Relabeling"]]
        lost = [100 * (1 - each[f"{what}_after"] / each[f"{what}_before"]) for each in reports]
        texts[f"{what} lost"] = f"{statistics.mean(lost):.1f} %"
    largest = [
        each["report"]["largest_component"] / each["report"]["pids_before"] for each in ended["global scope"]
    ]
    return texts | {"largest component, global scope": f"{100 * max(largest):.0f} %"}


def _on_their_cameras(ended: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    """mAP of both encoders where they were trained, and on a world that no table reports."""
    texts = {}
    for kind in ("CNN", "transformer"):
        for world in ("plaza", "campus"):
            scored = statistics.mean(
                result["scores"][world]["mAP"] for result in ended[f"given labels, {kind}"]
            )
            texts[f"{kind} on {world}"] = f"{100 * scored:.1f}"
    return texts
