"""The TLS context for proxies with https, made from the PEM files that `proxy` names.

Loading the configuration makes it once to see whether it can be made; `problems` says which key is at fault if not.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

from sidecar.config.model import Proxy
from sidecar.core.errors import ConfigError, in_words

_CERTIFICATES = "expected certificates in PEM, which begin with -----BEGIN CERTIFICATE-----"
_KEY = "expected a private key in PEM, which begins with -----BEGIN PRIVATE KEY-----"
_FOREIGN_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key that does not match the certificate; the last: key and certificate differ in kind."""


class _Unusable(Exception):
    """A file that will not do: the key that names it, and why."""


def tls_context(proxy: Proxy) -> ssl.SSLContext:
    """TLS 1.2 or later, with the proxy's certificate and host name checked. Raises ConfigError."""
    found = [f"proxy.{key}: {why}" for key, why in tls_problems(proxy)]
    if found:
        raise ConfigError(found)
    return _with_client_certificate(_trusting(proxy.ca_file), proxy)


def client_certificate_expires_s(proxy: Proxy) -> float | None:
    """Return when the client certificate expires, in seconds since 1970; None if there is none, or it does not say.

    The standard library decodes certificates of peers only; its own tests have this function for files.
    """
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if proxy.client_cert is None or decode is None:
        return None
    try:
        return float(ssl.cert_time_to_seconds(decode(str(proxy.client_cert))["notAfter"]))
    except (OSError, ValueError, KeyError):
        return None


def tls_problems(proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Return the keys of `proxy` whose files will not do, and why."""
    if proxy.ca_file is not None:
        try:
            _trusting(proxy.ca_file)
        except _Unusable as error:
            yield "ca_file", str(error)
    if proxy.client_key is not None and proxy.client_cert is None:
        yield "client_key", "set without proxy.client_cert; expected the key's certificate beside it"
    elif proxy.client_cert is not None:
        yield from _client_problems(proxy.client_cert, proxy.client_key)


def _client_problems(cert: Path, key: Path | None) -> Iterator[tuple[str, str]]:
    try:
        _check_certificates(cert, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except _Unusable as error:
        yield "client_cert", str(error)
        return
    try:
        _check_key(cert, key)
    except _Unusable as error:
        yield "client_cert" if key is None else "client_key", str(error)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the CAs of `ca_file` and no others, or else those of this host."""
    if ca_file is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
        _check_certificates(ca_file, context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _with_client_certificate(context: ssl.SSLContext, proxy: Proxy) -> ssl.SSLContext:
    if proxy.client_cert is not None:
        context.load_cert_chain(proxy.client_cert, proxy.client_key, _no_passphrase)
    return context


def _check_certificates(path: Path, context: ssl.SSLContext) -> None:
    """Let `context` trust the certificates in `path`."""
    _check_file(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise _Unusable(f"{path}: {_CERTIFICATES}") from None


def _check_key(cert: Path, key: Path | None) -> None:
    if key is not None:
        _check_file(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, _no_passphrase)
    except ssl.SSLError as error:
        if error.reason in _FOREIGN_KEY:
            raise _Unusable(f"{key or cert}: expected the key of the certificate in {cert}, got another one") from None
        if error.reason:
            raise _Unusable(f"{cert}: not usable with its key: {error.reason.lower().replace('_', ' ')}") from None
        beside = "" if key is not None else "; or proxy.client_key, the path of a file that holds it"
        raise _Unusable(f"{key or cert}: {_KEY}{beside}") from None
    except ValueError as error:
        raise _Unusable(f"{key or cert}: expected {error}") from None


def _check_file(path: Path) -> None:
    try:
        # To open a FIFO would wait for a writer, and the start would wait with it.
        if not path.is_file():
            path.stat()  # says why, if it is not there at all
            raise _Unusable(f"{path}: expected a file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise _Unusable(f"{path}: {in_words(error)}") from None


def _no_passphrase() -> str:
    """Instead of asking for one at the terminal, where nobody is."""
    raise ValueError("a private key without a passphrase")
