"""Networks as their authors define them, and their weights in the layouts of published files.

Written from torchvision, timm and the descriptions of the formats, without the package's own encoders.
"""

import argparse
from dataclasses import replace
from functools import cache

import numpy as np
import timm
import torch
from torch import nn
from torchvision.models import resnet50

from dynamix import encoders


@cache
def noise():
    return torch.randn(8_000_000, generator=torch.Generator().manual_seed(0))


def randomized(network, seed=0):
    """Every weight and running statistic random: a tensor that is not copied shows in the outputs."""
    for index, (name, value) in enumerate(network.state_dict().items()):
        start = 7919 * (index + 1) + seed  # drawing each anew would take most of the tests' time
        drawn = noise()[start : start + value.numel()].view(value.shape)
        if name.endswith("running_var"):
            value.copy_(0.5 + drawn.abs())
        elif value.is_floating_point() and value.ndim > 1 and "pos" not in name and "token" not in name:
            value.copy_(drawn / value[0].numel() ** 0.5)
        elif value.is_floating_point():
            value.copy_(1 + 0.1 * drawn if name.endswith("weight") else 0.3 * drawn)
    return network.eval()


def images(count, size, seed=0):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@cache
def _built(config):
    return encoders.build(config).eval()


@torch.no_grad()
def emptied(config):
    """An encoder of zeros; one for all tests, as building takes long."""
    encoder = _built(replace(config, seed=0, normalization="half", weights=""))
    for value in encoder.state_dict().values():
        value.zero_()
    return encoder


def check(file, expected, base, **config):
    """The encoder that the file asks for computes `expected`; returns the report."""
    made = encoders.encoder_config(file, base)
    assert {name: getattr(made, name) for name in config} == config
    encoder = emptied(made)
    report = encoders.load_pretrained(encoder, file)
    assert report.matched_share == 1 and not report.missing
    found = outputs(encoder, made.image)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    return report


@torch.no_grad()
def outputs(network, size, count=2):
    return network(images(count, size))


# --- vision transformers


def vit(name="vit_small", size=(256, 128), patch=16, seed=0, **options):
    """timm's, with the class token as its output."""
    with torch.device("meta"):  # without initial weights
        network = timm.create_model(
            f"{name}_patch16_224", img_size=size, patch_size=patch, num_classes=0, **options
        )
    return randomized(network.to_empty(device="cpu"), seed)


class SplitNorm(nn.Module):
    """Instance norm on half of the channels, batch norm on the others."""

    def __init__(self, channels):
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, x):
        half = x.shape[1] // 2
        return torch.cat([self.IN(x[:, :half]), self.BN(x[:, half:])], 1)


class Stem(nn.Module):
    """The convolutional stem of TransReID-SSL's ICS files, for timm's embed_layer."""

    def __init__(self, img_size, patch_size, in_chans, embed_dim, **_):
        super().__init__()
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.conv = nn.ModuleDict(
            {
                "0": nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False), "1": SplitNorm(64),
                "3": nn.Conv2d(64, 64, 3, 1, 1, bias=False), "4": SplitNorm(64),
                "6": nn.Conv2d(64, 64, 3, 1, 1, bias=False), "7": nn.BatchNorm2d(64),
            }
        )  # fmt: skip
        self.proj = nn.Conv2d(64, embed_dim, patch_size // 2, patch_size // 2)

    def forward(self, x):
        for convolution, norm in (("0", "1"), ("3", "4"), ("6", "7")):
            x = self.conv[norm](self.conv[convolution](x)).clamp(min=0)
        return self.proj(x).flatten(2).transpose(1, 2)


class Pass(nn.Module):
    """PASS without its part tokens: the class token's position is a parameter of its own."""

    def __init__(self, size=(256, 128)):
        super().__init__()
        inner = vit(size=size)
        self.patch_embed, self.blocks, self.norm = inner.patch_embed, inner.blocks, inner.norm
        width, patches = 384, inner.patch_embed.num_patches
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        for part in ("part_token1", "part_token2", "part_token3", "part1_pos", "part2_pos", "part3_pos"):
            setattr(self, part, nn.Parameter(torch.zeros(1, 1, width)))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, width))

    def forward(self, x):
        x = self.patch_embed(x) + self.pos_embed
        first = (self.cls_token + self.cls_pos).expand(len(x), -1, -1)
        return self.norm(self.blocks(torch.cat([first, x], 1)))[:, 0]


def noise_like(state):
    return {k: noise()[: v.numel()].view(v.shape).clone() for k, v in state.items()}


def prefixed(prefix, state):
    return {prefix + k: v for k, v in state.items()}


