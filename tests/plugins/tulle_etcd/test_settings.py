"""Options of the etcd store: what is accepted, and what each mistake is told."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.testing.certificates import Certificates
from tulle_etcd.settings import parse, parse_endpoint


@pytest.mark.parametrize(
    ("url", "target", "secure"),
    [
        ("http://10.0.0.1:2379", "10.0.0.1:2379", False),
        ("https://etcd.example:4001/", "etcd.example:4001", True),
        ("http://[fd00::1]:2379", "[fd00::1]:2379", False),
        ("http://etcd", "etcd:2379", False),
    ],
)
def test_a_client_url_gives_grpcs_target(url: str, target: str, secure: bool) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.target, endpoint.secure) == (target, secure)
    assert endpoint.url == f"http{'s' * secure}://{target}"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("10.0.0.1:2379", "is not a URL: write http://10.0.0.1:2379"),
        ("", "is not a URL"),
        ("ftp://10.0.0.1", "only http:// and https://"),
        ("http://:2379", "names no host"),
        ("http://10.0.0.1:0x", "http://HOST:2379"),
        ("http://10.0.0.1:70000", "http://HOST:2379"),
        ("http://[fd00::1", "http://HOST:2379"),
        ("http://10.0.0.1:2379/v2", "more than host and port: write http://10.0.0.1:2379"),
    ],
)
def test_a_bad_client_url_is_named_with_what_would_be_right(url: str, says: str) -> None:
    with pytest.raises(ValueError, match="etcd-endpoints: ") as caught:
        parse({"etcd-endpoints": [url, "http://10.0.0.2:2379"]})
    assert says in str(caught.value)
    assert repr(url) in str(caught.value)


def test_a_password_in_a_client_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="--etcd-password-file") as caught:
        parse({"etcd-endpoints": ["http://root:geheim@10.0.0.1:2379"]})
    assert "geheim" not in str(caught.value)


@given(st.text())
def test_no_text_in_place_of_a_url_breaks_the_parser(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(endpoint.url) == endpoint


def test_without_endpoints_flannels_defaults_hold() -> None:
    urls = [endpoint.url for endpoint in parse({"etcd-endpoints": []}).endpoints]
    assert urls == ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]


def test_an_endpoint_that_is_given_twice_is_used_once() -> None:
    given = ["http://b:1", "http://a:1", "http://b:1/"]
    assert [endpoint.url for endpoint in parse({"etcd-endpoints": given}).endpoints] == [
        "http://b:1",
        "http://a:1",
    ]


HTTPS = {"etcd-endpoints": ["https://10.0.0.1:2379"]}


def problems(**options: Any) -> list[str]:
    named = {f"etcd-{name}": value for name, value in options.items()}
    with pytest.raises(ValueError, match="etcd-") as caught:
        parse(HTTPS | named)
    return str(caught.value).splitlines()


def test_client_certificate_and_key_are_taken_together(certificates: Certificates) -> None:
    tls = parse(
        HTTPS
        | {
            "etcd-cafile": str(certificates.ca),
            "etcd-certfile": str(certificates.client),
            "etcd-keyfile": str(certificates.client_key),
        }
    ).tls
    files = (certificates.ca, certificates.client_key, certificates.client)
    assert tls.read() == tuple(file.read_bytes() for file in files)


def test_a_certificate_without_its_key_is_refused(certificates: Certificates) -> None:
    (problem,) = problems(certfile=str(certificates.client))
    assert problem.startswith("etcd-keyfile: ")


def test_a_key_without_its_certificate_is_refused(certificates: Certificates) -> None:
    (problem,) = problems(keyfile=str(certificates.client_key))
    assert problem.startswith("etcd-certfile: ")


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    (problem,) = problems(certfile=str(certificates.client), keyfile=str(certificates.server_key))
    assert "is not the key of" in problem


def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(
    certificates: Certificates, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run([*command, "-in", str(certificates.client_key)], check=True, capture_output=True)
    (problem,) = problems(certfile=str(certificates.client), keyfile=str(locked))
    assert "without a passphrase" in problem


def test_files_that_hold_no_certificates_are_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"\0\xff not PEM")
    found = problems(cafile=str(junk), certfile=str(junk), keyfile=str(junk))
    assert [problem.partition(":")[0] for problem in found] == ["etcd-cafile", "etcd-certfile"]


def test_tls_files_with_plain_endpoints_only_are_refused(certificates: Certificates) -> None:
    with pytest.raises(ValueError, match="--etcd-cafile asks for TLS") as caught:
        parse({"etcd-endpoints": ["http://10.0.0.1:2379"], "etcd-cafile": str(certificates.ca)})
    assert "write https://10.0.0.1:2379" in str(caught.value)


def test_without_a_cafile_the_systems_authorities_are_used() -> None:
    authorities, key, certificate = parse(HTTPS).tls.read()
    assert authorities is None or b"BEGIN CERTIFICATE" in authorities
    assert (key, certificate) == (None, None)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ValueError, match="etcd-endpoints") as caught:
        parse(
            {
                "etcd-endpoints": ["nonsense", "http://10.0.0.1:2379"],
                "etcd-cafile": missing,
                "etcd-certfile": missing,
                "etcd-password": "geheim",
                "etcd-password-file": missing,
            }
        )
    told = str(caught.value)
    assert len(told.splitlines()) == 8
    for option in ("endpoints", "cafile", "certfile", "keyfile", "username", "password-file"):
        assert f"etcd-{option}: " in told
    assert "geheim" not in told


def test_a_user_without_a_password_is_refused() -> None:
    (problem,) = problems(username="tulle")
    assert "'tulle'" in problem
    assert "--etcd-password-file" in problem


def test_a_password_file_gives_its_first_line_and_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("erst\r\nnote\n")
    login = parse(HTTPS | {"etcd-username": "tulle", "etcd-password-file": str(file)}).login
    assert login is not None
    assert login.password() == "erst"
    file.write_text("dann")
    assert login.password() == "dann"


@pytest.mark.parametrize("content", [b"", b"\nsecond line\n", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    (problem,) = problems(**{"username": "tulle", "password-file": str(file)})
    assert problem.startswith("etcd-password-file: ")


def test_no_repr_shows_the_password() -> None:
    settings = parse(HTTPS | {"etcd-username": "tulle", "etcd-password": "geheim"})
    assert settings.login is not None
    assert settings.login.password() == "geheim"
    assert "geheim" not in repr(settings)
