"""The papers' figures, drawn from real objects on the embedded benchmark: `draw("figure3", context)`."""

from collections.abc import Callable

from matplotlib.figure import Figure

from dynamix.experiments.pictures.clustering import remix_figure1, remix_figure3
from dynamix.experiments.pictures.dynamix_figures import figure1, figure3, figure4
from dynamix.experiments.pictures.overviews import figure2, remix_figure2
from dynamix.experiments.pictures.scene import Context

__all__ = ["FIGURES", "Context", "draw"]

FIGURES: dict[str, Callable[[Context], Figure]] = {
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "remix.figure1": remix_figure1,
    "remix.figure2": remix_figure2,
    "remix.figure3": remix_figure3,
}


def draw(name: str, context: Context) -> Figure:
    """The figure `name` of `FIGURES`.

    Raises ValueError listing the figures there are; FileNotFoundError naming the run a figure needs.
    """
    if name not in FIGURES:
        raise ValueError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    return FIGURES[name](context)
