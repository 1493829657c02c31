"""Which rows meet which columns: blocks of indices, planned ahead, for searches within groups."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dynamix.similarity.exact import BLOCK


class _Members(NamedTuple):
    """Rows sorted by group: members of group g are order[start[g] : start[g] + size[g]]."""

    order: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " G"]
    size: Int[np.ndarray, " G"]


def _members(inverse: Int[np.ndarray, " n"], groups: int) -> _Members:
    count = np.bincount(inverse, minlength=groups)
    return _Members(np.argsort(inverse, kind="stable"), np.cumsum(count) - count, count)


def group_blocks(
    row_groups: Int[Tensor, " n"], column_groups: Int[Tensor, " P"], dim: int, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, columns) of one group each: batches of index blocks, -1 where there is none."""
    names, inverse = np.unique(row_groups.cpu().numpy(), return_inverse=True)
    theirs = column_groups.cpu().numpy()
    kept = np.flatnonzero(np.isin(theirs, names))  # a call may touch few groups
    rows = _members(inverse, len(names))
    columns = _members(np.searchsorted(names, theirs[kept]), len(names))
    pieces = np.where(columns.size > 0, -(-rows.size // chunk), 0)
    group = np.repeat(np.arange(len(names)), pieces)
    offset = chunk * (np.arange(len(group)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    size = np.minimum(chunk, rows.size[group] - offset)
    tasks = np.stack((rows.start[group] + offset, size, columns.start[group], columns.size[group]), 1)
    return _padded(tasks, rows.order, kept[columns.order], dim, chunk, row_groups.device)


def triangle_blocks(groups: Int[Tensor, " P"], dim: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, columns) of the upper triangle of each group, the diagonal blocks included."""
    inverse = np.unique(groups.cpu().numpy(), return_inverse=True)[1]
    members = _members(inverse, int(inverse.max()) + 1)
    pieces = np.where(members.size > 1, -(-members.size // chunk), 0)
    tasks = [np.empty((0, 4), dtype=np.int64)]
    for number in np.unique(pieces[pieces > 0]):  # groups cut into equally many pieces, together
        group = np.flatnonzero(pieces == number)[:, None]
        offset = chunk * np.stack(np.triu_indices(number))[:, None, :]  # (2, 1, pairs of pieces)
        size = np.minimum(chunk, members.size[group] - offset)
        start = members.start[group] + offset
        tasks.append(np.stack((start[0], size[0], start[1], size[1]), -1).reshape(-1, 4))
    order = members.order
    return _padded(np.concatenate(tasks), order, order, dim, chunk, groups.device, square=True)


def _padded(
    tasks: Int[np.ndarray, "T 4"],
    row_order: Int[np.ndarray, " n"],
    column_order: Int[np.ndarray, " P"],
    dim: int,
    chunk: int,
    device: torch.device,
    square: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    # Tasks (row start, rows, column start, columns) whose sizes share their powers of two are padded to
    # one shape and stacked: at most four times the products needed, whatever the sizes.
    size_class = np.ceil(np.log2(np.maximum(tasks[:, [1, 3]], 1))).astype(np.int64) @ np.array([64, 1])
    order = np.argsort(size_class, kind="stable")
    bounds = np.flatnonzero(np.diff(size_class[order], prepend=-1, append=-1))
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        mine = tasks[order[begin:end]]
        R, C = (int(mine[:, k].max()) for k in (1, 3))
        rows_fit = max(1, chunk // R) if not square else max(1, chunk * chunk // (R * C))
        step = max(1, min(rows_fit, 16 * BLOCK // ((R + C) * dim)))
        for cut in range(0, len(mine), step):
            row_start, rows, column_start, columns = mine[cut : cut + step].T
            pair = (_pad(row_order, row_start, rows, R), _pad(column_order, column_start, columns, C))
            yield torch.from_numpy(pair[0]).to(device), torch.from_numpy(pair[1]).to(device)


def _pad(order: np.ndarray, start: np.ndarray, count: np.ndarray, width: int) -> Int[np.ndarray, "G width"]:
    inside = np.arange(width) < count[:, None]
    return np.where(inside, order[np.where(inside, start[:, None] + np.arange(width), 0)], -1)
