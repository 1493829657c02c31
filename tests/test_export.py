"""Exported encoders give the encoder's own outputs, wherever they are read back."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from dynamix import checkpoint, cli, encoders, export
from dynamix.config import Config, change, tiny
from dynamix.data.images import Images
from dynamix.data.table import Paths
from dynamix.data.views import STATISTICS, normalize

KINDS = {
    "small CNN with a neck": {},
    "hybrid": {"name": "hybrid", "width": 8, "dim": 16},
    "plain ViT": {"name": "vit_small", "dim": 384, "neck": "none", "image": (32, 16), "patch": 8},
    "ViT with a neck": {"name": "vit_small", "dim": 384, "neck": "bias_frozen", "image": (32, 16)},
    "ViT on a conv stem": {
        "name": "vit_small", "dim": 384, "stem": "conv", "neck": "affine_free", "image": (32, 16), "patch": 8,
        "normalization": "imagenet",
    },
}  # fmt: skip


def made(**changes) -> tuple[nn.Module, Config]:
    """An encoder whose weights and running statistics are none of the usual starting values."""
    config = change(tiny, **{f"encoder__{name}": value for name, value in changes.items()})
    encoder = encoders.build(config.encoder).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in encoder.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value += 0.5 * noise if "var" in name else 0.1 * (noise - 0.5)
    return encoder, config


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, Config]:
    return made(width=8, dim=16)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory) -> Path:
    """What `export` writes for the small CNN."""
    folder = tmp_path_factory.mktemp("export") / "new" / "folder"
    list(export.export(*small, folder))
    return folder


def levels(config: Config, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 3, *config.encoder.image), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def by_hand(encoder: nn.Module, config: Config, images: torch.Tensor) -> torch.Tensor:
    """Raw features, normalizing images in double precision with the published constants."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64)[:, None, None] for v in STATISTICS[config.encoder.normalization]
    )
    return encoder(((images.double() / 255 - mean) / std).float())


# ---- ONNX


def run(path: Path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": (images.float() / 255).numpy()})[0])


@pytest.mark.parametrize("name", ["small CNN with a neck", "hybrid", "ViT on a conv stem"])
def test_onnx_equals_the_encoder(name, tmp_path):
    encoder, config = made(**KINDS[name])
    if "ViT" in name:
        encoder.body.blocks = encoder.body.blocks[:2]  # twelve take the exporter long
    exported = export.export_onnx(encoder, config, tmp_path / "encoder.onnx")
    assert exported.files == (tmp_path / "encoder.onnx",) and 0 < exported.difference < 1e-5
    for count in (1, 3, 8):  # other sizes than those it checks itself
        images = levels(config, count)
        wanted = by_hand(encoder, config, images)
        wanted = wanted / wanted.norm(dim=1, keepdim=True)
        assert torch.allclose(run(exported.files[0], images), wanted, atol=1e-5)


def test_onnx_without_unit_length(small, tmp_path):
    encoder, config = small
    exported = export.export_onnx(encoder, config, tmp_path / "raw.onnx", normalize=False)
    images = levels(config, 4)
    wanted = by_hand(encoder, config, images)
    assert not torch.allclose(wanted.norm(dim=1), torch.ones(4), atol=0.1)
    assert torch.allclose(run(exported.files[0], images), wanted, atol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load(exported.files[0]).metadata_props}
    assert metadata["features"] == "not normalized"


def test_onnx_file_describes_itself(folder):
    """Names, a free batch, what the input means; no path and no line of this machine."""
    model = onnx.load(folder / "encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (features,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (images, features)]
    assert (images.name, features.name) == ("images", "features")
    assert shapes == [["batch", 3, 64, 32], ["batch", 16]]
    assert model.opset_import[0].version >= 18
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["image_size"]) == [64, 32]
    assert json.loads(metadata["normalization"]) == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert json.loads(metadata["encoder"])["name"] == "ibn_cnn"
    texts = [*model.graph.metadata_props, *(p for node in model.graph.node for p in node.metadata_props)]
    assert texts == []
    text = (folder / "encoder.onnx").read_bytes()
    assert b"stack_trace" not in text and str(Path(export.__file__).parent).encode() not in text


def test_a_wrong_export_is_not_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "BATCHES", (2,))
    monkeypatch.setitem(export.STATISTICS, "half", ((0.4, 0.5, 0.5), (0.5, 0.5, 0.5)))
    truth = STATISTICS | {"half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}

    def normalized(images, kind):
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in truth[kind])
        return (images / 255 - mean) / std

    monkeypatch.setattr(export, "normalize", normalized)
    with pytest.raises(RuntimeError, match="ONNX export differs from the encoder by .* on a batch of 2"):
        export.export_onnx(*small, tmp_path / "encoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_a_difference(small):
    encoder, config = small

    def lost(images):
        return torch.full((len(images), 16), torch.nan)

    with pytest.raises(RuntimeError, match="differs from the encoder by nan"):
        export._difference(lambda images: by_hand(encoder, config, images), lost, config, "ONNX")


def test_missing_packages_are_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if "onnxs" in name else object())
    with pytest.raises(RuntimeError) as caught:
        export.export_onnx(*small, tmp_path / "encoder.onnx")
    said = str(caught.value)
    assert "needs onnxscript: pip install onnx onnxruntime onnxscript" in said and "\n" not in said
    assert list(tmp_path.iterdir()) == []


