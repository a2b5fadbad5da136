"""Certificates: the files, which are renewed while a program runs, and the names in them."""

import contextlib
import dataclasses
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from ..errors import FoedusError, Reason, UsageError, make_error
from .target import Target, read_file, resolve

SPIFFE = re.compile(
    r"spiffe://(?P<hub>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:/(?P<kind>service|node|gateway|operator)/(?P<name>[A-Za-z0-9._-]{1,63}))?"
)
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# A file of certificates or a key.
FILE_MAX = 1024 * 1024
# How long a server's certificate is waited for when a connection has failed, seconds.
PROBE_S = 3.0
X509_V_ERR_CERT_HAS_EXPIRED = 10
SERVER_REMEDY = "Check the address, and that ca is the ca.pem of this hub."
OWN_REMEDY = "Renew it with `foedus pki issue`, or wait and try again."


@dataclasses.dataclass(frozen=True)
class Material:
    """Material is what the files held when they were read last."""

    ca: bytes
    cert: bytes
    key: bytes


@dataclasses.dataclass(frozen=True)
class Der:
    tag: int
    body: bytes


def _elements(data: bytes) -> Iterator[Der]:
    """Reads the elements of a DER sequence. Raises ValueError."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("a certificate is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("a length in a certificate is not DER")
            length = int.from_bytes(data[at : at + size])
            at += size
        if at + length > len(data):
            raise ValueError("a certificate is cut off")
        yield Der(tag, data[at : at + length])
        at += length


SUBJECT_ALT_NAME = bytes.fromhex("551d11")


def uri_names(der: bytes) -> list[str]:
    """Lists the URI names of a certificate (RFC 5280, 4.2.1.6). Raises ValueError for what is none."""
    [certificate] = _elements(der)
    tbs = next(_elements(certificate.body), None)
    if tbs is None:
        raise ValueError("a certificate is empty")
    names: list[str] = []
    for field in _elements(tbs.body):
        # [3] EXPLICIT Extensions
        if field.tag != 0xA3:
            continue
        [extensions] = _elements(field.body)
        for extension in _elements(extensions.body):
            parts = list(_elements(extension.body))
            if parts and parts[0].body == SUBJECT_ALT_NAME:
                [general] = _elements(parts[-1].body)
                # [6] IMPLICIT IA5String
                names += [name.body.decode("ascii") for name in _elements(general.body) if name.tag == 0x86]
    return names


def hub_of(pem: bytes) -> str:
    """Reads the hub of the first certificate of a file that names one; empty without."""
    for block in PEM.findall(pem):
        with contextlib.suppress(ValueError):
            for name in uri_names(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))):
                match = SPIFFE.fullmatch(name)
                if match is not None:
                    return match["hub"]
    return ""


class Files:
    """Files of a target, read again when they have changed.

    PC1 what is not in order (one half of a pair, a file half written) is passed over, and looked at again the next time.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._paths = {"CA": target.ca, "certificate": target.cert, "key": target.key}
        self._signs = self._stat()
        self._material = self._read()

    def material(self) -> Material:
        """What the files hold, or held when they last were in order."""
        try:
            signs = self._stat()
            if signs != self._signs:
                self._material = self._read()
                self._signs = signs
        except UsageError:
            pass
        return self._material

    def hub_id(self) -> str:
        """The hub that the files belong to: its CA says so, or else the certificate. Raises UsageError."""
        found = hub_of(self._material.ca) or hub_of(self._material.cert)
        if found == "":
            raise UsageError(
                f"neither {self._target.ca} nor {self._target.cert} says which hub it belongs to", "Give hub_id as well."
            )
        return found

    def _stat(self) -> list[tuple[int, int, int]]:
        found = []
        for path in self._paths.values():
            try:
                about = os.stat(path)
            except OSError as error:
                raise self._unreadable(path, error) from error
            found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        return found

    def _unreadable(self, path: str, error: OSError) -> UsageError:
        what = next(what for what, known in self._paths.items() if known == path)
        remedy = "Check the path; `foedus pki init` and `foedus pki issue` make certificates."
        return UsageError(f"the {what} {path} cannot be read ({error.strerror})", remedy)

    def _read(self) -> Material:
        parts = []
        for path in self._paths.values():
            try:
                parts.append(read_file(path, FILE_MAX).removeprefix(b"\xef\xbb\xbf"))
            except OSError as error:
                raise self._unreadable(path, error) from error
        material = Material(*parts)
        # OpenSSL judges whether these are a pair, and the CA certificates.
        context_of(material.ca, self._target)
        return material


