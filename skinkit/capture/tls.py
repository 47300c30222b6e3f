"""Certificates of the page: one of the hospital, or a self-made one whose fingerprint is compared by eye."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from skinkit.artifacts.files import write_atomic
from skinkit.errors import ConfigError, InputError

DAYS = 365
_RENEW_DAYS = 14
_END = "-----END CERTIFICATE-----"


class Certificate(NamedTuple):
    """A certificate with its key.

    Attributes:
        cert: PEM file.
        key: PEM file.
        fingerprint: SHA-256 of the certificate, as browsers show it.
        made_here: whether it is self-made.
    """

    cert: Path
    key: Path
    fingerprint: str
    made_here: bool


def given(cert: str, key: str) -> Certificate:
    """A certificate in files.

    Raises:
        ConfigError: one of the two is not named.
        InputError: a file cannot be read, or the two do not belong together.
    """
    if not (cert and key):
        raise ConfigError("--cert or --key alone", "both, as PEM files", "give both, or neither for a self-made one")
    cert_file, key_file = Path(cert).expanduser(), Path(key).expanduser()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=lambda: "")
        return Certificate(cert_file, key_file, _fingerprint(cert_file.read_bytes()), False)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise InputError(
            f"{cert_file} and {key_file}: {reason}",
            "a certificate and its unencrypted key, both as PEM files",
            "correct the files, or leave them out for a self-made certificate",
        ) from None


def self_made(folder: Path, hosts: Sequence[str]) -> Certificate:
    """A self-made certificate for these addresses, kept in a folder until it ends or an address is new.

    So that devices which accepted it once need not do so again.
    """
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    if cert_file.is_file() and key_file.is_file() and _good(cert_file.read_bytes(), hosts):
        return Certificate(cert_file, key_file, _fingerprint(cert_file.read_bytes()), True)
    folder.mkdir(mode=0o700, exist_ok=True)
    cert, key = _made(hosts)
    write_atomic(key_file, key, outside=True)
    key_file.chmod(0o600)
    write_atomic(cert_file, cert, outside=True)
    return Certificate(cert_file, key_file, _fingerprint(cert), True)


def addresses(host: str) -> list[str]:
    """The addresses under which a server that listens at ``host`` can be reached; of every one for 0.0.0.0 and ::."""
    if host not in ("0.0.0.0", "::", ""):
        return [host]
    found = {socket.gethostname()}
    with contextlib.suppress(OSError):  # the name of this machine is in no directory
        found |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # The address of the way out; a datagram socket sends nothing when it is connected.
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((outside, 9))
                found.add(str(probe.getsockname()[0]))
        except OSError:
            continue
    usable = [one for one in found if not is_loopback(one) and "%" not in one]
    return sorted(usable, key=lambda one: (not _is_address(one), ":" in one, one)) or ["localhost"]


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _made(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key (EC, P-256), each as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skinkit capture")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host) for host in hosts
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def _good(pem: bytes, hosts: Sequence[str]) -> bool:
    """Whether a self-made certificate names these addresses and does not end soon."""
    from cryptography import x509

    try:
        cert = x509.load_pem_x509_certificate(pem)
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    held = {str(name.value) for name in names}
    ends = cert.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return set(hosts) <= held and ends > dt.timedelta(days=_RENEW_DAYS)


def _fingerprint(pem: bytes) -> str:
    first = pem[pem.index(b"-----BEGIN CERTIFICATE-----") :].decode("ascii").partition(_END)[0] + _END
    der = ssl.PEM_cert_to_DER_cert(first)
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())
