"""Every picture of the project is one call from here: arrays in, figure out; `save` writes it.

plots.use_style()
plots.save(plots.sheet(crops, title="Eight people, eight cameras"), "figures/sheet.png")
"""

from dynamix.plots.batches import batches
from dynamix.plots.centroids import draws, error_grid, errors, pursuit
from dynamix.plots.circle import rings
from dynamix.plots.claims import Claimed, claims
from dynamix.plots.clips import clips
from dynamix.plots.clusters import clusters
from dynamix.plots.crops import mixed_batch, ranked_lists, sheet
from dynamix.plots.curves import results_bars, similarity_histograms, training_curves
from dynamix.plots.datasets import backgrounds, delivered, pair_distances, world_rows
from dynamix.plots.effects import effects
from dynamix.plots.encoders import alterations, halves, lags, layers, pair_histograms, tokens
from dynamix.plots.hero import hero
from dynamix.plots.kinds import kinds
from dynamix.plots.merging import MergeGraph, chain, merge_graphs, threshold_curves
from dynamix.plots.methods import methods
from dynamix.plots.overview import overview, remix_overview
from dynamix.plots.pushes import push_matrix, push_shares
from dynamix.plots.ranking import precision_recall, ranking_by_hand, ranking_strips
from dynamix.plots.refinement import decision_map, repairs
from dynamix.plots.relabeling import relabeling
from dynamix.plots.rhythm import rhythm
from dynamix.plots.sampling import assignment, queues, strangers
from dynamix.plots.scores import box_shifts, intervals, score_changes  # fmt: skip
from dynamix.plots.search import save_sheets, search_sheet
from dynamix.plots.stages import stages
from dynamix.plots.style import PALETTE, save, use_style
from dynamix.plots.tables import TableLine, paper_table

__all__ = [
    "PALETTE", "Claimed", "MergeGraph", "TableLine", "alterations", "assignment", "backgrounds", "batches",
    "box_shifts", "chain", "claims", "clips", "clusters", "decision_map", "delivered", "draws", "effects",
    "error_grid", "errors", "halves", "hero", "intervals", "kinds", "lags", "layers", "merge_graphs",
    "methods", "mixed_batch", "overview", "pair_distances", "pair_histograms", "paper_table",
    "precision_recall", "pursuit", "push_matrix", "push_shares", "queues", "ranked_lists",
    "ranking_by_hand", "ranking_strips", "relabeling", "remix_overview", "repairs", "results_bars",
    "rhythm", "rings", "save", "save_sheets", "score_changes", "search_sheet", "sheet",
    "similarity_histograms", "stages", "strangers", "threshold_curves", "tokens", "training_curves",
    "use_style", "world_rows",
]  # fmt: skip
