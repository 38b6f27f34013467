"""No way in without TLS and a proof of who one is, on any port of a broker; and no rights by being connected."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.errors import UnsupportedSaslMechanismError

from broker.errors import ConfigError
from broker.kafka.configuration import REAUTH_MS, Layout, server_properties
from broker.kafka.diagnosis import check
from broker.kafka.embedded import EmbeddedKafka

LISTENERS = {"login": 0, "mutual": 1, "controller": 2}
#: ApiVersions, version 0: what every client of Kafka says first, and what Kafka answers before any login.
HELLO = struct.pack(">hhih", 18, 0, 1, 4) + b"test"


def hello(speaking: socket.socket) -> bytes:
    """What comes back of a client's first request; nothing when Kafka closes the connection."""
    try:
        speaking.sendall(struct.pack(">i", len(HELLO)) + HELLO)
        return speaking.recv(4)
    except (ConnectionError, ssl.SSLError):
        return b""


def dial(kafka: EmbeddedKafka, listener: str) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", kafka.status().ports[LISTENERS[listener]]), timeout=20)


@pytest.mark.kafka
@pytest.mark.parametrize("listener", list(LISTENERS))
def test_a_client_without_tls_gets_no_answer(kafka: EmbeddedKafka, listener: str) -> None:
    """Not even to the first request, which needs no login."""
    with dial(kafka, listener) as plain:
        # A length that is no TLS record: Kafka answers with an alert, or closes; a Kafka answer would begin with 0.
        assert hello(plain)[:1] in (b"", b"\x15")


@pytest.mark.kafka
@pytest.mark.parametrize(("listener", "answers"), [("login", True), ("mutual", False), ("controller", False)])
def test_only_the_listener_with_a_login_takes_a_client_without_a_certificate(
    kafka: EmbeddedKafka, listener: str, answers: bool
) -> None:
    """Brokers and controllers know each other by certificates, so nobody else gets as far as a request."""
    context = ssl.create_default_context(cafile=kafka.pki.ca_file)
    with dial(kafka, listener) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as speaking:
        assert bool(hello(speaking)) is answers


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_login_is_scram_sha_512_and_nothing_weaker(kafka: EmbeddedKafka, mechanism: str) -> None:
    """Refused before the password is sent."""
    with pytest.raises(ConfigError) as raised:
        await check(replace(kafka.admin_connection(), mechanism=mechanism))
    assert isinstance(raised.value.__cause__, UnsupportedSaslMechanismError)


def test_logins_run_out_and_nothing_is_in_clear_when_nothing_else_is_said(tmp_path: Path) -> None:
    """The configuration of the embedded Kafka and of the compose file: every listener has TLS, a login lasts an hour."""
    lines = server_properties(Layout(tmp_path, 1, 9092), 1, tmp_path, {}).splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    protocols = dict(pair.split(":") for pair in found["listener.security.protocol.map"].split(","))
    assert protocols == {"LOGIN": "SASL_SSL", "MUTUAL": "SSL", "CONTROLLER": "SSL"}
    assert found["listeners"].count("://") == len(protocols)
    assert found["allow.everyone.if.no.acl.found"] == "false"
    assert (found["quota.window.num"], found["quota.window.size.seconds"]) == ("3", "1"), "a flood begins small"
    assert found["listener.name.login.scram-sha-512.connections.max.reauth.ms"] == str(REAUTH_MS) == "3600000"
