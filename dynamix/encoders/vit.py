"""Vision transformers of timm's design; the feature is the CLS token after the final norm."""

from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from dynamix.encoders.ibn import IBN

WIDTHS = {"vit_base": 768, "vit_small": 384}
LAYERS = 12  # of both
_TIMM = {"vit_base": "vit_base_patch16_224", "vit_small": "vit_small_patch16_224"}


class ConvStem(nn.Module):
    """Images (B, 3, H, W) -> tokens (B, N, D), as TransReID-SSL's stem for LUPerson weights.

    Three convolutions at half resolution, then non-overlapping patches. The layers are numbered and named
    as in those weights, so that they load as they are.
    """

    def __init__(
        self,
        img_size: tuple[int, int] = (256, 128),
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        hidden: int = 64,
        **_: Any,  # what timm hands to every patch embedding and this one does not need
    ):
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, hidden, 7, stride=2, padding=3, bias=False),
            IBN(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            IBN(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
        )
        self.proj = nn.Conv2d(hidden, embed_dim, patch_size // 2, stride=patch_size // 2)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        return self.proj(self.conv(images)).flatten(2).transpose(1, 2)


def vit(name: str, image: tuple[int, int], dim: int, *, patch: int = 16, stem: str = "patch") -> nn.Module:
    """ViT-base or ViT-small (Sec. 4.2) whose output is the normed CLS token; stem "patch" or "conv".

    Raises ValueError where `dim` is not the model's width or the patch does not tile the image.
    """
    if dim != WIDTHS[name]:
        raise ValueError(f"encoder.dim is {dim} but {name} has width {WIDTHS[name]}: set encoder.dim to it")
    if image[0] % patch or image[1] % patch or (stem == "conv" and patch % 2):
        raise ValueError(
            f"encoder.patch = {patch} with stem {stem!r} does not tile images {tuple(image)}: "
            "choose a patch (even, for the conv stem) that divides both sides"
        )
    if stem not in ("patch", "conv"):
        raise ValueError(f"encoder.stem is {stem!r}: choose patch or conv")
    options: dict[str, Any] = {"embed_layer": ConvStem} if stem == "conv" else {}
    return timm.create_model(
        _TIMM[name], pretrained=False, img_size=tuple(image), patch_size=patch, num_classes=0,
        global_pool="token", **options,
    )  # fmt: skip
