"""Swin-B, pooled, with ISR's linear head."""

import timm
from jaxtyping import Float
from torch import Tensor, nn

WIDTH, HEAD = 1024, 512
PERIOD = 224  # windows of 7 patches of 4 pixels, at stride 32 in the last stage


class Swin(nn.Module):
    """ISR's encoder: Swin-B and a linear head 1024 -> 512, named as in its weights, `model` and `feat`."""

    def __init__(self, image: tuple[int, int], dim: int):
        super().__init__()
        if dim not in (WIDTH, HEAD):
            raise ValueError(
                f"encoder.dim is {dim} but swin_base has width {WIDTH}, or {HEAD} with ISR's head: "
                "set encoder.dim to one of them"
            )
        if image[0] % PERIOD or image[1] % PERIOD or min(image) < PERIOD:
            raise ValueError(
                f"encoder.image is {tuple(image)}: swin_base needs whole windows, sides divisible by {PERIOD}"
            )
        # No stochastic depth (timm's default): features are a function of the images, as in every encoder.
        self.model = timm.create_model(
            "swin_base_patch4_window7_224", pretrained=False, img_size=tuple(image), num_classes=0,
            drop_path_rate=0.0,
        )  # fmt: skip
        self.feat = nn.Linear(WIDTH, HEAD) if dim == HEAD else nn.Identity()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        return self.feat(self.model(images))
