"""The methods, one paper a file: what differs between two files is what differs between the papers."""

from typing import Any

from dynamix.config import Config
from dynamix.methods import dynamix, remix


def of(config: Config) -> Any:
    """The module of `config.method`: its `refresh` and `batches` make an epoch."""
    return {"dynamix": dynamix, "remix": remix}[config.method]