# ---- timm


@pytest.mark.parametrize("name", KINDS)
def test_timm_equals_the_encoder(name, tmp_path):
    """From the weights file and from the folder, as a stranger would do it."""
    encoder, config = made(**KINDS[name])
    exported = export.export_timm(encoder, config, tmp_path)
    assert exported.files == (tmp_path / "model.safetensors", tmp_path / "config.json")
    assert exported.difference == 0
    described = json.loads(exported.files[1].read_text())
    theirs = "vit_small_patch16_224" if name == "plain ViT" else "dynamix_encoder"
    assert described["architecture"] == theirs
    images = levels(config, 3)
    wanted = by_hand(encoder, config, images)
    for again in (
        timm.create_model(
            described["architecture"], checkpoint_path=exported.files[0], **described["model_args"]
        ),
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True),
    ):
        with torch.no_grad():
            found = again.eval()(normalize(images, config.encoder.normalization))
        assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(found, 2 * wanted, atol=1e-4)
        assert again.num_features == config.encoder.dim and again.num_classes == 0
        if theirs == "dynamix_encoder":
            read = timm.data.resolve_model_data_config(again)
            assert tuple(read["input_size"]) == (3, *config.encoder.image) and read["crop_mode"] == "squash"
            constants = tuple(read["mean"]), tuple(read["std"])  # lists where they come from JSON
            assert constants == STATISTICS[config.encoder.normalization]


