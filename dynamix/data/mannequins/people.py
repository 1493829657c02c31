"""Who is seen: a columnar record of people, their bodies and clothes.

Every number comes from a counter hash of (seed, person, column) rather than a generator, so that a
person does not depend on how many others are drawn.
"""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TEE, SHIRT, JACKET, OPEN_JACKET, COAT, VEST, HOODIE = range(7)
TROUSERS, SHORTS, SKIRT, LONG_SKIRT, LEGGINGS, DRESS = range(6)
PLAIN, BARS, PINSTRIPES, CHECKS, LOGO, TEXT, BLOCK, DOTS, SPLIT, BACK_PRINT = range(10)
CROPPED, SHORT_HAIR, BOB, LONG_HAIR, PONYTAIL, BUN = range(6)
NO_HAT, CAP, BEANIE = range(3)
NO_BAG, CROSS_BODY, CARRIED = range(3)


@dataclass(frozen=True)
class People:
    """n people; every column has one row a person. Colours are sRGB in [0, 1]."""

    girth: Float[Tensor, " n"]
    shoulders: Float[Tensor, " n"]  # breadth relative to the average
    hips: Float[Tensor, " n"]
    feminine: Float[Tensor, " n"]  # 0..1: waist and chest
    skin: Float[Tensor, "n 3"]
    hair: Float[Tensor, "n 3"]
    haircut: Int[Tensor, " n"]
    beard: Bool[Tensor, " n"]
    glasses: Bool[Tensor, " n"]
    top: Int[Tensor, " n"]  # TEE .. HOODIE
    top_color: Float[Tensor, "n 3"]
    top_accent: Float[Tensor, "n 3"]
    inner: Float[Tensor, "n 3"]  # the shirt under an open jacket
    sleeve: Float[Tensor, " n"]  # 0 none, 1 elbow, 2 wrist
    hem: Float[Tensor, " n"]  # where the top ends: 0 waist, 1 crotch, 2 mid-thigh, 3 knee
    pattern: Int[Tensor, " n"]  # PLAIN .. BACK_PRINT
    pattern_scale: Float[Tensor, " n"]
    bottom: Int[Tensor, " n"]  # TROUSERS .. DRESS
    bottom_color: Float[Tensor, "n 3"]
    bottom_accent: Float[Tensor, "n 3"]
    side_stripe: Bool[Tensor, " n"]
    looseness: Float[Tensor, " n"]
    shoes: Float[Tensor, "n 3"]
    sole: Float[Tensor, "n 3"]
    hat: Int[Tensor, " n"]
    hat_color: Float[Tensor, "n 3"]
    backpack: Bool[Tensor, " n"]
    backpack_color: Float[Tensor, "n 3"]
    bag: Int[Tensor, " n"]
    bag_color: Float[Tensor, "n 3"]
    bag_side: Float[Tensor, " n"]  # +1 left, -1 right
    stride: Float[Tensor, " n"]
    swing: Float[Tensor, " n"]
    outfit: Int[Tensor, " n"]  # people of one non-negative number wear the same; -1: their own clothes

    def __len__(self) -> int:
        return len(self.outfit)

    def select(self, index: Int[Tensor, " m"]) -> "People":
        """The people at `index`, in that order."""
        return People(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def uniform(keys: Int[Tensor, " n"], column: int) -> Float[Tensor, " n"]:
    """Numbers in [0, 1), float64: a counter hash (splitmix64) of key and column."""
    step = ((column + 1) * 6364136223846793005 + 2**63) % 2**64 - 2**63  # wrapped to int64
    x = keys * -7046029254386353131 + step
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    x = x ^ ((x >> 31) & ((1 << 33) - 1))
    return ((x >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def keys(seed: int, count: int, stream: int = 0) -> Int[Tensor, " n"]:
    """One hash key a row for `uniform`; other streams are independent."""
    base = int(uniform(torch.tensor([seed * 1009 + stream]), 977)[0] * 2**53)
    return base + torch.arange(count) * 2654435761


DARK = [
    (0.09, 0.09, 0.10),
    (0.13, 0.13, 0.15),
    (0.21, 0.21, 0.23),
    (0.12, 0.15, 0.25),
    (0.30, 0.30, 0.32),
    (0.25, 0.19, 0.15),
]
NEUTRAL = [
    (0.88, 0.88, 0.86),
    (0.70, 0.70, 0.70),
    (0.50, 0.50, 0.52),
    (0.77, 0.71, 0.59),
    (0.57, 0.51, 0.39),
    (0.83, 0.79, 0.70),
]
MUTED = [
    (.27, .36, .52), (.45, .55, .67), (.42, .14, .19), (.18, .33, .24), (.17, .40, .43), (.73, .56, .23),
    (.62, .32, .20), (.53, .40, .51), (.41, .42, .26), (.78, .59, .58), (.56, .69, .79), (.55, .63, .52),
]  # fmt: skip
BRIGHT = [
    (.74, .15, .16), (.16, .29, .66), (.88, .76, .25), (.86, .44, .16), (.20, .53, .29), (.85, .43, .57),
    (.41, .25, .56), (.20, .59, .62),
]  # fmt: skip
CLOTH = torch.tensor(DARK + NEUTRAL + MUTED + BRIGHT, dtype=torch.float64)
GROUPS = [len(DARK), len(NEUTRAL), len(MUTED), len(BRIGHT)]
DENIM = [(0.27, 0.36, 0.52), (0.20, 0.27, 0.41), (0.45, 0.55, 0.67), (0.12, 0.15, 0.25)]
SKIN = [
    (0.96, 0.80, 0.70),
    (0.91, 0.72, 0.60),
    (0.84, 0.64, 0.50),
    (0.72, 0.52, 0.38),
    (0.56, 0.38, 0.27),
    (0.40, 0.26, 0.18),
]
HAIR = [(.07, .06, .06), (.14, .10, .08), (.27, .18, .12), (.42, .29, .18), (.68, .54, .34), (.55, .55, .56),
        (.45, .22, .12)]  # fmt: skip


Weights = tuple[float | int, ...]


@dataclass(frozen=True)
class Palette:
    """A prior: relative weights, so that each world has another look."""

    tops: Weights  # dark, neutral, muted, bright
    bottoms: Weights
    kinds: Weights  # TEE .. HOODIE
    lower: Weights  # TROUSERS .. DRESS
    skin: Weights
    patterned: float = 0.5
    backpack: float = 0.25
    bag: float = 0.35
    hat: float = 0.15


_EAST, _WEST, _MIXED = (2, 5, 4, 1, 0.3, 0.1), (5, 5, 3, 2, 1, 1), (2, 2, 2, 2, 2, 2)
PALETTES = {
    "city": Palette(
        (2, 2, 3, 1.5), (3, 1.5, 2, .3), (4, 2, 1.5, 1.5, .5, .6, 1), (6, 1.2, 1.2, .4, .8, 1), _EAST
    ),
    "campus": Palette(
        (3, 1.5, 2.5, 1), (3, 1.5, 2, .2), (1.5, 2, 3, 2, 1.5, .2, 2.5), (6, 1, .4, .2, .8, .2), _WEST,
        patterned=.35, backpack=.5, hat=.2,
    ),
    "indoor": Palette(
        (1, 3, 3, 1.5), (2.5, 2, 2, .4), (5, 3, .6, 1, .1, .8, .8), (4, 2, 1.2, .3, .5, 1), _EAST,
        patterned=.6, backpack=.35, hat=.05,
    ),
    "station": Palette(
        (4, 1.5, 1.5, .8), (4, 1, 1.2, .2), (1.5, 2, 3, 2, 2.5, .2, 1.5), (6, .6, .7, .4, 1, .5), _EAST,
        patterned=.4, bag=.5,
    ),
    "studio": Palette(
        (1, 2, 2.5, 4), (1.5, 1.5, 2.5, 2), (3, 2, 2, 2, 1, 1.5, 1), (4, 1.3, 2, 1, 1, 1.5), _MIXED,
        patterned=.7, hat=.2,
    ),
    "street": Palette(
        (2.2, 2, 2.5, 1.6), (3, 1.5, 2, .5), (3, 2, 2, 2, 1, .7, 1.5), (6, 1.2, 1, .4, .8, .8), _MIXED
    ),
}  # fmt: skip


def _pick(u: Tensor, weights: Weights) -> Tensor:
    edges = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    return torch.searchsorted(edges / edges[-1], u, right=True).clamp(max=len(weights) - 1)


def _jitter(color: Tensor, k: Tensor, column: int, amount: float) -> Tensor:
    """A shade lighter or darker and a touch warmer or cooler."""
    light = (uniform(k, column) - 0.5) * 2 * amount
    warm = (uniform(k, column + 1) - 0.5) * amount
    shift = torch.stack([light + warm, light, light - warm], 1)
    return (color * (1 + 0.5 * shift) + 0.35 * shift * color.mean(1, keepdim=True)).clamp(0.05, 0.93)


def _from(colors: list[tuple[float, float, float]], k: Tensor, column: int, amount: float = 0.25) -> Tensor:
    index = (uniform(k, column) * len(colors)).long()
    return _jitter(torch.tensor(colors, dtype=torch.float64)[index], k, column + 1, amount)


def _cloth(k: Tensor, column: int, weights: Weights) -> Tensor:
    """A garment's colour: first the group (dark, neutral, muted, bright), then one of it."""
    group = _pick(uniform(k, column), weights)
    sizes = torch.tensor(GROUPS)
    index = (sizes.cumsum(0) - sizes)[group] + (uniform(k, column + 1) * sizes[group]).long()
    return _jitter(CLOTH[index], k, column + 2, 0.22)


def _accent(color: Tensor, k: Tensor, column: int) -> Tensor:
    """A second colour that can be told from the first."""
    accent = _cloth(k, column, (1.5, 3, 2, 2))
    luma = color.mean(1, keepdim=True)
    close = (accent.mean(1, keepdim=True) - luma).abs() < 0.22
    return torch.where(close, torch.where(luma > 0.45, accent * 0.3, accent * 0.2 + 0.7), accent)


def _clumps(person: Tensor, seed: int, clumping: float | int) -> tuple[Tensor, Tensor, Tensor]:
    """Per person: the key its clothes are drawn from, its outfit number, and whether it dresses dark."""
    u = uniform(person, 0)
    role = uniform(person, 1)
    clumped = u < clumping
    dark = clumped & (role < 0.4)
    clothes, outfit = person.clone(), torch.full_like(person, -1)
    rows = torch.nonzero(clumped & ~dark)[:, 0]
    rows = rows[torch.argsort(uniform(person[rows], 2), stable=True)]
    if len(rows) > 1:  # uniforms and school classes: about eight people each, never a group of one
        groups = max(1, round(len(rows) / 8))
        outfit[rows] = torch.arange(len(rows)) * groups // len(rows)
        clothes[rows] = keys(seed, groups, stream=7)[outfit[rows]]
    return clothes, outfit, dark


def people(count: int, *, seed: int, palette: str = "city", clumping: float | int = 0.0) -> People:
    """Draw `count` people from the prior `palette`.

    `clumping` is the share of people whose appearance is clumped as in real crowds: two fifths of them wear
    dark jackets and trousers of their own, the others share their whole outfit with about seven more
    (uniforms, school classes) and differ in body, hair, skin and bags only. Unknown palettes, a negative
    count and a share outside [0, 1] raise.
    """
    if palette not in PALETTES:
        raise ValueError(f"unknown palette {palette!r}; there are {', '.join(PALETTES)}")
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    if not 0 <= clumping <= 1:
        raise ValueError(f"clumping is a share of the people: {clumping} is outside [0, 1]")
    person = keys(seed, count)
    clothes, outfit, dark = _clumps(person, seed, clumping)
    # from the key of the clothes, so that a uniform fits the bodies that share it
    feminine = (uniform(clothes, 10) < 0.5).double()
    columns = _body(person, feminine, PALETTES[palette])
    columns |= _clothes(clothes, feminine, dark, PALETTES[palette])
    columns |= _carried(person, PALETTES[palette])
    columns["haircut"] = _haircut(person, columns["feminine"])
    columns["outfit"] = outfit
    floats = {k: v.float() if v.is_floating_point() else v for k, v in columns.items()}
    return People(**floats)


def _body(k: Tensor, female: Tensor, prior: Palette) -> dict[str, Tensor]:
    wide = uniform(k, 11) + uniform(k, 12) + uniform(k, 13) - 1.5  # bell-shaped, within +-1.5
    tone = torch.tensor(SKIN, dtype=torch.float64)[_pick(uniform(k, 14), prior.skin)]
    age = uniform(k, 15)
    hair_index = torch.where(
        tone.mean(1) < 0.5, _pick(uniform(k, 16), (6, 3)), _pick(uniform(k, 16), (4, 4, 3, 2, 1.5, 0, 0.6))
    )
    hair_index = torch.where(age > 0.88, torch.full_like(hair_index, 5), hair_index)
    return {
        "girth": 1 + 0.17 * wide + 0.05 * (uniform(k, 18) - 0.5),
        "shoulders": 1.03 - 0.10 * female + 0.07 * wide + 0.06 * (uniform(k, 19) - 0.5),
        "hips": 0.98 + 0.06 * female + 0.09 * wide + 0.06 * (uniform(k, 20) - 0.5),
        "feminine": female,
        "skin": _jitter(tone, k, 21, 0.10),
        "hair": _jitter(torch.tensor(HAIR, dtype=torch.float64)[hair_index], k, 23, 0.25),
        "beard": (female < 0.5) & (uniform(k, 25) < 0.22),
        "glasses": uniform(k, 26) < 0.2,
        "stride": 0.75 + 0.4 * uniform(k, 27),
        "swing": 0.6 + 0.6 * uniform(k, 28),
    }


def _haircut(k: Tensor, feminine: Tensor) -> Tensor:
    return torch.where(
        feminine > 0.5,
        _pick(uniform(k, 30), (0, 0.7, 1.5, 3, 2, 0.8)),
        _pick(uniform(k, 30), (1.3, 6, 0.3, 0.2, 0.1, 0.05)),
    )


def _clothes(k: Tensor, feminine: Tensor, dark: Tensor, prior: Palette) -> dict[str, Tensor]:
    u = uniform(k, 40)
    top = torch.where(dark, _pick(u, (0, 1, 4, 2, 2, 0, 1)), _pick(u, prior.kinds))
    u = uniform(k, 41)
    bottom = torch.where(dark, _pick(u, (8, 0, 0, 0, 1, 0)), _pick(u, prior.lower))
    bottom = torch.where((feminine < 0.5) & (bottom > SHORTS), torch.zeros_like(bottom), bottom)
    skirted = (bottom == SKIRT) | (bottom == LONG_SKIRT) | (bottom == DRESS)
    bottom = torch.where(skirted & ((top == COAT) | (top == JACKET)), torch.full_like(top, LEGGINGS), bottom)
    top = torch.where((bottom == DRESS) & (top > SHIRT), torch.full_like(top, TEE), top)
    color = torch.where(dark[:, None], _cloth(k, 42, (1, 0.05, 0, 0)), _cloth(k, 42, prior.tops))
    lower = torch.where(dark[:, None], _cloth(k, 46, (1, 0, 0.05, 0)), _cloth(k, 46, prior.bottoms))
    jeans = (uniform(k, 50) < 0.3) & ~dark & ~skirted
    lower = torch.where(jeans[:, None], _from(DENIM, k, 51), lower)
    lower = torch.where((bottom == DRESS)[:, None], color, lower)
    long = torch.tensor([0.72, 1.95, 2, 2, 2, 0.05, 2], dtype=torch.float64)[top]
    rolled = (top == SHIRT) & (uniform(k, 54) < 0.25)
    hem = torch.tensor([0.75, 0.8, 0.95, 0.95, 2.2, 0.65, 0.9], dtype=torch.float64)[top]
    return {
        "top": top,
        "top_color": color,
        "top_accent": _accent(color, k, 55),
        "inner": _accent(color, k, 59),
        "sleeve": torch.where(rolled, 1.2 + 0 * long, long + 0.15 * (uniform(k, 63) - 0.5) * (long < 1)),
        "hem": hem + 0.35 * (uniform(k, 64) - 0.5) + 0.6 * (top == COAT) * (uniform(k, 65) - 0.3),
        "pattern": _pattern(k, top, dark, prior),
        "pattern_scale": 0.8 + 0.7 * uniform(k, 66),
        "bottom": bottom,
        "bottom_color": lower,
        "bottom_accent": _accent(lower, k, 67),
        "side_stripe": (uniform(k, 71) < 0.1) & (bottom == TROUSERS) & ~jeans & ~dark,
        "looseness": 0.2 + 0.8 * uniform(k, 72) - 0.7 * (bottom == LEGGINGS),
    }


def _pattern(k: Tensor, top: Tensor, dark: Tensor, prior: Palette) -> Tensor:
    u = uniform(k, 74)
    light = _pick(u, (0, 2.2, 0.8, 1.5, 2, 1.5, 1, 0.8, 0.5, 0.8))  # tees, shirts, hoodies
    outer = _pick(u, (0, 0.2, 0.2, 0.8, 1.2, 0.3, 2, 0, 0.6, 1.2))  # jackets
    pattern = torch.where((top == JACKET) | (top == OPEN_JACKET) | (top == COAT), outer, light)
    plain = uniform(k, 75) > torch.where(dark, 0.12, torch.where(top == COAT, 0.2, prior.patterned))
    return torch.where(plain, torch.full_like(pattern, PLAIN), pattern)


def _carried(k: Tensor, prior: Palette) -> dict[str, Tensor]:
    backpack = uniform(k, 80) < prior.backpack
    bag = 1 + (uniform(k, 81) < 0.4).long()
    bag = torch.where((uniform(k, 82) < prior.bag) & ~(backpack & (bag == 1)), bag, torch.zeros_like(bag))
    hat = 1 + (uniform(k, 83) < 0.35).long()
    shoes = _cloth(k, 85, (4, 2.5, 0.7, 0.4))
    sole = torch.where((uniform(k, 89) < 0.5)[:, None], 0.82 + 0 * shoes, shoes * 0.5)
    return {
        "backpack": backpack,
        "backpack_color": _cloth(k, 90, (4, 1, 2, 1.2)),
        "bag": bag,
        "bag_color": _cloth(k, 94, (3, 2, 2, 0.6)),
        "bag_side": torch.where(uniform(k, 98) < 0.5, 1.0, -1.0).double(),
        "hat": torch.where(uniform(k, 84) < prior.hat, hat, torch.zeros_like(hat)),
        "hat_color": _cloth(k, 99, (3, 1.5, 2, 1)),
        "shoes": shoes,
        "sole": sole,
    }
