"""What is wrong when a connection fails: aiokafka says "Unable to bootstrap" for wrong password and wrong CA alike."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

from broker.errors import ConfigError
from broker.kafka.connection import PROBE_TIMEOUT_S, KafkaConnection, problem


def unreachable(connection: KafkaConnection, reason: str) -> ConfigError:
    """No address accepts a connection."""
    return problem(
        f"Kafka at {connection.bootstrap} cannot be reached ({reason}).",
        "Check that Kafka runs there; for the embedded one: broker kafka start.",
        "kafka.unreachable",
    )


def untrusted(connection: KafkaConnection, reason: str) -> ConfigError:
    """The server's certificate is not one of ours, or is for another host."""
    trust = connection.ca_file or "the operating system's trust store"
    return problem(
        f"The certificate of Kafka at {connection.bootstrap} is not trusted: {reason} (checked with {trust}).",
        "Set ca_file to the CA that signed it, and use the host name that is in the certificate.",
        "kafka.tls_untrusted",
    )


def tls_failed(connection: KafkaConnection, reason: str) -> ConfigError:
    """There is a server, but it does not speak TLS as we do."""
    return problem(
        f"Kafka at {connection.bootstrap} does not complete a TLS handshake ({reason}).",
        "Check that the port is that of the SASL_SSL listener.",
        "kafka.tls",
    )


def wrong_credentials(connection: KafkaConnection) -> ConfigError:
    """The server is the right one, but it does not let us in."""
    return problem(
        f"Kafka at {connection.bootstrap} refuses the login of user {connection.username!r} "
        f"with {connection.mechanism}: wrong user or password, or a user that does not exist (yet).",
        "Check them, or have an operator set the user again.",
        "kafka.login",
    )


def explain(exc: BaseException, connection: KafkaConnection) -> ConfigError:
    """Turns a client's failure to connect into an error that says what is wrong and what to do.

    aiokafka reports an absent host, an unknown CA and a wrong password all as "Unable to bootstrap"; so
    the first two are tried out here, with plain sockets, and what remains is the login. Blocks for at
    most `PROBE_TIMEOUT_S` per address: call it when starting has failed, not on a hot path.
    """
    for cause in _causes(exc):
        if isinstance(cause, ConfigError):
            return cause
    found = _probe(connection)
    if found is not None:
        return found
    text = " ".join(f"{type(c).__name__} {c}" for c in _causes(exc)).lower()
    if any(word in text for word in ("authenticat", "bootstrap", "sasl", "transport failure", "connection at")):
        if connection.insecure_plaintext:
            return tls_failed(connection, "the port answers, but not in clear")
        return wrong_credentials(connection)
    return problem(
        f"Kafka at {connection.bootstrap} can be reached, but the client failed ({type(exc).__name__}).",
        "See the log for the request that failed.",
        "kafka.client",
    )


async def check(connection: KafkaConnection) -> None:
    """Connects and logs in once, to any of the bootstrap addresses.

    Raises:
        ConfigError: it does not work; says whether it is the address, the certificate or the login.
    """
    from aiokafka.conn import AIOKafkaConnection
    from aiokafka.errors import AuthenticationFailedError, KafkaError, UnsupportedSaslMechanismError

    found = await asyncio.to_thread(_probe, connection)
    if found is not None:
        raise found
    settings = connection.aiokafka(request_timeout_ms=int(PROBE_TIMEOUT_S * 1000))
    settings.pop("bootstrap_servers")
    failure: BaseException | None = None
    for host, port in connection.hosts():
        attempt = AIOKafkaConnection(host, port, **settings)
        try:
            await attempt.connect()
        except OSError as error:  # another of the addresses may do
            failure = error
            continue
        except KafkaError as error:
            failure = error
        else:
            failure = None
        with suppress(TimeoutError):  # a socket closes some time after the call; the loop may not live that long
            await asyncio.wait_for(attempt.close(), PROBE_TIMEOUT_S)
        break
    if isinstance(failure, AuthenticationFailedError | UnsupportedSaslMechanismError):
        raise wrong_credentials(connection) from failure
    if failure is not None:
        raise explain(failure, connection) from failure


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _probe(connection: KafkaConnection) -> ConfigError | None:
    """Tries TCP and TLS; `None` when one address does both."""
    context = connection.ssl_context()
    found: ConfigError | None = None
    for host, port in connection.hosts():
        try:
            with socket.create_connection((host, port), PROBE_TIMEOUT_S) as plain:
                if context is not None:
                    with context.wrap_socket(plain, server_hostname=host):
                        pass
        except ssl.SSLCertVerificationError as error:
            found = untrusted(connection, error.verify_message)
        except ssl.SSLError as error:
            found = tls_failed(connection, error.reason or "protocol error")
        except OSError as error:
            # What an answering address said weighs more than that another one is silent.
            found = found or unreachable(connection, error.strerror or str(error) or type(error).__name__)
        else:
            return None
    return found
