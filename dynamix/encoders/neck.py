"""The neck: batch normalization after the embedding, which centers it, so that thresholds mean something."""

from torch import nn


def neck(kind: str, dim: int) -> nn.Module:
    """The layer (B, D) -> (B, D) after the embedding; the paper leaves it open.

    Without one, cosines of a fresh network bunch near 1. affine_free: BatchNorm without weight and bias.
    bias_frozen: weight starts at 1 and learns, bias stays 0 (the BNNeck of strong Re-ID baselines).
    Raises ValueError on another kind.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "affine_free":
        return nn.BatchNorm1d(dim, affine=False)
    if kind == "bias_frozen":
        layer = nn.BatchNorm1d(dim)
        layer.bias.requires_grad_(False)
        return layer
    raise ValueError(f"encoder.neck is {kind!r}: choose none, affine_free or bias_frozen")
