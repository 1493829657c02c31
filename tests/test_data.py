"""Tables, and images read from memory and from disk."""

import dataclasses
import os
import signal
import struct
import warnings

import lmdb
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from dynamix.config import Batch
from dynamix.data import images as imagery
from dynamix.data import stores
from dynamix.data.images import Images, batches, chunks, decode, train_batches
from dynamix.data.table import Paths, Table, check_trainable, concat, from_columns, statistics


def ints(*values):
    return np.array(values, np.int64)


def multi(source="m", pids=(5, 5, 9, -1), camids=(0, 2, 1, 0)):
    names = [f"{source}{i}.jpg" for i in range(len(pids))]
    return from_columns(source, Paths.of(names, "/f/"), ints(*pids), camids=ints(*camids))


def single(source="s", pids=(3, 3, 7), videos=(40, 40, 12)):
    names = [f"{source}{i}" for i in range(len(pids))]
    return from_columns(source, Paths.of(names, "/l::"), ints(*pids), videos=ints(*videos))


class TestPaths:
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=8))
    @settings(deadline=None, max_examples=40)
    def test_round_trip(self, names):
        paths = Paths.of(names, "é/")
        assert list(paths) == ["é/" + name for name in names]
        assert len(paths) == len(names)

    def test_select_and_last(self):
        paths = Paths.of(["a", "bb", "", "dddd"], "x/")
        assert list(paths.select(ints(3, 0, 0))) == ["x/dddd", "x/a", "x/a"]
        assert list(paths.select(np.array([False, True, True, False]))) == ["x/bb", "x/"]
        assert paths[-1] == "x/dddd"
        with pytest.raises(IndexError):
            paths[4]

    def test_fixed_width_equals_of(self):
        raw = np.array([b"abc", b"def"]).view(np.uint8).reshape(2, 3)
        assert list(Paths.fixed_width(raw, "k::")) == list(Paths.of(["abc", "def"], "k::"))


class TestTable:
    def test_labels_videos_and_junk(self):
        table = multi()
        assert table.labels.tolist() == [0, 0, 1, -1]
        assert table.videos.tolist() == [-1] * 4
        table = single()
        assert table.videos.tolist() == [1, 1, 0] and table.camids.tolist() == [-1] * 3
        assert table.pids.tolist() == [3, 3, 7] and table.labels.tolist() == [0, 0, 1]

    def test_concat_keeps_sources_disjoint(self):
        table = concat([multi("m"), single("s"), multi("n"), single("t")])
        assert table.source_names == ("m", "s", "n", "t")
        assert table.labels.tolist() == [0, 0, 1, -1, 2, 2, 3, 4, 4, 5, -1, 6, 6, 7]
        assert table.camids.tolist() == [0, 2, 1, 0, -1, -1, -1, 3, 5, 4, 3, -1, -1, -1]
        assert table.videos.tolist() == [-1] * 4 + [1, 1, 0] + [-1] * 4 + [3, 3, 2]
        assert table.sources.tolist() == [0] * 4 + [1] * 3 + [2] * 4 + [3] * 3
        assert table.pids.tolist() == [5, 5, 9, -1, 3, 3, 7] * 2
        assert table.paths[6] == "/l::s2" and table.paths[8] == "/f/n1.jpg"

    def test_concat_of_concats_and_of_nothing(self):
        parts = [multi("a"), single("b"), multi("c")]
        once, twice = concat(parts), concat([concat(parts[:2]), parts[2]])
        for name in ("pids", "labels", "camids", "videos", "sources"):
            assert getattr(once, name).tolist() == getattr(twice, name).tolist()
        assert list(once.paths) == list(twice.paths)
        empty = multi("e").select(ints())
        assert len(concat([empty, multi("a")])) == 4
        with pytest.raises(ValueError, match="at least one"):
            concat([])

    def test_a_source_twice_is_refused(self):
        with pytest.raises(ValueError, match="'m' appears twice.*split=\"all\""):
            concat([multi("m"), single("s"), multi("m")])

    def test_select_keeps_numbers(self):
        table = concat([multi(), single()])
        part = table.select(ints(6, 2))
        assert part.labels.tolist() == [3, 1] and part.paths[0] == "/l::s2"
        mask = table.videos >= 0
        assert table.select(mask).labels.tolist() == [2, 2, 3]
        assert len(table) == 7

    def test_statistics_and_repr(self):
        table = concat([multi(), single()])
        first, second = statistics(table)
        assert (first.images, first.pids, first.cameras, first.videos) == (4, 2, 3, 0)
        assert (second.source, second.images, second.pids, second.cameras, second.videos) == ("s", 3, 2, 0, 2)
        assert repr(table) == "Table(m: 4 images, 2 pids, 3 cameras; s: 3 images, 2 pids, 2 videos)"

    @pytest.mark.parametrize("column", ["pids", "labels", "camids", "videos", "sources"])
    @pytest.mark.parametrize(
        "bad", [np.zeros(3, np.int64), np.zeros(4, np.int32), np.zeros((4, 1), np.int64)]
    )
    def test_a_bad_column_is_named(self, column, bad):
        table = multi()
        columns = {name: getattr(table, name) for name in ("pids", "labels", "camids", "videos", "sources")}
        with pytest.raises(ValueError, match=f"column {column} "):
            Table(paths=table.paths, source_names=("m",), **(columns | {column: bad}))

    def test_inconsistent_rows(self):
        table, none = multi(), np.full(4, -1, np.int64)
        args = (table.paths, table.pids, table.labels)
        with pytest.raises(ValueError, match="row 1 .*m1.jpg.* video and a camid"):
            Table(*args, ints(-1, 0, 0, 0), ints(0, 0, -1, -1), table.sources, ("m",))
        with pytest.raises(ValueError, match="outside source_names"):
            Table(*args, none, none, ints(0, 0, 1, 0), ("m",))
        with pytest.raises(ValueError, match="exactly one|either camids"):
            from_columns("m", table.paths, table.pids)

    def test_a_million_rows_are_columns(self):
        count = 1_000_000
        names = np.full((count, 23), ord("7"), np.uint8)
        pids = np.arange(count) // 25
        table = from_columns("big", Paths.fixed_width(names, "/somewhere/lmdb::"), pids, videos=pids // 20)
        arrays = [*vars(table.paths).values(), *vars(table).values()]
        size = sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))
        assert size * 10.7 < 1e9
        assert table.select(ints(count - 1)).paths[0] == "/somewhere/lmdb::" + "7" * 23


