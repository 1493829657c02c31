"""The views of one mini-batch (method (e)): random crop, flip, blur and grayscale, and normalization.

What is random is drawn first, as columns; applying it is deterministic and takes a whole batch of levels. On
a GPU nothing waits for it: the parameters go there in one asynchronous copy.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

Augment = Literal["full", "light", "none"]
ImageBatch = UInt8[Tensor, "B 3 H W"]
Levels = UInt8[np.ndarray, "B 3 H W"]

PAD = 10  # pixels at height 256, like the blur's sigma; paper silent, the code it builds on does this
FLIP, BLUR, GRAY = 0.5, 0.5, 0.2
SIGMA = (0.1, 2.0)
LUMA = (0.2989, 0.587, 0.114)  # torchvision's
LUMA_COLUMN = np.array(LUMA, np.float32)[:, None, None]
DENSE = 64 * 64  # pixels up to which one matrix product blurs faster than a loop over the images
SALT = 0x51E3  # keeps this module's random stream apart from the sampler's

# View -> augmentation. v1 goes to the encoder and v2 to the momentum encoder; v0 is the original.
NAMES: dict[str, dict[str, Augment]] = {
    "A": {"v1": "full", "v2": "full", "v0": "none"},  # L_ins(v1, v2), L_aug(v1, v0)
    "B": {"v1": "full", "v0": "none"},  # L_ins(v1, v1), L_aug(v1, v0)
    "C": {"v1": "full", "v0": "none"},  # L_ins(v0, v0), L_aug(v1, v0)
    "two": {"v1": "full", "v2": "full"},  # MoCo
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

    def nothing(self) -> bool:
        """Whether every image stays as it is."""
        return not any(getattr(self, field.name).any() for field in fields(self))


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
    return made(images, plan(views, len(images), size, generator))


def made(images: ImageBatch, planned: dict[str, ViewParameters]) -> dict[str, Tensor]:
    """The planned views of a batch: name -> (B, 3, H, W) uint8; the original is the batch itself."""
    return {name: images if drawn.nothing() else apply(images, drawn) for name, drawn in planned.items()}


def apply(images: ImageBatch, parameters: ViewParameters) -> ImageBatch:
    """One view of each image of a batch, on the images' device."""
    _check_count(len(images), parameters)
    return (_on_cpu if images.device.type == "cpu" else _on_gpu)(images, parameters)


def _check_count(count: int, parameters: ViewParameters) -> None:
    if count != len(parameters.dy):
        raise ValueError(f"{count} images but parameters for {len(parameters.dy)}: draw one set per image")


def _on_cpu(images: ImageBatch, parameters: ViewParameters) -> ImageBatch:
    """By numpy: operations this small lose by being shared between threads, as torch's would be."""
    out = _shifted(images.numpy(), parameters)
    height, width = images.shape[2:]
    blurred, gray = np.flatnonzero(parameters.sigma > 0), np.flatnonzero(parameters.gray)
    radius, weights = _kernels(parameters.sigma[blurred], height, width)
    if len(blurred) and height * width <= DENSE:
        out[blurred] = _dense_blur(torch.from_numpy(out[blurred]), weights).numpy()
    else:
        for row, reach, one in zip(blurred.tolist(), radius.tolist(), weights, strict=True):
            center = len(one) // 2
            for channel in out[row]:  # stays in the cache, and takes no more taps than its sigma needs
                smoothed = _smoothed(channel, one[center : center + reach + 1])
                channel[:] = np.rint(smoothed, out=smoothed)
    for row in gray.tolist():
        red, green, blue = out[row].astype(np.float32) * LUMA_COLUMN
        out[row] = (red + green + blue).astype(np.uint8)
    return torch.from_numpy(out)


