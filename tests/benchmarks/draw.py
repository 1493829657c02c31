"""Draw figures/bench.png from what the benchmarks kept: `python tests/benchmarks/draw.py`.

Rows with a baseline only; the others stand in figures/results/bench.*.json.
"""

from dataclasses import replace

from report import RESULTS

from dynamix import plots
from dynamix.plots.benches import bench_results, read_benches


def main() -> None:
    kept = read_benches(RESULTS)
    compared = [replace(each, rows=[row for row in each.rows if row["ratio"]]) for each in kept]
    names = {each.name for each in compared if each.rows}
    figure = bench_results(
        [each for each in compared if each.name in names],
        title="Ours against the usual way, measured in the same run",
    )
    path = RESULTS.parent / "bench.png"
    plots.save(figure, path)
    print(f"look: {path.relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