class TestCheckTrainable:
    batch = Batch(ids_multi=2, ids_single=2)

    def test_enough(self):
        check_trainable(concat([multi(), single()]), self.batch)
        check_trainable(multi(), Batch(ids_multi=2, ids_single=0))
        check_trainable(single(), Batch(ids_multi=0, ids_single=2))

    def test_too_few_identities(self):
        with pytest.raises(ValueError, match="needs 3 multi-camera.*has 2"):
            check_trainable(concat([multi(), single()]), Batch(ids_multi=3, ids_single=2))
        with pytest.raises(ValueError, match="needs 4 single-camera.*has 2"):
            check_trainable(concat([multi(), single()]), Batch(ids_multi=2, ids_single=4))
        with pytest.raises(ValueError, match="needs 2 single-camera.*has 0"):
            check_trainable(multi(), self.batch)

    def test_videos_to_be_clustered_need_no_labels(self):
        unlabeled = dataclasses.replace(single(), labels=np.full(len(single()), -1))
        check_trainable(concat([multi(), unlabeled]), self.batch, clustered=True)
        with pytest.raises(ValueError, match="needs 2 single-camera.*has 0"):
            check_trainable(concat([multi(), unlabeled]), self.batch)
        with pytest.raises(ValueError, match="needs 2 single-camera.*videos have 0 images"):
            check_trainable(multi(), self.batch, clustered=True)

    def test_one_camera_each(self):
        table = concat([multi(pids=(1, 1, 2), camids=(4, 4, 1)), single()])
        with pytest.raises(ValueError, match=r"two cameras.*\[1, 4\]"):
            check_trainable(table, self.batch)


def write_images(folder, count=7, size=(32, 64), seed=0):
    """`count` files of (width, height); PNG, so that levels are known exactly."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)
    for i, image in enumerate(levels):
        Image.fromarray(image).save(folder / f"{i}.png")
    names = [f"{i}.png" for i in range(count)]
    camids = np.arange(count, dtype=np.int64) % 2
    table = from_columns("disk", Paths.of(names, f"{folder}/"), camids, camids=camids)
    return table, torch.from_numpy(levels).permute(0, 3, 1, 2)


def write_lmdb(folder, files):
    with (
        lmdb.open(str(folder), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in files.items():
            transaction.put(key.encode(), value)


SIZE = (64, 32)
RAMP = np.linspace(0, 1, 256).reshape(16, 16)  # black to white: its levels are 0 to 255


def tiff(bits, levels, *, photometric=1, samples=1, extra=None):
    """A TIFF of 16 x 16 pixels as Pillow itself does not write it; `levels`: its pixels' bytes."""
    tags = {256: 16, 257: 16, 258: bits, 259: 1, 262: photometric, 273: 0, 277: samples, 278: 16}
    tags |= {279: len(levels)} | ({} if extra is None else {338: extra})
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    if samples == 2:  # two shorts in one value
        tags[258] = bits | bits << 16
    kinds = {258: (3, samples)}
    entries = [
        struct.pack("<HHII", tag, *kinds.get(tag, (3, 1)), value) for tag, value in sorted(tags.items())
    ]
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + bytes(4) + levels


