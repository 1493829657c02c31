"""What the surface of a person looks like at a point: cloth, pattern, skin, hair, face.

Works on a flat list of k covered pixels. `x`, `z` are the sine and cosine of the angle around the part's
axis (x to the person's left, z ahead) and `angle` a pseudo-angle: 0 ahead, +-1 the sides, +-2 behind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dynamix.data.mannequins import people as p
from dynamix.data.mannequins.body import NAMES, PART, Parts
from dynamix.data.mannequins.people import People

# rest heights of v = 0 and 1 on parts that carry the top's pattern, so that stripes meet across parts
_HEIGHTS = {
    "chest": (0.782, 0.605), "pelvis": (0.615, 0.50), "arm_l": (0.782, 0.632), "arm_r": (0.782, 0.632),
    "forearm_l": (0.632, 0.502), "forearm_r": (0.632, 0.502), "skirt": (0.60, 0.33), "hood": (0.83, 0.79),
}  # fmt: skip
Pixels = dict[str, Tensor]


def color(
    flat: Pixels, shape: dict[str, Tensor], parts: Parts, people: People, frame: dict[str, Tensor]
) -> Tensor:
    """Unlit colour of every covered pixel, (k, 3)."""
    device, count = flat["v"].device, len(NAMES)
    part = flat["part"].long()
    key = flat["row"] * count + part
    columns = [
        shape["cos"],
        shape["sin"],
        shape["length"],
        parts.cut,
        frame["sy"][:, None].expand_as(parts.cut),
    ]
    columns += [*parts.colors.flatten(2).unbind(2)]
    table = torch.stack([c.float().to(device) for c in columns], 2).view(-1, len(columns))
    own = table.index_select(0, key)  # (k, 11)
    after = ((flat["v"] - own[:, 3]) * own[:, 2]).add_(0.5).clamp_(0, 1)[:, None]
    out = own[:, 5:8] + after * (own[:, 8:] - own[:, 5:8])
    n = flat["s"].square().neg_().add_(1).clamp_(min=0).sqrt_()
    x = own[:, 0] * flat["s"] - own[:, 1] * n
    z = own[:, 1] * flat["s"] + own[:, 0] * n
    columns = [t.contiguous() for t in (part, flat["row"], flat["v"], own[:, 3], x, z, own[:, 4])]
    for names, paint in (
        (("chest", "pelvis", "arm_l", "arm_r", "forearm_l", "forearm_r", "skirt", "hood"), _top),
        (("thigh_l", "thigh_r", "shin_l", "shin_r"), _legs),
        (("head",), _face),
        (("hair", "mane"), _strands),
        (("pack", "bag"), _bags),
    ):
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[[PART[n] for n in names]] = True
        rows = torch.nonzero(chosen.to(device)[part])[:, 0]
        if len(rows):
            here = _Point(*(c.index_select(0, rows) for c in columns))
            out.index_copy_(0, rows, paint(out.index_select(0, rows), here, _Wearer(people, here.row)))
    return out


class _Wearer:
    """A person's columns at pixels; each is looked up when it is asked for."""

    def __init__(self, people: People, row: Tensor) -> None:
        self.people, self.row, self.known = people, row, dict[str, Tensor]()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.known:
            column = getattr(self.people, name).to(self.row.device)
            self.known[name] = column.index_select(0, self.row)
        return self.known[name]


@dataclass(frozen=True)
class _Point:
    """Where the pixels lie on their parts, (k,) each."""

    part: Tensor
    row: Tensor
    v: Tensor
    cut: Tensor
    x: Tensor
    z: Tensor
    unit: Tensor  # pixels per body height

    def select(self, rows: Tensor) -> "_Point":
        """The points at `rows`."""
        return _Point(*(value.index_select(0, rows) for value in vars(self).values()))

    def angle(self) -> Tensor:
        ratio = self.x / (self.x.abs() + self.z.abs()).clamp_(min=1e-6)
        behind = torch.where(self.x < 0, -2 - ratio, 2 - ratio)
        return torch.where(self.z < 0, behind, ratio)

    def height(self) -> Tensor:
        """Height on the standing body."""
        ends = torch.tensor([_HEIGHTS.get(n, (0.0, 0.0)) for n in NAMES], device=self.v.device)[self.part]
        return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * self.v

    def one_of(self, *names: str) -> Tensor:
        found = self.part == PART[names[0]]
        for name in names[1:]:
            found = found | (self.part == PART[name])
        return found


