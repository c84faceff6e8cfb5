"""Say what is wrong with a certificate and its key, files on the control node, before any host is touched.

    lookup('certificate_faults', certificate, key, names=[www.example.com])

Returns texts for the operator, none when all is well: files that are missing or hold something else, a key that does
not fit or that others can read, a certificate that has ended or not begun, names that it does not cover, a chain that
is out of order or stops early. A file may be encrypted with ansible-vault.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

DOCUMENTATION = """
name: certificate_faults
short_description: Find what is wrong with a certificate and its key
description:
  - Reads the files on the control node; they may be encrypted with ansible-vault.
  - Checks that the key fits and that others cannot read it, that the certificate is valid now and covers the names, and
    that the chain is complete and in order.
options:
  _terms: {description: The path of the certificate and the path of the key., type: list, elements: str, required: true}
  names: {description: The host names that the certificate must cover., type: list, elements: str, required: true}
author: Slipway contributors
"""

EXAMPLES = """
- name: Refuse a wrong certificate
  ansible.builtin.assert:
    that: lookup('slipway.kit.certificate_faults', '/tls/site.pem', '/tls/site.key', names=['www.example.com']) == []
"""

RETURN = """
_list: {description: What is wrong; empty when nothing is., type: list, elements: str}
"""


def covers(pattern: str, name: str) -> bool:
    """Tell whether a name of a certificate is, or stands for, a host name (RFC 9525)."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


def name_of(certificate: x509.Certificate) -> str:
    """Return who a certificate says that it is for."""
    return certificate.subject.rfc4514_string() or ", ".join(names_of(certificate)) or "without a name"


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def chain_faults(file: str, chain: list[x509.Certificate]) -> Iterator[str]:
    """Yield what is wrong with the order of a chain, and with its end."""
    for number, (one, issuer) in enumerate(zip(chain, chain[1:], strict=False), start=2):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            yield (
                f"{file}: certificate {number} is {name_of(issuer)}, and the one before it was signed by "
                f"{one.issuer.rfc4514_string()}: each must be followed by the one that signed it"
            )
            return
    last = chain[-1]
    if len(chain) == 1 and last.issuer != last.subject:
        yield (
            f"{file}: the intermediate certificate is missing: the only one here was signed by "
            f"{last.issuer.rfc4514_string()}; append that one"
        )


def faults_of(
    certificate: str, chain: list[x509.Certificate], key: str, private: Any, names: list[str], now: datetime
) -> Iterator[str]:
    """Yield what is wrong with a chain and a private key that could be read."""
    leaf = chain[0]
    for number, one in enumerate(chain, start=1):
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        which = "the certificate" if number == 1 else f"certificate {number} ({name_of(one)})"
        if end <= now:
            yield f"{certificate}: {which} has ended on {end:%Y-%m-%d}"
        elif begin > now:
            yield f"{certificate}: {which} does not begin before {begin:%Y-%m-%d %H:%M} UTC"
    have = names_of(leaf)
    missing = [name for name in names if not any(covers(pattern, name) for pattern in have)]
    if missing:
        yield f"{certificate}: is for {', '.join(have) or 'no host name'} and does not cover {', '.join(missing)}"
    yield from chain_faults(certificate, chain)
    if private is not None:
        ours, theirs = (
            one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for one in (leaf, private)
        )
        if ours != theirs:
            yield f"{key}: is not the key of the certificate in {certificate}"


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **options: Any) -> list[list[str]]:
        """Return the faults as one list."""
        if len(terms) != 2 or not isinstance(options.get("names"), list):
            raise AnsibleLookupError("certificate_faults wants a file, a file and names")
        certificate, key = map(str, terms)
        faults: list[str] = []
        chain: list[x509.Certificate] = []
        private = None
        if text := self._read(certificate, "tls_provided_certificate", faults):
            try:
                chain = x509.load_pem_x509_certificates(text)
            except ValueError:
                faults.append(f"{certificate}: holds no certificate in PEM")
        if text := self._read(key, "tls_provided_key", faults):
            if not self._is_encrypted(key):
                mode = stat.S_IMODE(os.stat(key).st_mode)
                if mode & 0o007:
                    faults.append(f"{key}: anybody can read it (mode {mode:04o}): chmod 600, or ansible-vault encrypt")
            try:
                private = load_pem_private_key(text, password=None)
            except TypeError:
                faults.append(f"{key}: has a passphrase, which Nginx would ask for at each start")
            except ValueError:
                faults.append(f"{key}: holds no private key in PEM")
        if chain:
            faults += faults_of(certificate, chain, key, private, options["names"], datetime.now(UTC))
        return [faults]

    def _read(self, path: str, variable: str, faults: list[str]) -> bytes:
        """Return what is in a file, decrypted; nothing when it cannot be read, which is a fault."""
        if not path:
            faults.append(f"{variable} names no file")
            return b""
        if not os.path.isabs(path):
            faults.append(f"{path}: must be a whole path, as {{{{ inventory_dir }}}}-files/tls/site.pem")
            return b""
        if not os.path.isfile(path):
            faults.append(f"{path}: is no file on the control node")
            return b""
        try:
            return self._loader.get_text_file_contents(path).encode(errors="surrogateescape")
        except AnsibleError as error:
            faults.append(f"{path}: cannot be read: {error}")
            return b""

    @staticmethod
    def _is_encrypted(path: str) -> bool:
        with open(path, "rb") as file:
            return file.read(14) == b"$ANSIBLE_VAULT"
