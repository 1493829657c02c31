"""Small data in the real on-disk layouts, built once a session."""

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from dynamix import data
from dynamix.config import Config, Mannequins, change, tiny
from dynamix.data.mannequins import worlds
from dynamix.data.table import Table

torch.set_num_threads(1)
# Continuous integration tries the same examples every time; elsewhere each run tries new ones.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
if os.environ.get("CI"):
    settings.load_profile("ci")

SMALL = Mannequins(
    plaza=(12, 3, 2), campus=(6, 2, 1), hall=(8, 2, 2), station=(8, 3, 1), studio=(4, 2, 1), videos=(6, 3, 8)
)


@pytest.fixture(scope="session")
def world_roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """plaza, hall and videos of a benchmark of 12 people and 6 clips."""
    cache = tmp_path_factory.mktemp("worlds")
    return worlds.build(SMALL, cache, worlds=("plaza", "hall", "videos"), progress=False)


@pytest.fixture(scope="session")
def mixed_table(world_roots: dict[str, Path]) -> Table:
    """plaza's training images and the clips."""
    plaza = data.load("plaza", world_roots["plaza"], "train")
    return data.concat([plaza, data.load("videos", world_roots["videos"], "train")])


@pytest.fixture(scope="session")
def clip_truth(world_roots: dict[str, Path], mixed_table: Table) -> np.ndarray:
    """True identities of the single-camera rows, row for row; -1 = junk."""
    videos = mixed_table.select(mixed_table.videos >= 0)
    return worlds.truth(world_roots["videos"]).of(videos)


@pytest.fixture(scope="session")
def small_config() -> Config:
    """A training of seconds: 3 epochs of 4 steps, 4 + 4 identities."""
    batch = {
        "batch__ids_multi": 4,
        "batch__ids_single": 4,
        "batch__images_multi": 2,
        "batch__images_single": 2,
    }
    return change(
        tiny, epochs=3, iterations=4, mannequins=SMALL, encoder__width=8, encoder__dim=16, workers=0, **batch
    )


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(bytes):` no file can grow beyond so many."""

    @contextmanager
    def limited(most: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def strangers() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """`with strangers():` permissions count, also for tests that the superuser runs."""

    @contextmanager
    def become() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            if user == 0:
                os.seteuid(0)

    yield become


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Takes all rights from a file in `tmp_path`, the working folder, and root's from the test."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)

    def take(path: Path) -> Path:
        path.chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        return path.relative_to(tmp_path)

    yield take
    if os.getuid() == 0:
        os.seteuid(0)