def _wave(x: Tensor) -> Tensor:
    """Distance to the nearest integer, 0..0.5."""
    return (x - torch.floor(x + 0.5)).abs_()


def _soft(distance: Tensor, unit: Tensor) -> Tensor:
    """1 where `distance` (in body heights) is positive, one pixel soft."""
    return (distance * unit + 0.5).clamp_(0, 1)


def _mix(color: Tensor, amount: Tensor, other: Tensor) -> Tensor:
    return color + amount[:, None] * (other - color)


def _folds(px: _Point, h: Tensor, angle: Tensor) -> Tensor:
    """Wide soft folds of cloth, around 1."""
    a = _wave(h * 7 + 0.35 * angle + 0.6 * _wave(angle * 0.7 + h * 3)) * 2
    return 0.965 + 0.07 * a * a * (3 - 2 * a)


def _top(out: Tensor, px: _Point, who: _Wearer) -> Tensor:
    """Tops, coats and skirts: pattern, opening, neckline, straps, hem."""
    angle, h = px.angle(), px.height()
    torso = px.one_of("chest", "pelvis")
    coat = who["top"] == p.COAT
    skirt = px.one_of("skirt")
    patterned = (px.v < px.cut) & (~skirt | coat | (who["bottom"] == p.DRESS)) & (who["pattern"] != p.PLAIN)
    rows = torch.nonzero(patterned)[:, 0]
    if len(rows):
        points = px.select(rows)
        some = _Wearer(who.people, points.row)
        amount = _pattern(some, points, angle[rows], h[rows], torso[rows])
        out[rows] = _mix(out[rows], amount, some["top_accent"])
    cloth = torso & (px.v < px.cut)
    out = _front(out, px, who, angle, h, cloth, skirt & coat)
    out = _straps(out, px, who, h)
    # below the edge of a top the trousers lie in its shadow
    beyond = px.v - px.cut
    shadow = torch.where((beyond > 0) & px.one_of("pelvis"), 0.30 * (1 - beyond * 5).clamp_(min=0), 0.0)
    under_chin = torch.where(px.part == PART["chest"], 0.22 * ((h - 0.80) * 40).clamp_(0, 1), 0.0)
    return out * (_folds(px, h, angle) * (1 - shadow) * (1 - under_chin))[:, None]


def _front(
    out: Tensor, px: _Point, who: _Wearer, angle: Tensor, h: Tensor, cloth: Tensor, tail: Tensor
) -> Tensor:
    """Open jackets over a shirt, zips, buttons, and the skin inside the neckline."""
    ahead = (px.z > 0).float()
    opened = (who["top"] == p.OPEN_JACKET) & cloth
    gap = 0.14 + 0.25 * (0.80 - h)
    edge = (gap - angle.abs()) * 0.12
    out = _mix(out, opened * ahead * _soft(edge, px.unit), who["inner"])
    out = out * (1 - 0.25 * opened * ahead * _soft(0.007 - edge.abs(), px.unit))[:, None]
    closed = ((who["top"] == p.JACKET) | (who["top"] == p.COAT)) & (cloth | tail)
    out = out * (1 - 0.30 * closed * ahead * _soft(0.005 - angle.abs() * 0.12, px.unit))[:, None]
    deep = torch.where(who["top"] == p.VEST, 0.035, torch.where(who["feminine"] > 0.5, 0.016, 0.004))
    neck = (h - 0.812 + deep - 0.10 * px.x * px.x - 0.02 * (px.z < 0)) * (px.part == PART["chest"])
    bare = (who["top"] == p.TEE) | (who["top"] == p.SHIRT) | (who["top"] == p.VEST)
    return _mix(out, bare * _soft(neck, px.unit) * (neck != 0), who["skin"])


