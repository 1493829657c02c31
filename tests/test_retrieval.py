"""Search: exact, in a stable order, reused only while it holds; the pictures and files it leaves."""

import csv
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import ExifTags, Image

from dynamix import checkpoint, cli, encoders, plots, retrieval
from dynamix.config import Mannequins, change, tiny
from dynamix.plots.search import TINY, name_lines
from dynamix.plots.style import PALETTE, text_width
from dynamix.retrieval import Gallery, Listing, embed, index_folder, open_gallery, query_images, rank

CONFIG = change(tiny, encoder__width=8, encoder__dim=16, encoder__neck="none", workers=0)


@pytest.fixture(scope="module")
def encoder():
    return encoders.build(CONFIG.encoder).eval()


def paint(path: Path, seed: int, size: tuple[int, int] = (32, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(noise).resize(size).save(path)
    return path


@pytest.fixture
def crops(tmp_path) -> Path:
    """Nine images in three formats and two levels, one of them twice, and what is no image of it."""
    home = tmp_path / "crops"
    names = ["a.jpg", "b.JPEG", "c.png", "sub/d.bmp", "sub/e.jpg", "sub/deep/f.jpg", "g.jpg", "sub/h.png"]
    for seed, name in enumerate(names):
        paint(home / name, seed, (40 + seed, 90))
    shutil.copy(home / "c.png", home / "sub" / "c.png")
    for name in ("._a.jpg", "__MACOSX/a.jpg", "notes.txt", "sub/.DS_Store"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(b"not an image")
    return home


def synthetic(features: np.ndarray) -> Gallery:
    """A gallery of given features, of no images."""
    import faiss

    index = faiss.IndexFlatIP(features.shape[1])
    index.add(features.astype(np.float32))
    files = [(f"{row:05}.jpg", 1, 1) for row in range(len(features))]
    return Gallery(Listing.of(Path("crops"), files), np.arange(len(features)), index, "")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_tensor(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.float32))


# ---- search


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 400),
    st.integers(1, 9),
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 2**31),
    st.data(),
)
def test_search_equals_sorting_everything(N, D, top, doubled, seed, data):
    """argsort of all cosines, in double precision, ties by row; also with features that repeat."""
    generator = np.random.default_rng(seed)
    gallery = unit(generator.normal(size=(N, D))).astype(np.float32)
    if doubled:
        gallery = gallery[generator.integers(0, max(1, N // 4), N)]
    queries = unit(generator.normal(size=(3, D))).astype(np.float32)
    queries[0] = gallery[data.draw(st.integers(0, N - 1))]
    similarity, rows = synthetic(gallery).search(torch.from_numpy(queries), top)
    assert similarity.shape == rows.shape == (3, top)
    for q in range(3):
        cosines = np.round([float(np.dot(row, queries[q])) for row in gallery.astype(np.float64)], 6)
        order = sorted(range(N), key=lambda row, c=cosines: (-c[row], row))[:top]
        assert rows[q].tolist() == order + [-1] * (top - len(order))
        assert np.allclose(similarity[q, : len(order)], cosines[order], atol=2e-6)
        assert (similarity[q, len(order) :] == -np.inf).all()


def test_ties_stand_in_the_order_of_rows():
    """More equal images than are asked for, among others a hair away: never an arbitrary choice."""
    gallery = np.tile([[0.6, 0.8]], (5000, 1))
    gallery[1000] = gallery[4000] = [0.8, 0.6]
    gallery[3::7] += 1e-7  # rounding of another batch
    similarity, rows = synthetic(gallery).search(torch.tensor([[1.0, 0.0]]), 6)
    assert rows.tolist() == [[1000, 4000, 0, 1, 2, 3]]
    assert similarity[0].tolist() == pytest.approx([0.8, 0.8, 0.6, 0.6, 0.6, 0.6])


def test_ties_behind_a_left_out_row():
    gallery = np.tile([[0.6, 0.8]], (100, 1))
    gallery[0] -= 1e-7  # by the digits alone it would come last
    gallery[50] = [1.0, 0.0]
    query = torch.tensor([[1.0, 0.0]])
    assert synthetic(gallery).search(query, 1, leave_out=np.array([50]))[1].tolist() == [[0]]
    assert synthetic(gallery).search(query, 2)[1].tolist() == [[50, 0]]


def test_search_does_not_depend_on_who_asks_along():
    generator = np.random.default_rng(0)
    gallery = synthetic(unit(generator.normal(size=(900, 32))))
    queries = as_tensor(unit(generator.normal(size=(150, 32))))
    similarity, rows = gallery.search(queries, 7)
    for q in (0, 63, 64, 149):
        alone = gallery.search(queries[q : q + 1] * 3, 7)  # of any length, too
        assert np.array_equal(alone[0][0], similarity[q]) and np.array_equal(alone[1][0], rows[q])


def test_left_out_rows():
    gallery = synthetic(np.eye(4))
    wanted = torch.eye(4)[[2, 2, 0]]
    similarity, rows = gallery.search(wanted, 3, leave_out=np.array([2, -1, 3]))
    assert rows.tolist() == [[0, 1, 3], [2, 0, 1], [0, 1, 2]]
    assert similarity[0].tolist() == [0, 0, 0]
    assert gallery.search(wanted, 4, leave_out=np.array([2, -1, 3]))[1][:, 3].tolist() == [-1, 3, -1]


@pytest.mark.parametrize(
    "features, top, words",
    [
        (torch.ones(1, 3), 5, "the gallery's features have D = 4, the queries' 3"),
        (torch.full((1, 4), torch.nan), 5, "not finite"),
        (torch.ones(1, 4), 0, "top must be at least 1, got 0"),
    ],
)
def test_bad_searches(features, top, words):
    with pytest.raises(ValueError, match=words):
        synthetic(np.eye(4)).search(features, top)


def test_rows_to_leave_out_are_one_for_each_query():
    with pytest.raises(ValueError, match="leave_out has 1 rows for 2 queries"):
        synthetic(np.eye(4)).search(torch.eye(4)[:2], 2, leave_out=np.array([1]))


def test_no_queries():
    similarity, rows = synthetic(np.eye(4)).search(torch.empty(0, 4), 2)
    assert similarity.shape == rows.shape == (0, 2)


# ---- the images of a folder


def test_images_are_listed_by_path(crops):
    listing = retrieval.list_images(crops)
    names = ["a.jpg", "b.JPEG", "c.png", "g.jpg"]
    names += [f"sub/{n}" for n in ("c.png", "d.bmp", "deep/f.jpg", "e.jpg", "h.png")]
    assert list(listing.names) == names
    assert list(listing.paths) == [str(crops / name) for name in names]
    assert listing.sizes.tolist() == [(crops / name).stat().st_size for name in names]


def test_links_are_followed_once(crops, tmp_path):
    paint(tmp_path / "elsewhere" / "z.jpg", 99)
    (crops / "linked").symlink_to(tmp_path / "elsewhere")
    (crops / "sub" / "again").symlink_to(crops)
    names = list(retrieval.list_images(crops).names)
    assert "linked/z.jpg" in names and len(names) == 10


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; found nothing in .*: give a folder"):
        retrieval.list_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"no image below .*; found notes.txt in"):
        retrieval.list_images(tmp_path)


def test_every_format_of_pillow_and_clutter_of_none(crops, tmp_path):
    """A folder that is itself called like clutter was meant, where it is given."""
    home = tmp_path / "$RECYCLE.BIN"
    wanted = [f"{n}{suffix}" for n, suffix in enumerate((".gif", ".ppm", ".jfif", ".JPE", ".tif", ".webp"))]
    for name in wanted:
        shutil.copy(crops / "c.png", home / name) if home.is_dir() else paint(home / name, 1)
    for folder in (".ipynb_checkpoints", "@eaDir", ".thumbnails", ".Trash-1000", "$RECYCLE.BIN", "__MACOSX"):
        paint(home / folder / "z.jpg", 2)
    listing = retrieval.list_images(home)
    assert list(listing.names) == wanted and listing.left_out() == ""


def test_what_is_no_image_is_counted_and_named(crops):
    names = ["a.heic", "b\n.mp4", "pipe.jpg", "z.raw"]
    for name in names:
        os.mkfifo(crops / name) if name == "pipe.jpg" else (crops / name).touch()
    listing = retrieval.list_images(crops)
    assert listing.others == ("a.heic", "b\n.mp4", "notes.txt", "pipe.jpg", "z.raw")
    wanted = "left out: 5 files that are no readable images: a.heic, b?.mp4, notes.txt, ..."
    assert listing.left_out() == wanted and len(list(listing.names)) == 9
    shutil.rmtree(crops / "sub")
    [each.unlink() for each in crops.glob("*.*") if each.name != "a.jpg" and each.is_file()]
    with pytest.warns(UserWarning, match=r"left out: 1 file that is no readable image: pipe.jpg"):
        assert query_images([crops]) == [crops / "a.jpg"]


def test_a_folder_without_permission_is_named(open_folder, strangers):
    paint(open_folder / "a.jpg", 1)
    (open_folder / "closed").mkdir(mode=0)
    with strangers(), pytest.raises(PermissionError, match=r"closed \(Permission denied\): make it readable"):
        retrieval.list_images(open_folder)


def test_a_link_to_itself_is_an_unreadable_image(crops, encoder):
    (crops / "loop.jpg").symlink_to(crops / "loop.jpg")
    with pytest.raises(OSError, match=r"loop.jpg \(Too many levels.*--on-bad-image=skip"):
        index_folder(encoder, CONFIG, crops)
    with pytest.warns(UserWarning, match="skipped 1 unreadable images, first: .*loop.jpg"):
        assert len(index_folder(encoder, CONFIG, crops, on_bad_image="skip")) == 9


# ---- indexing


def test_index_holds_each_images_feature(crops, encoder):
    gallery = index_folder(encoder, CONFIG, crops)
    wanted = embed(encoder, CONFIG, list(gallery.paths))
    assert len(gallery) == 9 and gallery.rows.tolist() == list(range(9))
    held = torch.from_numpy(gallery.index.reconstruct_n(0, 9))
    assert torch.allclose(held, wanted, atol=1e-6) and torch.allclose(held.norm(dim=1), torch.ones(9))
    similarity, rows = gallery.search(embed(encoder, CONFIG, [crops / "sub" / "c.png"]), 2)
    assert [gallery.paths[row] for row in rows[0]] == [str(crops / "c.png"), str(crops / "sub" / "c.png")]
    assert similarity[0].tolist() == [1, 1]


def test_chunks_and_workers_change_nothing(crops, encoder, monkeypatch):
    whole = index_folder(encoder, CONFIG, crops)
    monkeypatch.setattr(retrieval, "CHUNK", 2)
    pieces = index_folder(encoder, change(CONFIG, workers=2), crops)
    both = [torch.from_numpy(each.index.reconstruct_n(0, 9)) for each in (whole, pieces)]
    assert torch.allclose(*both, atol=1e-6) and whole.encoder == pieces.encoder


def test_photographs_stand_upright(crops, encoder, tmp_path):
    """Of the gallery and of queries, and on the pictures."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(crops / "c.png") as image:
        lying = image.transpose(Image.Transpose.ROTATE_90)
    lying.save(crops / "lying.png", exif=exif)
    lying.save(tmp_path / "lying.png", exif=exif)
    gallery = index_folder(encoder, CONFIG, crops)
    ranking = rank(gallery, encoder, CONFIG, [tmp_path / "lying.png"], 3)
    assert sorted(ranking.names()[0]) == ["c.png", "lying.png", "sub/c.png"]
    assert ranking.similarity.tolist() == [[1, 1, 1]]
    asked, results = ranking.crops(CONFIG)
    assert all(torch.equal(each, asked[0]) for each in results[0])


@pytest.mark.parametrize("size", [1, 3, 256])
def test_unreadable_images(crops, encoder, monkeypatch, size):
    """An error by default; skipped, they are counted once and no other row moves."""
    monkeypatch.setattr(retrieval, "CHUNK", size)
    good = index_folder(encoder, CONFIG, crops)
    for name in ("b.JPEG", "sub/e.jpg"):
        (crops / name).write_bytes(b"broken")
    (crops / "sub" / "c.png").unlink()
    (crops / "sub" / "c.png").symlink_to(crops / "gone.png")
    with pytest.raises(ValueError, match="b.JPEG"):
        index_folder(encoder, CONFIG, crops)
    with pytest.warns(UserWarning) as caught:
        gallery = index_folder(encoder, CONFIG, crops, on_bad_image="skip")
    assert [str(w.message) for w in caught] == [f"skipped 3 unreadable images, first: {crops / 'b.JPEG'}"]
    assert gallery.rows.tolist() == [0, 2, 3, 5, 6, 8] and gallery.skipped.tolist() == [1, 4, 7]
    wanted = embed(encoder, CONFIG, [crops / "sub" / "d.bmp"])
    rows = gallery.search(wanted, 6)[1][0]
    assert gallery.paths[rows[0]] == str(crops / "sub" / "d.bmp") and sorted(rows) == gallery.rows.tolist()
    assert rows.tolist() == [row for row in good.search(wanted, 9)[1][0] if row in gallery.rows]


def test_no_readable_image(tmp_path, encoder):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of the 1 images below"):
        index_folder(encoder, CONFIG, tmp_path, on_bad_image="skip")
    with pytest.raises(ValueError, match='on_bad_image must be "error" or "skip"'):
        index_folder(encoder, CONFIG, tmp_path, on_bad_image="Skip")


# ---- kept on disk


def test_saved_and_loaded(crops, encoder, tmp_path):
    gallery = index_folder(encoder, CONFIG, crops)
    gallery.save(tmp_path / "index")
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == ["gallery.json", "index.faiss"]
    queries = embed(encoder, CONFIG, [crops / "a.jpg", crops / "g.jpg"])
    wanted = gallery.search(queries, 4)
    again = Gallery.load(tmp_path / "index")
    assert list(again.paths) == [str(crops / name) for name in gallery.listing.names]
    for a, b in zip(again.search(queries, 4), wanted, strict=True):
        assert np.array_equal(a, b)
    crops.rename(tmp_path / "moved")
    moved = Gallery.load(tmp_path / "index", tmp_path / "moved")
    assert Path(moved.paths[3]).is_file() and moved.row_of(tmp_path / "moved" / "g.jpg") == 3


@pytest.mark.parametrize("name", ["index", os.fsdecode(b"caf\xe9")])
def test_what_is_kept_may_be_read_by_whom_the_user_lets(crops, encoder, tmp_path, name):
    before = os.umask(0o027)
    try:
        index_folder(encoder, CONFIG, crops).save(tmp_path / name)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / name).iterdir()} == {0o640}
    assert len(Gallery.load(tmp_path / name)) == 9


def test_an_index_without_permission_is_not_called_damaged(crops, encoder, open_folder, strangers):
    for name in ("index.faiss", "gallery.json"):
        index_folder(encoder, CONFIG, crops).save(open_folder)
        (open_folder / name).chmod(0)
        with strangers(), pytest.raises(PermissionError, match=f"Permission denied: .*{name}"):
            Gallery.load(open_folder)


def test_an_index_of_an_earlier_version(crops, encoder, tmp_path):
    """It read some images in another way: turned, or white."""
    index_folder(encoder, CONFIG, crops).save(tmp_path)
    plain = json.loads((tmp_path / "gallery.json").read_text())
    (tmp_path / "gallery.json").write_text(json.dumps({k: v for k, v in plain.items() if k != "reading"}))
    with pytest.raises(ValueError, match=r"earlier version, .*: delete it and index again"):
        Gallery.load(tmp_path)


def test_an_index_that_others_wrote_serves_until_it_must_be_made_anew(
    crops, encoder, open_folder, strangers, monkeypatch
):
    shutil.copytree(crops, open_folder / "crops")
    index = open_folder / "index"
    open_gallery(encoder, CONFIG, open_folder / "crops", index)
    index.chmod(0o555)
    with strangers():
        assert open_gallery(encoder, CONFIG, open_folder / "crops", index)[1] == f"as kept in {index}"
    (open_folder / "crops" / "a.jpg").unlink()
    monkeypatch.setattr(retrieval, "index_folder", None)  # the time of embedding must not be lost
    with strangers(), pytest.raises(PermissionError, match=r"cannot write .*index .permission denied"):
        open_gallery(encoder, CONFIG, open_folder / "crops", index)


def test_half_an_index_is_made_again(crops, encoder, tmp_path):
    open_gallery(encoder, CONFIG, crops, tmp_path)
    (tmp_path / "index.faiss").unlink()
    assert open_gallery(encoder, CONFIG, crops, tmp_path)[1] == f"indexed and kept in {tmp_path}"


@pytest.mark.parametrize("name", ["index.faiss", "gallery.json", "ranking.csv", "ranking.png"])
def test_a_full_disk_names_the_file(crops, encoder, tmp_path, full_disk, name):
    """And leaves an old file as it was, and nothing half written."""
    (crops / "g.jpg").rename(crops / f"{'g' * 200}.jpg")  # the listing must be larger than the index
    gallery = index_folder(encoder, CONFIG, crops)
    ranking = rank(gallery, encoder, CONFIG, list(gallery.paths)[:2])
    gallery.save(tmp_path / "index")
    size = (tmp_path / "index" / "index.faiss").stat().st_size if name == "gallery.json" else 10
    out = tmp_path / "out"
    ranking.write(out / "ranking.csv")
    before = (out / "ranking.csv").read_bytes()
    write = {
        "ranking.csv": lambda: ranking.write(out / name),
        "ranking.png": lambda: plots.save_sheets(ranking, CONFIG, out),
    }.get(name, lambda: gallery.save(out))
    with (
        full_disk(size),
        pytest.raises(OSError, match=rf"cannot write .*{name} \(file too large\): "),
    ):
        write()
    left = {"ranking.csv", "index.faiss"} if name == "gallery.json" else {"ranking.csv"}
    assert {path.name for path in out.iterdir()} == left
    assert (out / "ranking.csv").read_bytes() == before


def test_a_kept_index_is_reused(crops, encoder, tmp_path, monkeypatch):
    gallery, how = open_gallery(encoder, CONFIG, crops, tmp_path / "index")
    assert how == f"indexed and kept in {tmp_path / 'index'}"
    monkeypatch.setattr(retrieval, "index_folder", None)  # must not be needed
    again, how = open_gallery(encoder, CONFIG, crops, tmp_path / "index")
    assert how == f"as kept in {tmp_path / 'index'}" and list(again.paths) == list(gallery.paths)


def touch(path: Path) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000_000))


def rename(path: Path) -> None:
    path.rename(path.with_name("x.jpg"))


CHANGES = {
    "1 added": lambda home: paint(home / "sub" / "new.jpg", 50),
    "1 gone": lambda home: (home / "sub" / "e.jpg").unlink(),
    "1 changed": lambda home: touch(home / "a.jpg"),
    "1 added, 1 gone": lambda home: rename(home / "a.jpg"),
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_stale_index_is_made_anew(crops, encoder, tmp_path, words):
    index = tmp_path / "index"
    open_gallery(encoder, CONFIG, crops, index)
    CHANGES[words](crops)
    fresh = index_folder(encoder, CONFIG, crops)
    gallery, how = open_gallery(encoder, CONFIG, crops, index)
    assert how == f"indexed again ({words}) and kept in {index}"
    kept = Gallery.load(index)
    for each in (gallery, kept):
        assert list(each.paths) == list(fresh.paths)
        held = [torch.from_numpy(g.index.reconstruct_n(0, len(fresh))) for g in (each, fresh)]
        assert torch.equal(*held)
    assert open_gallery(encoder, CONFIG, crops, index)[1] == f"as kept in {index}"


def test_a_changed_image_of_the_same_size_and_name(crops, encoder, tmp_path):
    """Content counts through the time of change, not through the size alone."""
    open_gallery(encoder, CONFIG, crops, tmp_path / "index")
    path = crops / "sub" / "d.bmp"
    size = path.stat().st_size
    paint(path, 77, (43, 90))
    touch(path)
    assert path.stat().st_size == size
    gallery, how = open_gallery(encoder, CONFIG, crops, tmp_path / "index")
    assert "1 changed" in how
    assert gallery.search(embed(encoder, CONFIG, [path]), 1)[0][0, 0] == 1


def test_skipped_images_are_not_forgotten(crops, encoder, tmp_path):
    """An index without unreadable images serves whoever accepts that, and nobody else."""
    (crops / "a.jpg").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="skipped 1 unreadable"):
        open_gallery(encoder, CONFIG, crops, tmp_path / "index", on_bad_image="skip")
    gallery, how = open_gallery(encoder, CONFIG, crops, tmp_path / "index", on_bad_image="skip")
    assert how.startswith("as kept") and gallery.skipped.tolist() == [0]
    with pytest.raises(ValueError, match="a.jpg"):
        open_gallery(encoder, CONFIG, crops, tmp_path / "index")


@pytest.mark.parametrize(
    "changes", [{"encoder__seed": 1}, {"encoder__normalization": "imagenet"}, {"encoder__image": (128, 64)}]
)
def test_another_encoder_is_refused(crops, encoder, tmp_path, changes):
    gallery, _ = open_gallery(encoder, CONFIG, crops, tmp_path / "index")
    config = change(CONFIG, **changes)
    other = encoders.build(config.encoder).eval()
    for search in (
        lambda: open_gallery(other, config, crops, tmp_path / "index"),
        lambda: rank(gallery, other, config, [crops / "a.jpg"]),
    ):
        with pytest.raises(
            ValueError, match="was made by another encoder: give the run that made it"
        ) as caught:
            search()
        assert "\n" not in str(caught.value)
    assert len(Gallery.load(tmp_path / "index")) == 9  # and nothing was overwritten


def test_the_fingerprint_is_of_weights_and_input(encoder):
    one = retrieval.fingerprint(encoder, CONFIG)
    assert one == retrieval.fingerprint(encoder, change(CONFIG, seed=3, epochs=1, encoder__seed=9))
    again = encoders.build(CONFIG.encoder).eval()
    assert one == retrieval.fingerprint(again, CONFIG)
    with torch.no_grad():
        next(again.parameters()).view(-1)[5] += 1e-6
    assert one != retrieval.fingerprint(again, CONFIG)


def damage(home: Path, what: str) -> None:
    listing, index = home / "gallery.json", home / "index.faiss"
    plain = json.loads(listing.read_text())
    if what == "index cut short":
        index.write_bytes(index.read_bytes()[:100])
    elif what == "no index":
        index.unlink()
    elif what == "listing cut short":
        listing.write_text(listing.read_text()[:50])
    elif what == "another list":
        listing.write_text("[1, 2]")
    elif what == "a column is missing":
        listing.write_text(json.dumps({k: v for k, v in plain.items() if k != "sizes"}))
    elif what == "of another build":
        shorter = {k: plain[k][1:] for k in ("paths", "sizes", "mtimes")}
        listing.write_text(json.dumps(plain | shorter))


@pytest.mark.parametrize(
    "what",
    ["index cut short", "no index", "listing cut short", "another list", "a column is missing",
     "of another build"],
)  # fmt: skip
def test_damaged_indexes(crops, encoder, tmp_path, what):
    index_folder(encoder, CONFIG, crops).save(tmp_path)
    damage(tmp_path, what)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Gallery.load(tmp_path)
    said = str(caught.value)
    assert str(tmp_path) in said and "index" in said and "\n" not in said


def test_a_killed_save_leaves_no_index(crops, encoder, tmp_path, monkeypatch):
    """The old list must not be read beside a new index."""
    import faiss

    gallery = index_folder(encoder, CONFIG, crops)
    gallery.save(tmp_path)
    monkeypatch.setattr(faiss, "write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gallery.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="no gallery.json in"):
        Gallery.load(tmp_path)


# ---- queries


def test_a_query_does_not_find_itself(crops, encoder, tmp_path):
    """The same file by any name is left out; a copy of it is another image."""
    gallery = index_folder(encoder, CONFIG, crops)
    (tmp_path / "link.png").symlink_to(crops / "c.png")
    copied = shutil.copy(crops / "c.png", tmp_path / "copy.png")
    queries = [crops / "sub" / ".." / "c.png", tmp_path / "link.png", copied]
    ranking = rank(gallery, encoder, CONFIG, queries, top=2)
    assert ranking.own.tolist() == [2, 2, -1]
    assert [row[0] for row in ranking.names()] == ["sub/c.png", "sub/c.png", "c.png"]
    assert all("c.png" not in row for row in ranking.names()[:2])
    assert list(ranking.lines())[-1] == "queries that lie in the gallery, each left out of its own results: 2"


def test_query_images(crops):
    assert query_images([crops / "g.jpg", crops / "sub" / "deep"]) == [
        crops / "g.jpg",
        crops / "sub" / "deep" / "f.jpg",
    ]
    with pytest.raises(FileNotFoundError, match="no query image .*none.jpg: name images"):
        query_images([crops / "none.jpg"])


def test_a_broken_query_is_an_error(crops, encoder):
    """Its advice is none that only the gallery's images can follow."""
    gallery = index_folder(encoder, CONFIG, crops)
    (crops / "notes.jpg").write_bytes(b"broken")
    for look in (query_images, lambda queries: rank(gallery, encoder, CONFIG, queries)):
        with pytest.raises(
            ValueError, match=r"notes.jpg .*: replace the file, or search with another image$"
        ):
            look([crops / "a.jpg", crops / "notes.jpg"])


def test_home_folders(crops, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    gallery, _ = open_gallery(encoder, CONFIG, "~/crops", "~/index")
    assert list(gallery.paths)[0] == str(crops / "a.jpg") and (tmp_path / "index" / "gallery.json").is_file()
    assert len(Gallery.load("~/index", "~/crops")) == len(embed(encoder, CONFIG, ["~/crops/a.jpg"])) * 9
    ranking = rank(gallery, encoder, CONFIG, query_images(["~/crops/c.png"]) + [Path("~/crops/g.jpg")], 1)
    assert ranking.own.tolist() == [2, 3]


# ---- the command


@pytest.fixture
def search(monkeypatch, encoder, tmp_path, crops, capsys):
    """`dynamix search` on these crops: the lines it prints. `untrained`: it must not load the encoder."""

    def run(untrained=False, **options):
        def load(_, say):
            assert not untrained, "the encoder was loaded first"
            return encoder, CONFIG

        monkeypatch.setattr(checkpoint, "load_encoder", load)
        given = {"gallery": crops, "query": (crops / "a.jpg",), "out": tmp_path / "out"} | options
        cli.Search(run=Path("runs/x"), **given)()
        return capsys.readouterr().out.splitlines()

    return run


def test_search_says_what_it_did(search, crops, tmp_path):
    for name in ("phone.heic", "clip.mp4"):
        (crops / name).touch()
    for how in ("indexed and kept in", "as kept in"):
        said = search(index=tmp_path / "index")
        assert said[0] == f"gallery: 9 images below {crops}, {how} {tmp_path / 'index'}"
        assert said[1] == "left out: 3 files that are no readable images: clip.mp4, notes.txt, phone.heic"
        assert said[-1] == f"all results: {tmp_path / 'out' / 'ranking.csv'}"


def test_search_in_names_of_any_bytes(search, crops, tmp_path):
    home = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(crops, home)
    for name in (os.fsdecode(b"\xff.jpg"), "two\nlines.jpg"):
        shutil.copy(crops / "a.jpg", home / name)
    said = search(gallery=home, query=(home / "two\nlines.jpg",), out=home / "out", top=10**12)
    assert said[0].startswith("gallery: 11 images below") and said[0].endswith("caf?, indexed")
    assert said[2].startswith("two?lines.jpg -> 1.00 a.jpg, 1.00 ?.jpg, ")


def test_the_only_image_of_a_gallery(search, tmp_path):
    lonely = paint(tmp_path / "lonely" / "a.png", 1)
    said = search(gallery=lonely.parent, query=(lonely,))
    assert said[1] == "a.png -> nothing" and "left out of its own results: 1" in said[2]


WRONG = {  # options of the command, and what it says at once
    "top": ({"top": 0}, "--top must be at least 1"),
    "sheets": ({"sheets": -1}, "--sheets at least 0"),
    "missing": ({"query": "none.jpg"}, "no query image .*none.jpg"),
    "damaged": ({"query": "broken.jpg"}, "broken.jpg .*search with another image"),
    "no image": ({"query": "notes.txt"}, "cannot read image .*notes.txt"),
    "empty": ({"query": "empty"}, "no image below .*empty"),
    "file": ({"out": "notes.txt"}, "notes.txt is a file.*: name a folder with --out"),
    "below a file": ({"out": "notes.txt/out"}, "cannot write .*notes.txt is no folder.: a file lies where"),
    "like a file": ({"out": "found.csv"}, "found.csv is .*named like .*: name a folder with --out"),
    "closed": ({"out": "closed/out"}, "cannot write .*closed/out .permission denied.:"),
    "index file": ({"index": "notes.txt"}, "notes.txt is a file.*: name a folder with --index"),
    "index closed": ({"index": "closed"}, "cannot write .*closed .permission denied.:"),
}


@pytest.mark.parametrize("what", WRONG)
def test_search_looks_before_it_works(search, crops, open_folder, strangers, what):
    options, words = WRONG[what]
    home = open_folder / "home"
    shutil.copytree(crops, home)
    (home / "broken.jpg").write_bytes(b"broken")
    (home / "empty").mkdir()
    (home / "closed").mkdir(mode=0o555)
    names = sorted(home.rglob("*"))
    options = {name: home / value if isinstance(value, str) else value for name, value in options.items()}
    options["query"] = (options.get("query", home / "a.jpg"),)
    home.chmod(0o777)
    with strangers(), pytest.raises((ValueError, OSError), match=words) as caught:
        search(untrained=True, **{"out": home / "out"} | options)
    assert "\n" not in str(caught.value) and "--on-bad-image" not in str(caught.value)
    assert sorted(home.rglob("*")) == names


def test_no_sheets_fewer_than_none(crops, encoder, tmp_path):
    gallery = index_folder(encoder, CONFIG, crops)
    with pytest.raises(ValueError, match="sheets must be at least 0, got -1"):
        plots.save_sheets(rank(gallery, encoder, CONFIG, [crops / "a.jpg"]), CONFIG, tmp_path, most=-1)


def test_the_csv(crops, encoder, tmp_path):
    os.rename(crops / "g.jpg", crops / "g, or 'not'.jpg")
    gallery = index_folder(encoder, CONFIG, crops)
    queries = [crops / "a.jpg", crops / "sub" / "h.png"]
    ranking = rank(gallery, encoder, CONFIG, queries, top=20)
    path = ranking.write(tmp_path / "new" / "ranking.csv")
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["query", "rank", "similarity", "path"]
    assert [(line["query"], int(line["rank"])) for line in lines] == [
        (str(query), rank + 1) for query in queries for rank in range(8)
    ]
    features = embed(encoder, CONFIG, list(gallery.paths)).double()
    for line in lines:
        pair = [list(gallery.paths).index(line[name]) for name in ("query", "path")]
        assert float(line["similarity"]) == pytest.approx(
            float(features[pair[0]] @ features[pair[1]]), abs=2e-6
        )
        assert Path(line["path"]).is_file()
    assert {line["path"] for line in lines[:8]} == {str(p) for p in gallery.paths} - {str(queries[0])}


def test_the_printed_list_is_short(crops, encoder):
    gallery = index_folder(encoder, CONFIG, crops)
    ranking = rank(gallery, encoder, CONFIG, list(gallery.paths), top=5)
    lines = list(ranking.lines(queries=4, top=2))
    assert len(lines) == 6 and lines[4] == "... and 5 more queries"
    names = ranking.names()[0]
    assert lines[0] == (
        f"a.jpg -> {ranking.similarity[0, 0]:.2f} {names[0]}, {ranking.similarity[0, 1]:.2f} {names[1]}"
    )


# ---- the example


def test_the_example_knows_right_from_wrong(tmp_path, monkeypatch, encoder):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path))
    config = change(CONFIG, mannequins=Mannequins(station=(12, 3, 1)))
    folder, queries, pids = retrieval.example(config, count=3)
    assert len(set(queries)) == 3 and all(path.is_file() for path in queries)
    ranking = rank(index_folder(encoder, config, folder), encoder, config, queries, top=50)
    correct = ranking.correct(pids)
    for query, names, row in zip(queries, ranking.names(), correct, strict=True):
        wanted = {name: int(name.split("_")[0] == query.name.split("_")[0]) for name in names if name}
        wanted |= {name: -1 for name in wanted if name.startswith("-1")}
        assert row[: len(wanted)].tolist() == list(wanted.values())
        assert 1 in wanted.values() and 0 in wanted.values()
        assert (row[len(wanted) :] == -1).all()
    assert (correct == -1).any()


# ---- pictures


def texts(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.findobj(Text) if text.get_text()]


def inside(figure: Figure) -> bool:
    """Nothing that is drawn leaves the page."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def drawn(Q: int, T: int, **more) -> Figure:
    images = torch.randint(256, (Q, T, 3, 16, 8), dtype=torch.uint8)
    similarity = np.linspace(0.9, -0.1, Q * T).reshape(Q, T)
    options = {
        "title": "T",
        "query_names": [f"query{q}.jpg" for q in range(Q)],
        "names": [[f"folder/0001_c{q}s{t}_000123_00.jpg" for t in range(T)] for q in range(Q)],
    }
    return plots.search_sheet(images[:, 0], images, similarity, **(options | more))


@pytest.mark.parametrize("Q, T", [(1, 1), (1, 3), (3, 4), (3, 5), (2, 10), (2, 23)])
@pytest.mark.parametrize("known", [False, True])
def test_sheets_show_everything_and_stay_on_the_page(Q, T, known):
    correct = np.arange(Q * T).reshape(Q, T) % 3 - 1 if known else None
    figure = drawn(Q, T, correct=correct, note="A note.")
    assert inside(figure) and len(figure.findobj(AxesImage)) == Q * T + Q
    shown = texts(figure)
    assert {"T", "A note.", "query0", "0.90", str(T), "folder/", f"{'0001_c0s0_'}", "000123_00"} <= set(shown)
    assert shown.count("query") == Q and "\N{MINUS SIGN}0.10" in shown or Q * T == 1
    edges = [patch.get_edgecolor() for axes in figure.axes for patch in axes.patches]
    import matplotlib.colors as colors

    framed = {name: edges.count(colors.to_rgba(PALETTE[name])) for name in ("correct", "wrong")}
    wanted = {"correct": (correct == 1).sum(), "wrong": (correct == 0).sum()} if known else {}
    assert framed == ({name: int(count) for name, count in wanted.items()} or {"correct": 0, "wrong": 0})
    assert ("same person" in shown) == known


def test_missing_ranks_are_left_empty():
    similarity = np.array([[0.5, 0.4, 0.3], [0.5, -np.inf, -np.inf]])
    images = torch.zeros(2, 3, 3, 16, 8, dtype=torch.uint8)
    names = [["a.jpg", "b.jpg", "c.jpg"], ["a.jpg", "", ""]]
    figure = plots.search_sheet(
        images[:, 0], images, similarity, title="T", query_names=["q.jpg", "r.jpg"], names=names
    )
    assert len(figure.findobj(AxesImage)) == 6 and texts(figure).count("2") == 1


@pytest.mark.parametrize(
    "name, lines",
    [
        ("a.jpg", ["a"]),
        ("0001_c1s1_000151_00.jpg", ["0001_c1s1_", "000151_00"]),
        ("cam 1/x.png", ["x", "cam 1/"]),
        ("archive.tar/0001.v2.jpg", ["0001.v2", "archive.tar/"]),
        ("no_ending", ["no_ending"]),
        ("人.jpg", ["\N{WHITE SQUARE}"]),
    ],
)
def test_names_of_files(name, lines):
    assert name_lines(name, 0.63) == lines


@settings(deadline=None, max_examples=25)
@given(st.text(min_size=1, max_size=60).filter(lambda text: "\0" not in text))
def test_any_name_fits_below_its_crop(name):
    lines = name_lines(name, 0.63)
    assert 1 <= len(lines) <= 3
    plain = [line.replace("$", "S") for line in lines]
    assert all(len(line) == 1 or text_width(line, TINY) < 0.65 for line in plain)


def test_long_names_keep_both_ends():
    first, second = name_lines("0123456789_a_very_long_name_of_a_crop_0042.jpg", 0.63)
    assert first.startswith("01234") and second.endswith("0042") and "…" in first + second


def test_dollars_are_no_mathematics(tmp_path):
    figure = drawn(1, 1, names=[["$a_b_c$.jpg"]], query_names=["$q^^$.jpg"])
    assert {"$a_b_c$", "$q^^$"} <= set(texts(figure))
    plots.save(figure, tmp_path / "ranking.png")


@pytest.mark.parametrize(
    "wrong", [{"names": [["a"]]}, {"names": [["a"] * 3]}, {"query_names": ["a"]}, {"query_names": []}]
)
def test_names_that_do_not_fit_the_crops(wrong):
    with pytest.raises(ValueError, match="found holds 2 x 3 crops"):
        drawn(2, 3, **wrong)


def test_sheets_on_disk(crops, encoder, tmp_path):
    """As many as are needed or wanted; pictures of an earlier search go, other files stay."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("ranking.png", "ranking-2.png", "ranking-77.png", "ranking-mine.png", "ranking.csv"):
        (out / name).write_text("old")
    gallery = index_folder(encoder, CONFIG, crops)
    ranking = rank(gallery, encoder, CONFIG, list(gallery.paths)[:5], top=11)
    paths = plots.save_sheets(ranking, CONFIG, out)
    assert paths == [out / "ranking.png", out / "ranking-2.png"]
    assert {p.name for p in out.iterdir()} == {p.name for p in paths} | {"ranking-mine.png", "ranking.csv"}
    with Image.open(paths[0]) as picture:
        assert picture.size[0] == 1700
    before = paths[0].read_bytes()
    assert plots.save_sheets(ranking, CONFIG, out, most=1) == paths[:1]
    assert not paths[1].exists()
    assert paths[0].read_bytes() != before  # it says that a query is missing
    assert plots.save_sheets(ranking, CONFIG, out, most=0) == [] and not paths[0].exists()


def test_what_a_sheet_says(crops, encoder, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("dynamix.plots.search.save", lambda figure, path: figures.append(figure) or path)
    gallery = index_folder(encoder, CONFIG, crops)
    copies = [shutil.copy(path, tmp_path / f"{row}.png") for row, path in enumerate(gallery.paths)]
    ranking = rank(gallery, encoder, CONFIG, [*gallery.paths, *copies, copies[0]], top=6)
    assert len(plots.save_sheets(ranking, CONFIG, tmp_path, most=2)) == 2
    said = [" ".join(texts(figure)) for figure in figures]
    assert "The 6 most similar of 9 crops, queries 1 to 8 of 19" in said[0]
    assert "queries 9 to 16 of 19" in said[1]
    assert "Queries that lie in the gallery (8) are left out" in said[0] and "more queries" not in said[0]
    assert "in the gallery (1)" in said[1] and "3 more queries are in ranking.csv only" in said[1]


def test_crops_of_a_picture(crops, encoder):
    """Queries and results are the files that the ranking names, in the encoder's proportions."""
    gallery = index_folder(encoder, CONFIG, crops)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = rank(gallery, encoder, CONFIG, [crops / "c.png"], top=12)
        asked, results = ranking.crops(CONFIG)
    assert asked.shape == (1, 3, 256, 128) and results.shape == (1, 12, 3, 256, 128)
    assert ranking.names()[0][0] == "sub/c.png" and torch.equal(results[0, 0], asked[0])
    assert (results[0, 8:] == 0).all() and not torch.equal(results[0, 1], asked[0])
