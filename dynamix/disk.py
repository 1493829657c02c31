"""The disk: which places can be written, files that appear whole or not at all, and the cache.

What the system refuses is said in one line, which names the place and what to do.
"""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOM = "free space there, or choose another place"
RIGHT = "give yourself the right to it (chmod, chown)"
FOLDER = "a file lies where a folder is needed, move it away or choose another place"
REMEDIES = {
    errno.ENOSPC: ROOM, errno.EDQUOT: ROOM, errno.EIO: "look whether that disk is full or failing",
    errno.EACCES: RIGHT, errno.EPERM: RIGHT, errno.ENOTDIR: FOLDER, errno.EEXIST: FOLDER,
    errno.EISDIR: "it is a folder, name a file",
}  # fmt: skip
CACHE = "set DYNAMIX_CACHE to a folder with room"
PROBE = bytes(4096)  # a full disk still takes an empty file


def cache() -> Path:
    """Folder of what is drawn, trained, indexed or extracted once: $DYNAMIX_CACHE, else ~/.cache/dynamix.

    It may not be there yet. Raises FileNotFoundError where the user has no home folder.
    """
    named = os.environ.get("DYNAMIX_CACHE") or "~/.cache/dynamix"
    folder = os.path.expanduser(named)
    if folder.startswith("~"):
        raise FileNotFoundError(f"there is no home folder for {named}: {CACHE}")
    return Path(folder)


def explained(error: OSError) -> str:
    """An OSError as one line: the place, what the system says about it, what to do."""
    if error.errno is None or error.filename is None:  # a message of our own, or nothing more is known
        return str(error)
    remedy = REMEDIES.get(error.errno)
    return f"{error.filename} ({_small(str(error.strerror))})" + (f": {remedy}" if remedy else "")


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Opens `path`, then runs the block; raises what the system refuses of either in one line."""
    try:
        path.open("rb").close()
        yield
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        kind = type(OSError(code, ""))
        remedy = REMEDIES.get(code, "look whether that disk is failing")
        raise kind(f"cannot read {path} ({_small(os.strerror(code))}): {remedy}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises what the system refuses while `path` is written as an OSError that says so in one line."""
    try:
        yield
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        remedy = CACHE if _in_cache(path) else REMEDIES.get(code, "choose another place")
        why = getattr(error, "strerror", None) or os.strerror(code)
        kind = type(OSError(code, ""))  # PermissionError and the like
        raise kind(f"cannot write {path} ({_small(why)}): {remedy}") from error


def _code(error: Exception) -> int | None:
    """The system's number of an error: an OSError's, LMDB's, or in the text of safetensors."""
    if isinstance(error, OSError):
        return error.errno
    if (code := getattr(error, "code", 0)) in errno.errorcode:
        return code
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    return int(found[1]) if found else None


def _in_cache(path: Path) -> bool:
    try:
        return path.absolute().is_relative_to(cache().absolute())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, whose file takes the place of `path` when the block ends well.

    Else the file that was there stays, whole. Raises OSError naming `path` and what to do.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            mode = temporary.stat().st_mode  # the umask's: safetensors would let nobody else read the file
            yield temporary
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; as UTF-8, whatever the console speaks."""
    with replacing(path) as temporary:
        # A path in it may hold bytes that are no UTF-8: they are written as they are.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def check_folder(folder: Path) -> None:
    """Raise OSError unless files can be written into `folder`; it is not made, nothing is left in it."""
    with writing(folder):
        _try_in(folder)


def check_file(path: Path) -> None:
    """Raise OSError unless a file `path` can be written; one that is there stays as it is."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file, as {path / 'NAME'}")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device: name a file")
    with writing(path):
        _try_in(path.parent)


def _try_in(folder: Path) -> None:
    nearest = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is no folder")
    with tempfile.TemporaryFile(dir=nearest, buffering=0) as file:
        file.write(PROBE)
