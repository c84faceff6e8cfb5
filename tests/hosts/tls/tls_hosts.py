"""What the tests of TLS share: visitors who name a host and come to an address, certificates, the authority."""

from __future__ import annotations

import base64
import http.client
import http.server
import socket
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from certificates import sign
from conftest import Background
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

NAME = "www.example.test"
SECOND = "shop.example.test"
ADDRESSES = {"web12": "10.89.16.12", "web13": "10.89.16.13"}
FOLDER = "/etc/slipway/tls"


class Visitor:
    """Somebody who asks one address for pages of a host, over a connection that is kept."""

    def __init__(self, address: str, name: str = NAME, trust: str = "", tls: bool = True) -> None:
        """Take an address, a host name, and a file with who is trusted; nobody's word counts when it is empty."""
        self.address = address
        self.name = name
        self.tls = tls
        self.context = ssl.create_default_context(cafile=trust or None)
        if not trust:
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self._connection: http.client.HTTPConnection | None = None

    def connect(self, name: str | None = None, session: ssl.SSLSession | None = None) -> socket.socket:
        """Return a connection; by TLS it asks for `name`, which may be empty, and may go on with a session."""
        plain = socket.create_connection((self.address, 443 if self.tls else 80), timeout=15)
        if not self.tls:
            return plain
        name = (self.name if name is None else name) or None
        return self.context.wrap_socket(plain, server_hostname=name, session=session)

    def certificate(self) -> x509.Certificate:
        """Return the certificate that comes."""
        with self.connect() as connection:
            encoded = connection.getpeercert(binary_form=True)  # type: ignore[attr-defined]
            return x509.load_der_x509_certificate(encoded)

    def get(self, path: str = "/", host: str = "") -> http.client.HTTPResponse:
        """Ask for a page; its text is in `text`."""
        kept = self._connection is not None
        try:
            return self._ask(path, host or self.name)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # A server may close a connection on which nothing goes on, and whoever asks at that moment asks again.
            self.close()
            if not kept:
                raise
            return self._ask(path, host or self.name)

    def _ask(self, path: str, host: str) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.address)
            self._connection.sock = self.connect()
        self._connection.request("GET", path, headers={"Host": host})
        answer = self._connection.getresponse()
        answer.text = answer.read().decode(errors="replace")  # type: ignore[attr-defined]
        if answer.will_close:
            self.close()
        return answer

    def close(self) -> None:
        """Go away."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Crowd(Background):
    """Visitors who ask again and again while something else is done; half of them keep their connections."""

    address: str
    trust: str
    count: int = 4
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare them."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(self.count)]

    def _ask(self, keep: bool) -> None:
        visitor = Visitor(self.address, trust=self.trust)
        while not self._stop.is_set():
            try:
                self.answers.append(str(visitor.get("/posts/").status))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))
                visitor.close()
            if not keep:
                visitor.close()
            self._stop.wait(0.05)
        visitor.close()


@dataclass
class Issuer:
    """An authority of the test's own."""

    name: str
    parent: Issuer | None = None

    def __post_init__(self) -> None:
        """Make its key and its certificate."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = (self.parent or self).sign(self.name, self.key, authority=True)

    def sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, days: float = 90, age: float = 1,
        names: list[str] | None = None, authority: bool = False, responder: str = "",
    ) -> x509.Certificate:  # fmt: skip
        """Return a certificate that was signed `age` days ago and ends in `days`."""
        return sign(name, key, self.name, self.key, days, -age, tuple(names or ()), authority, responder)


class Responder:
    """Says of every certificate of an issuer that it is good, on this machine's address in the network of the hosts."""

    def __init__(self, issuer: Issuer) -> None:
        """Take a port."""
        self.issuer = issuer

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer a question, which is in the path (RFC 6960, appendix A)."""
                asked = ocsp.load_der_ocsp_request(base64.b64decode(unquote(self.path[1:])))
                now = datetime.now(UTC)
                answer = (
                    ocsp.OCSPResponseBuilder()
                    .add_response_by_hash(
                        asked.issuer_name_hash, asked.issuer_key_hash, asked.serial_number, asked.hash_algorithm,
                        ocsp.OCSPCertStatus.GOOD, now, now + timedelta(days=1), None, None,
                    )
                    .responder_id(ocsp.OCSPResponderEncoding.NAME, issuer.certificate)
                    .sign(issuer.key, hashes.SHA256())
                    .public_bytes(Encoding.DER)
                )  # fmt: skip
                self.send_response(200)
                self.send_header("Content-Type", "application/ocsp-response")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Be silent."""

        self._server = http.server.ThreadingHTTPServer(("10.89.16.1", 0), Handler)
        self.url = f"http://10.89.16.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def write_pair(
    folder: Path, chain: list[x509.Certificate], key: ec.EllipticCurvePrivateKey, mode: int = 0o600
) -> list[str]:
    """Write a chain and a key as an operator has them; return the words that have a playbook take them."""
    folder.mkdir(exist_ok=True)
    (folder / "site.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    (folder / "site.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "site.key").chmod(mode)
    files = {"certificate": "site.pem", "key": "site.key"}
    return [
        "--extra-vars", "tls_mode=provided",
        *(word for name, file in files.items() for word in ("--extra-vars", f"tls_provided_{name}={folder / file}")),
    ]  # fmt: skip
