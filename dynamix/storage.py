"""Files that appear whole or not at all, tensors in them, and errors of the system that name the file."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_ROOM = "make room, then give the same command again"
_RIGHTS = "change its permissions (chmod), or ask its owner to"
REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "choose another folder",
}


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Open `path`, then run the block; an OSError of either becomes one line: `path`, reason, remedy."""
    try:
        path.open("rb").close()
        yield
    except OSError as error:
        _explain(error, f"{path} cannot be read")
        raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Run a block that writes what becomes `path`; a full disk and the like become one line, as `reading`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        _explain(error, f"{path} cannot be written")
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name for the block to write to: its file then becomes `path`, with the umask's mode.

    An error or a kill leaves `path` as it was; after an error the temporary file is gone. Raises OSError
    naming `path`, and what to do about a full disk or a missing permission.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            temporary.touch()
            mode = temporary.stat().st_mode  # the umask's: safetensors would let nobody else read it
            yield temporary
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write `path` as safetensors, replacing what it was when the new file is whole."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata)


def read(path: Path, parts: tuple[str, ...] = ("",)) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file whose names begin with one of `parts`, and its metadata.

    Raises OSError where the file cannot be read, SafetensorError where it is damaged.
    """
    with reading(path), safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(parts)]
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _explain(error: Exception, what: str) -> None:
    """Raise `error` in words: `what`, the system's reason, the remedy; not where it has its own words."""
    found = None if isinstance(error, OSError) else re.search(r"(?:os error|code:) (\d+)", str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)  # safetensors' errors are no OSErrors
    if number is not None:
        kind = type(error) if isinstance(error, OSError) else OSError
        remedy = REMEDIES.get(number, "check the disk")
        raise kind(f"{what}, {os.strerror(number).lower()}: {remedy}") from error