def test_a_plain_vit_is_timms_own(tmp_path):
    """No line of this package is needed to read it."""
    encoder, config = made(**KINDS["plain ViT"])
    seed = torch.random.get_rng_state().clone()
    export.export_timm(encoder, config, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), seed)
    images = torch.rand(2, 3, 32, 16)
    with torch.no_grad():
        torch.save({"images": images, "features": encoder(images)}, tmp_path / "example.pt")
    code = (
        "import sys, json, torch, timm; f = sys.argv[1]; e = torch.load(f + '/example.pt')\n"
        "c = json.load(open(f + '/config.json')); a = c['model_args']; w = f + '/model.safetensors'\n"
        "m = timm.create_model(c['architecture'], checkpoint_path=w, **a).eval()\n"
        "assert torch.allclose(m(e['images']), e['features'], atol=1e-5)\n"
        "assert not [name for name in sys.modules if name.startswith('dynamix')]; print(c['architecture'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "vit_small_patch16_224"


@pytest.mark.parametrize("name, normalization", [("hybrid", "half"), ("plain ViT", "imagenet")])
def test_timms_preprocessing_is_ours(name, normalization, tmp_path):
    """timm's own transform of a picture gives what this package's loader and normalization give."""
    encoder, config = made(**KINDS[name], normalization=normalization)
    export.export_timm(encoder, config, tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(again))
    noise = np.random.default_rng(0).integers(0, 256, (90, 51, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "crop.png")
    image = Images(Paths.of([str(tmp_path / "crop.png")]), config.encoder.image).load(0)
    ours = normalize(image[None], config.encoder.normalization)[0]
    theirs = transform(Image.open(tmp_path / "crop.png"))
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 0.05  # two libraries' bicubic filters: a level or two


def test_the_weights_are_plain(small, tmp_path):
    encoder, config = small
    weights, described = export.export_timm(encoder, config, tmp_path).files
    found = load_file(weights)
    assert found.keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in found.items())
    (tmp_path / "plain").touch()
    mode = (tmp_path / "plain").stat().st_mode  # the umask's
    (tmp_path / "plain").unlink()
    assert weights.stat().st_mode == described.stat().st_mode == mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("form", export.FORMATS)
def test_a_full_disk_is_said(form, small, tmp_path, monkeypatch):
    """What the folder held before is still there, and nothing else."""
    (tmp_path / export.WEIGHTS).write_text("before")

    def fills(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "save", fills)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", fills)
    with pytest.raises(
        OSError, match=rf"^cannot write {tmp_path}/\w+.* \(no space left on device\): free space"
    ):
        list(export.export(*small, tmp_path, (form,)))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_wrong_timm_export_is_not_written(small, tmp_path, monkeypatch):
    build = export.encoders.build
    monkeypatch.setattr(export.encoders, "build", lambda config: nn.Sequential(build(config)))
    with pytest.raises(RuntimeError):
        export.export_timm(*small, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("wrong", [{"num_classes": 10}, {"in_chans": 1}, {"img_size": 224}])
def test_what_the_architecture_cannot_be(wrong):
    with pytest.raises(ValueError, match="no classes, 3 channels and images of"):
        timm.create_model("dynamix_encoder", name="ibn_cnn", image=(64, 32), dim=16, width=8, **wrong)


# ---- both


def test_export_again_replaces_and_says_what_it_wrote(folder, capfd):
    other, config = made(width=8, dim=16, seed=5)
    images = levels(config, 2)
    wanted = nn.functional.normalize(by_hand(other, config, images))
    assert not torch.allclose(run(folder / "encoder.onnx", images), wanted, atol=1e-2)
    capfd.readouterr()
    exported = list(export.export(other, config, folder))
    assert capfd.readouterr() == ("", "")
    assert torch.allclose(run(folder / "encoder.onnx", images), wanted, atol=1e-5)
    written = [path for each in exported for path in each.files]
    assert sorted(folder.iterdir()) == sorted(written) and len(written) == 3
    for each in exported:
        shown = str(each)
        assert all(str(path) in shown for path in each.files) and " MB" in shown
        assert f"largest difference on batches of 1, 2 and 5: {each.difference:.1e}" in shown
        assert each.use in shown


def test_export_leaves_the_encoder_alone(tmp_path):
    encoder, config = made(width=8, dim=16)
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    seed = torch.random.get_rng_state().clone()
    list(export.export(encoder, config, tmp_path))
    assert encoder.training and all(p.requires_grad for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), seed)


def test_unknown_formats(small, tmp_path):
    with pytest.raises(ValueError, match="unknown format 'tflite': choose onnx or timm"):
        list(export.export(*small, tmp_path / "x", ("onnx", "tflite")))
    assert not (tmp_path / "x").exists()


# ---- where it cannot be written


@pytest.mark.parametrize(
    "out, words",
    [
        ("model.onnx", "model.onnx is a file, or named like one: name a folder with --out"),
        ("model.safetensors", "named like one"),
        ("notes.txt", "notes.txt is a file"),
        ("notes.txt/model", "cannot write .*notes.txt is no folder.: a file lies where"),
        ("closed/model", "cannot write .*closed/model .permission denied.:"),
    ],
)
def test_export_looks_before_it_works(small, open_folder, strangers, monkeypatch, out, words):
    (open_folder / "notes.txt").touch()
    (open_folder / "closed").mkdir(mode=0o555)
    open_folder.chmod(0o777)
    monkeypatch.setattr(checkpoint, "load_encoder", None)  # must not be needed
    monkeypatch.setattr(export, "_plain", None)
    writers = [(cli.Export(run=Path("runs/x"), out=open_folder / out), words)]
    if "model." not in out:  # a name is only doubted where a person typed it
        writers += [
            (lambda: list(export.export(*small, open_folder / out)), "cannot write"),
            (lambda: export.export_timm(*small, open_folder / out), "cannot write"),
        ]
    for write, said in writers:
        with strangers(), pytest.raises((ValueError, OSError), match=said) as caught:
            write()
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in open_folder.rglob("*")) == ["closed", "notes.txt"]


def test_a_folder_may_have_a_dot_in_its_name(tmp_path, monkeypatch):
    (tmp_path / "old.onnx").mkdir()
    monkeypatch.setattr(checkpoint, "load_encoder", lambda *_, **__: 1 / 0)
    for name in ("model-v1.2", "old.onnx", "new/model.v2"):
        with pytest.raises(ZeroDivisionError):
            cli.Export(run=Path("runs/x"), out=tmp_path / name)()


def test_onnx_is_no_folder(small, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_plain", None)
    with pytest.raises(IsADirectoryError, match="is a folder: name the file, as .*encoder.onnx"):
        export.export_onnx(*small, tmp_path)


def test_a_missing_package_is_said_first(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "load_encoder", None)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="ONNX export needs onnx, onnxruntime and onnxscript"):
        cli.Export(run=Path("runs/x"), out=tmp_path / "x")()


@pytest.mark.parametrize("form, name", [("onnx", "encoder.onnx"), ("timm", "model.safetensors")])
def test_a_full_disk_names_the_file(small, tmp_path, full_disk, form, name):
    with full_disk(1000), pytest.raises(OSError, match=rf"cannot write .*{name} .*file too large"):
        list(export.export(*small, tmp_path, (form,)))
    assert list(tmp_path.iterdir()) == []


def test_files_may_be_read_by_whom_the_user_lets(small, tmp_path):
    before = os.umask(0o027)
    try:
        files = export.export_timm(*small, tmp_path).files
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
