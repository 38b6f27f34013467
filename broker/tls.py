"""TLS towards servers that are not Kafka: collectors of a Logboek, witnesses, authorities of time stamps."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from broker.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nothing crosses a network."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_be_asked(url: str, *, plaintext: bool = False) -> bool:
    """Whether a URL is `https://host/path`, without login or query, or http to this machine.

    Args:
        plaintext: http to another machine is allowed.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    plain = parts.scheme == "http" and (plaintext or is_loopback(host or ""))
    return bool(host) and not (parts.username or parts.query) and (parts.scheme == "https" or plain)


def client_context(ca_file: Path | None, code: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the server's certificate verified.

    Args:
        ca_file: who is trusted; None: whom the operating system trusts. code: of the error.

    Raises:
        ConfigError: the file holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The file {ca_file} can not be read as certificates: {error.strerror or type(error).__name__}.", code=code
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
