"""The stand-in's end of TLS: its certificate, and the CA of the clients that it takes."""

import ssl
from pathlib import Path


def server_context(cert: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later; with `client_ca` only for clients that show a certificate of that CA.

    Raises ValueError that names the file which will not do.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, _no_passphrase)
    except ssl.SSLError as error:
        raise ValueError(f"{cert} and {key or 'the key in it'} are not a certificate and its key: {error}") from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ValueError(f"{client_ca}: no CA certificates: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    raise ValueError("expected a private key without a passphrase")
