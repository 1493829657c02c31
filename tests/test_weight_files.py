"""Files of weights: read without running anything of them, refused in one line with the remedy."""

import argparse
import bz2
import errno
import gzip
import hashlib
import lzma
import os
import pickle
import shlex
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dynamix import checkpoint, encoders
from dynamix.config import paper
from dynamix.encoders import weight_files
from dynamix.encoders.weight_files import network_of, read

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Bomb:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Settings:
    """A class of some other program, as configurations in checkpoints are."""


def refused(file, words):
    with pytest.raises(ValueError, match=words) as caught:
        read(file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    return str(caught.value)


def test_fingerprint(tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"weights" * 100_000)
    assert encoders.fingerprint(file) == hashlib.sha256(b"weights" * 100_000).hexdigest()[:16]
    assert encoders.fingerprint(str(file)) == encoders.fingerprint(file)


@pytest.mark.parametrize("use", [read, encoders.fingerprint])
def test_missing_file_and_folder(use, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of weights at .*nowhere.pth"):
        use(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="is a folder: name the file"):
        use(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_malicious_pickle_does_not_run(zipped, wrapped, tmp_path):
    file, mark = tmp_path / "w.pth", tmp_path / "ran"
    held = {"state_dict": STATE, "args": Bomb(mark)} if wrapped else Bomb(mark)
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    refused(file, "needs (posix|nt).system: reading it could run any code")
    with pytest.raises(ValueError):
        encoders.encoder_config(file, paper.encoder)
    with pytest.raises(ValueError):
        encoders.load_pretrained(nn.Linear(1, 1), file)
    assert not mark.exists()
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(mark)))
    refused(tmp_path / "plain.pth", "plain.pth")
    assert not mark.exists()


def test_the_remedy_works(tmp_path):
    """The two lines of the error, run by Python, give a file that is read."""
    torch.save({"state_dict": STATE, "args": PurePosixPath("out")}, tmp_path / "w.pth")
    text = refused(tmp_path / "w.pth", "needs pathlib.*; convert it once")
    lines = text.split("`")[1::2]
    assert len(lines) == 2
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    made = read(tmp_path / "w.safetensors").tensors
    assert made.keys() == STATE.keys() and all(torch.equal(made[k], STATE[k]) for k in made)


@pytest.mark.parametrize("zipped", [True, False])
def test_other_programs_objects(zipped, tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"model": STATE, "cfg": Settings()}, file, _use_new_zipfile_serialization=zipped)
    refused(file, "needs tests.test_weight_files.Settings")
    torch.save(nn.Linear(2, 2), file, _use_new_zipfile_serialization=zipped)
    refused(file, r"held\.state_dict\(\)")


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_beside_the_weights(zipped, tmp_path):
    beside = {
        "args": argparse.Namespace(lr=0.1, names=["a"], inner=argparse.Namespace(x=1)),
        "rank1": np.float64(0.5), "mAP": np.float32(0.25), "epoch": np.int64(3), "best": True, "note": None,
    }  # fmt: skip
    torch.save({"state_dict": STATE} | beside, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    file = read(tmp_path / "w.pth")
    assert file.tensors.keys() == STATE.keys() and file.trail == ("state_dict",)


def test_numpy_1_names(tmp_path):
    """Files written with numpy 1 name its inner module otherwise."""
    torch.save({"rank1": np.float64(0.5), "state_dict": STATE}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as old, zipfile.ZipFile(tmp_path / "w.pth", "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(item, content)
    assert read(tmp_path / "w.pth").tensors.keys() == STATE.keys()


LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
INDEX = b'{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}'


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "it is empty.*download it again"),
        (b"<html>quota exceeded</html>", "web page.*download it again"),
        (b"\n<!DOCTYPE html><title>Google Drive</title>", "web page.*download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS.*`git lfs pull`"),
        (INDEX, "index of weights in several files"),
        (gzip.compress(b"weights", mtime=0), "compressed archive.*unpack it"),
        (bz2.compress(b"weights"), "compressed archive.*unpack it"),
        (lzma.compress(b"weights"), "compressed archive.*unpack it"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "of another framework"),
        (pickle.dumps({"a": 1}), "a pickle of another kind.*write it with torch.save"),
        (b"\x80\x02", "download it again"),
        (LEGACY, "download it again"),
        (b"PK\x03\x04", "cut off.*download it again"),
        (b"\x00" * 64, "never filled.*download it again"),
        (b"\x00" * 5000, "never filled.*download it again"),
        (b"404: Not Found", "download it again"),
    ],
)
def test_no_file_of_weights(suffix, content, words, tmp_path):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    refused(file, f"is damaged or no file of weights .*{words}")


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt", ".safetensors", ".ckpt", ""])
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_the_content_decides_not_the_suffix(suffix, kind, tmp_path):
    file = tmp_path / f"w{suffix}"
    if kind == "safetensors":
        save_file(STATE, file, {"note": "x"})
    else:
        torch.save({"state_dict": STATE}, file, _use_new_zipfile_serialization=kind == "zip")
    found = read(file)
    assert found.tensors.keys() == STATE.keys() and torch.equal(found.tensors["a.weight"], STATE["a.weight"])
    assert found.metadata == ({"note": "x"} if kind == "safetensors" else {})


