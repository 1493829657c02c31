"""By what people are seen: a columnar record of cameras, and the scenes behind the people."""

import dataclasses
import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dynamix.data.mannequins.people import keys, uniform

SCENE = 40  # numbers in [0, 1) that describe one scene
STYLES = ("city", "campus", "indoor", "station", "studio", "street")
SPAN = 3  # a panorama is this many frames wide, and
RISE = 8  # 1/RISE of a frame higher than a frame


@dataclass(frozen=True)
class Cameras:
    """n cameras; every column has one row a camera."""

    azimuth: Float[Tensor, " n"]  # from where people are mostly seen; 0 = they face the camera
    scale: Float[Tensor, " n"]  # height of a person as a share of the box
    pitch: Float[Tensor, " n"]  # radians the camera looks down
    gain: Float[Tensor, "n 3"]  # colour cast
    offset: Float[Tensor, " n"]  # veil (haze, black level)
    gamma: Float[Tensor, " n"]  # log2 of the tone curve's slope at black: 0 = linear
    saturation: Float[Tensor, " n"]
    light: Float[Tensor, "n 3"]  # unit vector towards the light: right, up, to the camera
    ambient: Float[Tensor, " n"]  # share of the light that comes from everywhere
    blur: Float[Tensor, " n"]  # 0 sharp .. 1
    noise: Float[Tensor, " n"]  # standard deviation
    scene: Float[Tensor, "n S"]  # parameters of its panorama
    style: Int[Tensor, " n"]  # index into STYLES
    spread: Float[Tensor, " n"]  # how far cameras of this world differ

    def __len__(self) -> int:
        return len(self.style)

    def select(self, index: Int[Tensor, " m"]) -> "Cameras":
        """The cameras at `index`, in that order."""
        return Cameras(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def cameras(count: int, *, seed: int, spread: float | int, style: str = "city") -> Cameras:
    """Draw `count` cameras whose photometry, light and scenes lie `spread` apart.

    0: all alike but for where they stand; 1: indoors beside dusk. Unknown styles and negative numbers raise.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; there are {', '.join(STYLES)}")
    if count < 0 or spread < 0:
        raise ValueError(f"count and spread must not be negative, got {count} and {spread}")
    stream = 10 * (1 + STYLES.index(style))  # one seed in two styles: no camera in common
    k = keys(seed, count, stream=stream)
    common = keys(seed, 1, stream=stream + 1).expand(count)
    styles = torch.full((count,), STYLES.index(style))
    scene, base = _scene(k), _scene(common)
    columns = _photometry(k, torch.full((count,), float(spread), dtype=torch.float64)) | {
        "azimuth": 2 * math.pi * uniform(k, 100),
        "scale": 0.84 + 0.10 * uniform(k, 101),
        "pitch": (0.04 if style in ("studio", "street") else 0.10) + 0.20 * uniform(k, 102),
        "scene": base + min(float(spread) + 0.25, 1.0) * (scene - base) if spread else base,
        "style": styles,
    }
    return _cameras(columns)


def moments(base: Cameras, count: int, *, seed: int, strength: float | int = 0.5) -> Cameras:
    """What hand-held cameras see while they move: `count` variants of each camera, base-major.

    Each has a scene of its own and `strength` of the difference in exposure, cast, tone, light and
    saturation to an independent camera; lens, sensor and habits stay the base's.
    """
    if count < 0 or not 0 <= strength <= 1:
        raise ValueError(f"count must not be negative and strength a share, got {count} and {strength}")
    rows = torch.arange(len(base)).repeat_interleave(count)
    here = {f.name: getattr(base, f.name)[rows] for f in dataclasses.fields(base)}
    k = keys(seed, len(rows), stream=3)
    other = _photometry(k, here["spread"].double())
    for name in ("gain", "offset", "gamma", "saturation", "light", "ambient"):
        here[name] = here[name].double() + strength * (other[name] - here[name].double())
    here["light"] = here["light"] / here["light"].norm(dim=1, keepdim=True)
    return _cameras(here | {"scene": _scene(k)})


def _cameras(columns: dict[str, Tensor]) -> Cameras:
    return Cameras(**{k: v.float() if v.is_floating_point() else v for k, v in columns.items()})


def _bell(k: Tensor, column: int) -> Tensor:
    """Zero mean, unit variance, within about +-2.4."""
    return 2 * (uniform(k, column) + uniform(k, column + 1) + uniform(k, column + 2) - 1.5)


def _photometry(k: Tensor, spread: Tensor) -> dict[str, Tensor]:
    warm, green = 0.10 * spread * _bell(k, 110), 0.05 * spread * _bell(k, 113)
    exposure = 2.0 ** (0.34 * spread * _bell(k, 116))
    gain = exposure[:, None] * torch.stack([1 + warm, 1 + green, 1 - warm], 1)
    around, high = 2 * math.pi * uniform(k, 119), 0.35 + 0.5 * uniform(k, 120)
    light = torch.stack([around.sin() * 0.8, high, 0.45 + 0.3 * around.cos()], 1)
    neutral = torch.tensor([0.25, 0.65, 0.7], dtype=torch.float64)
    light = neutral + spread.clamp(max=1)[:, None] * (light - neutral)
    return {
        "gain": gain.clamp(0.35, 1.7),
        "offset": 0.02 + 0.04 * spread * uniform(k, 121),
        "gamma": 0.35 * spread * _bell(k, 122),
        "saturation": (1 - 0.12 * spread + 0.22 * spread * _bell(k, 125)).clamp(0.3, 1.5),
        "light": light / light.norm(dim=1, keepdim=True),
        "ambient": 0.6 + 0.14 * spread.clamp(max=1.5) * (2 * uniform(k, 128) - 1),
        "blur": (0.2 + 0.55 * spread * (uniform(k, 129) - 0.35)).clamp(0, 1),
        "noise": (0.012 + 0.018 * spread * (uniform(k, 130) - 0.3)).clamp(min=0.003),
        "spread": spread,
    }


def _scene(k: Tensor) -> Tensor:
    return torch.stack([uniform(k, 200 + i) for i in range(SCENE)], 1)


# ---- scenes: only correctly rounded operations, so that every device draws the same bytes; constants
# multiply and never divide, because a GPU would multiply by their reciprocal anyway


@functools.lru_cache(maxsize=8)
def cloth_of_noise(height: int, width: int) -> Tensor:
    """One fixed field (3, height, width), zero mean, unit variance; windows of it are sensor noise."""
    index = torch.arange(3 * height * width)
    total = uniform(index, 1) + uniform(index, 2) + uniform(index, 3) + uniform(index, 4) - 2
    return (total * math.sqrt(3)).float().view(3, height, width)


@functools.lru_cache(maxsize=8)
def clouds(height: int, width: int, cell: int) -> Tensor:
    """Smooth fixed noise (height, width) in [0, 1] that changes over `cell` pixels; periodic in x."""
    rows, columns = height // cell + 2, -(-width // cell)
    grid = uniform(torch.arange(rows * columns) + 977 * cell, 5).view(rows, columns)
    grid = torch.cat([grid, grid[:, :1]], 1)

    def along(n: int) -> tuple[Tensor, Tensor]:
        x = torch.arange(n, dtype=torch.float64) / cell
        f = x - x.floor()
        return x.long(), f * f * (3 - 2 * f)

    (y, fy), (x, fx) = along(height), along(width)
    top = grid[y][:, x] * (1 - fx) + grid[y][:, x + 1] * fx
    low = grid[y + 1][:, x] * (1 - fx) + grid[y + 1][:, x + 1] * fx
    return (top * (1 - fy[:, None]) + low * fy[:, None]).float()


def panoramas(scene: Float[Tensor, "n S"], style: Int[Tensor, " n"], size: tuple[int, int]) -> Tensor:
    """What each camera sees without people, (n, 3, height + height // RISE, SPAN * width), in [0, 1]."""
    height, width = size
    rows, columns = height + height // RISE, SPAN * width
    y = ((torch.arange(rows, device=scene.device, dtype=torch.float32) + 0.5) * (1 / height))[:, None]
    x = ((torch.arange(columns, device=scene.device, dtype=torch.float32) + 0.5) * (1 / height))[None]
    x, y = x.expand(1, rows, columns), y.expand(1, rows, columns)
    painter = _Painter(scene, style, 1.0 / height)
    horizon = painter.between(0, 0.50, 0.82)
    soft = _texture(painter, rows, columns, height)
    wall = painter.wall(x, y, horizon, soft)
    ground = painter.ground(x, y, horizon, soft)
    below = _edge(y - horizon, painter.pixel)[:, None]
    return (wall + below * (ground - wall)).clamp_(0.02, 0.98)


def _texture(painter: "_Painter", rows: int, columns: int, height: int) -> Tensor:
    """Blotches and grain, zero mean, shifted per scene."""
    device = painter.u.device
    total = torch.zeros(len(painter.u), rows, columns, device=device)
    for i, (cell, weight) in enumerate(((max(height // 4, 2), 0.5), (max(height // 12, 2), 0.3), (2, 0.2))):
        field = clouds(2 * rows, columns, cell).to(device) - 0.5
        window = field.unfold(0, rows, 1)  # (shift, columns, rows)
        start = (painter.u[:, 30 + i] * (rows - 1)).long()
        total = total + weight * window[start].transpose(1, 2)
    return total


def _edge(distance: Tensor, pixel: float) -> Tensor:
    """1 where `distance` is positive, with an edge one pixel soft."""
    return (distance * (1 / pixel) + 0.5).clamp_(0, 1)


def _wave(x: Tensor) -> Tensor:
    """Distance to the nearest integer, 0 .. 0.5."""
    return (x - torch.floor(x + 0.5)).abs_()


class _Painter:
    """Reads a scene's numbers; every method returns (n, ...) tensors."""

    def __init__(self, scene: Tensor, style: Tensor, pixel: float) -> None:
        self.u, self.style, self.pixel = scene, style, pixel

    def between(self, i: int, low: float | int, high: float | int) -> Tensor:
        return (low + (high - low) * self.u[:, i])[:, None, None]

    def has(self, i: int, share: dict[str, float], default: float) -> Tensor:
        """Whether a scene has an ingredient, at its style's frequency."""
        chance = torch.tensor([share.get(s, default) for s in STYLES], device=self.u.device)[self.style]
        return (self.u[:, i] < chance).float()[:, None, None]

    def color(self, i: int, low: float | int, high: float | int, chroma: float = 0.16) -> Tensor:
        """A muted colour (n, 3, 1, 1): a grey with a little warmth and green."""
        light, warm, green = self.u[:, i], self.u[:, i + 1] - 0.45, self.u[:, i + 2] - 0.5
        grey = low + (high - low) * light
        tint = torch.stack([warm, 0.35 * green, -warm], 1) * chroma
        return (grey[:, None] * (1 + 1.6 * tint))[:, :, None, None]

    def wall(self, x: Tensor, y: Tensor, horizon: Tensor, soft: Tensor) -> Tensor:
        up = horizon - y  # above the foot of the wall
        tone = 1 + 0.35 * soft - 0.18 * (1 - up.clamp(0, 0.12) * 8.3)
        tone = tone * (1 - self._bricks(x, up)) * (1 - self._joints(x))
        image = self.color(1, 0.34, 0.74) * tone[:, None]
        for mask, color in (
            (self._windows(x, up), self.color(4, 0.14, 0.5, 0.10) * (1 + 0.8 * up.clamp(0, 1)[:, None])),
            (self._foliage(up, soft), self._green() * (1 + 1.3 * soft[:, None])),
            (self._plinth(up), self.color(7, 0.2, 0.5)),
            (self._posts(x, up), self.color(10, 0.12, 0.6)),
            (self._cars(x, up), self.color(13, 0.12, 0.7, 0.2) * (0.75 + 1.6 * up.clamp(0, 0.3)[:, None])),
        ):
            image = image + mask[:, None] * (color - image)
        return image

    def _green(self) -> Tensor:
        leaf = torch.tensor([0.27, 0.32, 0.20], device=self.u.device)[None, :, None, None]
        return leaf * self.between(16, 0.7, 1.4)[:, None]

    def _bricks(self, x: Tensor, up: Tensor) -> Tensor:
        high = self.between(17, 0.035, 0.075)
        row = torch.floor(up / high)
        joint_y = _edge(0.06 * high - _wave(up / high) * high, self.pixel)
        shifted = x / (2.4 * high) + 0.5 * row
        joint_x = _edge(0.06 * high - _wave(shifted) * 2.4 * high, self.pixel)
        on = self.has(18, {"studio": 0.0, "indoor": 0.1}, 0.35)
        return on * 0.22 * torch.maximum(joint_y, joint_x)

    def _joints(self, x: Tensor) -> Tensor:
        """Vertical joints of panels, half of them shaded."""
        wide = self.between(19, 0.22, 0.6)
        on = self.has(20, {"station": 0.6, "indoor": 0.6, "studio": 0.2}, 0.3)
        panel = x / wide
        shade = 0.10 * (_wave(panel * 0.5) > 0.25).float()
        return on * torch.maximum(shade, 0.3 * _edge(0.008 - _wave(panel) * wide, self.pixel))

    def _windows(self, x: Tensor, up: Tensor) -> Tensor:
        wide, low = self.between(21, 0.28, 0.55), self.between(22, 0.08, 0.3)
        x = x + self.between(23, 0, 1)
        across = (0.5 - _wave(x / wide)) * wide  # distance from the pier
        pane = torch.minimum(across - 0.18 * wide, torch.minimum(up - low, low + 0.42 - up))
        bar = _edge(0.008 - (0.5 * wide - across).abs(), self.pixel)
        return self.has(24, {"studio": 0.1, "indoor": 0.35}, 0.5) * _edge(pane, self.pixel) * (1 - bar)

    def _foliage(self, up: Tensor, soft: Tensor) -> Tensor:
        tall = self.between(25, 0.12, 0.55)
        on = self.has(26, {"campus": 0.6, "indoor": 0.02, "studio": 0.0, "station": 0.08}, 0.3)
        return on * _edge(tall + 0.5 * soft - up, 3 * self.pixel) * _edge(up, self.pixel)

    def _plinth(self, up: Tensor) -> Tensor:
        return self.has(27, {}, 0.5) * _edge(self.between(28, 0.015, 0.06) - up, self.pixel)

    def _posts(self, x: Tensor, up: Tensor) -> Tensor:
        apart, thick = self.between(29, 0.45, 1.2), self.between(33, 0.008, 0.03)
        on = self.has(34, {"studio": 0.05}, 0.4)
        return on * _edge(thick - _wave(x / apart + self.between(35, 0, 1)) * apart, self.pixel)

    def _cars(self, x: Tensor, up: Tensor) -> Tensor:
        """A parked car's body with a rounded roof."""
        apart = self.between(36, 0.9, 1.8)
        across = _wave(x / apart + self.between(37, 0, 1)) * apart * 2.8
        roof = 0.20 - 0.06 * across * across - 0.10 * _edge(across - 0.62, 0.2)
        on = self.has(38, {"indoor": 0.0, "station": 0.05, "studio": 0.0, "campus": 0.2}, 0.3)
        return on * _edge(torch.minimum(roof - up, (1 - across) * 0.3), self.pixel)

    def ground(self, x: Tensor, y: Tensor, horizon: Tensor, soft: Tensor) -> Tensor:
        near = (y - horizon).clamp(min=0) + 0.10
        depth = 0.25 / near
        columns = (x - 0.5 * SPAN * 0.5) * depth * self.between(8, 3, 7)
        lines = torch.maximum(
            _edge(0.02 - _wave(columns) * 0.12, 1.5 * self.pixel),
            _edge(0.012 - _wave(depth * self.between(9, 4, 9)) * near * near * 0.6, 1.5 * self.pixel),
        )
        tiles = self.has(39, {"station": 0.7, "indoor": 0.7, "studio": 0.2}, 0.4)
        tone = (1 + 0.35 * soft) * (1 - 0.16 * tiles * lines) * (0.86 + 0.5 * (y - horizon).clamp(0, 0.4))
        return self.color(3, 0.34, 0.66, 0.12) * tone[:, None]