def twelve_bits(levels):
    first, second = levels.ravel()[::2], levels.ravel()[1::2]
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


DEEP = {  # grayscale of more than 8 bits, as cameras, converters and scientific programs write it
    "16.png": lambda: Image.fromarray((RAMP * 65535).astype(np.uint16)),
    "16.tif": lambda: Image.fromarray((RAMP * 65535).astype(np.uint16)),
    "16-big-endian.tif": lambda: Image.frombytes("I;16B", (16, 16), (RAMP * 65535).astype(">u2").tobytes()),
    "16.jp2": lambda: Image.fromarray((RAMP * 65535).astype(np.uint16)),
    "16.pgm": lambda: Image.fromarray((RAMP * 65535).astype(np.int32)),
    "16-white-is-0.tif": lambda: tiff(16, ((1 - RAMP) * 65535).astype("<u2").tobytes(), photometric=0),
    "12.tif": lambda: tiff(12, twelve_bits((RAMP * 4095).astype(np.int64))),
    "32-of-16.tif": lambda: Image.fromarray((RAMP * 65535).astype(np.int32)),
    "32-of-8.tif": lambda: Image.fromarray((RAMP * 255).round().astype(np.int32)),
    "float-of-1.tif": lambda: Image.fromarray((RAMP * 1.0001 - 0.00005).astype(np.float32)),
    "float-of-255.tif": lambda: Image.fromarray((RAMP * 255).astype(np.float32)),
    "float.pfm": lambda: Image.fromarray(RAMP.astype(np.float32)),
}
UNKNOWN = {  # where black and white are, nobody can tell
    "centered": RAMP.astype(np.float32) - 0.5,
    "not a number": np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32),
    "32 bits": (RAMP * 2**31).clip(max=2**31 - 1).astype(np.int32),
    "negative": (RAMP * 65535 - 9000).astype(np.int32),
}


def half_transparent(mode):
    """2 x 1 pixels of one color; the first is transparent, the second opaque."""
    opaque = Image.new(
        mode.removesuffix("A").removesuffix("a"), (2, 1), 200 if mode[0] == "L" else (200, 0, 90)
    )
    opaque.putalpha(Image.frombytes("L", (2, 1), b"\0\xff"))
    return opaque.convert(mode)


def keyed(mode, color, other):
    image = Image.new(mode, (2, 1), other)
    image.putpixel((0, 0), color)
    return image


TRANSPARENT = {  # file -> image, options of saving, the color of its opaque pixel
    "rgba.png": (lambda: half_transparent("RGBA"), {}, (200, 0, 90)),
    "rgba.webp": (lambda: half_transparent("RGBA"), {"lossless": True, "exact": True}, (200, 0, 90)),
    "rgba.tif": (lambda: half_transparent("RGBA"), {}, (200, 0, 90)),
    "la.png": (lambda: half_transparent("LA"), {}, (200, 200, 200)),
    "gray.png": (lambda: keyed("L", 7, 200), {"transparency": 7}, (200, 200, 200)),
    "16.png": (lambda: keyed("I;16", 7, 51400), {"transparency": 7}, (200, 200, 200)),
    "rgb.png": (lambda: keyed("RGB", (1, 2, 3), (200, 0, 90)), {"transparency": (1, 2, 3)}, (200, 0, 90)),
    "palette.png": (
        lambda: keyed("RGB", (1, 2, 3), (200, 0, 90)).quantize(2),
        {"transparency": lambda image: image.getpixel((0, 0))}, (200, 0, 90),
    ),
    "palette.gif": (
        lambda: keyed("RGB", (1, 2, 3), (200, 0, 90)).quantize(2),
        {"transparency": lambda image: image.getpixel((0, 0))}, (200, 0, 90),
    ),
}  # fmt: skip


