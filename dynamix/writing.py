"""Files that are written: whole or not at all, and only where that was found possible before the work."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Endings that name a file where a folder is asked for; a folder may have any other, as runs/v1.2.
FILES = frozenset(".bin .csv .faiss .html .jpg .json .onnx .pdf .png .pt .pth .safetensors .txt .zip".split())


def check_folder(folder: str | Path, option: str = "--out") -> Path:
    """`folder`, `~` expanded, if files can be written into it; it need not exist and is not made.

    Raises OSError (NotADirectoryError, PermissionError, ...) or ValueError saying what is in the way and
    which `option` names the folder.
    """
    folder = Path(os.path.expanduser(folder))
    if folder.suffix.lower() in FILES and not folder.exists():
        raise ValueError(f"{folder} is named like a file, but a folder is made: name a folder with {option}")
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell: disks are read-only, full
    except FileExistsError:
        raise NotADirectoryError(f"{folder} is no folder: name a folder with {option}") from None
    except OSError as error:
        problem = f"cannot write into {folder} ({error.strerror}): name a folder with {option} where you may"
        raise type(error)(problem) from error
    finally:
        with suppress(OSError):
            for each in missing:
                each.rmdir()
    return folder


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system refuses to write is an error that names `path`; the system itself does not."""
    try:
        yield
    except OSError as error:
        problem = f"cannot write {path} ({error.strerror or error}): make room, or name another folder"
        raise type(error)(problem) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` when all is written and goes when it is not.

    The folder is made. Raises OSError naming `path`.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