def _straps(out: Tensor, px: _Point, who: _Wearer, h: Tensor) -> Tensor:
    """Of a backpack on both shoulders, of a bag across the body."""
    chest = px.part == PART["chest"]
    on = who["backpack"] & chest & (px.z > -0.2)
    strap = _soft(0.010 - (px.x.abs() - 0.55).abs() * 0.098, px.unit) * (h > 0.63)
    out = _mix(out, on * strap, who["backpack_color"])
    line = h - 0.705 + px.x * who["bag_side"] * 0.115
    strap = _soft(0.006 - line.abs() * 0.7, px.unit)
    torso = (who["bag"] == p.CROSS_BODY) & px.one_of("chest", "pelvis")
    return _mix(out, torso * strap, who["bag_color"] * 0.8)


def _pattern(who: _Wearer, px: _Point, angle: Tensor, h: Tensor, torso: Tensor) -> Tensor:
    """Share of the accent colour at each point of a patterned top, (k,)."""
    kind, scale, unit = who["pattern"], who["pattern_scale"], px.unit
    chest = torso & (px.part == PART["chest"])
    amount = torch.zeros_like(h)
    period = 0.045 * scale
    bars = _soft((0.25 - _wave(h / period)) * period, unit)
    around = 0.36 * scale
    upright = _soft((0.25 - _wave(angle / around)) * around * 0.12, unit)
    pin = _soft(0.006 - _wave(angle / (0.7 * around)) * 0.084 * around, unit)
    x, y = angle * 0.11, h - 0.715  # on the chest, in body heights
    size = 0.030 * scale
    disc, square = (x * x + y * y).sqrt(), torch.maximum(x.abs(), y.abs())
    diamond = x.abs() + y.abs()
    choice = (scale * 40).floor() % 4
    logo = torch.where(choice == 0, disc, torch.where(choice == 1, square, diamond))
    logo = torch.where(choice == 3, (disc - 0.7 * size).abs() * 2.2, logo)
    letters = _soft((_wave(x * 62 * scale) + _wave(x * 41 + y * 19) - 0.42) * 0.02, unit)
    lines = torch.minimum((_wave(y * 38.5) - 0.16) * 0.026, 0.028 - y.abs())
    text = torch.minimum(letters, _soft(torch.minimum(lines, 0.052 - x.abs()), unit))
    dot = _soft(0.010 - ((_wave(angle * 3.3) * 0.033) ** 2 + (_wave(h * 25) * 0.04) ** 2).sqrt(), unit)
    back = (angle.abs() - 2) * 0.11
    print_ = _soft(torch.minimum(back + 0.065, 0.05 - (h - 0.70).abs()), unit)
    print_ = print_ * (1 - 0.8 * _soft(torch.minimum(back + 0.045, 0.015 - (h - 0.70).abs()), unit))
    ahead = chest & (px.z > 0)
    for number, value in (
        (p.BARS, bars), (p.PINSTRIPES, 0.8 * pin), (p.CHECKS, 0.5 * bars + 0.4 * upright),
        (p.LOGO, ahead * _soft(size - logo, unit)), (p.TEXT, ahead * text), (p.BLOCK, _soft(h - 0.70, unit)),
        (p.DOTS, dot), (p.SPLIT, _soft(-angle * 0.11, unit)), (p.BACK_PRINT, chest * (px.z < 0) * print_),
    ):  # fmt: skip
        amount = torch.where(kind == number, value, amount)
    return amount


