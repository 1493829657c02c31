"""Centroids made ready to be searched many times: checked, measured and coded once."""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.similarity import screen
from dynamix.similarity.exact import BLOCK, check_finite, lengths, row_sums, working

SCREENED = 2048  # centroids from which coding them pays


class Prepared:
    """Centroids (P, D), the lengths of their rows and, on first need, codes to screen them with.

    Holds the tensor it is given, so changing that afterwards spoils it. Codes take a quarter of the bytes
    of float32, half of them on a GPU.

    Raises:
        ValueError: no centroids, rows that are not finite.
    """

    def __init__(self, centroids: Float[Tensor, "P D"]):
        if not len(centroids):
            raise ValueError("there are no centroids (P = 0) to compare with")
        check_finite(centroids, "centroids")
        self.centroids = centroids.to(working(centroids.dtype))
        self.lengths = lengths(self.centroids)
        self.given = centroids.dtype
        self._codes: dict[screen.Kind, screen.Codes] = {}

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def shape(self) -> torch.Size:
        """(P, D)."""
        return self.centroids.shape

    def to(self, dtype: torch.dtype) -> "Prepared":
        """The same centroids in the type of the features."""
        return self if self.centroids.dtype == dtype else Prepared(self.centroids.to(dtype))

    def unit(self, rows: Int[Tensor, "*n"] | slice) -> Float[Tensor, "*n D"]:
        """Those rows scaled to length 1, the same bits as `exact.unit`."""
        return self.centroids[rows] / self.lengths[rows].unsqueeze(-1)

    def scores(
        self, left: Float[Tensor, "n D"], i: Int[Tensor, " E"], j: Int[Tensor, " E"]
    ) -> Float[Tensor, " E"]:
        """Cosines of unit rows left[i] and centroids j, bit for bit the same wherever a pair stands."""
        step = max(1, BLOCK // left.shape[1])
        parts = [
            row_sums(left.index_select(0, a).mul_(self.centroids.index_select(0, b))) / self.lengths[b]
            for a, b in zip(i.split(step), j.split(step), strict=True)
        ]
        return torch.cat(parts) if parts else left.new_empty(0)

    def pair_scores(self, i: Int[Tensor, " E"], j: Int[Tensor, " E"]) -> Float[Tensor, " E"]:
        """Cosines of centroids i and j, likewise."""
        return self.scores(self.centroids, i, j) / self.lengths[i]

    @property
    def screened(self) -> bool:
        """Whether a search among all of them starts from codes."""
        return len(self) >= SCREENED and self.centroids.device.type in screen.DEVICES

    @cached_property
    def mean(self) -> Float[Tensor, " D"]:
        """Mean unit centroid, float32."""
        return ((1 / self.lengths) @ self.centroids).float() / len(self)

    def codes(self, kind: screen.Kind) -> screen.Codes:
        """Of the unit centroids less their mean: what they share tells no centroid from another."""
        if kind not in self._codes:
            self._codes[kind] = screen.encode_centered(self.centroids, self.lengths, self.mean, kind)
        return self._codes[kind]
