"""The views of one mini-batch (method (e)): random crop, flip, blur and grayscale, and normalization.

What is random is drawn first, as columns; applying it is deterministic. `apply` takes a whole batch on any
device, `apply_one` one image with torchvision in a loader worker; both follow the same parameters.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

Augment = Literal["full", "light", "none"]
Image = UInt8[Tensor, "3 H W"]
ImageBatch = UInt8[Tensor, "B 3 H W"]

PAD = 10  # pixels at height 256, like the blur's sigma; paper silent, the code it builds on does this
FLIP, BLUR, GRAY = 0.5, 0.5, 0.2
SIGMA = (0.1, 2.0)
LUMA = (0.2989, 0.587, 0.114)  # torchvision's
SALT = 0x51E3  # keeps this module's random stream apart from the sampler's

# View -> augmentation. v1 goes to the encoder and v2 to the momentum encoder; v0 is the original.
NAMES: dict[str, dict[str, Augment]] = {
    "A": {"v1": "full", "v2": "full", "v0": "none"},  # L_ins(v1, v2), L_aug(v1, v0)
    "B": {"v1": "full", "v0": "none"},  # L_ins(v1, v1), L_aug(v1, v0)
    "C": {"v1": "full", "v0": "none"},  # L_ins(v0, v0), L_aug(v1, v0)
    "economy": {"v1": "full", "v2": "light"},  # v2 serves as the momentum encoder's view in both losses
}


@dataclass(frozen=True, eq=False)
class ViewParameters:
    """What happens to each of B images: shift, then flip, then blur, then grayscale."""

    dy: Int[np.ndarray, " B"]  # pixels; output row i shows input row i + dy, black outside
    dx: Int[np.ndarray, " B"]
    flip: Bool[np.ndarray, " B"]
    sigma: Float[np.ndarray, " B"]  # pixels; 0 = no blur
    gray: Bool[np.ndarray, " B"]

    def select(self, rows: Int[np.ndarray, " b"] | Bool[np.ndarray, " B"] | slice) -> "ViewParameters":
        """The parameters of some of the images."""
        return ViewParameters(*(getattr(self, field.name)[rows] for field in fields(self)))


def names(views: str) -> dict[str, Augment]:
    """The views a setting of `aug.views` needs, with their augmentation (method (e))."""
    if views not in NAMES:
        raise ValueError(f"unknown views {views!r}; there are {', '.join(NAMES)}")
    return NAMES[views]


def generator_of(seed: int, epoch: int, step: int) -> np.random.Generator:
    """The random stream of one step's views: the same whoever prepares the step."""
    return np.random.default_rng([seed, epoch, step, SALT])


def draw(
    count: int, size: tuple[int, int], generator: np.random.Generator, *, augment: Augment = "full"
) -> ViewParameters:
    """Parameters of `count` views of (height, width) images (Sec. 4.2: crop, flip, blur, grayscale).

    full: pad 10 pixels + random crop, flip 0.5, blur 0.5 with sigma U(0.1, 2), grayscale 0.2; pad and sigma
    are for height 256 and scale with the height. light: crop and flip. none: the image itself.
    """
    if augment == "none":
        none = np.zeros(count, np.int64)
        return ViewParameters(none, none, none.astype(bool), none.astype(np.float64), none.astype(bool))
    pad = max(1, round(PAD * size[0] / 256))
    dy, dx = generator.integers(-pad, pad, (2, count), endpoint=True)
    flip = generator.random(count) < FLIP
    if augment == "light":
        return ViewParameters(dy, dx, flip, np.zeros(count), np.zeros(count, bool))
    sigma = generator.uniform(*SIGMA, count) * size[0] / 256
    sigma[generator.random(count) >= BLUR] = 0.0
    return ViewParameters(dy, dx, flip, sigma, generator.random(count) < GRAY)


def plan(
    views: str, count: int, size: tuple[int, int], generator: np.random.Generator
) -> dict[str, ViewParameters]:
    """Parameters of every view of one mini-batch."""
    return {name: draw(count, size, generator, augment=augment) for name, augment in names(views).items()}


def make(images: ImageBatch, views: str, generator: np.random.Generator) -> dict[str, Tensor]:
    """Every view of a batch: name -> (B, 3, H, W) uint8."""
    size = (images.shape[2], images.shape[3])
    return {name: apply(images, drawn) for name, drawn in plan(views, len(images), size, generator).items()}


def make_one(image: Image, planned: dict[str, ViewParameters], index: int) -> dict[str, Tensor]:
    """Every view of image `index` of the batch that `planned` was drawn for: name -> (3, H, W) uint8."""
    return {name: apply_one(image, drawn, index) for name, drawn in planned.items()}


