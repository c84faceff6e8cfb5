"""The certificate authority by which the hosts of a site know each other.

It lives in the vault and signs on the control node.

In the vault it is one line of text, so that it can be written and read like any other secret: its private key and its
certificate in PEM, in base64.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 7300
HOST_DAYS = 730
# A certificate is replaced when less of its time is left than this part of it.
RENEW = 1 / 3


def _pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> str:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def _builder(
    subject: str, issuer: x509.Name | None, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # Clocks of hosts differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def new_authority() -> str:
    """Return a new authority as it stands in the vault."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = {"key_cert_sign": True, "crl_sign": True}
    certificate = (
        _builder("Authority of the hosts of a site", None, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(_pem(key, certificate).encode()).decode()


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**(dict.fromkeys(names, False) | allowed))


class Authority:
    """An authority, as it was read from the vault."""

    def __init__(self, text: str) -> None:
        """Take what stands in the vault; ValueError says what is wrong with it, and does not repeat it."""
        try:
            pem = base64.b64decode(text, validate=True)
            key = serialization.load_pem_private_key(pem, password=None)
            self.certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError):
            raise ValueError("holds no authority as playbooks/secrets.yml makes it") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.certificate.public_key():
            raise ValueError("holds a key and a certificate that do not belong together")
        self._key = key

    @property
    def pem(self) -> str:
        """Return the certificate, which is no secret, in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, names: Iterable[str], days: int = HOST_DAYS) -> str:
        """Return a new private key and a certificate of a host under its names and addresses, in PEM."""
        every = list(names)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(every[0], self.certificate.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(map(general_name, every)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return _pem(key, certificate)

    def why_not(self, pem: str, names: Iterable[str]) -> str:
        """Return why a certificate of a host must be replaced, nothing when it is good for a while."""
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            certificate.verify_directly_issued_by(self.certificate)
            known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except InvalidSignature:
            return "it is of another authority"
        except (ValueError, TypeError, x509.ExtensionNotFound):
            return "there is none" if not pem else "it is of another authority, or none"
        if set(known) != set(map(general_name, names)):
            return "it has other names"
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if end - datetime.now(UTC) < (end - begin) * RENEW:
            return f"it ends on {end:%Y-%m-%d}"
        return ""


def general_name(name: str) -> x509.GeneralName:
    """Return an address or a name as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