class TestDecode:
    @pytest.mark.parametrize("name", DEEP)
    def test_more_than_8_bits_keep_their_brightness(self, tmp_path, name):
        made, path = DEEP[name](), tmp_path / name
        path.write_bytes(made) if isinstance(made, bytes) else made.save(path)
        levels = decode(str(path))
        wanted = torch.from_numpy((RAMP * 255).round())
        assert levels.shape == (3, 16, 16) and (levels.double() - wanted).abs().max() <= 1
        assert levels.max() == 255 and levels.min() == 0

    def test_a_dark_image_stays_dark(self, tmp_path):
        """The type says what white is, not the brightest level that occurs."""
        Image.fromarray((RAMP * 4095).astype(np.uint16)).save(tmp_path / "dark.png")
        assert decode(str(tmp_path / "dark.png")).max() == 16

    @pytest.mark.parametrize("name", UNKNOWN)
    def test_levels_of_unknown_range_are_refused(self, tmp_path, name):
        Image.fromarray(UNKNOWN[name]).save(tmp_path / "deep.tif")
        with pytest.raises(ValueError, match=r"deep.tif \(its levels from .* use 8 or 16 bits\): replace"):
            decode(str(tmp_path / "deep.tif"))

    @pytest.mark.parametrize("name", TRANSPARENT)
    def test_white_shows_through(self, tmp_path, name):
        make, options, color = TRANSPARENT[name]
        image, path = make(), tmp_path / name
        image.save(path, **{k: v(image) if callable(v) else v for k, v in options.items()})
        assert decode(str(path))[:, 0].T.tolist() == [[255, 255, 255], list(color)]

    def test_premultiplied_gray(self, tmp_path):
        levels = np.stack([np.full((16, 16), 64), np.full((16, 16), 128)], 2).astype(np.uint8)
        (tmp_path / "la.tif").write_bytes(tiff(8, levels.tobytes(), samples=2, extra=1))
        assert set(decode(str(tmp_path / "la.tif")).flatten().tolist()) <= {190, 191, 192}

    def test_opaque_alpha_changes_nothing(self, tmp_path):
        table, levels = write_images(tmp_path, 1)
        Image.open(table.paths[0]).convert("RGBA").save(tmp_path / "alpha.png")
        assert torch.equal(decode(str(tmp_path / "alpha.png")), levels[0])

    @pytest.mark.parametrize(
        "name", ["cmyk.jpg", "lab.tif", "ycbcr.tif", "frames.gif", "frames.png", "frames.webp"]
    )
    def test_other_modes_and_the_first_frame(self, tmp_path, name):
        first, second = (Image.new("RGB", (32, 64), color) for color in ((200, 30, 40), (0, 0, 0)))
        mode = {"cmyk.jpg": "CMYK", "lab.tif": "LAB", "ycbcr.tif": "YCbCr"}.get(name)
        more = {"save_all": True, "append_images": [second]} if mode is None else {}
        first.convert(mode or "RGB").save(tmp_path / name, **more)
        wanted = torch.tensor([200, 30, 40])[:, None, None]
        assert (decode(str(tmp_path / name)).int() - wanted).abs().max() <= 6

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp"])
    def test_photographs_stand_upright_where_asked(self, tmp_path, name, orientation):
        """Never of a dataset: its published numbers come from images as stored."""
        stored = Image.fromarray((RAMP * 255).astype(np.uint8)).convert("RGB").resize((48, 32))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored.save(tmp_path / name, exif=exif, quality=95)
        plain, turned = decode(str(tmp_path / name)), decode(str(tmp_path / name), upright=True)
        assert plain.shape == (3, 32, 48)
        # what EXIF calls the row and the column that stored row 0 and column 0 are: top, bottom, left, right
        if orientation >= 5:
            plain = plain.mT
        flips = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation, [])
        assert torch.equal(turned, plain.flip(flips))

    @pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp"])
    @pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\xff no tags", b"no TIFF at all"])
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_broken_exif_is_no_obstacle(self, tmp_path, name, exif):
        Image.new("RGB", (4, 8), "red").save(tmp_path / name, exif=b"Exif\0\0" + exif)
        assert decode(str(tmp_path / name), upright=True).shape == (3, 8, 4)

    @pytest.mark.parametrize("limit", [1500, 800], ids=["Pillow warns", "Pillow refuses"])
    def test_a_decompression_bomb_is_named(self, tmp_path, monkeypatch, limit):
        table, _ = write_images(tmp_path, 1)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match=r"0.png \(.*pixels.*\): replace the file") as refused:
                Images.of(table, SIZE)
        assert not caught and "\n" not in str(refused.value)

    def test_a_folder_with_two_colons_is_no_lmdb(self, tmp_path):
        home = tmp_path / "cam::1"
        home.mkdir()
        table, levels = write_images(home, 1)
        assert torch.equal(decode(table.paths[0]), levels[0])
        write_lmdb(home / "lmdb::2", {"k": (home / "0.png").read_bytes()})
        assert torch.equal(decode(f"{home}/lmdb::2::k"), levels[0])
        with pytest.raises(FileNotFoundError, match="no image .*cam::1/1.png"):
            decode(str(home / "1.png"))

    def test_without_permission(self, tmp_path, strangers):
        """Nothing is damaged: the advice must not be to replace it."""
        table, _ = write_images(tmp_path, 1)
        os.chmod(table.paths[0], 0)
        with (
            strangers(),
            pytest.raises(PermissionError, match=r"0.png \(Permission denied\): make it readable"),
        ):
            decode(table.paths[0])

    def test_an_lmdb_without_permission(self, open_folder, strangers):
        folder = open_folder / "lmdb"
        write_lmdb(folder, {"k": b"1"})
        folder.chmod(0o755), (folder / "data.mdb").chmod(0)
        with strangers(), pytest.raises(PermissionError, match=r"Permission denied: .*data.mdb"):
            decode(f"{folder}::k")

    def test_a_link_to_itself(self, tmp_path):
        (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")
        with pytest.raises(
            OSError, match=r"a.jpg \(Too many levels of symbolic links\): make it readable, or"
        ):
            decode(str(tmp_path / "a.jpg"))

    def test_levels_are_rgb(self, tmp_path):
        table, levels = write_images(tmp_path, 1)
        assert torch.equal(decode(table.paths[0]), levels[0])
        Image.new("L", (4, 5), 9).save(tmp_path / "gray.png")
        assert decode(str(tmp_path / "gray.png")).shape == (3, 5, 4)

    def test_bad_files_are_named(self, tmp_path):
        good = tmp_path / "good.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(good)
        for content in (b"", b"no image", good.read_bytes()[:700]):
            path = tmp_path / "bad.jpg"
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"bad.jpg .*on_bad_image") as caught:
                decode(str(path))
            assert "\n" not in str(caught.value)
        with pytest.raises(FileNotFoundError, match="gone.jpg"):
            decode(str(tmp_path / "gone.jpg"))

    def test_lmdb(self, tmp_path):
        table, levels = write_images(tmp_path, 2)
        folder = tmp_path / "lmdb"
        files = {f"k{i}": (tmp_path / f"{i}.png").read_bytes() for i in range(2)}
        write_lmdb(folder, files | {"cut": files["k0"][:60]})
        assert torch.equal(decode(f"{folder}::k1"), levels[1])
        for key in ("missing", "cut"):
            with pytest.raises(ValueError, match=key):
                decode(f"{folder}::{key}")
        with pytest.raises(FileNotFoundError, match="data.mdb"):
            decode(f"{tmp_path}::k1")
        for file in folder.iterdir():  # built again at the same place: the old one must not be served
            file.unlink()
        write_lmdb(folder, {"k1": files["k0"]})
        assert torch.equal(decode(f"{folder}::k1"), levels[0])
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "data.mdb").write_bytes(b"x" * 9000)
        with pytest.raises(ValueError, match="cannot open the LMDB"):
            decode(f"{tmp_path / 'broken'}::k1")

    def test_lmdb_is_opened_once_per_process(self, tmp_path, monkeypatch):
        write_lmdb(tmp_path, {"k": b""})
        first = stores.environment(str(tmp_path))
        assert stores.environment(str(tmp_path)) is first
        monkeypatch.setattr(imagery.os, "getpid", lambda: -1)  # as after a fork
        assert stores.environment(str(tmp_path)) is not first

    def test_an_lmdb_under_two_names_is_one(self, tmp_path):
        write_lmdb(tmp_path / "real", {"k": b""})
        (tmp_path / "link").symlink_to(tmp_path / "real")
        first = stores.environment(str(tmp_path / "real"))
        assert stores.environment(str(tmp_path / "link")) is first

    def test_a_deleted_lmdb_does_not_bar_one_that_inherits_its_inode_numbers(self, tmp_path):
        for name in ("old", "new"):
            with lmdb.open(str(tmp_path / name)) as environment, environment.begin(write=True) as writing:
                writing.put(b"k", name.encode())
        assert stores.value(str(tmp_path / "old"), "k") == b"old"
        (tmp_path / "old" / "lock.mdb").rename(tmp_path / "new" / "lock.mdb")  # number and all
        (tmp_path / "old" / "data.mdb").unlink()
        assert stores.value(str(tmp_path / "new"), "k") == b"new"

    def test_resize(self, tmp_path):
        table, levels = write_images(tmp_path, 1, size=(64, 128))
        image = Images.of(table, SIZE).pixels[0]
        wanted = np.asarray(Image.open(tmp_path / "0.png").resize((32, 64), Image.Resampling.BICUBIC))
        assert image.shape == (3, 64, 32)
        assert (image.permute(1, 2, 0).int() - torch.tensor(wanted).int()).abs().max() <= 1


