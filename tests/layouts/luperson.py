"""LUPerson-NL (LMDB, extracted folders, flat files) and LUPerson (LMDB), as their converters leave them."""

import pickle
import tempfile
from pathlib import Path

from tests.layouts import Entry, draw

VIDEOS = (("germany", "berlin", "aXk-3_0Q"), ("germany", "bonn", "Zz0"), ("japan", "tokyo", "0b_9"))
PEOPLE, IMAGES = 3, 4  # of a video, of a person


def write_luperson_nl(root: Path, form: str = "lmdb", content: str = "dict") -> list[Entry]:
    """9 people in 3 videos: `lmdb` (content: dict with pids, or bare list), or `tree` and `flat` of JPEGs.

    pids count through all videos, as the detections number them.
    """
    entries = []
    for video, place in enumerate(VIDEOS):
        for pid in range(video * PEOPLE, (video + 1) * PEOPLE):
            for image in range(IMAGES):
                name = f"{pid:06d}_{100 * image + 17:07d}_{image % 2:02d}"
                key = f"{video + 1:05d}_{name}"
                path = {"lmdb": key, "tree": "/".join([*place, f"{name}.jpg"]), "flat": f"{key}.jpg"}[form]
                entries.append(Entry("train", path, pid, -1))
    if form == "lmdb":
        _store(root, entries)
        keys, pids = [entry.path for entry in entries], [entry.pid for entry in entries]
        _keys(root, {"keys": keys, "pids": pids} if content == "dict" else keys)
    else:
        for number, entry in enumerate(entries):
            draw(root / entry.path, entry.pid, number)
    return entries


def write_luperson(root: Path, content: str = "list") -> list[Entry]:
    """24 images in 4 videos, whose numbers restart in every city; nobody is labeled: a pid per image."""
    keys = []
    for country, city, video in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (30, 0, 292)):
        keys += [f"{country:02d}_{city:02d}_{video:04d}_{image:08d}" for image in range(6)]
    entries = [Entry("train", key, number, -1) for number, key in enumerate(keys)]
    _store(root, entries)
    _keys(root, keys if content == "list" else {"keys": keys})
    return entries


def _store(root: Path, entries: list[Entry]) -> None:
    import lmdb

    (root / "lmdb").mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        lmdb.open(str(root / "lmdb"), map_size=1 << 24) as store,
        store.begin(write=True) as writing,
    ):
        for number, entry in enumerate(entries):
            image = Path(folder) / "image.jpg"
            draw(image, entry.pid, number)
            writing.put(entry.path.encode("ascii"), image.read_bytes())


def _keys(root: Path, content: object) -> None:
    (root / "keys.pkl").write_bytes(pickle.dumps(content))