def _on_gpu(images: ImageBatch, parameters: ViewParameters) -> ImageBatch:
    """The same, without a loop over images and without waiting: one copy brings all parameters."""
    height, width = images.shape[2:]
    blurred, gray = np.flatnonzero(parameters.sigma > 0), np.flatnonzero(parameters.gray)
    _, weights = _kernels(parameters.sigma[blurred], height, width)
    weights = weights[:, weights.shape[1] // 2 :]
    columns = (parameters.dy, parameters.dx, parameters.flip, blurred, gray, weights.T.ravel())
    sent = send(torch.from_numpy(np.concatenate(columns).astype(np.float32)), images.device)
    dy, dx, flip, blurred_rows, gray_rows, taps = sent.split([len(column) for column in columns])
    out = _gathered(images, dy.long(), dx.long(), flip > 0)
    if len(blurred):
        rows = blurred_rows.long()
        per_image = taps.view(weights.shape[1], len(blurred), 1, 1, 1)
        out.index_copy_(0, rows, _levels(_blur(out.index_select(0, rows), per_image)))
    if len(gray):
        rows = gray_rows.long()
        out.index_copy_(0, rows, _gray(out.index_select(0, rows)))
    return out


def send(host: Tensor, device: torch.device) -> Tensor:
    """`host` on `device`, from pinned memory where that lets the copy run while the host goes on."""
    if device.type != "cuda":
        return host.to(device)
    return (host if host.is_pinned() else host.pin_memory()).to(device, non_blocking=True)


def _shifted(images: Levels, parameters: ViewParameters) -> Levels:
    """Crop and flip by copying each image's rows; what lies outside is black."""
    height, width = images.shape[2:]
    out = np.zeros_like(images)
    columns = (parameters.dy.tolist(), parameters.dx.tolist(), parameters.flip.tolist())
    for image, target, dy, dx, flip in zip(images, out, *columns, strict=True):
        (rows, to_rows), (across, to_across) = _overlap(dy, height), _overlap(dx, width)
        seen = target[:, :, ::-1] if flip else target  # the shift comes first
        seen[:, to_rows, to_across] = image[:, rows, across]
    return out


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """Where a shifted axis reads, and where it writes."""
    size = max(length - abs(shift), 0)
    source, target = min(max(shift, 0), length), min(max(-shift, 0), length)
    return slice(source, source + size), slice(target, target + size)


def _gathered(
    images: ImageBatch, dy: Int[Tensor, " B"], dx: Int[Tensor, " B"], flip: Bool[Tensor, " B"]
) -> ImageBatch:
    """Crop and flip in one gather."""
    height, width = images.shape[2:]
    columns = torch.arange(width, device=images.device)
    x = torch.where(flip[:, None], width - 1 - columns, columns) + dx[:, None]  # (B, W)
    y = torch.arange(height, device=images.device) + dy[:, None]  # (B, H)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    source = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    index = source.flatten(1)[:, None].expand(-1, 3, -1)
    return images.flatten(2).gather(2, index).view(images.shape) * inside[:, None]


def _kernels(
    sigma: Float[np.ndarray, " n"], height: int, width: int
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n taps"]]:
    """Half widths (3 sigma, and less than the image, which is all that can be reflected) and weights (sum 1)
    around the center, zero beyond the own half width."""
    radius = np.ceil(3 * sigma).astype(np.int64).clip(1, max(min(height, width) - 1, 0))
    reach = radius.max(initial=0)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2) * (np.abs(offsets) <= radius[:, None])
    return radius, weights / weights.sum(1, keepdims=True)


def _dense_blur(images: ImageBatch, weights: Float[np.ndarray, "B taps"]) -> ImageBatch:
    """Gaussian blur with one kernel per image, borders reflected: one matrix product per axis."""
    count, _, height, width = images.shape
    rows, columns = _bands(weights, height), _bands(weights, width)
    blurred = images.float().view(count, 3 * height, width) @ columns.mT
    return _levels(rows[:, None] @ blurred.view(count, 3, height, width))


def _bands(weights: Float[np.ndarray, "B taps"], length: int) -> Float[Tensor, "B n n"]:
    """The blur along one axis as banded matrices: `bands[b] @ signal`."""
    count, taps = weights.shape
    target = np.abs(np.arange(length)[:, None] + np.arange(taps) - taps // 2)
    target = np.minimum(target, 2 * (length - 1) - target)  # (n, taps), the border is not repeated
    bands = torch.zeros(count, length, length)
    index = torch.from_numpy(target).expand(count, -1, -1)
    source = torch.from_numpy(weights.astype(np.float32))[:, None].expand(-1, length, -1)
    return bands.scatter_add_(2, index, source)


def _smoothed(channel: UInt8[np.ndarray, "H W"], weights: Float[np.ndarray, " taps"]) -> np.ndarray:
    """Gaussian blur, borders reflected, as a sum of shifted copies per axis; weights from the center out."""
    reach, found = len(weights) - 1, channel.astype(np.float32)
    for _ in range(2):  # along the rows' axis, then, transposed, along the other
        padded = np.concatenate((found[reach:0:-1], found, found[-2 : -2 - reach : -1])) if reach else found
        found, both = found * np.float32(weights[0]), np.empty_like(found)
        for k in range(1, reach + 1):
            np.add(padded[reach - k : -reach - k], padded[reach + k : len(padded) - reach + k], out=both)
            both *= np.float32(weights[k])
            found += both
        found = found.T
    return found


def _blur(images: ImageBatch, weights: Float[Tensor, "taps B 1 1 1"]) -> Float[Tensor, "B 3 H W"]:
    """The same for a whole batch."""
    reach, blurred = len(weights) - 1, images.float()
    for axis, border in ((2, [0, 0, reach, reach]), (3, [reach, reach, 0, 0])):
        padded = F.pad(blurred, border, mode="reflect") if reach else blurred
        length = blurred.shape[axis]
        blurred = padded.narrow(axis, reach, length) * weights[0]
        for k in range(1, reach + 1):
            for at in (reach - k, reach + k):
                blurred.addcmul_(padded.narrow(axis, at, length), weights[k])
    return blurred


def _levels(values: Float[Tensor, "B 3 H W"]) -> ImageBatch:
    return values.round_().to(torch.uint8)


def _gray(images: ImageBatch) -> ImageBatch:
    """Luma in all three channels, rounded down as torchvision does."""
    red, green, blue = (images[:, k] * share for k, share in enumerate(LUMA))
    return red.add_(green).add_(blue).to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


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
    mean, std = (send(torch.tensor(v, dtype=dtype), images.device).view(3, 1, 1) for v in STATISTICS[kind])
    return images.to(dtype).div_(255).sub_(mean).div_(std)
