"""What of a new configuration can be put in force at once."""

from pathlib import Path

from sidecar.config.model import Address, Config, Http, Proxy, QueueSettings
from sidecar.config.reload import merge_reloadable
from sidecar.core.units import BodyBytes, QueueBytes

OLD = Config(state=Path("a"))


def test_an_unchanged_configuration_needs_no_restart() -> None:
    assert merge_reloadable(OLD, OLD) == (OLD, [])


def test_what_needs_a_restart_stays_and_is_named_and_the_rest_changes() -> None:
    new = Config(
        state=Path("b"),
        http=Http(listen=Address("127.0.0.1", 1)),
        queue=QueueSettings(durability="normal", when_full="drop_oldest", max_size=QueueBytes(5_000_000)),
        proxy=Proxy(max_body=BodyBytes(100_000), connections=3),
    )
    merged, changed = merge_reloadable(OLD, new)
    assert changed == ["state", "http", "queue.durability", "queue.when_full", "proxy.max_body"]
    assert merged == Config(
        state=Path("a"), queue=QueueSettings(max_size=QueueBytes(5_000_000)), proxy=Proxy(connections=3)
    )
