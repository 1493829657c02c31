"""Which labels a run trains on: the tracker's, or those with mistakes mended by the truth."""

from typing import Literal

import numpy as np
from jaxtyping import Int

# Of single-camera images, whose truth only worlds know. tracker: the dataset's own. clean: those, junk left
# out. whole: true identities, junk with the person under whose label it mostly stands. truth: both mended.
Labels = Literal["tracker", "clean", "whole", "truth"]


def mended(labels: Int[np.ndarray, " N"], truth: Int[np.ndarray, " N"], how: Labels) -> Int[np.ndarray, " N"]:
    """Tracker `labels` without some of their mistakes: `Labels` says which. `truth`: -1 = junk.

    Under "whole" junk that no person shares a label with keeps a label of its own.
    """
    if how == "tracker":
        return labels.copy()
    if how != "whole":
        return np.where(truth < 0, -1, labels if how == "clean" else truth)
    known, junk = (labels >= 0) & (truth >= 0), (labels >= 0) & (truth < 0)
    pairs, counts = np.unique(np.stack([labels, truth], axis=1)[known], axis=0, return_counts=True)
    pairs = pairs[np.argsort(counts, kind="stable")]
    person = np.full(labels.max(initial=-1) + 1, -1, dtype=truth.dtype)
    person[pairs[:, 0]] = pairs[:, 1]  # of a label's people the last one written: the one seen most often
    alone = np.flatnonzero(person < 0)
    person[alone] = truth.max(initial=-1) + 1 + np.arange(len(alone))
    made = truth.copy()
    made[junk] = person[labels[junk]]
    return made
