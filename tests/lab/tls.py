"""A throw-away certificate authority, and server certificates that are good, for others, or expired.

Made with the package `cryptography`, which Prefect brings; no `openssl` command is needed.

authority = Authority.make(folder)
HubLab(repos, tls=authority.server())                       good for localhost and 127.0.0.1
HubLab(repos, tls=authority.server(names=("other.test",)))  wrong host name
HubLab(repos, tls=authority.server(days=-1))                expired yesterday
... authority.bundle                                        what SSL_CERT_FILE would name
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOOPBACK = ("localhost", "127.0.0.1")
START_DAYS = 30


@dataclass(frozen=True)
class Authority:
    """An authority that only this test knows."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path, name: str = "Lab CA") -> Self:
        """Return a new one; its certificate is written to `folder`."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(name, name, key.public_key(), days=START_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, key, builder.sign(key, hashes.SHA256()))
        made.bundle.write_bytes(made.certificate.public_bytes(Encoding.PEM))
        return made

    @property
    def bundle(self) -> Path:
        """The file that a client has to trust."""
        return self.folder / "ca.pem"

    def issue(self, names: tuple[str, ...] = LOOPBACK, *, days: int = START_DAYS) -> Path:
        """Return a file with a server's key and certificate that end in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(names[0], _name_of(self.certificate), key.public_key(), days=days)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        path = self.folder / f"{names[0]}.{days}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        path.chmod(0o600)
        return path

    def server(self, names: tuple[str, ...] = LOOPBACK, *, days: int = START_DAYS) -> ssl.SSLContext:
        """Return what a server needs to speak TLS under these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue(names, days=days))
        return context


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_x509_name(subject))
        .issuer_name(_x509_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=START_DAYS))
        .not_valid_after(now + timedelta(days=days))
    )


def _x509_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _name_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
