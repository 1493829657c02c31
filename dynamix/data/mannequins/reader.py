"""A Mannequins world's table, in whichever layout the world was written."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dynamix.data.cuhk03 import cuhk03
from dynamix.data.dukemtmc import dukemtmc
from dynamix.data.luperson import luperson_nl
from dynamix.data.market1501 import market1501
from dynamix.data.msmt17 import msmt17
from dynamix.data.randperson import randperson
from dynamix.data.table import Table

LAYOUT = "layout.json"  # beside a world in its native layout, says which reader reads it
READERS: dict[str, Callable[..., Table]] = {
    "market1501": market1501,
    "dukemtmc": dukemtmc,
    "cuhk03_detected": partial(cuhk03, variant="detected"),
    "msmt17": msmt17,
    "randperson": randperson,
    "luperson_nl": luperson_nl,
}


def world(root: str | Path, split: str = "train", *, source: str, on_bad_image: str = "error") -> Table:
    """One split of the world `source`: read as `layout.json` in its folder says, else as Market-1501.

    A world in a layout without query and gallery has only train and all. Raises what that layout's reader
    raises, and ValueError on a `layout.json` that names no layout.
    """
    return READERS[layout(root)](root, split, source=source, on_bad_image=on_bad_image)


def layout(root: str | Path) -> str:
    """The layout of the world in `root`, by its dataset's name."""
    path = Path(root) / LAYOUT
    if not path.is_file():
        return "market1501"
    try:
        found = json.loads(path.read_text())["layout"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str) or found not in READERS:
        raise ValueError(
            f'{path} is not {{"layout": one of {", ".join(READERS)}}}: write the world again with '
            "`dynamix worlds --layout native`"
        )
    return found
