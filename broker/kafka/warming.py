"""Java's start-up cache (JEP 483) for the embedded Kafka: what a start loads and compiles, recorded once on a machine.

A start with it takes two thirds of the time. Who starts Kafka now and then does not need it; who does so all day, as
the tests do, records it with `broker kafka warm`.

The archives are held against the lock file before every start; the cache, which is made of them here, is not. Java
checks its sums against bits that fell over (`java.py`) and passes it over if the archives are others. Who can write to
the folder can have Java run something else: it is for trying out and for tests, as all of the embedded Kafka.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from broker.errors import BrokerError, ConfigError
from broker.kafka import artifacts
from broker.kafka.configuration import Layout
from broker.kafka.embedded import EmbeddedKafka
from broker.kafka.java import Java, start_cache

RECORD_S: Final = 120.0
HEAP_MB: Final = 256


def warm(cache: Path | None = None, *, version: str | None = None, offline: bool = False) -> Path:
    """Record the start of a broker, unless there is a record that Java takes; the file.

    Args:
        cache, version, offline: as of `EmbeddedKafka`.

    Raises:
        ConfigError: as a start; `kafka.warm`, if nothing could be recorded.
        TransientError: the archives are not there and can not be fetched.
    """
    folder = cache or artifacts.cache_folder()
    chosen = artifacts.chosen_version(version, None)
    archives = artifacts.provide(folder, offline=offline, lock_file=artifacts.versions()[chosen])
    file = start_cache(folder, chosen)
    try:
        if not _is_taken(file, archives):
            with artifacts.only_one(folder, ".warming"):
                if not _is_taken(file, archives):  # another process may have recorded while this one waited
                    _record(file, folder, chosen, archives)
    except OSError as error:
        # Of a copy that fails the first name is the source.
        raise _failed(f"{error.strerror} ({error.filename2 or error.filename or folder}).") from error
    return file


def _is_taken(file: Path, archives: list[Path]) -> bool:
    """Whether Java starts with it; it knows best, and says no to a part of a file and to archives of another time."""
    if not file.is_file():
        return False
    with tempfile.TemporaryDirectory(prefix="warming-") as home:
        return Java(Layout(Path(home), 1, 1), archives, HEAP_MB, file).takes_start_cache()


def _record(file: Path, folder: Path, version: str, archives: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="warming-", ignore_cleanup_errors=True) as home:
        recorded, beside = Path(home) / file.name, file.with_suffix(".part")
        kafka = EmbeddedKafka(Path(home) / "kafka", cache=folder, version=version, offline=True, record_start=recorded)
        try:
            kafka.start()
            kafka.stop(timeout_s=RECORD_S)  # Java writes at its end
        except BrokerError as error:
            raise _failed(str(error)) from error
        finally:
            kafka.stop(kill=True)
        if not _is_taken(recorded, archives):
            raise _failed(f"Java wrote nothing that it takes; is there room in {tempfile.gettempdir()}?")
        try:
            shutil.copyfile(recorded, beside)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)


def _failed(why: str) -> ConfigError:
    return ConfigError(
        f"No start of Kafka was recorded: {why} Nothing else is the matter; it starts as before, only not faster.",
        code="kafka.warm",
    )
