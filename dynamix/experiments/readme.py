"""What of the README is made by code: `python -m dynamix.experiments.readme` writes Table 3 into it anew,
draws what the papers conclude, and prints the numbers that its findings should quote.
"""

from pathlib import Path

import tyro

from dynamix import plots
from dynamix.experiments import claims, regimes
from dynamix.experiments.findings import findings
from dynamix.experiments.ledger import ledger

START, END = "<!-- table3: figures/tables/table3.mini.md -->\n", "<!-- /table3 -->"


def block(path: Path = Path("figures/tables/table3.mini.md")) -> str:
    """Table 3 as the README shows it: what was written for it, without its heading."""
    return "\n".join(path.read_text().strip().splitlines()[2:]) + "\n"


def main(readme: Path = Path("README.md"), figures: Path = Path("figures")) -> None:
    """Write Table 3 into the README, draw its two pictures of effects, print what its findings should say."""
    text = readme.read_text()
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    readme.write_text(head + START + block() + END + tail)
    results = figures / "results" / "runs"
    made = ledger(claims.TABLES, "mini", 3, results=results)
    print(plots.save(claims.figure(made), figures / "tables" / "claims.mini.png"))
    print(plots.save(regimes.figure(results), figures / "tables" / "regimes.effects.png"))
    for name, value in findings().items():
        print(f"{name:36} {value}")


if __name__ == "__main__":
    tyro.cli(main)
