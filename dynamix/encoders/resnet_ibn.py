"""ResNet-50, plain or IBN-a (ReMix's encoder), as person re-identification uses it: last stride 1."""

from torch import nn
from torchvision.models import resnet50

from dynamix.encoders.ibn import IBN

NAMES = ("resnet50", "resnet50_ibn")
DIM = 2048
SMALLEST = 32  # the stride of the first four stages is 16: batch statistics need more than one position


def resnet(name: str, image: tuple[int, int], dim: int) -> nn.Module:
    """Images (B, 3, H, W) to the mean of the last maps (B, 2048), ReMix's encoder; no classifier.

    Names of weights are torchvision's and, for resnet50_ibn, IBN-Net's. Raises ValueError on a `dim` that is
    not 2048 and on images smaller than 32 pixels.
    """
    if dim != DIM:
        raise ValueError(f"encoder.dim is {dim} but {name} has width {DIM}: set encoder.dim to it")
    if min(image) < SMALLEST:
        raise ValueError(f"encoder.image is {tuple(image)}: {name} needs sides of at least {SMALLEST} pixels")
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    # A last stage at twice the resolution: people are told apart by details.
    network.layer4[0].conv2.stride = network.layer4[0].downsample[0].stride = (1, 1)
    if name == "resnet50_ibn":
        for stage in (network.layer1, network.layer2, network.layer3):
            for block in stage:
                block.bn1 = IBN(block.bn1.num_features)
    return network
