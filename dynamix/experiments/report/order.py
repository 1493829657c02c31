"""How far two orders of the same rows agree, and how often chance makes them."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

EXACT_UP_TO, DRAWS = math.factorial(8), 10_000  # orders; drawn at random beyond


def blocks_of(groups: Sequence[str]) -> list[list[int]]:
    """Places of the rows of each group."""
    return [[i for i, one in enumerate(groups) if one == group] for group in dict.fromkeys(groups)]


def kendall(
    x: Sequence[float | int], y: Sequence[float | int], groups: Sequence[str] = ()
) -> tuple[float | None, float | None]:
    """Kendall's tau-b over pairs of one group, and the share of orders of `y` that agree at least as much.

    Concordant minus discordant pairs, over the pairs that are not ties (the geometric mean of those of `x`
    and of `y`): with one group, or none given, the usual tau-b. Orders permute each group within itself. All
    of them up to 40,320, else 10,000 drawn from a fixed seed, the observed order among them.
    """
    blocks = blocks_of(groups or [""] * len(x))
    signs_x, signs_y = _signs(x), _signs(y)
    pairs = [pair for block in blocks for pair in itertools.combinations(block, 2)]
    untied = [sum(signs[pair] != 0 for pair in pairs) for signs in (signs_x, signs_y)]
    if 0 in untied:
        return None, None
    orders, drawn = _orders(blocks)
    # Ties stay as many in every order, so that concordant minus discordant pairs decide alone.
    score = np.zeros(len(orders), np.int64)
    for i, j in pairs:
        score += signs_x[i, j] * signs_y[orders[:, i], orders[:, j]]
    observed = sum(int(signs_x[pair] * signs_y[pair]) for pair in pairs)
    as_much = int((score >= observed).sum())
    return observed / math.sqrt(math.prod(untied)), (as_much + drawn) / (len(orders) + drawn)


def _orders(blocks: Sequence[Sequence[int]]) -> tuple[np.ndarray, int]:
    """Orders that leave rows in their block, and 1 where they are drawn: the observed one must be added."""
    orders = np.tile(np.arange(sum(map(len, blocks))), (DRAWS, 1))
    if math.prod(math.factorial(len(block)) for block in blocks) <= EXACT_UP_TO:
        every = list(itertools.product(*map(itertools.permutations, blocks)))
        orders = np.tile(orders[0], (len(every), 1))
        for at, block in enumerate(blocks):
            orders[:, block] = [order[at] for order in every]
        return orders, 0
    rng = np.random.default_rng(0)
    for block in blocks:
        orders[:, block] = rng.permuted(orders[:, block], axis=1)
    return orders, 1


def _signs(values: Sequence[float | int]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.sign(array[:, None] - array[None, :]).astype(np.int64)
