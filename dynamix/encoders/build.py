"""`build`: from the encoder's settings to a network with fixed initial weights."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dynamix import config as settings
from dynamix import fields
from dynamix.encoders import ibn, resnet_ibn, swin, vit
from dynamix.encoders.neck import neck


class Encoder(nn.Module):
    """A body (B, 3, H, W) -> (B, D) and a neck (B, D) -> (B, D). `dim` is D, `image` is (H, W)."""

    def __init__(self, body: nn.Module, head: nn.Module, dim: int, image: tuple[int, int]):
        super().__init__()
        self.body, self.neck = body, head
        self.dim, self.image = dim, image

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B {self.dim}"]:
        """Features of normalized images (Sec. 3.1), not unit length. ValueError on another image size."""
        self._check(images)
        # Under autocast the body answers in half precision; batch statistics want the images' own.
        return self.neck(self.body(images).to(images.dtype))

    def _check(self, images: Tensor) -> None:
        expected = (3, *self.image)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"this encoder was built for images {expected}, got {tuple(images.shape[1:])}: "
                "resize the images, or set encoder.image"
            )
        if self.training and len(images) == 1 and isinstance(self.neck, nn.BatchNorm1d):
            raise ValueError(
                "a neck with batch normalization cannot train on a batch of 1 row: "
                "use more rows, eval(), or encoder.neck = 'none'"
            )


def build(config: settings.Encoder) -> Encoder:
    """The network of `config` (Sec. 4.2), in train mode: (B, 3, H, W) -> (B, D).

    Initial weights depend on `config.seed` alone and the global random state stays as it was.
    Raises ValueError on settings that do not fit together, naming them.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the accelerators too.
        torch.default_generator.manual_seed(config.seed)
        return Encoder(_body(config), neck(config.neck, config.dim), config.dim, config.image)


def _body(config: settings.Encoder) -> nn.Module:
    if config.name in vit.WIDTHS:
        return vit.vit(config.name, config.image, config.dim, patch=config.patch, stem=config.stem)
    if config.name in ("ibn_cnn", "plain_cnn"):
        return ibn.IBNNet(config.width, config.dim, config.image, instance=config.name == "ibn_cnn")
    if config.name == "hybrid":
        return ibn.Hybrid(config.width, config.dim, config.image)
    if config.name in resnet_ibn.NAMES:
        return resnet_ibn.resnet(config.name, config.image, config.dim)
    if config.name == "swin_base":
        return swin.Swin(config.image, config.dim)
    known = ", ".join(get_args(fields.hints(settings.Encoder)["name"]))
    raise ValueError(f"unknown encoder.name {config.name!r}: choose one of {known}")
