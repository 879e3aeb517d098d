"""Proxies with https, in processes of their own: who is trusted, who is not, and that the events wait meanwhile."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pem import Authority, Pair
from tests.support.process import Proxy, Sidecar, run_command, wait_until
from tests.support.reports import event, report

LOCAL = ("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("proxy", *LOCAL)


def https(pair: Pair, *options: object) -> tuple[str, ...]:
    return ("--rate", "unlimited", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key), *map(str, options))


@contextlib.contextmanager
def running(directory: Path, options: tuple[str, ...], **settings: Any) -> Iterator[tuple[Proxy, Sidecar]]:
    """A proxy with `options`, and a sidecar with `settings` for it."""
    with Proxy(directory, *options) as proxy:
        proxy.start()
        assert proxy.url.startswith("https://127.0.0.1:")
        with Sidecar(directory, proxy.url, {"proxy": {key: str(value) for key, value in settings.items()}}) as sidecar:
            yield proxy, sidecar.start()


def test_a_private_ca_is_accepted_for_an_address_and_for_a_name(
    tmp_path: Path, authority: Authority, server: Pair
) -> None:
    with running(tmp_path, https(server), ca_file=authority.cert) as (proxy, sidecar):
        items = [event() for _ in range(2000)]
        sidecar.post(report(*items))
        sidecar.wait_empty()
        sidecar.stop()
        sidecar.settings["proxy"]["urls"] = [proxy.url.replace("127.0.0.1", "localhost")]
        sidecar.start()
        sidecar.post(report(event()))
        sidecar.wait_empty()
        assert len(proxy.items()) == 2001
        assert proxy.items()[:2000] == items


def held_with(sidecar: Sidecar, words: str) -> None:
    """The event waits, is tried again, and the status says why, in words that match."""
    assert sidecar.post(report(event())).status_code == 200
    wait_until(lambda: sidecar.stream()["last_error"], what="a failure")
    first = sidecar.stream()
    assert re.search(words, first["last_error"])
    assert sidecar.status()["state"] == "degraded"
    wait_until(lambda: sidecar.stream()["next_attempt_at"] != first["next_attempt_at"], what="another attempt")
    assert sidecar.books()["queued"] == 1
    assert re.search(words, sidecar.stream()["last_error"])
    assert "Traceback" not in sidecar.text()


def test_an_unknown_ca_is_refused_until_it_is_configured(tmp_path: Path, authority: Authority, server: Pair) -> None:
    other = Authority(tmp_path / "other", "somebody else's CA")
    with running(tmp_path, https(server), ca_file=other.cert) as (proxy, sidecar):
        held_with(sidecar, "ConnectError: certificate verify failed: unable to get local issuer certificate")
        assert proxy.items() == []
        assert sidecar.stop() == 0
        sidecar.settings["proxy"]["ca_file"] = str(authority.cert)
        sidecar.start()
        sidecar.wait_empty()
        assert len(proxy.items()) == 1


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (("DNS:proxy.example",), 1, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (LOCAL, -1, "certificate verify failed: certificate has expired"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_not_good_is_refused(
    tmp_path: Path, authority: Authority, names: tuple[str, ...], days: int, words: str
) -> None:
    bad = authority.issue("bad", *names, days=days)
    with running(tmp_path, https(bad), ca_file=authority.cert) as (_, sidecar):
        held_with(sidecar, words)


def test_a_client_certificate_is_asked_for_and_given(tmp_path: Path, authority: Authority, server: Pair) -> None:
    clients = Authority(tmp_path / "clients", "clients' CA")
    client = clients.issue("sidecar")
    options = https(server, "--client-ca", clients.cert)
    with running(tmp_path, options, ca_file=authority.cert) as (proxy, sidecar):
        held_with(sidecar, "Error: ")  # its server ends the connection without TLS's alert, which would say more
        sidecar.stop()
        sidecar.settings["proxy"] |= {"client_cert": str(client.cert), "client_key": str(client.key)}
        sidecar.start()
        sidecar.wait_empty()
        assert len(proxy.items()) == 1


def test_a_client_certificate_of_another_ca_is_refused(tmp_path: Path, authority: Authority, server: Pair) -> None:
    stranger = Authority(tmp_path / "other", "other CA").issue("stranger")
    options = https(server, "--client-ca", authority.cert)
    with running(
        tmp_path, options, ca_file=authority.cert, client_cert=stranger.cert, client_key=stranger.key
    ) as (_, sidecar):  # fmt: skip
        held_with(sidecar, "Error: ")


def test_faults_of_a_proxy_with_https_are_met_as_those_without(
    tmp_path: Path, authority: Authority, server: Pair
) -> None:
    with running(tmp_path, https(server), ca_file=authority.cert) as (proxy, sidecar):
        for mode in ("reset-before", "down", "503"):
            proxy.fault(mode)
            before = len(proxy.items())
            sidecar.post(report(event()))
            wait_until(lambda: sidecar.stream()["last_error"], what="a failure")
            assert sidecar.books()["queued"] == 1
            proxy.fault("none")
            sidecar.wait_empty()
            assert len(proxy.items()) == before + 1


def test_http_to_a_proxy_with_https_is_a_clear_failure(tmp_path: Path, server: Pair) -> None:
    with running(tmp_path, https(server)) as (proxy, sidecar):
        sidecar.stop()
        sidecar.settings["proxy"]["urls"] = [proxy.url.replace("https:", "http:")]
        sidecar.start()
        held_with(sidecar, "Server disconnected|Connection reset by peer")


def test_the_stand_in_names_what_is_wrong_with_its_files(tmp_path: Path, authority: Authority, server: Pair) -> None:
    other = authority.issue("other")
    done = run_command("proxy", "--tls-cert", str(server.cert), "--tls-key", str(other.key))
    assert (done.returncode, "are not a certificate and its key" in done.stderr) == (2, True)
    done = run_command("proxy", "--tls-key", str(server.key))
    assert (done.returncode, "need --tls-cert" in done.stderr) == (2, True)


def test_a_client_certificate_that_has_expired_is_named_and_a_renewed_one_counts_with_the_next_reload(
    tmp_path: Path, authority: Authority, server: Pair
) -> None:
    """Renewed in its place, as tools do."""
    old, new = authority.issue("old", days=-1), authority.issue("new")
    used = Pair(tmp_path / "used.pem", tmp_path / "used.key")
    shutil.copy(old.cert, used.cert)
    shutil.copy(old.key, used.key)
    options = https(server, "--client-ca", authority.cert)
    settings = {"ca_file": authority.cert, "client_cert": used.cert, "client_key": used.key}
    with running(tmp_path, options, **settings) as (proxy, sidecar):
        held_with(sidecar, "our client certificate has expired: renew proxy.client_cert, then `sidecar reload`")
        shutil.copy(new.cert, used.cert)
        shutil.copy(new.key, used.key)
        assert run_command("reload", "--config", str(sidecar.config)).returncode == 0
        sidecar.wait_empty()
        assert len(proxy.items()) == 1
