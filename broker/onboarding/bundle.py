"""The bundle: a party's profile folder with all that a supplier needs beside its login and keys.

Paths in its files are relative to the folder, so that it can be moved. What is secret stands in `connection.json`,
`kafka/` and `keys/`; all of it is readable by its owner only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from broker.client import Event
from broker.client.profile import KEYS_FOLDER
from broker.crypto import derived_uuid
from broker.kafka.connection import KafkaConnection
from broker.kafka.publish import BROKER_KEYS, SCHEMAS
from broker.onboarding.readme import readme
from broker.onboarding.sandbox import PUPILS, SECTOR, Sandbox, class_list, events
from broker.policy import Routes
from broker.registry import Registry, receivable_families
from broker.schemas import catalogue
from broker.schemas.outputs import file_texts, render

PARTY_FILE: Final = "party.json"
KAFKA_FOLDER: Final = "kafka"
SCHEMAS_FOLDER: Final = "schemas"
SANDBOX_FOLDER: Final = "sandbox"
OWN_SCHEMAS: Final = ("envelope.v1", "subject.v1", "status.v1", "quarantine.v1")


def write_bundle(folder: Path, connection: KafkaConnection, registry: Registry, sandbox: Sandbox, today: date) -> None:
    """Write all files of a bundle but its login and its keys; what is there is written anew.

    Args:
        connection: of the party. registry: with the party's roles.
    """
    party = sandbox.party
    families = sorted(receivable_families(registry, party))
    document = party_document(connection, sandbox, families)
    write_client_settings(folder, connection)
    _write(folder / PARTY_FILE, json.dumps(document, indent=2) + "\n")
    for name, text in schema_files(registry, party).items():
        _write(folder / SCHEMAS_FOLDER / name, text)
    sent = sandbox_files(sandbox, registry.routes, today)
    for name, text in sent.items():
        _write(folder / SANDBOX_FOLDER / name, text)
    _write(folder / "README.md", readme(document, sent, KEYS_FOLDER))


def party_document(connection: KafkaConnection, sandbox: Sandbox, families: list[str]) -> dict[str, Any]:
    """What programs read: who the party is, and where everything stands. Holds no secret."""
    party = sandbox.party
    return {
        "party": party,
        "bootstrap": connection.bootstrap,
        "topics": {
            "in": f"in.{party}",
            "status": f"status.{party}",
            "quarantine": f"quarantine.{party}",
            "out": {family: f"out.{party}.{family}" for family in families},
            "schemas": SCHEMAS,
            "broker_keys": BROKER_KEYS,
        },
        "group_prefix": f"{party}.",
        "sandbox": {"school": sandbox.school, "sector": SECTOR, "pupils": list(PUPILS)},
    }


# ---- how to connect


def write_client_settings(folder: Path, connection: KafkaConnection) -> None:
    """Write the settings of Java's client, of librdkafka's and of confluent-kafka for Python."""
    settings = {name: str(value) for name, value in connection.confluent().items()}
    ca = None if connection.ca_file is None else connection.ca_file.name
    if ca is not None:
        settings["ssl.ca.location"] = ca
    _write(folder / KAFKA_FOLDER / "librdkafka.properties", _HEAD + _lines(settings))
    _write(folder / KAFKA_FOLDER / "python.json", json.dumps(settings, indent=2) + "\n")
    _write(folder / KAFKA_FOLDER / "java.properties", _HEAD + _lines(_java(connection, ca)))


def refresh_client_settings(folder: Path, connection: KafkaConnection) -> None:
    """Write these settings anew where there are some: the password is another one now."""
    if (folder / KAFKA_FOLDER).exists():
        write_client_settings(folder, connection)


_HEAD: Final = "# Holds a password. Paths are relative to the folder of the bundle, the one above this.\n"


def _java(connection: KafkaConnection, ca: str | None) -> dict[str, str]:
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    settings = {
        "bootstrap.servers": connection.bootstrap,
        "security.protocol": connection.security_protocol,
        "sasl.mechanism": connection.mechanism,
        "sasl.jaas.config": f'{login} required username="{connection.username}" password="{connection.password}";',
    }
    return settings if ca is None else settings | {"ssl.truststore.type": "PEM", "ssl.truststore.location": ca}


def _lines(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


# ---- what to read and send


def schema_files(registry: Registry, party: str) -> dict[str, str]:
    """The schemas that a party writes and reads with, by file name: its families, and the outputs for its roles."""
    known, roles = catalogue(), registry.parties[party].roles
    may_send = {route.family for route in registry.routes if route.sender_role in roles}
    families = may_send | receivable_families(registry, party)
    texts = {f"{name}.avsc": render(known[name]) for name in OWN_SCHEMAS}
    texts |= {f"{f}.v{known.family(f).version}.avsc": render(known.family(f).schema) for f in sorted(families)}
    outputs = file_texts(known, registry.policy, registry.routes)
    endings = tuple(f".{role}.avsc" for role in roles)
    return texts | {name: text for name, text in outputs.items() if name.endswith(endings)}


def sandbox_files(sandbox: Sandbox, routes: Routes, today: date) -> dict[str, str]:
    """Events that are ready to be sent, a file of JSON lines for each family.

    They have ids of their own: who sends a file twice is told `event.duplicate` the second time.
    """

    def same_id(what: str) -> str:
        return derived_uuid("sandbox/v1", sandbox.party, sandbox.school, what)

    made = events(sandbox, sandbox.party, routes, today, same_id)
    enrolled = class_list(sandbox.school, same_id) if sandbox.sis == sandbox.party else []
    lines: dict[str, list[str]] = {}
    for event in (*enrolled, *made):
        lines.setdefault(f"{event.family}.jsonl", []).append(json.dumps(_line(event), ensure_ascii=False))
    return {name: "\n".join(found) + "\n" for name, found in lines.items()}


def _line(event: Event) -> Any:
    """As `broker send` reads it: without what it fills in itself."""
    document = event.json()
    for name in ("created", "school_year", "sender", "correlation", "agreement"):
        document.pop(name)
    return _filled(document)


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(v) for name, v in value.items() if v is not None and v != []}
    return [_filled(v) for v in value] if isinstance(value, list) else value


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and readable by the owner alone from its first moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
