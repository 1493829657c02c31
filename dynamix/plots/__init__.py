"""Every picture of the project is one call from here: arrays in, figure out; `save` writes it.

plots.use_style()
plots.save(plots.sheet(crops, title="Eight people, eight cameras"), "figures/sheet.png")
"""

from dynamix.plots.clips import clips
from dynamix.plots.crops import mixed_batch, ranked_lists, sheet
from dynamix.plots.curves import results_bars, similarity_histograms, training_curves
from dynamix.plots.hero import hero
from dynamix.plots.relabeling import relabeling
from dynamix.plots.search import save_sheets, search_sheet
from dynamix.plots.style import PALETTE, save, use_style

__all__ = [
    "PALETTE", "clips", "hero", "mixed_batch", "ranked_lists", "relabeling", "results_bars", "save",
    "save_sheets", "search_sheet", "sheet", "similarity_histograms", "training_curves", "use_style",
]  # fmt: skip
