"""A private certificate authority for the embedded Kafka (EC P-256).

For development and tests: a production cluster has its own. The organisational unit decides the Kafka
principal, so that no certificate that is not a broker's can become one.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.errors import ConfigError

CA_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 397
RENEW_BEFORE_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class DevelopmentCA:
    """Certificates under one private CA, in one folder that only its owner can read."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        """The CA certificate: what a client trusts."""
        return self.folder / "ca.pem"

    def prepare(self) -> None:
        """Makes the folder and the CA, once."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.ca_file.exists() or not (self.folder / "ca.key").exists():
            self._write("ca", *self._make("embedded Kafka CA", "ca", CA_DAYS, None))

    def issue_broker(self, node: int) -> Path:
        """Returns the PEM key store (key and certificate) of a broker; renews it in time.

        Valid for `localhost` and 127.0.0.1: the embedded Kafka listens nowhere else.
        """
        name = f"broker-{node}"
        certificate = self.folder / f"{name}.pem"
        if not certificate.exists() or _expires_soon(certificate):
            self._issue(name, "broker")
        return self.folder / f"{name}.keystore.pem"

    def issue_party(self, name: str) -> tuple[Path, Path]:
        """Returns (certificate, key) of a client, for the mutual-TLS listener.

        Raises:
            ConfigError: the name has other characters than `a-z 0-9 . -`, which the principal rules need, or begins
                or ends with a dot or a hyphen.
        """
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?", name):
            raise ConfigError(
                f"{name!r} cannot be the name in a certificate. Use lower case letters, digits, dots and hyphens.",
                code="kafka.certificate_name",
            )
        self._issue(f"party-{name}", "party", common_name=name)
        return self.folder / f"party-{name}.pem", self.folder / f"party-{name}.key"

    def _issue(self, file_name: str, unit: str, common_name: str | None = None) -> None:
        authority = (
            x509.load_pem_x509_certificate(self.ca_file.read_bytes()),
            serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None),
        )
        if not isinstance(authority[1], ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self.folder / 'ca.key'} is not an EC key. Remove the folder.", code="kafka.pki")
        self._write(
            file_name, *self._make(common_name or file_name, unit, CERTIFICATE_DAYS, (authority[0], authority[1]))
        )

    def _make(
        self,
        common_name: str,
        unit: str,
        days: int,
        authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    ) -> tuple[bytes, bytes]:
        now = dt.datetime.now(dt.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        # The unit first: Java prints a subject backwards, and the principal rules see "CN=…,OU=…".
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        issuer, signing_key = (authority[0].subject, authority[1]) if authority else (subject, key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        )
        if authority is None:
            # Python 3.13 verifies strictly: a CA without key usage is refused.
            builder = builder.add_extension(_ca_usage(), critical=True)
        else:
            usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if unit == "broker" else [])
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if unit == "broker":
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(signing_key, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(  # Kafka reads PKCS#8 only
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _write(self, name: str, certificate: bytes, key: bytes) -> None:
        write_private(self.folder / f"{name}.key", key)
        write_private(self.folder / f"{name}.keystore.pem", key + certificate)
        # Last, since its presence says that the other two are there.
        write_private(self.folder / f"{name}.pem", certificate)


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that has mode 0600 from its first byte on, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data)
    draft.replace(path)


def _expires_soon(certificate: Path) -> bool:
    expiry = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return expiry - dt.datetime.now(dt.UTC) < dt.timedelta(days=RENEW_BEFORE_DAYS)


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