@pytest.mark.parametrize("inner", ["archive", ""])
def test_an_unpacked_file_is_packed_by_the_remedy(inner, tmp_path):
    """As `unzip`, or a browser that unpacks what it downloads, leaves it."""
    torch.save({"state_dict": STATE}, tmp_path / "archive.pth")
    with zipfile.ZipFile(tmp_path / "archive.pth") as file:
        file.extractall(tmp_path / "my w")
    text = refused(tmp_path / "my w" / inner, "an unpacked file of weights")
    with pytest.raises(ValueError, match="python -m zipfile"):
        encoders.fingerprint(tmp_path / "my w")
    with pytest.raises(ValueError, match="python -m zipfile"):
        checkpoint.load_encoder(tmp_path / "my w")
    command = shlex.split(text.split("`")[1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    made = read(text.rpartition("name ")[2]).tensors
    assert all(torch.equal(made[name], value) for name, value in STATE.items())


@pytest.mark.parametrize("use", [read, encoders.fingerprint, checkpoint.load_encoder])
@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
def test_missing_rights_are_no_damage(use, kind, tmp_path, unreadable):
    (torch.save if kind == ".pth" else save_file)(STATE, tmp_path / f"w{kind}")
    file = unreadable(tmp_path / f"w{kind}")
    with pytest.raises(PermissionError, match=rf"^cannot read w{kind} \(permission denied\): .*chmod"):
        use(file)


def test_a_broken_disk_is_no_damage(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    torch.save(STATE, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(OSError, match=r"cannot read .*w.pth \(input/output error\): look whether"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_truncated(kind, keep, tmp_path):
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    state = {"a": torch.randn(500, 7), "b": torch.randn(300)}
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    refused(file, "is damaged or no file of weights")


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("model/w.pth", "text")
    refused(tmp_path / "w.pth", r"an archive of model/w\.pth\): unpack it, and name the file")
    with tarfile.open(tmp_path / "w.tar", "w") as file:
        file.add(tmp_path / "w.pth", "inside.pth")
    refused(tmp_path / "w.tar", r"an archive of inside\.pth\): unpack it, and name the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pth")
    refused(tmp_path / "script.pth", "holds more than weights")


@pytest.mark.parametrize(
    "held, words",
    [
        ({}, "no tensors by name, but nothing"),
        ({"epoch": 3, "state_dict": {"lr": 0.1}}, "no tensors by name, but epoch, state_dict"),
        ([torch.zeros(2)], "no tensors by name, but list"),
        (torch.zeros(2), "no tensors by name, but Tensor"),
        ({3: torch.zeros(2)}, "no tensors by name, but 3"),
        (
            {"state_dict": {"a.w": torch.zeros(1), "module.a.w": torch.zeros(1)}},
            r"a\.w and module\.a\.w are both",
        ),
    ],
)
def test_no_weights_by_name(held, words, tmp_path):
    torch.save(held, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", words)


@pytest.mark.parametrize("wrong", ["a.w", "b.w"])
def test_one_name_twice_in_safetensors(wrong, tmp_path):
    save_file({"a.w": torch.zeros(1), f"model.{wrong}": torch.ones(1)}, tmp_path / "w.safetensors")
    if wrong == "b.w":
        assert read(tmp_path / "w.safetensors").tensors.keys() == {"a.w", "b.w"}
    else:
        refused(tmp_path / "w.safetensors", "are both called a.w: keep one")


@pytest.mark.parametrize(
    "names, own, others, trail",
    [
        (["a", "b"], ["a", "b"], [], []),
        (["module.module.a"], ["a"], [], ["module", "module"]),
        (["model.a", "feat.b"], ["a", "feat.b"], [], ["model"]),
        (["module.backbone.model.base.a"], ["a"], [], ["module", "backbone", "model", "base"]),
        (
            ["student.a", "teacher.backbone.a", "teacher.head.b", "epoch"],
            ["a", "head.b"], ["student.a", "epoch"], ["teacher", "backbone"],
        ),
        (["student.a", "target_encoder.b"], ["a"], ["target_encoder.b"], ["student"]),
        (
            ["module.encoder_k.a", "module.encoder_q.a", "module.queue"],
            ["a"], ["module.encoder_k.a", "module.queue"], ["module", "encoder_q"],
        ),
        (
            ["encoder.body.a", "momentum.body.a", "momentum.neck.b", "state.labels"],
            ["a", "neck.b"], ["encoder.body.a", "state.labels"], ["momentum", "body"],
        ),
        (["modules.a", "teacher_a"], ["modules.a", "teacher_a"], [], []),
        (["_orig_mod.module.a"], ["a"], [], ["_orig_mod", "module"]),
        (["module._orig_mod.backbone.a"], ["a"], [], ["module", "_orig_mod", "backbone"]),
        (
            ["module.base_encoder.a", "module.momentum_encoder.a", "module.predictor.b"],
            ["a"], ["module.momentum_encoder.a", "module.predictor.b"], ["module", "base_encoder"],
        ),
        # Names of a user's own, around layers that are known.
        (
            ["reid.net.layer1.0.conv1.weight", "reid.net.bn1.bias", "reid.classifier.weight"],
            ["layer1.0.conv1.weight", "bn1.bias", "reid.classifier.weight"], [], ["reid.net"],
        ),
        (["visual.patch_embed.proj.weight", "visual.a"], ["patch_embed.proj.weight", "a"], [], ["visual"]),
        (
            ["patch_embed.proj.weight", "other.patch_embed.proj.weight"],
            ["patch_embed.proj.weight", "other.patch_embed.proj.weight"], [], [],
        ),
    ],
)  # fmt: skip
def test_network_of(names, own, others, trail):
    found, rest, taken = network_of(names)
    assert (sorted(found), rest, taken) == (sorted(own), others, trail)
    assert all(full in names and full.endswith(name) for name, full in found.items())


def test_entries_in_their_order(tmp_path):
    """A wrapper inside a wrapper, and the earlier of two beside each other."""
    other = {"z": torch.zeros(1)}
    for held in (
        {"model": {"state_dict": {"teacher": STATE, "student": other}}},
        {"student": other, "teacher": STATE},
        {"teacher": other, "state_dict": STATE},
        {"state_dict": other, "model": STATE},
        {"target_encoder": other, "module": STATE},
        {"model": "vit_small", "module": STATE},
    ):
        torch.save(held, tmp_path / "w.pth")
        assert read(tmp_path / "w.pth").tensors.keys() == STATE.keys(), held


WRAPPERS = (
    "model_state_dict",
    "net_dict",
    "net",
    "params",
    "ema",
    "state_dict_1",
    "model_ema",
    "network",
    "weights",
    "encoder",
    "G",
    0,
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_of_any_name(wrapper, tmp_path):
    """What holds most is meant, whatever it is called; an optimizer holds two tensors in one place."""
    slots = {i: {"exp_avg": torch.zeros(9), "step": torch.zeros(1)} for i in range(9)}
    state = STATE | {"b.weight": torch.zeros(1)}
    for inner in (state, {"decay": 0.9, "shadow": state}, [state], (state, 3)):
        held = {wrapper: inner, "optimizer": {"state": slots, "param_groups": [{"lr": 0.1}]}, "epoch": 3}
        torch.save(held, tmp_path / "w.pth")
        found = read(tmp_path / "w.pth")
        assert found.tensors.keys() == state.keys() and found.trail[0] == str(wrapper)


@pytest.mark.parametrize(
    "names",
    [("model", "model_ema"), ("params", "params_ema"), ("state_dict", "ema_state_dict"), ("net", "ema")],
)
def test_the_average_is_meant(names, tmp_path):
    torch.save(
        dict(zip(names, ({"z": torch.zeros(1), "y": torch.zeros(1)}, STATE), strict=True)), tmp_path / "w.pth"
    )
    assert read(tmp_path / "w.pth").tensors.keys() == STATE.keys()


def test_an_average_without_a_network_is_not_meant(tmp_path):
    torch.save({"ema": {"updates": torch.ones(1)}, "net": STATE}, tmp_path / "w.pth")
    assert read(tmp_path / "w.pth").tensors.keys() == STATE.keys()


def test_a_list_of_one_and_a_recompressed_file(tmp_path):
    torch.save([STATE], tmp_path / "w.pth")
    assert read(tmp_path / "w.pth").tensors.keys() == STATE.keys()
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for item in old.namelist():
            new.writestr(item, old.read(item))
    found = read(tmp_path / "z.pth").tensors
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_only_the_network_is_read_of_safetensors(tmp_path, monkeypatch):
    save_file({"momentum.a": torch.ones(2), "optimizer.0.exp_avg": torch.ones(2)}, tmp_path / "w.safetensors")
    seen = []

    class Spy:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            self.inner = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def get_tensor(self, name):
            seen.append(name)
            return self.inner.get_tensor(name)

    real = weight_files.safe_open
    monkeypatch.setattr(weight_files, "safe_open", lambda *a, **k: Spy(real(*a, **k)))
    assert torch.equal(read(tmp_path / "w.safetensors").tensors["a"], torch.ones(2))
    assert seen == ["momentum.a"]


def test_allowed_globals_stay_as_they_were(tmp_path):
    before = set(torch.serialization.get_safe_globals())  # torch keeps a set: its order means nothing
    torch.save({"args": argparse.Namespace(x=1), "model": STATE}, tmp_path / "w.pth")
    read(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before
