"""Places that can be written or not, files that are whole or not there, and where the cache is."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dynamix import disk


def refusing(code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    return refuse


def test_the_cache_is_where_the_user_says_else_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DYNAMIX_CACHE", raising=False)
    assert disk.cache() == tmp_path / ".cache" / "dynamix" and not disk.cache().exists()
    monkeypatch.setenv("DYNAMIX_CACHE", "~/big disk")
    assert disk.cache() == tmp_path / "big disk"
    monkeypatch.setenv("DYNAMIX_CACHE", "~nobody-of-this-name/x")
    with pytest.raises(FileNotFoundError, match="home folder for ~nobody.*: set DYNAMIX_CACHE to a folder"):
        disk.cache()


def test_looking_at_a_place_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("old")
    disk.check_folder(tmp_path / "a" / "b")
    disk.check_file(tmp_path / "c" / "d.json")
    disk.check_file(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_where_a_folder_is_needed(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("")
    for check in (disk.check_folder, lambda path: disk.check_file(path / "x.json")):
        with pytest.raises(
            NotADirectoryError, match=f"cannot write .* .{file} is no folder.: .*choose another"
        ):
            check(file / below)


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(NotADirectoryError, match="link is no folder"):
        disk.check_folder(tmp_path / "link" / "run")


def test_a_file_has_a_name_of_its_own(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder: name a file"):
        disk.check_file(tmp_path)
    with pytest.raises(OSError, match="/dev/null is a device: name a file"):
        disk.check_file(Path("/dev/null"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write into")
def test_a_folder_that_nobody_can_write_into():
    with pytest.raises(OSError, match="cannot write /proc/runs .*choose another place"):
        disk.check_folder(Path("/proc/runs"))


@pytest.mark.parametrize(
    "code, kind, says",
    [
        (errno.EACCES, PermissionError, "permission denied): give yourself the right"),
        (errno.EROFS, OSError, "ead-only file system): choose another place"),
        (errno.ENOSPC, OSError, "no space left on device): free space there"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_remedy(monkeypatch, tmp_path, code, kind, says):
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(code))
    for check in (disk.check_folder, disk.check_file):
        with pytest.raises(kind) as caught:
            check(tmp_path / "run")
        text = str(caught.value)
        assert text.startswith(f"cannot write {tmp_path / 'run'} (") and says in text and "\n" not in text
        assert disk.explained(caught.value) == text
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path))
    with pytest.raises(kind, match="cannot write .*: set DYNAMIX_CACHE to a folder with room$"):
        disk.check_folder(tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        type("Error", (Exception,), {"code": errno.ENOSPC})("mdb_put: No space left on device"),  # LMDB's
        Exception(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),  # safetensors'
    ],
)
def test_a_full_disk_costs_nothing_that_is_there(tmp_path, error):
    path = tmp_path / "result.json"
    disk.write_text(path, "old ±")
    with pytest.raises(OSError, match=f"cannot write {path} .no space left on device.: free space there"):
        with disk.replacing(path) as temporary:
            temporary.write_text("half of")
            raise error
    assert path.read_text(encoding="utf-8") == "old ±" and list(tmp_path.iterdir()) == [path]


def test_what_safetensors_says_is_understood(tmp_path):
    """Its errors are no OSErrors and name the reason in their text alone."""
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file'} "), disk.writing(tmp_path / "file"):
        save_file({"a": torch.zeros(2)}, tmp_path / "gone" / "file")


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (ValueError("no such person"), OSError("a message of our own"), KeyError("x")):
        with pytest.raises(type(error)) as caught, disk.writing(tmp_path):
            raise error
        assert caught.value is error


def test_names_that_are_no_text_are_written_as_they_are(tmp_path):
    disk.write_text(tmp_path / "a" / "why.txt", "no image \udcff.jpg")
    assert (tmp_path / "a" / "why.txt").read_bytes() == b"no image \xff.jpg"


@pytest.mark.parametrize("opened, says", [("file", "give yourself the right"), (None, "Permission denied")])
def test_an_error_of_the_system_is_explained(opened, says):
    text = disk.explained(PermissionError(errno.EACCES, "Permission denied", opened))
    assert says in text and "ermission denied" in text and "delete" not in text
