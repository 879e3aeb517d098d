"""Certificates for tests, made by the openssl command: a private CA and what it issues, valid for a day."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_EC = "ec"


class Pair(NamedTuple):
    """A certificate and its private key, both PEM files."""

    cert: Path
    key: Path


class Authority:
    """A CA of its own, in `directory`; its certificate is `cert`."""

    def __init__(self, directory: Path, name: str = "test CA", *, algorithm: str = _EC) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        curve = ("-pkeyopt", "ec_paramgen_curve:P-256") if algorithm == _EC else ()
        self._new_key = ("-newkey", algorithm, *curve, "-nodes")
        self.cert, self._key = directory / "ca.pem", directory / "ca.key"
        made = ("-keyout", self._key, "-out", self.cert)
        _openssl("req", "-x509", *self._new_key, *made, "-days", "2", "-subj", f"/CN={name}")

    def issue(self, name: str, *alternative_names: str, days: int = 1) -> Pair:
        """`alternative_names` such as `DNS:localhost` and `IP:127.0.0.1`; `days` below zero: expired."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request = self._directory / f"{name}.csr"
        named = ("-addext", f"subjectAltName={','.join(alternative_names)}") if alternative_names else ()
        _openssl("req", *self._new_key, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}", *named)
        _openssl(
            "x509", "-req", "-in", request, "-out", pair.cert, "-CA", self.cert, "-CAkey", self._key,
            "-CAcreateserial", "-days", days, "-copy_extensions", "copy",
        )  # fmt: skip
        return pair


def encrypt(key: Path, into: Path) -> Path:
    """`key` with a passphrase."""
    _openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", into)
    return into


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
