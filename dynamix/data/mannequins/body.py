"""A posed, dressed person as a list of round parts.

Body coordinates: X to the person's left, Y up, Z ahead; feet at Y = 0, the top of the head near Y = 1.
A part is a generalized elliptic cylinder: an axis from `start` to `end` (v = 0..1), half-axes of its
horizontal cross-section, a factor on them at v = 0, 1/3, 2/3, 1, and round caps of some height.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynamix.data.mannequins import people as p
from dynamix.data.mannequins.people import People

NAMES = (
    "head", "hair", "mane", "nose", "neck", "collar", "hood", "chest", "pelvis",
    "arm_l", "arm_r", "forearm_l", "forearm_r", "hand_l", "hand_r",
    "thigh_l", "thigh_r", "shin_l", "shin_r", "shoe_l", "shoe_r", "skirt", "pack", "bag", "crown", "brim",
)  # fmt: skip
PART = {name: i for i, name in enumerate(NAMES)}
SIDES = ((1.0, "l", 0.0), (-1.0, "r", math.pi))


@dataclass(frozen=True)
class Parts:
    """(B, P, ...) float64, parts in the order of `NAMES`."""

    start: Tensor  # (B, P, 3)
    end: Tensor  # (B, P, 3)
    half: Tensor  # (B, P, 2): sideways, ahead
    knots: Tensor  # (B, P, 4)
    caps: Tensor  # (B, P, 2): height of the round end at start and end
    turn: Tensor  # (B, P): yaw relative to the body
    colors: Tensor  # (B, P, 2, 3): before and after v = cut
    cut: Tensor  # (B, P)
    visible: Tensor  # (B, P) bool


def pose(people: People, phase: Tensor, look: Tensor) -> Parts:
    """The parts of each person at walking phase `phase`, the head turned by `look` radians."""
    columns = {k: v.double() if v.is_floating_point() else v for k, v in vars(people).items()}
    body = _Body(People(**columns), phase, look)
    for draw in (body.head, body.trunk, body.limbs, body.things):
        draw()
    return body.parts()


class _Body:
    """Collects the parts by name; every quantity is a (B,) tensor or a number."""

    def __init__(self, who: People, phase: Tensor, look: Tensor) -> None:
        self.who, self.phase, self.look = who, phase, look
        self.made: dict[str, tuple[Tensor, ...]] = {}
        self.legs()

    def add(
        self, name, start, end, half, knots, caps, color, second=None, cut=2.0, turn=0.0, when=True
    ) -> None:
        """One part; every argument may be a number or a (B,) tensor, colours are (B, 3)."""
        n = len(self.phase)

        def rows(values) -> Tensor:
            cells = [torch.as_tensor(x, dtype=torch.float64).expand(n) for x in values]
            return torch.stack(cells, 1)

        colors = torch.stack([color, color if second is None else second], 1)
        self.made[name] = (
            rows(start), rows(end), rows(half), rows(knots), rows(caps), rows([turn])[:, 0], colors,
            rows([cut])[:, 0], torch.as_tensor(when).expand(n),
        )  # fmt: skip

    def parts(self) -> Parts:
        return Parts(*(torch.stack(column, 1) for column in zip(*(self.made[n] for n in NAMES), strict=True)))

    def legs(self) -> None:
        """Hip, knee and ankle of both legs, lowered so that the lower foot stands on the ground."""
        self.joints: dict[str, tuple[Tensor, ...]] = {}
        free = torch.tensor([1, 1, 0.8, 0.55, 1, 0.8], dtype=torch.float64)[self.who.bottom]
        stride = self.who.stride * free  # a skirt shortens the step
        for _, side, shift in SIDES:
            p_ = self.phase + shift
            hip = 0.40 * stride * p_.sin() + 0.04
            knee = 0.08 + 0.75 * stride * p_.cos().clamp(min=0) ** 2
            self.joints[side] = (hip, knee, 0.235 * hip.cos() + 0.225 * (hip - knee).cos())
        self.hip_height = torch.maximum(self.joints["l"][2], self.joints["r"][2]) + 0.035
        self.drop = self.hip_height - 0.495  # of the whole body, against standing straight

    def head(self) -> None:
        who, turn, y = self.who, self.look, self.drop
        cap = who.hat > 0
        self.add(
            "head", (0, y + 0.972, 0.006), (0, y + 0.888, 0.012), (0.0455, 0.052), (0.90, 1.02, 0.94, 0.62),
            (0.030, 0.016), who.skin, turn=turn,
        )  # fmt: skip
        self.add(
            "nose", (0, y + 0.937, 0.058), (0, y + 0.919, 0.065), (0.0078, 0.010), (0.5, 0.8, 1, 0.9),
            (0.004, 0.004), who.skin * 0.97, turn=turn,
        )  # fmt: skip
        thick = torch.where(who.haircut == p.CROPPED, -0.0015, 0.0015) - 0.002 * cap
        fringe = torch.where(who.haircut >= p.BOB, 0.006, 0.0)
        self.add(
            "hair", (0, y + 0.977, 0.003 + 0 * thick), (0, y + 0.913 - fringe, -0.019),
            (0.0490 + thick, 0.0545 + thick), (0.95, 1.05, 1.02, 0.78), (0.037 + thick, 0.014), who.hair,
            turn=turn,
        )  # fmt: skip
        tail = who.haircut == p.PONYTAIL
        low = torch.tensor([0.93, 0.93, 0.872, 0.80, 0.83, 0.968], dtype=torch.float64)[who.haircut]
        high = torch.tensor([0.94, 0.94, 0.945, 0.945, 0.955, 0.985], dtype=torch.float64)[who.haircut]
        back = torch.tensor([0.0, 0.0, -0.020, -0.036, -0.062, -0.054], dtype=torch.float64)[who.haircut]
        wide = torch.tensor([0.01, 0.01, 0.051, 0.054, 0.017, 0.024], dtype=torch.float64)[who.haircut]
        deep = torch.tensor([0.01, 0.01, 0.038, 0.030, 0.017, 0.022], dtype=torch.float64)[who.haircut]
        self.add(
            "mane", (0, y + high, back), (0, y + low, back - torch.where(tail, 0.022, 0.008)), (wide, deep),
            (0.85, 1.0, 1.0, 0.72), (0.02, 0.018), who.hair, turn=turn * 0.6, when=who.haircut >= p.BOB,
        )  # fmt: skip
        beanie = who.hat == p.BEANIE
        self.add(
            "crown", (0, y + 0.982, 0.004), (0, y + torch.where(beanie, 0.957, 0.966), 0.001),
            (0.0515, 0.059),
            (0.95, 1.02, 1.03, 1.02), (0.041, 0.006), who.hat_color, who.hat_color * 0.85, cut=0.45,
            turn=turn,
            when=cap,
        )  # fmt: skip
        self.add(
            "brim", (0, y + 0.966, 0.056), (0, y + 0.958, 0.066), (0.035, 0.042), (0.95, 1, 1, 0.95),
            (0.003, 0.003), who.hat_color * 0.85, turn=turn, when=who.hat == p.CAP,
        )  # fmt: skip

    def trunk(self) -> None:
        who, y = self.who, self.drop
        self.outer = (
            (who.top == p.JACKET) | (who.top == p.OPEN_JACKET) | (who.top == p.COAT) | (who.top == p.HOODIE)
        )
        pad = torch.where(self.outer, 0.006, 0.0)
        g, f = who.girth, who.feminine
        self.add(
            "neck", (0, y + 0.90, -0.004), (0, y + 0.815, -0.010), (0.0280, 0.030), (0.95, 0.97, 1.12, 1.6),
            (0.005, 0.02), who.skin,
        )  # fmt: skip
        collar = torch.where(who.top == p.COAT, 0.844, 0.836)
        self.add(
            "collar", (0, y + collar, -0.010), (0, y + 0.805, -0.008), (0.042, 0.042), (0.80, 0.95, 1.2, 1.6),
            (0.003, 0.012), who.top_color * 0.9, when=self.outer,
        )  # fmt: skip
        self.add(
            "hood", (0, y + 0.835, -0.052), (0, y + 0.795, -0.062), (0.055, 0.026), (0.85, 1, 0.95, 0.6),
            (0.010, 0.016), who.top_color, when=who.top == p.HOODIE,
        )  # fmt: skip
        waist = 0.90 - 0.09 * f + 0.16 * (g - 1)
        self.add(
            "chest", (0, y + 0.782, -0.006), (0, y + 0.605, 0),
            (0.098 * who.shoulders + pad, 0.056 * g + pad),
            (0.98, 1.02, 0.5 + 0.5 * waist, waist), (0.048, 0.02), who.top_color,
        )  # fmt: skip
        # where the top ends on the pelvis, whose axis runs from the waist (.62) to the crotch (.475)
        end = who.hem * 0.8
        self.add(
            "pelvis", (0, y + 0.615, 0), (0, y + 0.500, -0.004),
            (0.087 * who.hips * (0.6 + 0.4 * g) + pad, 0.058 * g + pad),
            (0.95 * waist + 0.08, 1.0, 1.06, 0.98), (0.02, 0.035), who.top_color, who.bottom_color, cut=end,
        )  # fmt: skip
        self.skirt()

    def skirt(self) -> None:
        """Skirts, dresses and the tails of coats, wide enough for the stride."""
        who = self.who
        coat = who.top == p.COAT
        skirted = (who.bottom == p.SKIRT) | (who.bottom == p.LONG_SKIRT) | (who.bottom == p.DRESS)
        bottom = torch.tensor([0, 0, 0.33, 0.13, 0, 0.31], dtype=torch.float64)[who.bottom]
        bottom = torch.where(coat, 0.62 - 0.11 * who.hem, bottom) + 0.03 * who.looseness
        top = torch.where(coat, 0.56, 0.60)
        reach = (self.joints["l"][0].sin().abs() + self.joints["r"][0].sin().abs()) / 2 * (0.5 - bottom)
        flare = 0.95 + 0.28 * who.looseness + 0.1 * (who.bottom == p.DRESS)
        color = torch.where(coat[:, None], who.top_color, who.bottom_color)
        deep = 0.060 * who.girth + 0.006
        grow = reach / deep
        self.add(
            "skirt", (0, self.drop + top, 0), (0, self.drop + bottom, 0), (0.087 * who.hips + 0.006, deep),
            (0.95, 0.96 + 0.1 * flare + 0.08 * grow, 0.6 + 0.5 * flare + 0.26 * grow,
            0.45 + 0.70 * flare + 0.36 * grow),
            (0.01, 0.006), color, color * 0.9, cut=0.97, when=coat | skirted,
        )  # fmt: skip

    def limbs(self) -> None:
        who, y = self.who, self.drop
        pad = torch.where(self.outer, 0.005, torch.where(who.sleeve > 1, 0.002, 0.0))
        thick = (0.55 + 0.45 * who.girth) * (1 - 0.08 * who.feminine)
        for side, name, shift in SIDES:
            self.arm(side, name, shift, pad, thick, y)
            self.leg(side, name, thick)

    def arm(self, side: float, name: str, shift: float, pad: Tensor, thick: Tensor, y: Tensor) -> None:
        who = self.who
        swing = -0.42 * who.swing * (self.phase + shift).sin() + 0.02
        bend = 0.22 + 0.5 * swing.clamp(min=0)
        out = 0.10 + 0.10 * (who.girth - 0.9).clamp(min=0)
        shoulder = (side * 0.0945 * who.shoulders, y + 0.774, torch.full_like(y, -0.008))
        elbow = _along(shoulder, 0.150, swing, side * out)
        wrist = _along(elbow, 0.130, swing + bend, side * (out - 0.12))
        tip = _along(wrist, 0.042, swing + bend + 0.1, side * (out - 0.12))
        self.add(
            f"arm_{name}", shoulder, elbow, (0.0275 * thick + pad, 0.031 * thick + pad),
            (0.98, 1.0, 0.90, 0.82),
            (0.028, 0.012), who.top_color, who.skin, cut=torch.where(who.sleeve < 0.2, -9.0, who.sleeve),
        )  # fmt: skip
        self.add(
            f"forearm_{name}", elbow, wrist, (0.0225 * thick + pad, 0.025 * thick + pad),
            (0.98, 1, 0.86, 0.72),
            (0.014, 0.006), who.top_color, who.skin, cut=(who.sleeve - 1).clamp(min=-9),
        )  # fmt: skip
        self.add(
            f"hand_{name}", wrist, tip, (0.0125, 0.019), (0.85, 1.1, 1.1, 0.75), (0.006, 0.012), who.skin,
        )  # fmt: skip
        self.joints[f"hand_{name}"] = tip

    def leg(self, side: float, name: str, thick: Tensor) -> None:
        who = self.who
        hip_angle, knee_angle, _ = self.joints[name]
        bare = (who.bottom == p.SKIRT) | (who.bottom == p.LONG_SKIRT) | (who.bottom == p.DRESS)
        shorts = who.bottom == p.SHORTS
        loose = torch.where(bare, -0.003, 0.007 * who.looseness)
        hip = (side * 0.047 * who.hips, self.hip_height, torch.full_like(thick, -0.002))
        knee = _along(hip, 0.235, hip_angle, side * -0.01)
        ankle = _along(knee, 0.225, hip_angle - knee_angle, side * 0.005)
        first = torch.where(bare[:, None], who.skin, who.bottom_color)
        g = 0.5 * who.girth + 0.5
        self.add(
            f"thigh_{name}", hip, knee, (0.0475 * g + 0.5 * loose, 0.054 * g + 0.5 * loose),
            (1.0, 0.98, 0.82, 0.70),
            (0.03, 0.018), first, who.skin, cut=torch.where(shorts, 0.80 + 0.2 * who.looseness, 2.0),
        )  # fmt: skip
        shin_color = torch.where(shorts[:, None], who.skin, first)
        self.add(
            f"shin_{name}", knee, ankle, (0.034 * thick + loose, 0.038 * thick + loose),
            (0.98, 1.02, 0.80 + 12 * loose.clamp(min=0), 0.62 + 28 * loose.clamp(min=0)), (0.018, 0.008),
            shin_color, torch.where((shorts | bare)[:, None], who.sole * 0.9, shin_color),
            cut=torch.where((shorts | bare) & (who.looseness > 0.6), 0.82, 2.0),
        )  # fmt: skip
        x, height, z = ankle
        sole = height - 0.035
        self.add(
            f"shoe_{name}", (x, height - 0.004, z + 0.010), (x * 1.02, sole + 0.010, z + 0.030),
            (0.0275, 0.060),
            (0.58, 0.76, 1.0, 1.02), (0.012, 0.010), who.shoes, who.sole, cut=0.88, turn=side * 0.12,
        )  # fmt: skip

    def things(self) -> None:
        who, y = self.who, self.drop
        behind = -(0.056 * who.girth + 0.048)
        self.add(
            "pack", (0, y + 0.775, behind), (0, y + 0.600, behind - 0.006), (0.078, 0.046),
            (0.86, 1, 1.04, 1),
            (0.022, 0.022), who.backpack_color, who.backpack_color * 0.78, cut=0.55, when=who.backpack,
        )  # fmt: skip
        carried = who.bag == p.CARRIED
        left = who.bag_side > 0
        hand = [
            torch.where(left, a, b) for a, b in zip(self.joints["hand_l"], self.joints["hand_r"], strict=True)
        ]
        hip = (who.bag_side * (0.105 * who.hips + 0.02), y + 0.545, torch.full_like(y, -0.02))
        top = [
            torch.where(carried, a, b) for a, b in zip((hand[0], hand[1] - 0.045, hand[2]), hip, strict=True)
        ]
        low = (top[0], top[1] - torch.where(carried, 0.095, 0.085), top[2])
        self.add(
            "bag", top, low, (torch.where(carried, 0.022, 0.026), torch.where(carried, 0.062, 0.056)),
            (0.92, 1, 1.02, 1), (0.008, 0.010), who.bag_color, who.bag_color * 0.75, cut=0.42,
            when=who.bag > 0,
        )  # fmt: skip


def _along(
    start: tuple[Tensor, ...], length: float, ahead: Tensor, aside: Tensor | float
) -> tuple[Tensor, ...]:
    """The end of a bone hanging from `start`, swung by two small angles."""
    x, y, z = start
    return (x + length * torch.as_tensor(aside).sin(), y - length * ahead.cos(), z + length * ahead.sin())
