"""A whole installation: embedded Kafka, registry, keys, profiles, and workers as processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.demo.stage import Stage, stage


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The demo's stage with one worker; one for each module, so that no test sees another's events."""
    with stage(tmp_path_factory.mktemp("stage") / "home") as built:
        yield built
