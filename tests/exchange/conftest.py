"""Fixtures: a world where Emma and Noah are enrolled at De Regenboog."""

from __future__ import annotations

import pytest

from tests.exchange.world import NOAH, SIS, World, enrolment, make_world


@pytest.fixture
def world() -> World:
    """The example registry; nobody is enrolled."""
    return make_world()


@pytest.fixture
def school(world: World) -> World:
    """Emma (L0001) and Noah (L0002) are enrolled."""
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    world.outgoing.clear()
    return world
