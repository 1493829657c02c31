"""Shots to images: parts are drawn into a depth buffer, then every covered pixel is dressed and lit once.

Per pixel only correctly rounded operations are used (+, -, *, /, sqrt, floor, min, max, where): results do
not depend on vector width, chunk, threads or device. Functions with rounding of their own (sin, cos) work
on a few float64 numbers per shot, on the CPU.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from dynamix.data.mannequins import body, dress
from dynamix.data.mannequins.cameras import Cameras, cloth_of_noise, panoramas
from dynamix.data.mannequins.people import People, uniform

FAR = -1e6


@dataclass(frozen=True)
class Shots:
    """B images to take: who, by which camera, from where, when. Every column has one row an image."""

    person: Int[Tensor, " B"]  # row of `People`; -1: nobody, an empty box
    camera: Int[Tensor, " B"]  # row of `Cameras`
    azimuth: Float[Tensor, " B"]  # radians; 0: faces the camera, pi / 2: walks to the right
    phase: Float[Tensor, " B"]  # of the walk, radians
    offset: Float[Tensor, "B 2"]  # of the person in the box, right and down, as fractions of its size
    zoom: Float[Tensor, " B"]  # 1: the whole person; from about 1.6, with an offset, a part only
    occluder: Int[Tensor, " B"]  # 0 none, 1 something low, 2 a pillar
    seed: Int[Tensor, " B"]  # of this image's crop, noise and occluder

    def __len__(self) -> int:
        return len(self.person)

    def select(self, index: Int[Tensor, " m"]) -> "Shots":
        """The shots at `index`, in that order."""
        return Shots(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def render(
    people: People,
    cameras: Cameras,
    shots: Shots,
    size: tuple[int, int],
    *,
    device: str | torch.device = "cpu",
    chunk: int | None = None,
    progress: bool = False,
) -> UInt8[Tensor, "B 3 H W"]:
    """Draw every shot at `size` (height, width); the result is on the CPU.

    The same shot gives the same bytes whatever the chunk, the thread count and the other shots. Persons and
    cameras that do not exist, and sizes below 8, raise.
    """
    height, width = size
    _check(people, cameras, shots, size)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is a number of images, at least 1; got {chunk}")
    images = torch.empty(len(shots), 3, height, width, dtype=torch.uint8)
    if chunk is None:
        chunk = max(1, (400_000 if torch.device(device).type == "cpu" else 6_000_000) // (height * width))
    # by camera, so that a chunk needs few panoramas, then by person
    order = torch.argsort(shots.camera * (len(people) + 1) + shots.person + 1, stable=True)
    backdrops: dict[int, Tensor] = {}
    with torch.no_grad(), tqdm(total=len(shots), unit="img", disable=not progress) as bar:
        for rows in order.split(chunk) if len(order) else ():
            some = shots.select(rows)
            images[rows] = _chunk(people, cameras, some, size, torch.device(device), backdrops).cpu()
            bar.update(len(rows))
    return images


def _check(people: People, cameras: Cameras, shots: Shots, size: tuple[int, int]) -> None:
    if min(size) < 8:
        raise ValueError(f"size is (height, width) of at least 8 pixels each, got {size}")
    for name, index, low, n in (
        ("person", shots.person, -1, len(people)),
        ("camera", shots.camera, 0, len(cameras)),
    ):
        wrong = (index < low) | (index >= n)
        if wrong.any():
            row = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"shots.{name}[{row}] is {int(index[row])}; there are {n}: give {low} to {n - 1}"
            )


def _chunk(
    people: People, cameras: Cameras, shots: Shots, size: tuple[int, int], device: torch.device,
    backdrops: dict[int, Tensor],
) -> Tensor:  # fmt: skip
    cams = cameras.select(shots.camera)
    image = _background(cameras, shots, size, device, backdrops)
    shown = torch.nonzero(shots.person >= 0)[:, 0]
    if len(shown):
        some = shots.select(shown)
        where = shown.to(device)
        image[where] = _figures(image[where], people.select(some.person), cams.select(shown), some)
    _occlude(image, shots)
    return _photograph(image, cams, shots)


def _background(
    cameras: Cameras, shots: Shots, size: tuple[int, int], device: torch.device, backdrops: dict[int, Tensor]
) -> Tensor:
    used, which = torch.unique(shots.camera, return_inverse=True)
    missing = torch.tensor([c for c in used.tolist() if c not in backdrops], dtype=torch.long)
    for gone in set(backdrops) - set(used.tolist()):  # shots come ordered by camera: it is not needed again
        del backdrops[gone]
    if len(missing):
        new = cameras.select(missing)
        drawn = panoramas(new.scene.to(device), new.style.to(device), size)
        backdrops.update(zip(missing.tolist(), drawn, strict=True))
    wide = torch.stack([backdrops[c] for c in used.tolist()])
    windows = wide.unfold(2, size[0], 1).unfold(3, size[1], 1)  # (n, 3, Y, X, H, W)
    y = (uniform(shots.seed, 0) * windows.shape[2]).long()
    x = (uniform(shots.seed, 1) * windows.shape[3]).long()
    return windows[which.to(device), :, y.to(device), x.to(device)]


# ---- figures


def _figures(image: Tensor, people: People, cameras: Cameras, shots: Shots) -> Tensor:
    """`image` (b, 3, H, W) with one person in each."""
    height, width = image.shape[2:]
    look = (uniform(shots.seed, 2) - 0.5) * 1.0 * (uniform(shots.seed, 3) < 0.6)
    parts = body.pose(people, shots.phase.double(), look)
    frame = _frame(cameras, shots, height, width)
    shape, boxes = _project(parts, cameras, shots, frame, (height, width))
    shape = {k: v.float().to(image.device) for k, v in shape.items()}
    buffers = _raster(shape, boxes, parts.visible, (height, width))
    image = _shadow(image, parts, shots, frame)
    return _paint(image, buffers, shape, parts, people, cameras, frame)


def _frame(cameras: Cameras, shots: Shots, height: int, width: int) -> dict[str, Tensor]:
    """Pixels per unit and the pixel of the ground below the body's axis, (b,) float64."""
    tight = cameras.scale.double() * (0.97 + 0.06 * uniform(shots.seed, 4))
    sy = height * tight * shots.zoom.double()
    sx = sy * (2 * width / height) * 1.2 * (0.90 + 0.30 * uniform(shots.seed, 5))
    offset = shots.offset.double()
    return {
        "sx": sx,
        "sy": sy,
        "x": width * (0.5 + offset[:, 0] + 0.06 * (uniform(shots.seed, 6) - 0.5)),
        "y": height * (0.5 + offset[:, 1]) + 0.5 * sy,
    }