class TestReading:
    @pytest.mark.parametrize("memory_gb, workers", [(1.0, 0), (0.0, 0), (0.0, 2)])
    def test_chunks_are_the_originals_in_order(self, tmp_path, memory_gb, workers):
        table, levels = write_images(tmp_path)
        images = Images.of(table, SIZE, memory_gb=memory_gb)
        assert (images.pixels is None) == (memory_gb == 0) and len(images) == 7
        rows = ints(6, 0, 3, 3, 1)
        state = torch.get_rng_state()
        for size in (1, 2, 5, 9):
            got = list(chunks(images, rows, size, workers=workers if size == 2 else 0))
            assert [len(r) for _, r in got] == [min(size, 5 - at) for at in range(0, 5, size)]
            assert torch.equal(torch.cat([b for b, _ in got]), levels[rows])
            assert torch.cat([r for _, r in got]).tolist() == rows.tolist()
        assert torch.equal(state, torch.get_rng_state())
        assert list(chunks(images, ints(), 3)) == []
        [(pixels, rows)] = batches(images, [[2, 2]])
        assert torch.equal(pixels[0], levels[2]) and rows.tolist() == [2, 2]

    @pytest.mark.parametrize("rows", [[0, 7], [-1]])
    def test_rows_of_another_table(self, tmp_path, rows):
        images = Images.of(write_images(tmp_path)[0], SIZE)
        with pytest.raises(ValueError, match="another table"):
            train_batches(images, [rows], "A", seed=0, epoch=0)
        with pytest.raises(ValueError, match="another table"):
            chunks(images, ints(*rows), 2)
        with pytest.raises(ValueError, match="chunk size"):
            chunks(images, ints(0), 0)

    @pytest.mark.parametrize("memory_gb, workers", [(1.0, 0), (0.0, 0), (0.0, 1)])
    def test_bad_images(self, tmp_path, memory_gb, workers):
        table, levels = write_images(tmp_path)
        (tmp_path / "2.png").write_bytes(b"bad")
        (tmp_path / "4.png").unlink()
        rows = np.arange(7)
        with pytest.raises(ValueError, match="2.png") as caught:
            images = Images.of(table, SIZE, memory_gb=memory_gb)
            list(chunks(images, rows, 3, workers=workers))
        assert "\n" not in str(caught.value)
        with pytest.warns(UserWarning, match="skipped .*2.png"):
            images = Images.of(table, SIZE, memory_gb=memory_gb, on_bad_image="skip")
            got = list(chunks(images, rows, 7, workers=workers))
        assert got[0][1].tolist() == [0, 1, 3, 5, 6] and images.skipped == {2, 4}
        assert torch.equal(got[0][0], levels[[0, 1, 3, 5, 6]])
        [(views, kept)] = train_batches(images, [[4, 3, 2, 0]], "A", seed=0, epoch=0, workers=workers)
        assert kept.tolist() == [3, 0] and torch.equal(views["v0"], levels[[3, 0]])
        [(views, kept)] = train_batches(images, [[4, 2]], "A", seed=0, epoch=0)
        assert kept.tolist() == [] and views["v1"].shape == (0, 3, *SIZE)

    def test_nothing_readable(self, tmp_path):
        table, _ = write_images(tmp_path, 2)
        for file in tmp_path.iterdir():
            file.write_bytes(b"bad")
        with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of the 2"):
            Images.of(table, SIZE, on_bad_image="skip")
        with pytest.raises(ValueError, match="on_bad_image"):
            Images.of(table, SIZE, on_bad_image="ignore")


