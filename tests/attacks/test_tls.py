"""Attacks on the encryption: downgrades, no encryption at all, and certificates that are not what they must be."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import KafkaException

from broker.kafka import pki
from broker.kafka.confluent import AdminClient
from broker.kafka.connection import KafkaConnection
from broker.kafka.pki import DevelopmentCA
from tests.kafka.conftest import DEADLINE_S, Cluster

# ApiVersions, version 0: what a client asks first.
REQUEST = b"\x00\x00\x00\x0f\x00\x12\x00\x00\x00\x00\x00\x01\x00\x05abcde"
LISTENERS = ("login", "mutual", "controller")


def address(cluster: Cluster, listener: str) -> tuple[str, int]:
    """Where a listener of the only broker is."""
    return "127.0.0.1", cluster.kafka.layout.ports(1)[LISTENERS.index(listener)]


def context(cluster: Cluster) -> ssl.SSLContext:
    """A client that would also speak what is old."""
    made = ssl.create_default_context(cafile=cluster.kafka.pki.ca_file)
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    return made


def answered(at: tuple[str, int], made: ssl.SSLContext) -> bool:
    """Whether a request is answered: in TLS 1.3 who is refused learns it with the first byte that he reads."""
    try:
        with (
            socket.create_connection(at, timeout=DEADLINE_S) as plain,
            made.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(REQUEST)
            return secured.recv(4) != b""
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.kafka
@pytest.mark.parametrize("listener", LISTENERS)
def test_no_listener_answers_in_clear(cluster: Cluster, listener: str) -> None:
    """But by a TLS alert (RFC 8446, section 6: content type 21) or by closing."""
    with socket.create_connection(address(cluster, listener), timeout=DEADLINE_S) as clear:
        clear.sendall(REQUEST)
        try:
            answer = clear.recv(64)
        except ConnectionResetError:
            answer = b""
    assert not answer or answer[0] == 21


@pytest.mark.kafka
@pytest.mark.parametrize("listener", LISTENERS)
def test_no_listener_speaks_a_tls_before_1_2(cluster: Cluster, listener: str) -> None:
    """The handshake fails with 1.1; that it was the version shows 1.2, and 1.3."""
    old = context(cluster)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(address(cluster, listener), timeout=DEADLINE_S) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
        old.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        new = context(cluster)
        new.minimum_version = new.maximum_version = version
        # Of a listener that wants a certificate the handshake of 1.3 ends well before the client hears that.
        with (
            socket.create_connection(address(cluster, "login"), timeout=DEADLINE_S) as plain,
            new.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            assert (secured.version() or "").replace(".", "_") == version.name


@pytest.mark.kafka
@pytest.mark.parametrize("listener", ["mutual", "controller"])
@pytest.mark.parametrize("holder", ["nobody", "another authority's"])
def test_where_brokers_speak_a_certificate_of_ours_is_needed(
    cluster: Cluster, tmp_path: Path, listener: str, holder: str
) -> None:
    """Without it nothing is answered; with one of ours it is."""
    made = context(cluster)
    if holder != "nobody":
        made.load_cert_chain(*authority(tmp_path / "other").issue_party("pub"))
    assert not answered(address(cluster, listener), made)
    ours = context(cluster)
    ours.load_cert_chain(*cluster.kafka.pki.issue_party("pub"))
    assert answered(address(cluster, listener), ours)


# ---- somebody between a client and Kafka, with a certificate


def authority(folder: Path) -> DevelopmentCA:
    """An authority, not that of the cluster."""
    made = DevelopmentCA(folder)
    made.prepare()
    return made


@asynccontextmanager
async def impostor(key_store: Path, host: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server with this certificate, and what clients told it after the handshake."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(key_store)
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read(4096))
        except (ssl.SSLError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, 0, ssl=served)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def expired(made: DevelopmentCA, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate that ended yesterday: made 398 days ago."""

    class Before(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Before:
            return super().now(tz) - dt.timedelta(days=pki.CERTIFICATE_DAYS + 1)

    with monkeypatch.context() as patch:
        patch.setattr(pki.dt, "datetime", Before)
        return made.issue_broker(1)


async def connects(connection: KafkaConnection) -> None:
    """Both client libraries try; none gets an answer from an impostor, whatever it has told him by then."""
    producer = AIOKafkaProducer(**connection.aiokafka(request_timeout_ms=2000))
    with pytest.raises(KafkaConnectionError):
        await producer.start()
    await producer.stop()
    client = AdminClient({**connection.confluent(), "log_level": 0})
    with pytest.raises(KafkaException):
        await asyncio.to_thread(client.list_topics, timeout=2)


@pytest.mark.parametrize("certificate", ["good", "expired", "of another authority", "of another host"])
async def test_a_client_tells_nothing_to_who_can_not_prove_to_be_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str
) -> None:
    """Not even which requests it knows, far less a login. With the good certificate both clients begin to speak."""
    trusted = authority(tmp_path / "trusted")
    host = "127.0.0.1"
    if certificate == "expired":
        store = expired(trusted, monkeypatch)
    elif certificate == "of another authority":
        store = authority(tmp_path / "other").issue_broker(1)
    else:
        store = trusted.issue_broker(1)
    if certificate == "of another host":
        host = "127.0.0.2"  # the loopback network, but not a name in the certificate
    async with impostor(store, host) as (port, heard):
        await connects(KafkaConnection(f"{host}:{port}", trusted.ca_file, "pub", "a-password-of-nobody"))
        told = b"".join(heard)
    assert bool(told) == (certificate == "good")
    assert b"a-password-of-nobody" not in told
