"""What of the README is made by code: `python -m dynamix.experiments.readme` writes Table 3 and the findings
into it anew, the findings in full beside the tables, and draws what the papers conclude.
"""

from pathlib import Path

import tyro

from dynamix import disk, plots
from dynamix.experiments import claims, conclusions, regimes
from dynamix.experiments.findings import findings
from dynamix.experiments.ledger import ledger

START, END = "<!-- table3: figures/tables/table3.mini.md -->\n", "<!-- /table3 -->"
FINDINGS, FINDINGS_END = "<!-- findings: dynamix/experiments/conclusions.py -->\n", "<!-- /findings -->"


def block(path: Path = Path("figures/tables/table3.mini.md")) -> str:
    """Table 3 as the README shows it: what was written for it, without its heading."""
    return "\n".join(path.read_text(encoding="utf-8").strip().splitlines()[2:]) + "\n"


def filled(text: str, start: str, end: str, between: str) -> str:
    """`text` with what stands between two marks replaced. Raises ValueError where a mark is missing."""
    head, found, rest = text.partition(start)
    _, ended, tail = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the README lacks its mark {start.strip()} or {end}: put both back")
    return head + start + between + end + tail


def main(readme: Path = Path("README.md"), figures: Path = Path("figures")) -> None:
    """Write Table 3 and the findings into the README, the findings' page, draw two pictures of effects."""
    values = findings(figures / "results")
    text = filled(
        readme.read_text(encoding="utf-8"), START, END, block(figures / "tables" / "table3.mini.md")
    )
    disk.write_text(readme, filled(text, FINDINGS, FINDINGS_END, conclusions.short(values)))
    print(conclusions.write(values, figures / "tables"))
    results = figures / "results" / "runs"
    made = ledger(claims.TABLES, "mini", 3, results=results)
    print(plots.save(claims.figure(made), figures / "tables" / "claims.mini.png"))
    print(plots.save(regimes.figure(results), figures / "tables" / "regimes.effects.png"))


if __name__ == "__main__":
    tyro.cli(main)
