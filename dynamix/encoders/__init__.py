"""Encoders: images (B, 3, H, W) to features (B, D), their weights, and the momentum encoder (Eq. 2)."""

from dynamix.encoders.build import Encoder, build
from dynamix.encoders.momentum import decay_at, momentum_copy, update_momentum
from dynamix.encoders.pretrained import Misfit, Report, load_pretrained
from dynamix.encoders.recognize import encoder_config
from dynamix.encoders.weight_files import fingerprint, unpacked

__all__ = [
    "Encoder", "Misfit", "Report", "build", "decay_at", "encoder_config", "fingerprint", "load_pretrained",
    "momentum_copy", "unpacked", "update_momentum",
]  # fmt: skip
