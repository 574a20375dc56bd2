"""Certificates for tests: one authority, a server on loopback, a client. Made with the `openssl` command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """PEM files of one authority, what it signed for a server on loopback, and for a client."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path, hosts: Sequence[str] = ("127.0.0.1", "::1", "localhost")) -> Certificates:
    """Writes them to `folder`, valid for two days, with the `openssl` command (3.0 or later)."""
    made = Certificates(
        *(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    )
    ca_key = folder / "ca.key"
    names = ",".join(f"DNS:{host}" if host[-1].isalpha() else f"IP:{host}" for host in hosts)
    _issue(made.ca, ca_key, "tulle test authority", "basicConstraints=critical,CA:TRUE")
    signed_by = ("-CA", str(made.ca), "-CAkey", str(ca_key))
    _issue(made.server, made.server_key, "etcd", f"subjectAltName={names}", *signed_by)
    _issue(made.client, made.client_key, "tulle", "extendedKeyUsage=clientAuth", *signed_by)
    return made


def _issue(certificate: Path, key: Path, name: str, extension: str, *signed_by: str) -> None:
    command = [
        *(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ),
        *("-subj", f"/CN={name}", "-addext", extension, "-keyout", str(key), "-out", str(certificate)),
        *signed_by,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl could not make {certificate}: {done.stderr.strip()}")
