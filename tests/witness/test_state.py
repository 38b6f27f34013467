"""Tests of `broker.witness.state`: what a witness knows survives everything, or it says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.witness.state import State, StateDamaged, origin_hash
from tests.witness.logs import ORIGIN, OTHER, GrowingLog

LOG = GrowingLog()
STEPS = ("open", "write", "fsync", "close", "replace")


class Killed(BaseException):
    """The process is gone: nothing that catches errors may go on."""


@contextmanager
def opened(folder: Path) -> Iterator[State]:
    """A state, let go of at the end."""
    state = State(folder)
    try:
        yield state
    finally:
        state.close()


class Disk:
    """Counts what is done to files, and stops at the n-th; `after`: it was done, else it was not."""

    def __init__(self, patch: pytest.MonkeyPatch, stop: int, after: bool, error: BaseException) -> None:
        self.done: list[str] = []
        self._stop, self._after, self._error = stop, after, error
        for name in STEPS:
            patch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self.done.append(name)
            stop = len(self.done) == self._stop
            if stop and not self._after:
                raise self._error
            result = real(*arguments, **named)
            if stop:
                raise self._error
            return result

        return step


def steps_of_one_replacing(folder: Path) -> list[str]:
    """What `replace` does to files."""
    with opened(folder) as state, pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, -1, False, Killed())
        assert state.replace(ORIGIN, None, LOG.note(1))
        return list(disk.done)


def test_what_is_remembered_is_there_after_a_restart(tmp_path: Path) -> None:
    """Per log, and nothing before the first."""
    with opened(tmp_path) as state:
        assert state.get(ORIGIN) is None
        assert state.replace(ORIGIN, None, LOG.note(3))
    with opened(tmp_path) as state:
        assert state.get(ORIGIN) == LOG.note(3)
        assert state.get(OTHER) is None


def test_the_bytes_are_flushed_before_the_name_and_the_name_before_the_answer(tmp_path: Path) -> None:
    """Else a power cut could take back what was cosigned."""
    steps = steps_of_one_replacing(tmp_path)
    renamed = steps.index("replace")
    assert "fsync" in steps[steps.index("write") : renamed]
    assert steps[renamed + 1 :] == ["open", "fsync", "close"]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_it_knows_the_old_or_the_new(tmp_path: Path, after: bool) -> None:
    """And an interrupted `replace` can be done again after a restart."""
    for step in range(1, 1 + len(steps_of_one_replacing(tmp_path / "steps"))):
        folder = tmp_path / str(step)
        with opened(folder) as state:
            assert state.replace(ORIGIN, None, LOG.note(3))
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, step, after, Killed())
                with pytest.raises(Killed):
                    state.replace(ORIGIN, LOG.note(3), LOG.note(5))
        with opened(folder) as state:
            known = state.get(ORIGIN)
            assert known in (LOG.note(3), LOG.note(5))
            assert state.replace(ORIGIN, known, LOG.note(7))
            assert state.get(ORIGIN) == LOG.note(7)


def test_a_disk_that_fails_leaves_the_old_or_nothing_to_build_on(tmp_path: Path) -> None:
    """After a rename that was not confirmed nothing is read, in this process: the cache may know what the disk lost."""
    steps = steps_of_one_replacing(tmp_path / "steps")
    for step in range(1, 1 + len(steps)):
        with opened(tmp_path / str(step)) as state:
            assert state.replace(ORIGIN, None, LOG.note(3))
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, step, False, OSError(5, "Input/output error"))
                with pytest.raises(OSError, match="Input/output"):
                    state.replace(ORIGIN, LOG.note(3), LOG.note(5))
            if step <= steps.index("replace"):
                assert state.get(ORIGIN) == LOG.note(3)
            else:
                with pytest.raises(StateDamaged, match="start the witness again"):
                    state.get(ORIGIN)


def test_only_the_one_who_knows_the_present_replaces_it(tmp_path: Path) -> None:
    """Compare and set: a later one changes nothing."""
    with opened(tmp_path) as state:
        assert state.replace(ORIGIN, None, LOG.note(3))
        assert not state.replace(ORIGIN, None, LOG.note(2))
        assert not state.replace(ORIGIN, LOG.note(1), LOG.note(2))
        assert state.get(ORIGIN) == LOG.note(3)


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    """All saw the same, each wants something else."""
    with opened(tmp_path) as state, ThreadPoolExecutor(8) as pool:
        notes = [LOG.note(size) for size in range(1, 17)]
        won = list(pool.map(lambda note: state.replace(ORIGIN, None, note), notes))
        assert won.count(True) == 1
        assert state.get(ORIGIN) == notes[won.index(True)]


def test_two_processes_can_not_have_one_state(tmp_path: Path) -> None:
    """The second is refused, until the first has ended."""
    with opened(tmp_path), pytest.raises(ConfigError, match="Another witness runs"):
        State(tmp_path)
    with opened(tmp_path) as state:
        assert state.get(ORIGIN) is None


@pytest.mark.parametrize("damage", [b"", b"\x00" * 200, LOG.note(3)[:-9], GrowingLog(OTHER).note(3)], ids=range(4))
def test_a_damaged_file_is_never_taken_for_nothing_known(tmp_path: Path, damage: bytes) -> None:
    """Else a damaged disk would make the witness cosign a second history from the start."""
    with opened(tmp_path) as state:
        (tmp_path / origin_hash(ORIGIN)).write_bytes(damage)
        with pytest.raises(StateDamaged):
            state.get(ORIGIN)
        with pytest.raises(StateDamaged):
            state.replace(ORIGIN, None, LOG.note(1))


def test_a_folder_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can not be used"):
        State(tmp_path / "file" / "state")
