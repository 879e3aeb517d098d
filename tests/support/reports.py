"""Reports as clients send them."""

import itertools
import json
from typing import Any

DATA_ID = 1500006
NOW_MS = 1_700_000_000_000
_numbers = itertools.count(1)


def event(**changes: Any) -> dict[str, Any]:
    """The documentation's example, with an id of its own in the dimension."""
    item = {
        "event_name": "login_failed",
        "target": "0:192.168.0.1",
        "event": {"content": "user->[user00] login failed"},
        "dimension": {"module": "db", "set": "guangdong", "id": str(next(_numbers))},
        "timestamp": 1587218838000,
    }
    return item | changes


def sample(**changes: Any) -> dict[str, Any]:
    item = {
        "metrics": {"cpu_load": 10.5, "disk": 3},
        "target": "127.0.0.1",
        "dimension": {"module": "db", "location": "guangdong", "id": str(next(_numbers))},
        "timestamp": 1618224874331,
    }
    return item | changes


def without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


def report(*items: Any, data_id: int = DATA_ID, token: str = "token-of-the-test-pipe", **more: Any) -> dict[str, Any]:
    return {"data_id": data_id, "access_token": token, "data": list(items)} | more


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def growing(by: int) -> bytes:
    """An event that is so many bytes longer when its dimensions have become text."""
    whole, rest = divmod(by, 306)
    numbers = [b"1e308"] * whole + [b"1e%03d" % (rest + 2)]
    fields = b",".join(b'"%d":%b' % (index, number) for index, number in enumerate(numbers))
    return b'{"event_name":"a","target":"t","event":{"content":""},"dimension":{%b},"timestamp":1587218838000}' % fields