def context_of(ca: bytes, target: Target) -> ssl.SSLContext:
    """Makes a TLS context. Raises UsageError for certificates that are not in order."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"{target.ca} holds no certificates", "Give the hub's ca.pem.") from error
    try:
        # From the files: Python's module reads pairs in no other way. A key with a password would make it ask on the terminal.
        context.load_cert_chain(target.cert, target.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{target.cert} and {target.key} are not a certificate and its key",
            "Give a pair that `foedus pki issue` made; the key must not have a password.",
        ) from error
    return context


def explain(error: FoedusError, address: str, target: Target, material: Material) -> FoedusError:
    """explain says more about a connection that failed, if the server's certificate tells why; blocks for a few seconds at most.

    gRPC has checked the name of the server, and says no more than that it is wrong, or of a host with two addresses only what was wrong with
    the last. Nothing is sent here, and nobody trusts the answer.
    """
    if error.details or error.reason not in ("UNKNOWN_IDENTITY", "FOREIGN_CA", "PEER_UNREACHABLE"):
        return error
    wanted = f"spiffe://{target.hub_id}/service/{'*' if target.services else 'hub'}"
    try:
        found = _shown(address, context_of(material.ca, target), target.server_name)
    except ssl.SSLCertVerificationError as wrong:
        if wrong.verify_code == X509_V_ERR_CERT_HAS_EXPIRED:
            words = f"the certificate of the hub at {address} has expired, or this clock is wrong"
            return _better(error, "CERTIFICATE_EXPIRED", words, "Renew it in the hub's folder with `foedus pki renew`.")
        words = f"the server at {address} does not show a certificate of {target.hub_id}'s CA ({wrong.verify_message})"
        return _better(error, "FOREIGN_CA", words, SERVER_REMEDY)
    except ssl.SSLError as wrong:
        if "ALERT" not in (wrong.reason or ""):
            return error
        return _better(error, "UNKNOWN_IDENTITY", f"the hub at {address} refused this certificate ({wrong.reason})", OWN_REMEDY)
    except (OSError, UsageError):
        # It cannot be asked, or the files are being renewed.
        return error
    if found is None:
        words = f"the hub at {address} closed the connection: another CA signed this certificate, it has expired or was revoked, or there are too many connections"
        return _better(error, "UNKNOWN_IDENTITY", words, OWN_REMEDY)
    uris, names = found
    shown = " and ".join(uris) or "one without a SPIFFE ID"
    match = SPIFFE.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None or match["hub"] != target.hub_id or match["kind"] != "service":
        why = f"the server at {address} is {shown} and not {wanted}; check the address"
    elif not target.services and match["name"] != "hub":
        where = "this hub runs one process per service, so give an address for each (service=host:port)"
        why = f"the server at {address} is {shown} and not {wanted}; {where}"
    elif target.server_name not in names:
        why = f"the certificate of {shown} at {address} does not carry the DNS name {target.server_name}, by which this client knows it"
    else:
        return error
    return _better(error, "UNKNOWN_IDENTITY", why, SERVER_REMEDY)


def _better(error: FoedusError, reason: Reason, message: str, remedy: str) -> FoedusError:
    return make_error(reason, message, retry_after=error.retry_after, facts=error.facts, remedy=remedy)


def _shown(address: str, context: ssl.SSLContext, server_name: str) -> tuple[list[str], list[str]] | None:
    """Reads the URI and DNS names of the server's certificate; None if it refuses ours, which TLS 1.3 tells after the handshake only."""
    host, _, port = address.rpartition(":")
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S) as plain:
        with context.wrap_socket(plain, server_hostname=server_name) as secure:
            shown = secure.getpeercert() or {}
            # A server of HTTP/2 speaks first (RFC 9113, 3.4).
            if secure.recv(1) == b"":
                return None
    names: Any = shown.get("subjectAltName", ())
    return [name for kind, name in names if kind == "URI"], [name for kind, name in names if kind == "DNS"]


def find(**given: Any) -> tuple[Target, Files]:
    """find resolves which hub is meant, reads its files, and looks in them whose they are. Raises UsageError."""
    target = resolve(**given)
    files = Files(target)
    return (target if target.hub_id else dataclasses.replace(target, hub_id=files.hub_id())), files
