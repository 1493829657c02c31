"""Which encoder a table's word means in each profile, and which world stands for which dataset."""

from collections.abc import Mapping
from typing import Any

# cnn, plain: ResNet50-IBN and ResNet50; vit: the ViT of the ladder; small, base: ViT-small and ViT-base.
_IBN: dict[str, Any] = {"encoder__name": "ibn_cnn"}
# At the CNN's rate the transformer's pre-training diverges: its loss rises to 7.9. At this one it falls.
_HYBRID: dict[str, Any] = {"encoder__name": "hybrid", "moco__lr": 3e-4}
_SMALL_WORLDS: dict[str, Mapping[str, Any]] = {
    "cnn": _IBN,
    "plain": {"encoder__name": "plain_cnn"},
    "vit": _HYBRID,
    "small": _HYBRID | {"encoder__width": 16},
    "base": _HYBRID,
}
_R50: dict[str, Any] = {
    "encoder__dim": 2048,
    "encoder__neck": "affine_free",
    "encoder__normalization": "imagenet",
}
_VIT_BASE: dict[str, Any] = {"encoder__name": "vit_base", "encoder__dim": 768}
ENCODERS: dict[str, dict[str, Mapping[str, Any]]] = {
    "tiny": _SMALL_WORLDS,
    "mini": _SMALL_WORLDS,
    "gpu": {
        "cnn": _R50 | {"encoder__name": "resnet50_ibn"},
        "plain": _R50 | {"encoder__name": "resnet50"},
        "vit": {},
        "small": {},
        "base": _VIT_BASE,
    },
    "paper": {
        "cnn": _R50 | {"encoder__name": "resnet50_ibn"},
        "plain": _R50 | {"encoder__name": "resnet50"},
        "vit": {},
        "small": {"encoder__name": "vit_small", "encoder__dim": 384},
        "base": {},
    },
}

STANDS_FOR = {
    "Market-1501": "plaza",
    "DukeMTMC-reID": "campus",
    "CUHK03-NP": "hall",
    "MSMT17": "station",
    "MSMT17-merged": "station",
    "RandPerson": "studio",
    "LUPerson-NL": "videos",
    "LUPerson": "videos",
}


def encoder_changes(profile: str, role: str) -> Mapping[str, Any]:
    """Config changes that make `role`'s encoder in a profile."""
    return {} if role == "profile" else ENCODERS[profile][role]
