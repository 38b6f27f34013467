"""Everything a run stands on: an installation with its schools, senders, receivers, and workers beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from broker.demo.stage import Stage, example_document, set_up
from broker.kafka.embedded import EmbeddedKafka
from chaos.crew import Crew, Worker
from chaos.field import Field
from chaos.workload import Workload
from chaos.world import PUBLISHERS, SIS, Pupil, with_schools


@dataclass(frozen=True, slots=True)
class Setting:
    """See the module.

    Attributes:
        kafka: running, with topics, rights and registry.
        beside: senders and receivers; they begin with `beside.begin()`. crew: workers, not started.
    """

    kafka: EmbeddedKafka
    scene: Stage
    beside: Field
    crew: Crew


@contextmanager
def setting(
    kafka: EmbeddedKafka,
    work: Path,
    folder: Path,
    pupils: Sequence[Pupil],
    random: Random,
    *,
    workers: int,
    rate: float,
    seconds: float,
    note: Callable[[str], None],
) -> Iterator[Setting]:
    """Set it up; in the end no worker is left, and the clients are let go.

    Args:
        work: where the installation and the workers live. folder: where logs are left.
        random: of what is sent. rate, seconds: see `Workload`.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    schools = sorted({pupil.school for pupil in pupils})
    scene = asyncio.run(set_up(work, kafka, with_schools(example_document(), schools)))
    profiles = {party: scene.profile(party) for party in (SIS, *PUBLISHERS)}
    with Field(scene, Workload(profiles, pupils, random, rate, seconds, note), note) as beside:
        crew = Crew(
            lambda number: Worker(number, work, logs, beside.ways(f"worker-{number}")), workers, note
        )  # fmt: skip
        try:
            yield Setting(kafka, scene, beside, crew)
        finally:
            crew.kill()
