"""Java's start-up cache (JEP 483) for the embedded Kafka: what a start loads and compiles, recorded once on a machine.

A start with it takes about half the time. Who starts Kafka once does not need it; who does so all day, as the tests do,
records it with `broker kafka warm`. Java itself passes a cache over that was not made by this Java of these archives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from broker.errors import ConfigError
from broker.kafka import artifacts
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.java import start_cache

RECORD_S: Final = 120.0


def warm(cache: Path | None = None, *, version: str | None = None, offline: bool = False) -> Path:
    """Record the start of a broker, unless that is done already; the file.

    Args:
        cache, version, offline: as of `EmbeddedKafka`.

    Raises:
        ConfigError: as a start; `kafka.warm`, if Java recorded nothing.
        TransientError: the archives are not there and can not be fetched.
    """
    folder = cache or artifacts.cache_folder()
    chosen = artifacts.chosen_version(version, None)
    archives = artifacts.provide(folder, offline=offline, lock_file=artifacts.versions()[chosen])
    with artifacts.only_one(folder):  # a second that comes meanwhile finds it done
        file = start_cache(folder, chosen)
        if not _is_newer(file, archives):
            _record(file, folder, chosen)
    return file


def _record(file: Path, folder: Path, version: str) -> None:
    file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".warming-", dir=folder) as home:
        recorded = Path(home) / "start"
        kafka = EmbeddedKafka(Path(home) / "kafka", cache=folder, version=version, offline=True, record_start=recorded)
        kafka.start()
        kafka.stop(timeout_s=RECORD_S)  # Java writes at its end
        if not recorded.is_file():
            raise ConfigError(
                f"Java recorded no start of Kafka {version}. Nothing else is the matter: it starts as before. "
                f"Recording takes about 200 MB in {folder}; is there room?",
                code="kafka.warm",
            )
        recorded.replace(file)


def _is_newer(file: Path, archives: Iterable[Path]) -> bool:
    """Java compares the archives' times with those it saw."""
    return file.is_file() and all(file.stat().st_mtime >= path.stat().st_mtime for path in archives)