STEPS = [[0, 1, 2, 3], [6, 5, 0, 0], [4, 4, 4, 1]]


def epoch_of(images, views="A", **options):
    return list(train_batches(images, STEPS, views, **({"seed": 3, "epoch": 1} | options)))


def same(first, second):
    return all(
        torch.equal(r, s) and v.keys() == w.keys() and all(torch.equal(v[k], w[k]) for k in v)
        for (v, r), (w, s) in zip(first, second, strict=True)
    )


class TestTrainBatches:
    @pytest.mark.parametrize("views", ["A", "economy"])
    def test_workers_do_not_matter(self, tmp_path, views):
        images = Images.of(write_images(tmp_path)[0], SIZE, memory_gb=0.0)
        state = torch.get_rng_state()
        alone = epoch_of(images, views)
        assert [rows.tolist() for _, rows in alone] == STEPS
        assert same(alone, epoch_of(images, views, workers=1))
        assert same(alone, epoch_of(images, views, workers=2))
        assert torch.equal(state, torch.get_rng_state())

    @pytest.mark.parametrize("views", ["A", "B", "C", "economy"])
    def test_memory_and_disk_agree(self, tmp_path, views):
        table, levels = write_images(tmp_path)
        disk, memory = Images.of(table, SIZE, memory_gb=0.0), Images.of(table, SIZE)
        for (a, rows), (b, _) in zip(epoch_of(disk, views), epoch_of(memory, views), strict=True):
            assert a.keys() == b.keys()
            for name in a:
                assert a[name].dtype == torch.uint8 and torch.equal(a[name], b[name])
            if "v0" in a:
                assert torch.equal(a["v0"], levels[rows]) and torch.equal(b["v0"], levels[rows])

    def test_keyed_by_seed_and_epoch_and_step(self, tmp_path):
        images = Images.of(write_images(tmp_path)[0], SIZE)
        first = epoch_of(images)
        assert same(first, epoch_of(images))
        assert not same(first, epoch_of(images, seed=4)) and not same(first, epoch_of(images, epoch=2))
        twice = list(train_batches(images, [STEPS[0], STEPS[0]], "A", seed=0, epoch=0))
        assert not torch.equal(twice[0][0]["v1"], twice[1][0]["v1"])
        assert not torch.equal(twice[0][0]["v1"], twice[0][0]["v2"])

    @pytest.mark.parametrize("memory_gb", [0.0, 1.0])
    def test_a_share_is_part_of_the_whole(self, tmp_path, memory_gb):
        images = Images.of(write_images(tmp_path)[0], SIZE, memory_gb=memory_gb)
        parts = [epoch_of(images, share=slice(rank, None, 2)) for rank in range(2)]
        for step, (whole, rows) in enumerate(epoch_of(images)):
            for rank in range(2):
                views, part = parts[rank][step]
                assert part.tolist() == rows[rank::2].tolist()
                assert all(torch.equal(views[name], whole[name][rank::2]) for name in whole)

    def test_unknown_views_raise_at_the_call(self, tmp_path):
        images = Images.of(write_images(tmp_path)[0], SIZE)
        with pytest.raises(ValueError, match="'D'.*economy"):
            train_batches(images, STEPS, "D", seed=0, epoch=0)

    def test_from_lmdb_with_workers(self, tmp_path):
        _, levels = write_images(tmp_path)
        folder = tmp_path / "lmdb"
        write_lmdb(folder, {str(i): (tmp_path / f"{i}.png").read_bytes() for i in range(7)})
        pids = np.arange(7)
        table = from_columns("l", Paths.of([str(i) for i in range(7)], f"{folder}::"), pids, videos=pids)
        images = Images.of(table, SIZE, memory_gb=0.0)
        assert torch.equal(images.load(0), levels[0])  # opened here first: workers must open their own
        for workers in (0, 2):
            got = epoch_of(images, workers=workers)
            assert all(torch.equal(views["v0"], levels[rows]) for views, rows in got)

    @pytest.mark.parametrize("size", [SIZE, (128, 64)])
    def test_memory_and_workers_agree_on_photographs(self, tmp_path, size):
        table, _ = write_images(tmp_path)
        for i in range(len(table)):
            with Image.open(tmp_path / f"{i}.png") as image:
                image.resize((50 + i, 90 + 2 * i)).save(tmp_path / f"{i}.jpg", quality=80)
        table = from_columns(
            "j", Paths.of([f"{i}.jpg" for i in range(7)], f"{tmp_path}/"), table.pids, camids=table.camids
        )
        memory, disk = Images.of(table, size), Images.of(table, size, memory_gb=0.0)
        assert same(epoch_of(memory), epoch_of(disk, workers=2))
        assert same(epoch_of(memory), epoch_of(disk))

    def test_skips_are_reported_once(self, tmp_path):
        table, _ = write_images(tmp_path)
        (tmp_path / "0.png").write_bytes(b"bad")
        images = Images.of(table, SIZE, memory_gb=0.0, on_bad_image="skip")
        with pytest.warns(UserWarning, match="0.png"):
            epoch_of(images)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [len(rows) for _, rows in epoch_of(images)] == [3, 2, 4]


