"""TLS towards servers that are not Kafka: collectors of a Logboek, witnesses."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path

from broker.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nothing crosses a network."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