def _legs(out: Tensor, px: _Point, who: _Wearer) -> Tensor:
    """Trousers and bare legs: side stripes, the shade of a hem, folds at knee and ankle."""
    left = px.one_of("thigh_l", "shin_l")
    outward = (px.angle() - torch.where(left, 1.0, -1.0)).abs()
    out = _mix(out, who["side_stripe"] * _soft((0.17 - outward) * 0.06, px.unit), who["bottom_accent"])
    upper = px.one_of("thigh_l", "thigh_r")
    shade = torch.where(upper, 0.12 * (1 - px.v * 4).clamp_(0, 1), 0.0)
    crease = 0.05 * (_wave(px.v * 2.5 + 0.3 * px.x) - 0.25) * (0.5 + px.v)
    cut = (px.v - px.cut) * 12  # below shorts
    hem = torch.where(upper & (cut > 0), 0.3 * (1 - cut).clamp_(min=0), 0.0)
    return out * ((1 - shade + crease) * (1 - hem))[:, None]


def _spot(x: Tensor, y: Tensor, wide: Tensor, high: Tensor) -> Tensor:
    """A soft spot of half-axes `wide`, `high`; those below a pixel must already be widened and paled."""
    q = (x / wide) ** 2 + (y / high) ** 2
    return 1 / (1 + q * q)


def _face(out: Tensor, px: _Point, who: _Wearer) -> Tensor:
    """Eyes, brows, mouth, beard and glasses on the front of the head; ears and neck stay skin."""
    ahead = px.z.clamp(0, 1)
    pixel = 0.55 / (px.unit * 0.079)  # one half pixel in v, of the head's axis

    def mark(x: float, v: float, wide: float, high: float) -> Tensor:
        h = (high * high + pixel * pixel).sqrt()
        w = (wide * wide + 0.5 * pixel * pixel).sqrt()
        pale = (high * wide) / (h * w)
        return _spot(px.x.abs() - x, px.v - v, w, h) * pale.sqrt() * (px.z > 0)

    hair, skin = who["hair"], who["skin"]
    out = out * (1 - 0.16 * mark(0.40, 0.44, 0.30, 0.13) - 0.10 * mark(0.0, 0.74, 0.16, 0.05))[:, None]
    out = _mix(out, 0.30 * mark(0.62, 0.66, 0.2, 0.14), skin * skin.new_tensor([1.0, 0.78, 0.76]))
    out = _mix(out, 0.75 * mark(0.42, 0.28, 0.24, 0.035), hair * 0.8)
    out = _mix(out, 0.85 * mark(0.41, 0.44, 0.14, 0.05), skin * 0.12)
    out = _mix(out, 0.75 * mark(0.0, 0.92, 0.30, 0.035), skin * skin.new_tensor([0.72, 0.42, 0.40]))
    frame = _spot(px.x.abs() - 0.42, px.v - 0.45, px.x * 0 + 0.34, px.v * 0 + 0.16)
    bridge = _spot(px.x * 0, px.v - 0.42, px.x * 0 + 1, px.v * 0 + 0.05)
    out = _mix(out, who["glasses"] * ahead * (0.42 * frame + 0.25 * bridge).clamp_(max=1), skin * 0.1)
    low = ((px.v - 0.62 - 0.12 * (px.x.abs() < 0.35)) * 5).clamp_(0, 1)
    moustache = mark(0.0, 0.80, 0.34, 0.05)
    beard = torch.maximum(low * (px.z > -0.1), moustache) * (1 - 0.7 * mark(0.0, 0.92, 0.26, 0.03))
    return _mix(out, who["beard"] * 0.72 * beard, hair)


def _strands(out: Tensor, px: _Point, who: _Wearer) -> Tensor:
    """A faint sheen along the hair."""
    sheen = _wave(px.angle() * 2.7 + 0.15 * px.v) - 0.25
    top = (0.4 - px.v).clamp(0, 1)
    return out * (1 + 0.30 * sheen + 0.35 * top)[:, None]


def _bags(out: Tensor, px: _Point, who: _Wearer) -> Tensor:
    """A seam above the pocket."""
    seam = _soft(0.005 - (px.v - px.cut).abs() * 0.15, px.unit)
    return out * (1 - 0.35 * seam)[:, None]
