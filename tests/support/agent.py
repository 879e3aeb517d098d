"""Frames as the clients of the GSE agent make them (bkmonitor-datalink, `libgse/gse/gsetype.go`)."""

import json
import struct
from typing import Any

COMMON, OPERATIONS, DYNAMIC, GET_CONFIGURATION = 3073, 3084, 9, 10
META_BYTES = 408


def frame(body: bytes, data_id: int, kind: int = COMMON, sent_s: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">IiII8x", kind, data_id, sent_s, len(body) if length is None else length) + body


def dynamic(data: bytes, data_id: int, sent_s: int = 0, meta_bytes: int = META_BYTES) -> bytes:
    head = struct.pack(">QIIII", 0, 0, 0, meta_bytes, 0)
    return frame(head + b"\0" * meta_bytes + data, data_id, DYNAMIC, sent_s)


def get_configuration() -> bytes:
    return frame(b"", 0, GET_CONFIGURATION)


def beat_report(data_id: int, *items: Any) -> bytes:
    """What `bkmonitorbeat -report -report.type agent` sends."""
    document = {
        "agent": {"type": "bkmonitorbeat.report", "version": "0.0.1"}, "dataid": data_id, "cloudid": 0, "bizid": 2,
        "ip": "10.0.0.1", "bk_agent_id": "", "bk_host_id": 0, "version": "", "data": list(items), "bk_info": {},
        "time": 1681472452, "timestamp": 1681472452,
    }  # fmt: skip
    return dynamic(json.dumps(document).encode(), data_id)


def gsecmdline_line(text: str) -> bytes:
    """The data of `gsecmdline -l TEXT`."""
    more = {"_bizid_": 0, "_cloudid_": 0, "_server_": "127.0.0.1", "_time_": "2019-05-14 21:37:55"}
    return json.dumps(more | {"_utctime_": "2019-05-14 13:37:55", "_value_": [text]}).encode()