def _project(
    parts: body.Parts, cameras: Cameras, shots: Shots, frame: dict[str, Tensor], size: tuple[int, int]
) -> tuple[dict[str, Tensor], Tensor]:
    """Screen shape of every part, (b, P) float64 by name, and its box (P, 4): rows, columns of the chunk."""
    sx, sy = frame["sx"][:, None], frame["sy"][:, None]
    tilt = cameras.pitch.double().tan()[:, None]
    yaw = shots.azimuth.double()[:, None]
    turned = yaw + parts.turn

    def screen(point: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, z = point.unbind(2)
        depth = z * angle.cos() - x * angle.sin()
        across = x * angle.cos() + z * angle.sin()
        return frame["x"][:, None] + across * sx, frame["y"][:, None] - (y - depth * tilt) * sy, depth * sy

    angle = torch.where(parts.start[:, :, 1] > 0.86, turned, yaw)  # the head's parts sit around its axis
    (x0, y0, z0), (x1, y1, z1) = screen(parts.start, angle), screen(parts.end, angle)
    dx, dy = x1 - x0, y1 - y0
    length = (dx * dx + dy * dy).sqrt().clamp(min=1e-2)
    ex, ey = dx / length, dy / length
    side, ahead = parts.half[:, :, 0], parts.half[:, :, 1]
    c, s = turned.cos(), turned.sin()
    wide = ((side * c) ** 2 + (ahead * s) ** 2).sqrt()
    deep = ((side * s) ** 2 + (ahead * c) ** 2).sqrt()
    caps = ((parts.caps**2 + (deep[:, :, None] * tilt[:, :, None]) ** 2).sqrt() * sy[:, :, None]).clamp(
        min=0.3
    )
    k0, k1, k2, k3 = (parts.knots * (wide * sx)[:, :, None]).unbind(2)
    light = cameras.light.double()
    lx, ly = light[:, 0, None], -light[:, 1, None]
    shape = {
        "vx": ex / length, "vy": ey / length, "v0": -(x0 * ex + y0 * ey) / length,
        "ux": ey, "uy": -ex, "u0": -(x0 * ey - y0 * ex),
        "before": length / caps[:, :, 0], "after": length / caps[:, :, 1],
        # the cubic through the four knots
        "r0": k0, "r1": -5.5 * k0 + 9 * k1 - 4.5 * k2 + k3,
        "r2": 9 * k0 - 22.5 * k1 + 18 * k2 - 4.5 * k3, "r3": -4.5 * k0 + 13.5 * k1 - 13.5 * k2 + 4.5 * k3,
        "z0": z0, "dz": z1 - z0, "bulge": deep * sy / (wide * sx),
        "lit_s": ey * lx - ex * ly, "lit_o": ex * lx + ey * ly, "lit_n": light[:, 2, None].expand_as(ex),
        "cos": side * c / wide, "sin": ahead * s / wide, "length": length, "wide": wide * sx,
        "blend": (1 / (0.014 * sy)).expand_as(ex),
    }  # fmt: skip
    radius = torch.stack([k0, k1, k2, k3], 2).amax(2) * 1.12
    cap = caps.amax(2)
    mx, my = radius * ey.abs() + cap * ex.abs() + 1.5, radius * ex.abs() + cap * ey.abs() + 1.5
    box = torch.stack(
        [
            torch.minimum(y0, y1) - my,
            -torch.maximum(y0, y1) - my,
            torch.minimum(x0, x1) - mx,
            -torch.maximum(x0, x1) - mx,
        ],
        2,
    )
    box = torch.where(parts.visible[:, :, None], box, torch.full_like(box, 1e9)).amin(0)
    low = torch.stack([box[:, 0], -box[:, 1], box[:, 2], -box[:, 3]], 1)
    limit = torch.tensor([size[0], size[0], size[1], size[1]])
    low = torch.stack([low[:, 0].floor(), low[:, 1].ceil(), low[:, 2].floor(), low[:, 3].ceil()], 1)
    return shape, torch.minimum(low.clamp(min=0), limit.double()).long()


def _raster(
    shape: dict[str, Tensor], boxes: Tensor, visible: Tensor, size: tuple[int, int]
) -> dict[str, Tensor]:
    """Depth, part, axis parameter, side and light of the nearest surface, and coverage, each (b, H, W)."""
    b, device = len(visible), shape["r0"].device
    blank = torch.zeros(b, *size, device=device)
    buffers = {name: blank.clone() for name in ("part", "v", "s", "lit", "cover")}
    buffers["z"] = torch.full_like(blank, FAR)
    rows = (torch.arange(size[0], device=device) + 0.5)[None, :, None]
    columns = (torch.arange(size[1], device=device) + 0.5)[None, None]
    for i, (top, low, left, right) in enumerate(boxes.tolist()):
        if low <= top or right <= left:
            continue
        own = torch.nonzero(visible[:, i])[:, 0]
        part = {k: v[:, i, None, None] for k, v in shape.items()}
        x, y = columns[:, :, left:right], rows[:, top:low]
        if len(own) == b:
            _draw(i, part, {k: v[:, top:low, left:right] for k, v in buffers.items()}, x, y)
        else:
            own = own.to(device)
            some = {k: v[own, top:low, left:right] for k, v in buffers.items()}
            _draw(i, {k: v[own] for k, v in part.items()}, some, x, y)
            for k, v in some.items():
                buffers[k][own, top:low, left:right] = v
    return buffers


def _draw(index: int, part: dict[str, Tensor], into: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
    """One part into its window of the buffers, in place."""
    v = x * part["vx"] + (y * part["vy"] + part["v0"])  # (b, h, w)
    u = x * part["ux"] + (y * part["uy"] + part["u0"])
    inner = v.clamp(0, 1)
    r = (inner * part["r3"]).add_(part["r2"]).mul_(inner).add_(part["r1"]).mul_(inner).add_(part["r0"])
    s = u.div_(r)
    over = v - inner
    o = torch.where(over < 0, over * part["before"], over.mul_(part["after"]))
    miss = (s * s).add_(o * o).neg_().add_(1)  # 1 - q: positive inside
    n = miss.clamp(min=0).sqrt_()
    cover = miss.mul_(r).mul_(0.5).add_(0.5).clamp_(0, 1)
    z = inner.mul_(part["dz"]).add_(part["z0"]).add_(r.mul_(part["bulge"]).mul_(n))
    inside = cover > 0
    near = z - into["z"]
    hit = inside & (near > 0)
    # neighboring parts run into each other instead of meeting in a seam
    weight = near.mul_(part["blend"]).add_(0.5).clamp_(0, 1).mul_(inside)
    lit = (s * part["lit_s"]).add_(o.mul_(part["lit_o"])).add_(n.mul_(part["lit_n"]))
    into["lit"].add_(lit.sub_(into["lit"]).mul_(weight))
    torch.maximum(into["cover"], cover, out=into["cover"])
    for name, value in (("z", z), ("v", v), ("s", s)):
        into[name].copy_(torch.where(hit, value, into[name]))
    into["part"].masked_fill_(hit, float(index))


def _paint(
    image: Tensor, buffers: dict[str, Tensor], shape: dict[str, Tensor], parts: body.Parts, people: People,
    cameras: Cameras, frame: dict[str, Tensor],
) -> Tensor:  # fmt: skip
    """Colour and light of all covered pixels, composed over `image`."""
    height, width = image.shape[2:]
    cover = buffers["cover"].view(-1)
    pixels = torch.nonzero(cover > 0)[:, 0]  # (k,)
    flat = {k: v.view(-1).index_select(0, pixels) for k, v in buffers.items() if k != "z"}
    flat["s"].clamp_(-1, 1)
    flat["row"] = pixels // (height * width)
    color = dress.color(flat, shape, parts, people, frame)  # (k, 3)
    ambient = cameras.ambient.to(image.device)[flat["row"]]
    shade = ambient + (1 - ambient) * 1.25 * flat["lit"].clamp_(0, 1)
    shade = shade * (1 - 0.45 * _creases(buffers["z"], frame).view(-1)[pixels])
    color = (color * shade[:, None]).clamp_(0.01, 0.99)
    canvas = image.permute(0, 2, 3, 1).reshape(-1, 3)
    under = canvas.index_select(0, pixels)
    canvas.index_copy_(0, pixels, under + flat["cover"][:, None] * (color - under))
    return canvas.view(-1, height, width, 3).permute(0, 3, 1, 2)


def _creases(z: Tensor, frame: dict[str, Tensor]) -> Tensor:
    """How much a pixel lies in the shade of nearer neighbors, 0..1."""
    step = max(1, round(z.shape[1] / 80))
    scale = (1 / (0.06 * frame["sy"])).float().to(z.device)[:, None, None]
    total = torch.zeros_like(z)
    for axis, weight in ((2, 1.0), (1, 0.5)):
        n = z.shape[axis]
        rise = (z.narrow(axis, step, n - step) - z.narrow(axis, 0, n - step)).mul_(scale)
        total.narrow(axis, 0, n - step).add_(rise.clamp(0, 1).mul_(0.4 * weight))
        total.narrow(axis, step, n - step).add_(rise.neg_().clamp_(0, 1).mul_(0.4 * weight))
    return total.clamp_(max=1)


def _shadow(image: Tensor, parts: body.Parts, shots: Shots, frame: dict[str, Tensor]) -> Tensor:
    """`image` with a soft shadow on the ground."""
    feet = parts.end[:, [body.PART["shoe_l"], body.PART["shoe_r"]]]
    yaw = shots.azimuth.double()[:, None]
    across = feet[:, :, 0] * yaw.cos() + feet[:, :, 2] * yaw.sin()
    height, width = image.shape[2:]
    center = frame["x"] + across.mean(1) * frame["sx"]
    half = (0.10 + 0.5 * (across[:, 0] - across[:, 1]).abs()) * frame["sx"]
    top = max(0, int((frame["y"] - 0.12 * frame["sy"]).min()))
    if top >= height:
        return image
    small = [
        t.float().to(image.device)[:, None, None] for t in (center, half, frame["y"], 0.022 * frame["sy"])
    ]
    x = (torch.arange(width, device=image.device) + 0.5 - small[0]) / small[1]
    y = (torch.arange(top, height, device=image.device)[:, None] + 0.5 - small[2]) / small[3]
    q = x * x + y * y
    q = q * q
    inside = (y + 4.5).clamp_(0, 1)  # ends above `top`, which depends on the company
    image[:, :, top:] *= (1 - 0.5 * inside / (1 + q))[:, None]
    return image


# ---- in front of the person, and the camera


def _occlude(image: Tensor, shots: Shots) -> None:
    """Something low, or a pillar, in front of the people whose shots say so."""
    height, width = image.shape[2:]
    for kind in (1, 2):
        rows = torch.nonzero(shots.occluder == kind)[:, 0]
        if not len(rows):
            continue
        seed = shots.seed[rows]
        u = [uniform(seed, 10 + i).float().to(image.device)[:, None, None] for i in range(7)]
        grey = 0.18 + 0.5 * u[0]
        warm = 0.12 * (u[1] - 0.4)
        color = torch.stack([grey * (1 + warm), grey, grey * (1 - warm)], 1)
        x = ((torch.arange(width, device=image.device) + 0.5) * (1 / width))[None, None]
        y = ((torch.arange(height, device=image.device) + 0.5) * (1 / height))[None, :, None]
        if kind == 1:  # a bench, a crate, a bonnet: a lit upper edge, boards below
            top = 0.68 + 0.2 * u[2]
            mask = ((y - top) * height + 0.5).clamp(0, 1).expand(-1, -1, width)
            board = (x * (2 + 4 * u[3]) + u[4]) % 1.0
            tone = 1.25 - 0.5 * ((y - top) * 8.3).clamp(0, 1) - 0.18 * (board < 0.06) * (u[5] < 0.6)
        else:
            left = torch.where(u[2] < 0.5, 0.22 * u[3], 1 - 0.22 * u[3])
            across = (x - left) / (0.05 + 0.08 * u[4])
            mask = ((1 - across.abs()) * width * 0.1 + 0.5).clamp(0, 1).expand(-1, height, -1)
            tone = 1.1 - 0.5 * (across * 0.7 + 0.3) ** 2
        where = rows.to(image.device)
        under = image[where]
        image[where] = under + mask[:, None] * (color * tone[:, None] - under)


def _photograph(image: Tensor, cameras: Cameras, shots: Shots) -> Tensor:
    """What the camera makes of the scene: lens, cast, tone curve, noise; uint8."""
    device, (height, width) = image.device, image.shape[2:]

    def of(column: Tensor) -> Tensor:
        return column.to(device).reshape(len(shots), -1, 1, 1)

    image = _soften(image, of(cameras.blur))
    luma = (image[:, :1] * 0.3).add_(image[:, 1:2] * 0.59).add_(image[:, 2:] * 0.11)
    image.sub_(luma).mul_(of(cameras.saturation)).add_(luma)
    image.mul_(of(cameras.gain) * (1 - of(cameras.offset))).add_(of(cameras.offset)).clamp_(0, 1)
    slope = of(
        (cameras.gamma.double() * math.log(2)).exp()
    ).float()  # a rational tone curve: no power, the same everywhere
    image = image.mul_(slope) / (image * (1 - 1 / slope) + 1)
    field = cloth_of_noise(height + 96, width + 96).to(device)
    windows = field.unfold(1, height, 1).unfold(2, width, 1)  # (3, Y, X, H, W)
    y, x = ((uniform(shots.seed, 20 + i) * 96).long().to(device) for i in range(2))
    grain = windows[:, y, x].transpose(0, 1) * of(cameras.noise)
    return image.add_(grain).mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _soften(image: Tensor, blur: Tensor) -> Tensor:
    """A separable blur whose width grows with the image and with `blur` in [0, 1]."""
    step = max(1, round(image.shape[2] / 128))
    for axis in (2, 3):
        n = image.shape[axis]
        middle = image.narrow(axis, step, n - 2 * step)
        around = image.narrow(axis, 0, n - 2 * step) + image.narrow(axis, 2 * step, n - 2 * step)
        around.mul_(0.5).sub_(middle).mul_(0.6 * blur)
        image = torch.cat(
            [image.narrow(axis, 0, step), around.add_(middle), image.narrow(axis, n - step, step)], axis
        )
    return image
