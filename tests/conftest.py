"""What all tests have in common: nothing leaves loopback, and what was started is ended."""

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings

from tests.support.process import Proxy, Sidecar

settings.register_profile("default", max_examples=300, deadline=None, derandomize=True)
settings.register_profile("fuzz", max_examples=50_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutants", max_examples=30, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
if os.environ.get("HYPOTHESIS_PROFILE") == "mutants":  # rich takes ten seconds to show a traceback through mutated code
    structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

# A shell that runs tests in the background, or nohup(1), has these ignored: what is started here would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

OWN_VARIABLES = ("SIDECAR_CONFIG", "SIDECAR_PROXY", "SIDECAR_STATE", "SIDECAR_SOCKET", "SIDECAR_TOKEN")
_connect = socket.socket.connect


def _connect_to_loopback(self: socket.socket, address: Any) -> Any:
    if self.family in (socket.AF_INET, socket.AF_INET6) and self.type != socket.SOCK_DGRAM:
        host = address[0]
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise AssertionError(f"a test tried to connect to {host}")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_to_loopback)
    for name in (*OWN_VARIABLES, "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A stand-in proxy without a rate, in a process of its own."""
    with Proxy(tmp_path, "--rate", "unlimited") as started:
        yield started.start()


@pytest.fixture
def sidecar(tmp_path: Path, proxy: Proxy) -> Iterator[Sidecar]:
    """A sidecar in front of `proxy`."""
    with Sidecar(tmp_path, proxy.url) as started:
        yield started.start()


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Sidecar]]:
    """A proxy and a sidecar for all tests of a module that asks for them; its SETTINGS are the sidecar's."""
    directory = tmp_path_factory.mktemp("shared")
    with Proxy(directory, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(directory, proxy.url, getattr(request.module, "SETTINGS", None)) as sidecar:
            yield proxy, sidecar.start()