def apply(images: ImageBatch, parameters: ViewParameters) -> ImageBatch:
    """One view of each image of a batch, on the images' device."""
    _check_count(len(images), parameters)
    moved = parameters.dy.any() or parameters.dx.any() or parameters.flip.any()
    out = _crop_and_flip(images, parameters) if moved else images.clone()
    blurred = np.flatnonzero(parameters.sigma > 0)
    if len(blurred):
        rows = torch.from_numpy(blurred).to(images.device)
        out[rows] = _blur(out[rows], parameters.sigma[blurred])
    gray = np.flatnonzero(parameters.gray)
    if len(gray):
        rows = torch.from_numpy(gray).to(images.device)
        luma = torch.tensor(LUMA, device=images.device).view(3, 1, 1)
        out[rows] = (out[rows] * luma).sum(1, keepdim=True).to(torch.uint8).expand(-1, 3, -1, -1)
    return out


def _check_count(count: int, parameters: ViewParameters) -> None:
    if count != len(parameters.dy):
        raise ValueError(f"{count} images but parameters for {len(parameters.dy)}: draw one set per image")


def _crop_and_flip(images: ImageBatch, parameters: ViewParameters) -> ImageBatch:
    """One gather; pixels from outside the image are black."""
    count, _, height, width = images.shape
    columns = np.arange(width)
    x = np.where(parameters.flip[:, None], width - 1 - columns, columns) + parameters.dx[:, None]  # (B, W)
    y = np.arange(height) + parameters.dy[:, None]  # (B, H)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    source = y.clip(0, height - 1)[:, :, None] * width + x.clip(0, width - 1)[:, None, :]
    index = torch.from_numpy(source.reshape(count, 1, -1)).to(images.device).expand(-1, 3, -1)
    kept = torch.from_numpy(inside[:, None]).to(images.device)
    return images.flatten(2).gather(2, index).view(count, 3, height, width) * kept


def _blur(images: ImageBatch, sigma: Float[np.ndarray, " B"]) -> ImageBatch:
    """Gaussian blur with one sigma per image, borders reflected: one matrix product per axis."""
    count, _, height, width = images.shape
    rows = _bands(sigma, height, _radius(sigma, height, width)).to(images.device)
    columns = _bands(sigma, width, _radius(sigma, height, width)).to(images.device)
    blurred = images.float().view(count, 3 * height, width) @ columns.mT
    blurred = rows[:, None] @ blurred.view(count, 3, height, width)
    return blurred.round_().clamp_(0, 255).to(torch.uint8)


def _radius(sigma: Float[np.ndarray, " B"], height: int, width: int) -> Int[np.ndarray, " B"]:
    """Half widths of the kernels: 3 sigma, and less than the image, which is all that can be reflected."""
    return np.ceil(3 * sigma).astype(np.int64).clip(1, max(min(height, width) - 1, 0))


def _bands(
    sigma: Float[np.ndarray, " B"], length: int, radius: Int[np.ndarray, " B"]
) -> Float[Tensor, "B n n"]:
    """The blur along one axis as banded matrices: `bands[b] @ signal`."""
    offsets = np.arange(-radius.max(), radius.max() + 1)
    weights = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2) * (np.abs(offsets) <= radius[:, None])
    weights /= weights.sum(1, keepdims=True)  # (B, taps)
    target = np.abs(np.arange(length)[:, None] + offsets)
    target = np.minimum(
        target, 2 * (length - 1) - target
    )  # (n, taps), reflected without repeating the border
    bands = torch.zeros(len(sigma), length, length)
    index = torch.from_numpy(target).expand(len(sigma), -1, -1)
    source = torch.from_numpy(weights.astype(np.float32))[:, None].expand(-1, length, -1)
    return bands.scatter_add_(2, index, source)


def apply_one(image: Image, parameters: ViewParameters, index: int) -> Image:
    """View of one image with the parameters of row `index`, by torchvision; within a level of `apply`."""
    height, width = image.shape[1:]
    dy, dx = int(parameters.dy[index]), int(parameters.dx[index])
    if dy or dx:
        pad = max(abs(dy), abs(dx))
        image = tv.crop(tv.pad(image, [pad]), pad + dy, pad + dx, height, width)
    if parameters.flip[index]:
        image = tv.horizontal_flip(image)
    sigma = parameters.sigma[index : index + 1]
    if sigma[0] > 0:
        kernel = 2 * int(_radius(sigma, height, width)[0]) + 1
        image = tv.gaussian_blur(image, [kernel, kernel], [float(sigma[0])] * 2)
    return tv.rgb_to_grayscale(image, num_output_channels=3) if parameters.gray[index] else image


STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "luperson": ((0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505)),
    "luperson_nl": ((0.3452, 0.3070, 0.3114), (0.2633, 0.2500, 0.2480)),
}


def normalize(images: ImageBatch, kind: str, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 3 H W"]:
    """Levels 0-255 to (x / 255 - mean) / std; kind: of STATISTICS, as the encoder was trained."""
    if kind not in STATISTICS:
        raise ValueError(f"unknown normalization {kind!r}; there are {', '.join(STATISTICS)}")
    mean, std = (torch.tensor(v, dtype=dtype, device=images.device).view(3, 1, 1) for v in STATISTICS[kind])
    return images.to(dtype).div_(255).sub_(mean).div_(std)
