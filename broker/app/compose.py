"""The steps of `docker-compose.yml` that are done once: three brokers' files, and an exchange on an empty Kafka.

Each volume of the compose file is a folder below one home, named as the volume is. Both steps keep what is there and
can be repeated: every `docker compose up` does so.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.app.cluster import wanted_of
from broker.app.provision import CA_FILE, add_broker_keys, add_login, add_profile, publish_all
from broker.app.suspension import apply_to_cluster
from broker.auditlog.book import SECRET
from broker.auditserve.service import SECRETS
from broker.errors import ConfigError
from broker.kafka import access
from broker.kafka.admin import SCRAM_ITERATIONS, Admin
from broker.kafka.configuration import ADMIN, Layout, server_properties
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check
from broker.kafka.pki import DevelopmentCA, write_private
from broker.keys import FileKeys, numbers, secret_of
from broker.keys.files import overwrite_and_unlink
from broker.registry import Registry, load_document, records_of, with_keys
from broker.registry.store import apply

BROKERS: Final = 3
SERVER_HEAP_MB: Final = 384
TOOL_HEAP_MB: Final = 128
WAIT_S: Final = 180.0
POLL_S: Final = 1.0
PASSWORD_BYTES: Final = 24
LOGIN_COUNTS_MS: Final = 3_600_000  # then a connection has to show its password again: a changed one counts

# To the console, where `docker compose logs` finds it; who was refused what stands there too.
LOG4J: Final = """\
<Configuration status="WARN" shutdownHook="disable">
<Appenders><Console name="C"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Logger name="kafka.authorizer.logger" level="INFO"/>
<Root level="WARN"><AppenderRef ref="C"/></Root></Loggers></Configuration>
"""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders that volumes are mounted on.

    Args:
        folder: that all of them are in. port: the first of nine, three for each broker.
    """

    folder: Path
    port: int

    def __truediv__(self, volume: str) -> Path:
        return self.folder / volume

    def broker(self, node: int) -> Layout:
        """One broker's view of the cluster: its files are in a volume of its own."""
        return Layout(self / f"kafka-{node}", brokers=BROKERS, base_port=self.port)

    @property
    def admin_file(self) -> Path:
        """The super user's connection file."""
        return self / "operator" / "admin.json"


def prepare(home: Home, class_path: str) -> None:
    """Write certificates, each broker's configuration, the super user's password and that of the dashboard.

    Args:
        class_path: of Kafka's archives, as Java takes it.
    """
    operator = home / "operator"
    # The CA's key stays with the operator; each broker gets its own key and the CA's certificate.
    authority = DevelopmentCA(operator / "pki")
    authority.prepare()
    if not home.admin_file.exists():
        bootstrap = home.broker(1).bootstrap
        new = KafkaConnection(bootstrap, authority.ca_file, ADMIN, secrets.token_urlsafe(PASSWORD_BYTES))
        new.to_file(home.admin_file)
    if not (operator / "cluster.id").exists():
        # 16 bytes in base64; a leading hyphen would break the format tool.
        write_private(operator / "cluster.id", f"E{secrets.token_urlsafe(16)[1:21]}A".encode())
    if not (dashboard := home / "grafana-admin" / "password").exists():
        write_private(dashboard, secrets.token_urlsafe(PASSWORD_BYTES).encode())
    for node in range(1, BROKERS + 1):
        _prepare_broker(home, node, authority, class_path)


def _prepare_broker(home: Home, node: int, authority: DevelopmentCA, class_path: str) -> None:
    layout, operator = home.broker(node), home / "operator"
    pki, config = layout.home / "pki", layout.properties_file(node)
    pki.mkdir(mode=0o700, exist_ok=True)
    for file in (authority.issue_broker(node), authority.ca_file):
        write_private(pki / file.name, file.read_bytes())
    write_private(config, server_properties(layout, node, pki, reauth_ms=LOGIN_COUNTS_MS, extra={}).encode())
    write_private(layout.home / "log4j2.xml", LOG4J.encode())

    scram: tuple[str, ...] = ()
    if not (layout.data(node) / "meta.properties").exists():  # afterwards Kafka has only a verifier of it
        password = KafkaConnection.from_file(home.admin_file).password
        scram = ("--add-scram", f"SCRAM-SHA-512=[name={ADMIN},iterations={SCRAM_ITERATIONS},password={password}]")
    tool = ("format", "--ignore-formatted", "-t", (operator / "cluster.id").read_text(), "-c", str(config), *scram)
    _write_arguments(layout.home, "format", TOOL_HEAP_MB, class_path, ("kafka.tools.StorageTool", *tool))
    _write_arguments(layout.home, "server", SERVER_HEAP_MB, class_path, ("kafka.Kafka", str(config)))


