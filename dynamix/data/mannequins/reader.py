"""A Mannequins world's table, in whichever layout the world was written."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dynamix.data import find
from dynamix.data.cuhk03 import cuhk03
from dynamix.data.cuhk03 import home as cuhk03_home
from dynamix.data.dukemtmc import HOME as DUKEMTMC
from dynamix.data.dukemtmc import dukemtmc
from dynamix.data.luperson import HOME_NL, luperson_nl
from dynamix.data.mannequins.truth import TRUTH
from dynamix.data.market1501 import WORLD, market1501
from dynamix.data.msmt17 import HOME as MSMT17
from dynamix.data.msmt17 import msmt17
from dynamix.data.randperson import HOME as RANDPERSON
from dynamix.data.randperson import randperson
from dynamix.data.table import Table

LAYOUT = "layout.json"  # beside a world in its native layout, says which reader reads it


class Reader(NamedTuple):
    read: Callable[..., Table]
    home: find.Home


READERS = {
    "market1501": Reader(market1501, WORLD),
    "dukemtmc": Reader(dukemtmc, DUKEMTMC),
    "cuhk03_detected": Reader(partial(cuhk03, variant="detected"), cuhk03_home("detected")),
    "msmt17": Reader(msmt17, MSMT17),
    "randperson": Reader(randperson, RANDPERSON),
    "luperson_nl": Reader(luperson_nl, HOME_NL),
}


def home(name: str) -> find.Home:
    """The folder of world `name`: its layout tells what it holds; with a truth alone it is a broken one."""

    def fit(folder: Path) -> int:
        if find.plain(folder.name) != name:  # a real dataset's folder would give its numbers a wrong name
            return find.NOTHING
        try:
            kind = "luperson_nl" if name == "videos" else layout(folder)
        except ValueError:  # reading it raises the same
            return find.TRACE
        best = max(place.fit for place in find.places(READERS[kind].home, folder))
        return best or (find.TRACE if (folder / TRUTH).is_file() else find.NOTHING)

    return find.Home((name,), (find.Layout(fit),), f"no world {name}")


def world(root: str | Path, split: str = "train", *, source: str, on_bad_image: str = "error") -> Table:
    """One split of the world `source`: read as `layout.json` in its folder says, else as Market-1501.

    A world in a layout without query and gallery has only train and all. Raises what that layout's reader
    raises, and ValueError on a `layout.json` that names no layout.
    """
    return READERS[layout(root)].read(root, split, source=source, on_bad_image=on_bad_image)


def layout(root: str | Path) -> str:
    """The layout of the world in `root`, by its dataset's name."""
    path = Path(os.path.expanduser(root)) / LAYOUT
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
