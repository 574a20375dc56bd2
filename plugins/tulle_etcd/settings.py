"""The etcd options, parsed once and whole: every problem is found here, before anything is connected.

Files are checked here and read again at each new connection (`Tls.read`, `Login.password`), so that renewed
certificates and a changed password file are used without a restart.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_ENDPOINTS = ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
"""flannel's default of --etcd-endpoints."""

CLIENT_PORT = 2379  # IANA: etcd-client


@dataclass(frozen=True)
class Endpoint:
    """One client URL of etcd."""

    url: str
    target: str
    """host:port, as gRPC takes it."""
    secure: bool


@dataclass(frozen=True)
class Tls:
    """What https endpoints are checked with, and what is shown to them. Paths; the files hold PEM."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, private key, certificate chain, in gRPC's order. Raises OSError."""
        authorities = self.ca.read_bytes() if self.ca else _system_authorities()
        if self.certificate is None or self.key is None:
            return authorities, None, None
        return authorities, self.key.read_bytes(), self.certificate.read_bytes()


@dataclass(frozen=True)
class Login:
    """Name and password for etcd's authentication. The password is in no repr."""

    name: str
    text: str | None = field(default=None, repr=False)
    file: Path | None = None

    def password(self) -> str:
        """Raises OSError, or UnicodeDecodeError where the file is not text."""
        if self.file is None:
            return self.text or ""
        return _first_line(self.file)


@dataclass(frozen=True)
class Settings:
    """All of it."""

    endpoints: tuple[Endpoint, ...]
    tls: Tls
    login: Login | None


def parse(values: Mapping[str, Any]) -> Settings:
    """Option values by name. Raises ValueError whose text has one line for each problem."""
    problems: list[str] = []
    endpoints = _endpoints(values.get("etcd-endpoints") or DEFAULT_ENDPOINTS, problems)
    tls = _tls(values, problems)
    if endpoints and tls != Tls() and not any(endpoint.secure for endpoint in endpoints):
        given = ", ".join(f"--{name}" for name in _TLS_OPTIONS if values.get(name))
        problems.append(
            f"etcd-endpoints: {given} asks for TLS, but no endpoint is an https:// URL: "
            f"write {endpoints[0].url.replace('http://', 'https://', 1)}, or leave the files out"
        )
    login = _login(values, problems)
    if problems:
        raise ValueError("\n".join(problems))
    return Settings(endpoints, tls, login)


def _endpoints(urls: Sequence[str], problems: list[str]) -> tuple[Endpoint, ...]:
    found: dict[str, Endpoint] = {}
    for url in urls:
        try:
            endpoint = parse_endpoint(url.strip())
        except ValueError as error:
            problems.append(f"etcd-endpoints: {error}")
        else:
            found.setdefault(endpoint.url, endpoint)
    return tuple(found.values())


def parse_endpoint(url: str) -> Endpoint:
    """One client URL. Raises ValueError."""
    if "://" not in url:
        raise ValueError(f"{url!r} is not a URL: write http://{url or 'HOST'} or https://{url or 'HOST'}")
    try:
        parts = urlsplit(url)
        port = CLIENT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"{_without_user(url)!r}: {error}: write http://HOST:{CLIENT_PORT}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"{_without_user(url)!r} carries a user: give it by --etcd-username and --etcd-password-file"
        )
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url!r} starts with {parts.scheme!r}: only http:// and https:// reach etcd")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host: write {parts.scheme}://HOST:{CLIENT_PORT}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} has more than host and port: write {parts.scheme}://{parts.netloc}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    target = f"{host}:{port}"
    return Endpoint(f"{parts.scheme}://{target}", target, parts.scheme == "https")


def _without_user(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


_TLS_OPTIONS = ("etcd-cafile", "etcd-certfile", "etcd-keyfile")


def _tls(values: Mapping[str, Any], problems: list[str]) -> Tls:
    ca, certificate, key = (Path(values[name]) if values.get(name) else None for name in _TLS_OPTIONS)
    if certificate and not key:
        problems.append("etcd-keyfile: --etcd-certfile is given, so its private key is needed too")
    if key and not certificate:
        problems.append("etcd-certfile: --etcd-keyfile is given, so its certificate is needed too")
    readable = {
        name: _readable(name, path, problems)
        for name, path in zip(_TLS_OPTIONS, (ca, certificate, key), strict=True)
        if path
    }
    if ca and readable["etcd-cafile"]:
        _check_authorities(ca, problems)
    if certificate and key and readable["etcd-certfile"] and readable["etcd-keyfile"]:
        _check_pair(certificate, key, problems)
    return Tls(ca, certificate, key)


def _readable(name: str, path: Path, problems: list[str]) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        problems.append(f"{name}: {path} cannot be read: {error.strerror}")
        return False
    return True


def _check_authorities(path: Path, problems: list[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        problems.append(
            f"etcd-cafile: {path} holds no certificate: it must be PEM (-----BEGIN CERTIFICATE-----)"
        )


def _check_pair(certificate: Path, key: Path, problems: list[str]) -> None:
    def encrypted() -> str:
        raise ValueError

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password=encrypted)
    except ValueError:
        problems.append(
            f"etcd-keyfile: {key} is encrypted: store it without a passphrase, readable by root only"
        )
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            problems.append(f"etcd-keyfile: {key} is not the key of the certificate in {certificate}")
        else:
            problems.append(f"etcd-certfile: {certificate} and {key} are not a PEM certificate and its key")


def _login(values: Mapping[str, Any], problems: list[str]) -> Login | None:
    name, text = values.get("etcd-username") or "", values.get("etcd-password") or ""
    file = Path(values["etcd-password-file"]) if values.get("etcd-password-file") else None
    if text and file:
        problems.append("etcd-password-file: --etcd-password is given too: keep one of them")
    if file:
        _check_password_file(file, problems)
    if not name:
        if text or file:
            problems.append("etcd-username: a password is given, so the user's name is needed too")
        return None
    if not text and not file:
        problems.append(f"etcd-password: user {name!r} needs one: give --etcd-password-file")
    return Login(name, text or None, file)


def _check_password_file(file: Path, problems: list[str]) -> None:
    try:
        empty = not _first_line(file)
    except OSError as error:
        problems.append(f"etcd-password-file: {file} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"etcd-password-file: {file} is not UTF-8 text")
    else:
        if empty:
            problems.append(
                f"etcd-password-file: the first line of {file} is empty: write the password there"
            )


def _first_line(file: Path) -> str:
    return file.read_bytes().split(b"\n", 1)[0].rstrip(b"\r").decode()


def _system_authorities() -> bytes | None:
    """The system's bundle, which gRPC does not look at by itself; None leaves gRPC its own."""
    bundle = ssl.get_default_verify_paths().cafile
    return Path(bundle).read_bytes() if bundle else None
