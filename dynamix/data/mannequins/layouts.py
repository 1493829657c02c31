"""Drawing a plan and writing it to disk in the layouts of real datasets."""

import dataclasses
import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from tqdm.auto import tqdm

from dynamix.data.mannequins.native import Files
from dynamix.data.mannequins.plan import Plan
from dynamix.data.mannequins.render import render
from dynamix.data.mannequins.truth import SPLITS
from dynamix.data.market1501 import FOLDERS

BLOCK = 1024  # images drawn and encoded at a time


def drawn(plan: Plan, device: str, bar: tqdm) -> Iterator[tuple[slice, list[bytes]]]:
    """JPEGs of all images, BLOCK at a time: memory does not grow with the world."""
    for start in range(0, len(plan.shots), BLOCK):
        rows = slice(start, min(start + BLOCK, len(plan.shots)))
        index = torch.arange(rows.start, rows.stop)
        shots, second = plan.shots.select(index), plan.second[index]
        images = render(plan.people, plan.cameras, shots, plan.size, device=device)
        pairs = torch.nonzero(second >= 0)[:, 0]
        right = shots.select(pairs)  # the same scene and camera, another person on the other side
        right = dataclasses.replace(
            right, person=second[pairs], offset=right.offset * torch.tensor([-1.0, 1.0])
        )
        half = plan.size[1] // 2
        other = render(plan.people, plan.cameras, right, plan.size, device=device)
        images[pairs, :, :, half:] = other[..., half:]
        yield rows, [_jpeg(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]
        bar.update(len(index))


def _jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    buffer = io.BytesIO()
    # Without chroma subsampling: at this size 4:2:0 would smear colours across the whole person.
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def save_market(plan: Plan, folder: Path, blocks: Iterator[tuple[slice, list[bytes]]]) -> None:
    """Write Market-1501's folders and names."""
    homes = [folder / FOLDERS[split] for split in SPLITS]
    for home in homes:
        home.mkdir()
    for rows, images in blocks:
        for name, split, image in zip(plan.truth.names[rows], plan.truth.split[rows], images, strict=True):
            (homes[split] / str(name)).write_bytes(image)


def save_files(files: Files, folder: Path, blocks: Iterator[tuple[slice, list[bytes]]]) -> None:
    """Write images where `files` says; as PNG, of the very pixels of the JPEG, where it says so."""
    for home in {str(Path(path).parent) for path in files.paths}:
        (folder / home).mkdir(parents=True, exist_ok=True)
    for rows, images in blocks:
        for path, image in zip(files.paths[rows], images, strict=True):
            (folder / path).write_bytes(_png(image) if path.endswith(".png") else image)
    for name, text in files.texts.items():
        (folder / name).write_text(text)


def _png(jpeg: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def save_lmdb(plan: Plan, folder: Path, blocks: Iterator[tuple[slice, list[bytes]]]) -> None:
    """Write LUPerson-NL's LMDB of JPEGs and its keys.pkl."""
    import lmdb

    names = plan.truth.names.tolist()
    # The bytes of data.mdb depend on the map's size and on the commits: both follow from the settings alone.
    room = (len(names) + 1000) * (3 * plan.size[0] * plan.size[1] + 8192)
    with lmdb.open(str(folder / "lmdb"), map_size=room, lock=False, sync=False) as store:
        for rows, images in blocks:
            with store.begin(write=True) as commit:
                for name, image in zip(names[rows], images, strict=True):
                    commit.put(name.encode(), image, append=True)
        store.sync(True)
    with open(folder / "keys.pkl", "wb") as file:
        pickle.dump({"keys": names, "pids": plan.pid.tolist()}, file, protocol=4)
