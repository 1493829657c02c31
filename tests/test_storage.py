"""Files that appear whole or not at all: the umask's mode, a full disk, missing rights."""

import errno
import os
import re

import pytest
import torch
from safetensors import SafetensorError

from dynamix import disk, storage

TENSORS = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.zeros(2)}


@pytest.fixture
def file(tmp_path):
    storage.write(TENSORS, tmp_path / "w.safetensors", {"note": "before"})
    return tmp_path / "w.safetensors"


def test_what_is_written_is_read(file):
    tensors, metadata = storage.read(file)
    assert metadata == {"note": "before"} and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert storage.read(file, ("b",))[0].keys() == {"b"}


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_mode_is_the_umasks(umask, mode, file):
    before = os.umask(umask)
    try:
        storage.write(TENSORS, file, {})
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == mode


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"
ERRORS = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), "no space left on device): free space"),
    "full, as safetensors says it": (SafetensorError(FULL), "no space left on device): free space"),
    "full, as it said it before": (
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "" })'),
        "no space left on device): free space",
    ),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota exceeded): free space"),
    "rights": (
        PermissionError(errno.EACCES, "Permission denied", "w.123.tmp"),
        "permission denied): give yourself",
    ),
    "disk": (OSError(errno.EIO, "Input/output error"), "input/output error): look whether that disk"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_what_cannot_be_written_stays_as_it_was(kind, file, monkeypatch):
    error, words = ERRORS[kind]

    def fails(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(storage, "save_file", fails)
    with pytest.raises(OSError, match=f"^cannot write {re.escape(str(file))} .*{re.escape(words)}") as caught:
        storage.write(TENSORS, file, {"note": "after"})
    assert "\n" not in str(caught.value)
    assert storage.read(file)[1] == {"note": "before"} and list(file.parent.iterdir()) == [file]


def test_other_errors_stay_as_they_are(file):
    with pytest.raises(ValueError, match="^mine$"), disk.replacing(file):
        raise ValueError("mine")
    with pytest.raises(OSError, match="^mine$"), disk.replacing(file):
        raise OSError("mine")
    assert list(file.parent.iterdir()) == [file]


def test_missing_rights(file, unreadable):
    file = unreadable(file)
    with pytest.raises(PermissionError, match=r"^cannot read w.safetensors \(permission denied\): .*chmod"):
        storage.read(file)
    with pytest.raises(PermissionError, match=r"^cannot write w.safetensors \(permission denied\): .*chmod"):
        storage.write(TENSORS, file, {})
