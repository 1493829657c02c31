"""What of the README is made by code: `python -m dynamix.experiments.readme` writes Table 3 into it anew.

`findings` are the numbers that its table "What reproduces, what does not" quotes; a test compares the two.
"""

import statistics
from pathlib import Path

import tyro

from dynamix.experiments import records, tables
from dynamix.experiments.reproduce import Request, found_of

START, END = "<!-- table3: figures/tables/table3.mini.md -->\n", "<!-- /table3 -->"
ROWS = {  # as the README speaks of them -> row of Table 3
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
RELABELED = {  # the same for rows of Table 4: other ways to relabel
    "global scope": "global scope",
    "stricter thresholds": ".65/.65/.8",
    "calibrated thresholds": "calibrated",
}
SAMPLED = {f"{mode} pairs": mode for mode in ("random", "hard", "soft", "mean")}  # of Table 8
DRAWN = {  # of the regimes: another drawing of people and cameras
    "another drawing, labeled alone": "as in the tables: labeled alone",
    "another drawing, raw labels": "as in the tables: naive centroids",
    "another drawing, Relabeling": "as in the tables: + RM",
    "cameras that stand still, raw labels": "cameras that stand still: naive centroids",
    "cameras that stand still, Relabeling": "cameras that stand still: + RM",
}


def block(path: Path = Path("figures/tables/table3.mini.md")) -> str:
    """Table 3 as the README shows it: what was written for it, without its heading."""
    return "\n".join(path.read_text().strip().splitlines()[2:]) + "\n"


def findings(root: Path = Path(".")) -> dict[str, str]:
    """Numbers of the findings, as text: mean ± std of mAP, shares in percent."""
    results = root / "figures/results"
    made = Request(names=("table3", "table4", "table8", "regimes"), results=results / "runs").ledger()
    table = tables.table("table3")
    found, column = found_of(table, made, {}), table.columns[1]
    ended = {name: found[row] for name, row in ROWS.items()}
    for other, rows in (("table4", RELABELED), ("table8", SAMPLED), ("regimes", DRAWN)):
        there = found_of(tables.table(other), made, {})
        ended |= {name: there[row] for name, row in rows.items()}
    values = {
        name: [value for result in each if (value := column.read(table.rows[0], result)) is not None]
        for name, each in ended.items()
    }
    means = {name: statistics.mean(each) for name, each in values.items()}
    texts = {name: f"{means[name]:.1f}{_spread(each)}" for name, each in values.items()}
    gain, most = (means[name] - means["raw labels"] for name in ("Relabeling", "true identities"))
    texts["share of the most"] = f"{100 * gain / most:.0f} %"
    for name, when in (("Relabeling", "before"), *((name, "after") for name in ("Relabeling", *RELABELED))):
        f1 = [result[f"quality_{when}"]["f1"] for result in ended[name]]
        texts[f"F1 {when}, {name}"] = f"{100 * statistics.mean(f1):.0f}"
    for what in ("images", "pids"):
        reports = [result["report"] for result in found[ROWS["Relabeling"]]]
        lost = [100 * (1 - each[f"{what}_after"] / each[f"{what}_before"]) for each in reports]
        texts[f"{what} lost"] = f"{statistics.mean(lost):.1f} %"
    for kind, row in (("CNN", "ReMix, given labels"), ("transformer", "+ ViT")):
        for world in ("plaza", "campus"):
            scored = statistics.mean(result["scores"][world]["mAP"] for result in found[row])
            texts[f"{kind} on {world}"] = f"{100 * scored:.1f}"
    return texts | _contributions(results) | _sensitivities(results) | _stages(results)


def _spread(values: list[float]) -> str:
    return f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else " (one seed)"


def _contributions(results: Path) -> dict[str, str]:
    """Share of the push that single-camera images send, and of that the chosen identity."""
    rows, texts = records.read(results / "contribution.mini.json")["rows"], {}
    for mode in ("median", "random", "hard"):
        for name in ("single", "partner"):
            share = statistics.mean(row[name] for row in rows if row["mode"] == mode)
            texts[f"{name}, {mode}"] = f"{100 * share:.0f} %"
    return texts


def _sensitivities(results: Path) -> dict[str, str]:
    """Points of mAP on plaza that altered queries lose; each run's first row is without a change."""
    rows, texts = records.read(results / "sensitivity.mini.json")["rows"], {}
    plain = {row["run"]: row["mAP"] for row in rows if row["change"] == "as they are"}
    for kind, encoder in (("CNN", "ibn_cnn"), ("transformer", "hybrid")):
        for change in ("color cast", "darker"):
            chosen = [row for row in rows if (row["encoder"], row["change"]) == (encoder, change)]
            lost = statistics.mean(plain[row["run"]] - row["mAP"] for row in chosen)
            texts[f"{change}, {kind}"] = f"{100 * lost:.0f}"
    return texts


def _stages(results: Path) -> dict[str, str]:
    """Points of mAP on plaza that the last layers add to those that both encoders share."""
    rows, texts = records.read(results / "stages.mini.json")["rows"], {}
    for encoder, last in (("ibn_cnn", "residual 3"), ("hybrid", "attention 2")):
        for what in ("plain", "altered"):
            of = {
                stage: statistics.mean(
                    row[what] for row in rows if (row["encoder"], row["stage"]) == (encoder, stage)
                )
                for stage in ("residual 2", last)
            }
            texts[f"{last} adds, {what}"] = f"{100 * (of[last] - of['residual 2']):+.1f}".replace("-", "−")
    return texts


def main(readme: Path = Path("README.md")) -> None:
    """Write Table 3 into the README, and print what its findings should say."""
    text = readme.read_text()
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    readme.write_text(head + START + block() + END + tail)
    for name, value in findings().items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    tyro.cli(main)