def dino(state):
    """What DINO's training saves: two networks with heads, the optimizer, the arguments."""
    head = {"head.mlp.0.weight": torch.zeros(8, 4), "head.last_layer.weight_g": torch.zeros(8, 1)}
    return {
        "student": prefixed("module.", prefixed("backbone.", noise_like(state)) | head),
        "teacher": prefixed("backbone.", state) | head,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=0.0005, use_fp16=True, output_dir="out"),
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": {"scale": 1.0},
    }


# --- convolutional networks


def last_stride_1(network):
    """A torchvision ResNet-50 as re-identification uses it."""
    network.layer4[0].conv2.stride = (1, 1)
    network.layer4[0].downsample[0].stride = (1, 1)
    return network


def resnet(seed=0):
    network = last_stride_1(resnet50(weights=None))
    network.fc = nn.Identity()
    return randomized(network, seed)


class Bottleneck(nn.Module):
    """IBN-Net's, version a."""

    def __init__(self, inputs, width, stride, split):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = SplitNorm(width) if split else nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetIBN(nn.Module):
    """ResNet-50-IBN-a with last stride 1: the split norm in the first three stages."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, (width, blocks, stride) in enumerate(
            [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)], start=1
        ):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(inputs, width, stride if block == 0 else 1, split=stage < 4))
                inputs = 4 * width
            setattr(self, f"layer{stage}", nn.Sequential(*layer))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))


def moco(state):
    """LUPerson's training: two encoders with a projection head, a queue."""
    head = {
        "fc.0.weight": torch.zeros(16, 16),
        "fc.2.weight": torch.zeros(8, 16),
        "fc.2.bias": torch.zeros(8),
    }
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": prefixed("module.encoder_q.", state | head)
        | prefixed("module.encoder_k.", noise_like(state) | head)
        | {"module.queue": torch.zeros(8, 32), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
        "optimizer": {"state": {}, "param_groups": []},
    }


def luperson_nl(state):
    """LUPerson-NL's training: a classifier, an embedding and a projection on each of two encoders."""
    head = {
        "embed_fc.weight": torch.zeros(8, 16), "classifier.weight": torch.zeros(9, 8),
        "fc1.weight": torch.zeros(8, 16), "fc2.weight": torch.zeros(4, 8),
    }  # fmt: skip
    return {
        "state_dict": prefixed("module.encoder_q.", state | head)
        | prefixed("module.encoder_k.", noise_like(state) | head)
        | {
            "module.queue": torch.zeros(4, 32), "module.queue_id": torch.zeros(32, 1, dtype=torch.long),
            "module.prototypes": torch.zeros(9, 4),
        }
    }  # fmt: skip


def torchreid(state):
    """A fine-tuned model with what torchreid's engine keeps beside it: numpy's rank-1."""
    classifier = {"classifier.weight": torch.zeros(9, 16), "classifier.bias": torch.zeros(9)}
    return {
        "state_dict": prefixed("module.", state | classifier), "epoch": 60, "rank1": np.float64(0.9),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "scheduler": {"last_epoch": 60},
    }  # fmt: skip


def numbered(state, indices):
    """A ResNet as a sequence: `indices` are the numbers of its four stages."""
    tops = {"conv1": "0", "bn1": "1"} | {f"layer{i}": str(n) for i, n in enumerate(indices, 1)}
    out = {}
    for name, value in state.items():
        top, _, rest = name.partition(".")
        out[f"module.base.{tops[top]}.{rest}"] = value
    return out | {"module.pool.p": torch.ones(1), "module.bn_neck.weight": torch.ones(16)}


# --- Swin


class Isr(nn.Module):
    """ISR's: Swin-B of 1000 classes whose pooled features go through a linear layer."""

    def __init__(self):
        super().__init__()
        self.model = timm.create_model("swin_base_patch4_window7_224", num_classes=1000)
        self.feat = nn.Linear(1024, 512)

    def forward(self, x):
        return self.feat(self.model.forward_head(self.model.forward_features(x), pre_logits=True))


def isr(state):
    """As timm 0.4.12 had it: each stage halves the resolution at its own end, buffers are saved, one head."""
    out = {}
    for name, value in state.items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[2] = str(int(parts[2]) - 1)
        out[".".join(parts).replace("head.fc", "head")] = value
    for layer, blocks in enumerate((2, 2, 18, 2)):
        for block in range(blocks):
            where = f"model.layers.{layer}.blocks.{block}"
            out[f"{where}.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
            if block % 2 and layer < 3:
                out[f"{where}.attn_mask"] = torch.zeros(4, 49, 49)
    return {"state_dict": out}
