"""The whole sidecar in this process: its start, its reload, its stop, and what a start that fails leaves behind."""

import asyncio
import gc
import json
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sidecar.config import Loaded, Options, load_config
from sidecar.core.errors import Rejected, StartError
from sidecar.queue import books_on_disk
from sidecar.service.app import Sidecar
from sidecar.service.paths import queue_file
from tests.support.reports import event, report


class Host:
    """A configuration file that tests change; `load` is what the sidecar reads it with."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self._file = directory / "sidecar.yml"
        self.settings: dict[str, Any] = {
            "state": str(self.state),
            "proxy": {"urls": ["http://127.0.0.1:9"]},
            "http": {"listen": "127.0.0.1:0"},
            "defaults": {"ip": "10.0.0.1"},
            "streams": {"app-events": {"data_id": 1500006, "access_token": "token"}},
        }

    def load(self) -> Loaded:
        self._file.write_text(json.dumps(self.settings))
        return load_config(Options(config=self._file), {})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    thresholds, files = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Host(tmp_path)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


def play(host: Host, scenario: Callable[[Sidecar], Awaitable[None]]) -> None:
    async def run() -> None:
        sidecar = Sidecar(host.load, {})
        await sidecar.start()
        try:
            await scenario(sidecar)
        finally:
            await sidecar.stop()
            await sidecar.stop()  # a second one does nothing

    asyncio.run(run())
    books, wrong = books_on_disk(queue_file(host.state))
    assert (books.balanced, wrong) == (True, [])


def test_what_it_acknowledged_is_on_disk_after_its_stop(host: Host) -> None:
    async def scenario(sidecar: Sidecar) -> None:
        assert sidecar.is_running
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://{sidecar.listens_on}/v2/push/", json=report(event(), event(), token="token")
            )
        assert answer.status_code == 200

    play(host, scenario)
    assert books_on_disk(queue_file(host.state))[0].queued == 2


def test_a_bad_configuration_changes_nothing_and_a_good_one_counts_at_once(host: Host) -> None:
    async def scenario(sidecar: Sidecar) -> None:
        host.settings["queue"] = {"max_size": "much"}
        with pytest.raises(Rejected, match=r"queue\.max_size"):
            await sidecar.reloader.reload()
        host.settings["queue"] = {"max_age": "1d"}
        host.settings["http"]["max_connections"] = 7
        done = await sidecar.reloader.reload()
        assert (done.generation, done.at_restart) == (2, ["http"])
        assert sidecar.config.queue.max_age == 86400
        async with httpx.AsyncClient(trust_env=False) as client:
            status = (await client.get(f"http://{sidecar.listens_on}/status")).json()
        assert (status["config"]["generation"], status["config"]["error"]) == (2, None)

    play(host, scenario)


def test_a_start_that_fails_leaves_nothing_behind(host: Host) -> None:
    async def scenario(sidecar: Sidecar) -> None:
        taken = str(sidecar.listens_on)
        (host.state.parent / "other").mkdir()
        other = Host(host.state.parent / "other")
        other.settings["http"]["listen"] = taken
        second = Sidecar(other.load, {})
        with pytest.raises(StartError, match="in use by"):
            await second.start()
        other.settings["http"]["listen"] = "127.0.0.1:0"
        third = Sidecar(other.load, {})  # neither the lock nor the control socket is held
        await third.start()
        await third.stop()
        assert not (other.state / "control.sock").exists()

    play(host, scenario)


def test_two_on_one_state_are_refused(host: Host) -> None:
    async def scenario(_: Sidecar) -> None:
        with pytest.raises(StartError, match="state directory"):
            await Sidecar(host.load, {}).start()

    play(host, scenario)
