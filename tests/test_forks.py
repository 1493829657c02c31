"""A fork waits for what a thread is at, and a thread for a fork."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from dynamix import sampling
from dynamix.forks import _forking, pieces
from tests.test_sampling import batches, configured, match_pids, world


def forked(state) -> int:
    """What `state()` is in a forked process; one that hangs is killed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        process = os.fork()
    if process == 0:
        code = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            code = state()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Busy:
    """Items that take their time, one right after the other."""

    def __init__(self, seconds: float = 0.01):
        self.seconds, self.inside, self.made, self.over = seconds, False, 0, False

    def __iter__(self):
        while True:
            self.inside = True
            time.sleep(self.seconds)
            self.inside = False
            self.made += 1
            yield self.made

    def work(self) -> None:
        for _ in pieces(self, lambda: self.over):
            pass


@pytest.fixture
def busy():
    works = [Busy(0.01), Busy(0.003)]
    threads = [threading.Thread(target=work.work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield works
    for work, thread in zip(works, threads, strict=True):
        work.over = True
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_a_fork_waits_for_every_thread_and_they_go_on(busy):
    for _ in range(20):
        assert forked(lambda: any(work.inside for work in busy)) == 0
        made, deadline = [work.made for work in busy], time.monotonic() + 20
        while not all(work.made > before for work, before in zip(busy, made, strict=True)):
            assert time.monotonic() < deadline, "a thread still waits for a fork that is over"
            time.sleep(0.001)


def test_a_forked_process_can_work_itself(busy):
    assert forked(lambda: sum(pieces([1, 2, 3]))) == 6


def test_a_thread_may_fork_at_its_own_work():
    """In a program of its own: waiting for itself it would never end."""
    code = (
        "import os\n"
        "from dynamix.forks import pieces\n"
        "def fork():\n"
        "    process = os.fork()\n"
        "    return os._exit(7) if process == 0 else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])\n"
        "print(list(pieces(fork() for _ in range(2))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[7, 7]\n", "")


def test_a_thread_that_waits_for_a_fork_can_be_ended():
    work = Busy()
    _forking.add(-1)  # a fork that never comes to its end
    try:
        thread = threading.Thread(target=work.work, daemon=True)
        thread.start()
        time.sleep(0.05)
        assert thread.is_alive() and work.made == 0
        work.over = True
        thread.join(timeout=20)
        assert not thread.is_alive()
    finally:
        _forking.discard(-1)


def test_an_error_leaves_nobody_waiting():
    with pytest.raises(ZeroDivisionError):
        list(pieces(1 // n for n in (1, 0)))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(forked(lambda: 3)))
    thread.start()
    thread.join(timeout=20)
    assert seen == [3]


def test_no_fork_while_a_batch_is_planned(monkeypatch):
    """As when training forks its reader processes right after planning has begun."""
    inside = [0]

    def slow(*args, **options):
        inside[0] = 1
        time.sleep(0.01)
        found = match_pids(*args, **options)
        inside[0] = 0
        return found

    monkeypatch.setattr(sampling, "match_pids", slow)
    plan = batches(world([2] * 6, [2] * 6, 300, (3,)), configured(3, 2, 100))
    assert [forked(lambda: inside[0]) for _ in range(10)] == [0] * 10
    assert len(plan.batches) == 100
