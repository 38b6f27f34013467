"""One object with all that is needed to connect to Kafka, and errors that say what is wrong.

TLS is not an option but the default, and SASL without TLS is refused: a password in clear on the
wire is a breach of every promise this broker makes. `insecure_plaintext=True` is the only way out.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.errors import ConfigError

MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
PROBE_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the cluster is, how to trust it and who we are.

    Args:
        bootstrap: `host:port`, several separated by commas.
        ca_file: PEM file with the cluster's CA; `None` trusts what the operating system trusts.
        username, password: SASL credentials, required with TLS.
        mechanism: one of `MECHANISMS`.
        insecure_plaintext: no TLS and no login; for a throw-away broker on one's own machine.

    Raises:
        ConfigError: the settings contradict each other or are incomplete.
    """

    bootstrap: str
    ca_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    insecure_plaintext: bool = False

    def __post_init__(self) -> None:
        if not self.hosts():
            raise problem("No Kafka address is set.", "Give bootstrap as host:port.", "kafka.bootstrap")
        if self.mechanism not in MECHANISMS:
            what = f"SASL mechanism {self.mechanism!r} is not supported."
            raise problem(what, f"Use one of {', '.join(MECHANISMS)}.", "kafka.mechanism")
        if self.insecure_plaintext and (self.username or self.password or self.ca_file):
            raise problem(
                "insecure_plaintext is set together with a user, a password or a CA file: "
                "a password would cross the network in clear.",
                "Remove insecure_plaintext, or remove the credentials.",
                "kafka.sasl_without_tls",
            )
        if not self.insecure_plaintext and not (self.username and self.password):
            raise problem(
                "A user name and a password are needed to connect.",
                "Set both (BROKER_KAFKA_USERNAME, BROKER_KAFKA_PASSWORD or the connection file).",
                "kafka.credentials_missing",
            )

    @property
    def security_protocol(self) -> str:
        """Kafka's own name of the protocol."""
        return "PLAINTEXT" if self.insecure_plaintext else "SASL_SSL"

    def hosts(self) -> list[tuple[str, int]]:
        """The bootstrap addresses as (host, port).

        Raises:
            ConfigError: an address is not `host:port`.
        """
        return [_address(part) for part in self.bootstrap.split(",") if part.strip()]

    def ssl_context(self) -> ssl.SSLContext | None:
        """A fresh TLS context (1.2 or higher, host name checked), or `None` when TLS is off.

        Raises:
            ConfigError: the CA file is missing or is not PEM.
        """
        if self.insecure_plaintext:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            what = f"The CA file {self.ca_file} cannot be read as PEM: {error.strerror or type(error).__name__}."
            raise problem(what, "Give the file with the CA certificate of the cluster.", "kafka.ca_file") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def aiokafka(self, *, request_timeout_ms: int = 15_000) -> dict[str, Any]:
        """Keyword arguments for `AIOKafkaConsumer` and `AIOKafkaProducer`.

        aiokafka's own time-out is 40 s: so long would a frozen coordinator stall a client (measured).
        """
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": request_timeout_ms,
        }
        if not self.insecure_plaintext:
            settings |= {
                "ssl_context": self.ssl_context(),
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return settings

    def confluent(self) -> dict[str, str | int | float | bool]:
        """Settings for the clients of confluent-kafka (librdkafka)."""
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security_protocol,
        }
        if self.username and self.password:
            settings |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
            # Without a file librdkafka looks for the system's own bundle by itself.
            if self.ca_file:
                settings["ssl.ca.location"] = str(self.ca_file)
        return settings

    def faust_broker_url(self) -> list[str]:
        """Value for `faust.App(broker=...)`."""
        return [f"kafka://{host}:{port}" for host, port in self.hosts()]

    def faust_credentials(self) -> Any:
        """Value for `faust.App(broker_credentials=...)`; `None` when TLS is off.

        Faust takes SASL_PLAINTEXT without a warning when there is no TLS context, hence always with one.
        """
        if self.insecure_plaintext:
            return None
        import faust  # takes a second to import; only the worker needs it

        return faust.SASLCredentials(
            username=self.username,
            password=self.password,
            mechanism=self.mechanism,
            ssl_context=self.ssl_context(),
        )

    def to_file(self, path: Path) -> None:
        """Writes the settings, password included, as JSON that only the owner can read (0600) from its first moment.

        A CA file in the same folder is named without it, so that the folder can be moved or given to its party.
        """
        beside = self.ca_file is not None and self.ca_file.absolute().parent == path.absolute().parent
        document = {
            "bootstrap": self.bootstrap,
            "ca_file": None if self.ca_file is None else self.ca_file.name if beside else str(self.ca_file.absolute()),
            "username": self.username,
            "password": self.password,
            "mechanism": self.mechanism,
            "insecure_plaintext": self.insecure_plaintext,
        }
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                json.dump({k: v for k, v in document.items() if v is not None}, out, indent=2)
                out.write("\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def from_file(cls, path: Path) -> KafkaConnection:
        """Reads what `to_file` wrote; a relative `ca_file` is taken from the file's own folder.

        Raises:
            ConfigError: the file is missing, unreadable, readable by others, or not what we expect.
        """
        try:
            mode = path.stat().st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                what = f"The connection file {path} holds a password and others can read it."
                raise problem(what, f"Run: chmod 600 {path}", "kafka.file_mode")
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise problem(
                f"The connection file {path} cannot be read: {error.strerror}.",
                "Check the path; `broker kafka start` writes one for the embedded Kafka.",
                "kafka.file",
            ) from error
        except ValueError:
            # No cause: a decoder's message quotes the text, and the text holds a password.
            raise problem(f"The connection file {path} is not JSON.", "Write it again.", "kafka.file") from None
        return cls._from_document(document, path)

    @classmethod
    def _from_document(cls, document: object, path: Path) -> KafkaConnection:
        known = {"bootstrap", "ca_file", "username", "password", "mechanism", "insecure_plaintext"}
        if not isinstance(document, dict) or not document.keys() <= known or "bootstrap" not in document:
            raise problem(
                f"The connection file {path} must be an object with bootstrap and, where needed, "
                f"{', '.join(sorted(known - {'bootstrap'}))}; nothing else.",
                "Correct the names.",
                "kafka.file",
            )
        wrong = [k for k, v in document.items() if not isinstance(v, bool if k == "insecure_plaintext" else str)]
        if wrong:
            raise problem(f"In {path} {', '.join(wrong)} has the wrong type.", "Use strings.", "kafka.file")
        ca = document.pop("ca_file", None)
        return cls(**document, ca_file=path.absolute().parent / ca if ca else None)

    @classmethod
    def from_env(cls) -> KafkaConnection:
        """Reads `BROKER_KAFKA_*`.

        `BROKER_KAFKA_CONNECTION` names a connection file and then decides alone; else BOOTSTRAP, CA_FILE,
        USERNAME, PASSWORD or PASSWORD_FILE (a mounted secret), MECHANISM, INSECURE_PLAINTEXT.

        Raises:
            ConfigError: something is missing or contradicts.
        """
        env = _Environment()
        if env.connection:
            return cls.from_file(env.connection)
        password = env.password.get_secret_value() if env.password else None
        if env.password_file:
            try:
                password = env.password_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise problem(
                    f"BROKER_KAFKA_PASSWORD_FILE {env.password_file} cannot be read: {error.strerror}.",
                    "Check the path and the mounted secret.",
                    "kafka.file",
                ) from error
        return cls(
            bootstrap=env.bootstrap,
            ca_file=env.ca_file,
            username=env.username,
            password=password,
            mechanism=env.mechanism,
            insecure_plaintext=env.insecure_plaintext,
        )


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BROKER_KAFKA_", hide_input_in_errors=True)

    connection: Path | None = None
    bootstrap: str = ""
    ca_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    insecure_plaintext: bool = False


def _address(part: str) -> tuple[str, int]:
    host, _, port = part.strip().rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise problem(f"The Kafka address {part.strip()!r} is not host:port.", "Correct it.", "kafka.bootstrap")
    return host, int(port)


def problem(what: str, todo: str, code: str) -> ConfigError:
    return ConfigError(f"{what} {todo}", code=code)
