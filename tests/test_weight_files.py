"""Files of weights: read without running anything of them, refused in one line with the remedy."""

import argparse
import hashlib
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dynamix import encoders
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>quota exceeded</html>", b"\x80\x02", b"PK\x03\x04", b"\x00" * 64]
)
def test_no_file_of_weights(suffix, content, tmp_path):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    refused(file, "is damaged or no file of weights .*download it again")


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
        file.writestr("a.txt", "text")
    refused(tmp_path / "w.pth", "is damaged or no file of weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "script.pth")
    refused(tmp_path / "script.pth", "holds more than weights")


@pytest.mark.parametrize(
    "held, words",
    [
        ({}, "no tensors by name, but nothing"),
        ({"epoch": 3, "state_dict": {"lr": 0.1}}, "no tensors by name, but lr"),
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
