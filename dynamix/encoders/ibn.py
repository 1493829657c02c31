"""Instance-batch normalization, and the two small networks built on it that learn from scratch in minutes."""

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn

STRIDE = 8  # of both small networks
STRIPES = 4


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest (IBN-a, Pan et al. 2018).

    The instance half forgets an image's contrast, and part of its color cast (exactly only what scales and
    shifts a channel), which differ between cameras; the batch half keeps what tells people apart. Names as
    in published IBN weights.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.instance_channels = channels // 2
        self.IN = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        first, rest = x[:, : self.instance_channels], x[:, self.instance_channels :]
        return torch.cat((self.IN(first.contiguous()), self.BN(rest.contiguous())), dim=1)


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; IBN, where asked for, after the first one only (IBN-a)."""

    def __init__(self, inputs: int, outputs: int, stride: int, instance: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = IBN(outputs) if instance else nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride != 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E h w"]:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class StripeHead(nn.Module):
    """Mean over each of four horizontal stripes, side by side, to D: head, torso and legs stay apart."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(STRIPES * channels, dim, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        stripes = x.unflatten(2, (STRIPES, -1)).mean(dim=(3, 4))  # (B, C, 4)
        return self.linear(stripes.flatten(1))


class IBNNet(nn.Module):
    """The small CNN of the Mannequins profiles: stem, three residual blocks to stride 8, four stripes.

    Without `instance` all its normalization is by batch, as in a plain ResNet (ReMix Table 12).
    """

    def __init__(self, width: int, dim: int, image: tuple[int, int], instance: bool = True):
        super().__init__()
        _check(width, image)
        self.layers = nn.Sequential(
            *_stem(width, instance),
            Residual(width, 2 * width, 2, instance),
            Residual(2 * width, 4 * width, 2, instance),
            Residual(4 * width, 4 * width, 1, instance=False),
        )
        self.head = StripeHead(4 * width, dim)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        return self.head(self.layers(images))


class Hybrid(nn.Module):
    """A vision transformer on a convolutional IBN stem: what a transformer needs to learn from scratch here.

    Stem to stride 8, learned positions, two transformer blocks, four stripes.
    """

    def __init__(self, width: int, dim: int, image: tuple[int, int], blocks: int = 2, heads: int = 4):
        super().__init__()
        _check(width, image)
        self.grid = (image[0] // STRIDE, image[1] // STRIDE)
        channels = 4 * width
        self.stem = nn.Sequential(
            *_stem(width),
            Residual(width, 2 * width, 2, instance=True),
            Residual(2 * width, channels, 2, instance=True),
        )
        self.positions = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], channels))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(channels, heads, qkv_bias=True) for _ in range(blocks)))
        self.norm = nn.LayerNorm(channels)
        self.head = StripeHead(channels, dim)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.positions  # (B, N, C)
        tokens = self.norm(self.blocks(tokens))
        return self.head(tokens.transpose(1, 2).unflatten(2, self.grid))


def _stem(width: int, instance: bool = True) -> tuple[nn.Module, ...]:
    """Images to `width` maps at half resolution."""
    norm = IBN(width) if instance else nn.BatchNorm2d(width)
    return nn.Conv2d(3, width, 3, 2, 1, bias=False), norm, nn.ReLU(inplace=True)


def _check(width: int, image: tuple[int, int]) -> None:
    if width < 2 or width % 2:
        raise ValueError(f"encoder.width is {width}: IBN needs an even number of channels, at least 2")
    if image[0] % (STRIPES * STRIDE) or image[1] % STRIDE or min(image) < STRIDE:
        raise ValueError(
            f"encoder.image is {tuple(image)}: the small networks need a height divisible by "
            f"{STRIPES * STRIDE} and a width divisible by {STRIDE}"
        )
