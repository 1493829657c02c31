"""Encoders: images (B, 3, H, W) to features (B, D), and the momentum encoder that follows one (Eq. 2)."""

from dynamix.encoders.build import Encoder, build
from dynamix.encoders.momentum import decay_at, momentum_copy, update_momentum

__all__ = ["Encoder", "build", "decay_at", "momentum_copy", "update_momentum"]
