"""Certificates for tests: what an authority signs, and the two files that an operator has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID

NAME = "www.example.com"
Key = ec.EllipticCurvePrivateKey


def sign(
    subject: str, key: Key, issuer: str, by: Key, days: float = 90, begin: float = -1, names: tuple[str, ...] = (),
    authority: bool = False, responder: str = "",
) -> x509.Certificate:  # fmt: skip
    """Return a certificate that counts from `begin` to `days`, both in days from now.

    It is for host names, or an authority's own; `responder` is the URL that is asked whether it is revoked.
    """
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(f"CN={subject}"))
        .issuer_name(x509.Name.from_rfc4514_string(f"CN={issuer}"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    if responder:
        where = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder))
        builder = builder.add_extension(x509.AuthorityInformationAccess([where]), critical=False)
    return builder.sign(by, hashes.SHA256())


class OperatorFiles:
    """A certificate with its chain, and its key: all right until a test changes them."""

    def __init__(self, folder: Path) -> None:
        """Make a chain of three."""
        self.certificate, self.key = folder / "site.pem", folder / "site.key"
        self.own, self.middle, self.root = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.intermediate = sign("Middle", self.middle, "Root", self.root, authority=True)
        self.anchor = sign("Root", self.root, "Root", self.root, authority=True)
        self.chain(self.leaf(), self.intermediate)
        self.private(self.own)

    def leaf(self, **options: Any) -> x509.Certificate:
        """Return the certificate of the site."""
        return sign("site", self.own, "Middle", self.middle, **{"names": (NAME,), **options})

    def chain(self, *certificates: x509.Certificate) -> None:
        """Write certificates."""
        self.certificate.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))

    def private(self, key: Key, how: KeySerializationEncryption | None = None, mode: int = 0o600) -> None:
        """Write a key."""
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption()))
        self.key.chmod(mode)