def pids_of(images):
    """The worker processes kept for the images."""
    return [] if images.workers is None else [w.pid for w in images.workers._loader._iterator._workers]


def alive(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


MANY = [[i % 7, (i + 1) % 7] for i in range(40)]


class TestWorkers:
    @pytest.fixture
    def images(self, tmp_path, monkeypatch):
        monkeypatch.setattr(imagery, "cores", lambda: 2)
        return Images.of(write_images(tmp_path)[0], SIZE, memory_gb=0.0)

    def test_stay_over_epochs_and_end_with_the_images(self, images):
        whole = epoch_of(images)
        assert same(whole, epoch_of(images, workers=2))
        pids = pids_of(images)
        assert len(alive(pids)) == 2
        assert same(epoch_of(images, epoch=2), epoch_of(images, epoch=2, workers=2))
        assert len(list(chunks(images, ints(*range(7)), 2, workers=2))) == 4
        assert pids_of(images) == pids
        images.close()
        assert not alive(pids) and pids_of(images) == []
        assert same(whole, epoch_of(images, workers=2))
        pids = pids_of(images)
        del images.workers  # the last reference
        assert not alive(pids)

    @pytest.mark.parametrize("workers", [0, 1, 2])
    @pytest.mark.parametrize("memory_gb", [0.0, 1.0])
    def test_lazy_steps_are_taken_a_few_ahead(self, tmp_path, workers, memory_gb):
        images = Images.of(write_images(tmp_path)[0], SIZE, memory_gb=memory_gb)
        taken = []

        def lazy():
            for rows in MANY:
                taken.append(rows)
                yield rows

        found = train_batches(images, lazy(), "A", seed=0, epoch=0, workers=workers)
        assert taken == []
        for step, (_, rows) in enumerate(found):
            assert rows.tolist() == MANY[step]
            assert step < len(taken) <= step + 2 + 2 * workers
        assert step == 39
        listed = train_batches(images, MANY, "A", seed=0, epoch=0)
        again = train_batches(images, lazy(), "A", seed=0, epoch=0, workers=workers)
        assert same(list(listed), list(again))
        images.close()

    def test_rows_of_another_table_are_found_when_they_come(self, images):
        found = train_batches(images, iter([[0], [7]]), "A", seed=0, epoch=0)
        assert next(found)[1].tolist() == [0]
        with pytest.raises(ValueError, match="another table"):
            next(found)

    def test_an_iteration_may_be_abandoned(self, images):
        ended = []

        def lazy():
            try:
                yield from MANY
            finally:
                ended.append(True)

        found = train_batches(images, lazy(), "A", seed=0, epoch=0, workers=2)
        for _ in range(3):
            next(found)
        pids = pids_of(images)
        found.close()
        assert ended and same(epoch_of(images), epoch_of(images, workers=2))
        assert pids_of(images) == pids
        images.close()

    def test_two_iterations_at_once(self, images):
        first = train_batches(images, MANY, "A", seed=0, epoch=0, workers=2)
        second = train_batches(images, MANY, "A", seed=0, epoch=0, workers=1)
        for (a, rows), (b, others) in zip(first, second, strict=True):
            assert torch.equal(rows, others) and all(torch.equal(a[name], b[name]) for name in a)
        images.close()

    def test_a_planner_that_fails_ends_the_iteration(self, images):
        def failing():
            yield from MANY[:9]
            raise RuntimeError("no more candidates")

        with pytest.raises(RuntimeError, match="no more candidates"):
            list(train_batches(images, failing(), "A", seed=0, epoch=0, workers=2))
        assert images.workers.closed
        assert same(epoch_of(images), epoch_of(images, workers=2))
        images.close()

    def test_a_bad_image_leaves_the_workers_usable(self, images, tmp_path):
        good = (tmp_path / "3.png").read_bytes()
        (tmp_path / "3.png").write_bytes(b"bad")
        with pytest.raises(ValueError, match="3.png") as caught:
            epoch_of(images, workers=2)
        assert "\n" not in str(caught.value)
        (tmp_path / "3.png").write_bytes(good)
        assert same(epoch_of(images), epoch_of(images, workers=2))
        images.close()

    def test_a_killed_worker_is_an_error(self, images):
        found = train_batches(images, MANY, "A", seed=0, epoch=0, workers=2)
        next(found)
        with pytest.raises(RuntimeError, match="worker"):  # torch's signal handler may speak first
            os.kill(pids_of(images)[0], signal.SIGKILL)
            list(found)
        found.close()
        assert same(epoch_of(images), epoch_of(images, workers=2))
        images.close()

    def test_each_opens_its_own_lmdb(self, tmp_path, monkeypatch):
        monkeypatch.setattr(imagery, "cores", lambda: 2)
        table, _ = write_images(tmp_path)
        folder, log = tmp_path / "lmdb", tmp_path / "opened"
        write_lmdb(folder, {str(i): (tmp_path / f"{i}.png").read_bytes() for i in range(7)})
        opened = stores._opened

        def noting(*arguments):
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return opened(*arguments)

        monkeypatch.setattr(stores, "_opened", noting)
        pids = np.arange(7)
        table = from_columns("l", Paths.of([str(i) for i in range(7)], f"{folder}::"), pids, videos=pids)
        images = Images.of(table, SIZE, memory_gb=0.0)
        images.load(0)
        for epoch in range(2):
            assert len(list(train_batches(images, MANY, "A", seed=0, epoch=epoch, workers=2))) == 40
        wanted = [os.getpid(), *pids_of(images)]
        assert sorted(map(int, log.read_text().split())) == sorted(wanted)
        images.close()


def test_progress_bar(tmp_path, capsys):
    table, _ = write_images(tmp_path, 3)
    Images.of(table, SIZE, progress=True)
    assert "decoding images" in capsys.readouterr().err
    Images.of(table, SIZE)
    assert capsys.readouterr().err == ""
    assert imagery.BLOCK > 1