def _write_arguments(folder: Path, name: str, heap_mb: int, class_path: str, words: Sequence[str]) -> None:
    """Java reads its arguments from a file, so that no password shows in the list of processes."""
    # Three of them on one machine: the first compiler alone, as in the embedded Kafka.
    small = (f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    options = (*small, "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")
    logs = (f"-Dlog4j2.configurationFile={folder}/log4j2.xml", "-Dlog4j2.disableJmx=true")
    lines = [f'"{word}"' for word in (*options, *logs, "-cp", class_path, *words)]
    write_private(folder / f"{name}.args", "\n".join([*lines, ""]).encode())


def setup(home: Home, registry_folder: Path) -> int:
    """Make logins, keys, topics, rights, registry and schemas; the number of parties.

    Every login, and every key that somebody needs, goes into the volume of whoever has it, and into no other.

    Raises:
        ConfigError: not all brokers came in time, or they do not let us in; the registry has a mistake.
    """
    document = load_document(registry_folder)  # what is wrong shows before anything is made
    root = KafkaConnection.from_file(home.admin_file)
    admin = Admin(root)
    asyncio.run(_wait(root, admin))
    keys = _services(home, root, admin)

    known = _seen_from(home / "profiles", root)
    made = {party.id: add_profile(admin, known, party.id, home / "profiles") for party in document.parties}
    document = with_keys(document, {party: [profile.public_key] for party, profile in made.items()})
    records = records_of(document)
    registry = Registry.from_records(records)
    apply_to_cluster(admin, lambda suspended: wanted_of(registry, suspended=suspended))
    operating = KafkaConnection.from_file(home / "operator" / "operator.json")
    asyncio.run(apply(operating, records, operator="compose", reason="docker compose up"))
    asyncio.run(publish_all(operating, keys, registry, "compose", "docker compose up"))
    return len(registry.parties)


async def _wait(root: KafkaConnection, admin: Admin) -> None:
    """Until all brokers are there: topics have a replica on each."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            await check(root)
            if (found := await asyncio.to_thread(admin.brokers)) >= BROKERS:
                return
            missing = ConfigError(
                f"{found} of {BROKERS} brokers answer. `docker compose logs` says why the others do not.",
                code="compose.brokers",
            )
        except ConfigError as error:
            missing = error
        if time.monotonic() > deadline:
            raise missing
        await asyncio.sleep(POLL_S)


def _services(home: Home, root: KafkaConnection, admin: Admin) -> FileKeys:
    """Logins and keys of the operator and of all services; the workers' keys."""
    operator, worker, auditor, service = (home / name for name in ("operator", "worker", "auditor", "auditservice"))
    for user in (access.OPERATOR, access.AUDITOR, access.KEY_ROTATOR):
        add_login(admin, root, user, operator / f"{user}.json")
    for volume, user in {
        "worker": access.WORKER,
        "remover": access.REMOVER,
        "builder": access.LOG_BUILDER,
        "counter": access.COUNT_KEEPER,
        "auditservice": access.AUDIT_SERVICE,
    }.items():
        add_login(admin, _seen_from(home / volume, root), user, home / volume / "connection.json")
    FileKeys(home / "builder" / "keys").create_secret(SECRET)

    # The operator's private key stays in the operator's volume: workers only seal for it.
    keys = add_broker_keys(worker / "keys", operator / "keys")

    # The indexer has the auditor's login, and of the workers' keys only the one that opens the index.
    login = KafkaConnection.from_file(operator / f"{access.AUDITOR}.json")
    replace(login, ca_file=_seen_from(auditor, root).ca_file).to_file(auditor / "connection.json")
    _copy_secrets(keys, auditor / "keys", ("school-keys",))
    # The audit service looks pupils up for their board: it has the keys that find and open them, and no other.
    _copy_secrets(keys, service / "keys", SECRETS)
    return keys


def _copy_secrets(keys: FileKeys, target: Path, names: Sequence[str]) -> None:
    """All versions of some of the workers' secrets, and none that was destroyed since."""
    target.mkdir(mode=0o700, exist_ok=True)
    wanted = {f"{secret_of(name, number)}.secret" for name in names for number in numbers(keys, name)}
    for old in target.glob("*.secret"):
        if old.name not in wanted:
            overwrite_and_unlink(old)
    for name in sorted(wanted):
        write_private(target / name, (keys.folder / name).read_bytes())


def _seen_from(folder: Path, root: KafkaConnection) -> KafkaConnection:
    """The cluster, with the CA's certificate in a volume of its own: that of the operator is not shared."""
    if root.ca_file is not None:
        write_private(folder / CA_FILE, root.ca_file.read_bytes())
    return replace(root, ca_file=folder / CA_FILE)
