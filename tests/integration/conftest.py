"""A proxy and a sidecar for all tests of a module that asks for `shared`; its SETTINGS are the sidecar's."""

from collections.abc import Iterator

import pytest

from tests.support.process import Proxy, Sidecar


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Sidecar]]:
    directory = tmp_path_factory.mktemp("shared")
    with Proxy(directory, "--rate", "unlimited") as proxy:
        proxy.start()
        with Sidecar(directory, proxy.url, getattr(request.module, "SETTINGS", None)) as sidecar:
            yield proxy, sidecar.start()
