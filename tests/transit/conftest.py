"""A transit engine with a key, and tokens that may what the how-to's policies let them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.transit.engine import FakeTransit, Key, transit_engine
from tests.transit.policies import KEY, as_role


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeTransit]:
    """A server with the derived key `eck-broker`."""
    with transit_engine(tmp_path / "engine") as made:
        made.keys[KEY] = Key()
        yield made


@pytest.fixture
def set_up(engine: FakeTransit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Sets the environment for a token of one of the how-to's roles; gives the file with the token."""
    return partial(_as_role, engine, tmp_path, monkeypatch)


def _as_role(engine: FakeTransit, folder: Path, patch: pytest.MonkeyPatch, role: str, **token: object) -> Path:
    return as_role(engine, role, folder, patch, **token)
