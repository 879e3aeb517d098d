"""Makers of events as a tail of the configuration would have, and what they make."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sidecar.config import Config, Options, Tail, load_config
from sidecar.config.model import ENVELOPE_BYTES
from sidecar.core.model import Block
from sidecar.inputs.tail.event_builders import make_event_builder
from sidecar.parsing import EventBuilder, FilePlace, LineCounts, take_lines
from sidecar.text.encodings import codec_of
from tests.support.reports import NOW_MS


class Outcome(NamedTuple):
    events: list[Any]
    dead: list[tuple[Any, str]]
    consumed: int
    counts: LineCounts
    blocks: list[Block]


def config_with(**settings: Any) -> Config:
    document = {
        "proxy": {"urls": ["http://127.0.0.1:1"]},
        "streams": {"app": {"data_id": 1, "access_token": "t"}},
        "tails": {"app": {"paths": ["/x.log"], "stream": "app", **settings}},
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.yml"
        path.write_text(json.dumps(document))
        return load_config(Options(config=path, state=Path(directory)), {"HOST_IP": "10.0.0.9"}).config


def tail_of(**settings: Any) -> Tail:
    return config_with(**settings).tails["app"]


def builder(event_bytes: int = 495_000, **settings: Any) -> EventBuilder:
    config = config_with(**settings)
    proxy = msgspec.structs.replace(config.proxy, max_body=event_bytes + ENVELOPE_BYTES)
    return make_event_builder(msgspec.structs.replace(config, proxy=proxy), "app")


def make(made_by: EventBuilder, text: str, *, path: str = "/x.log", at_end: bool = True) -> Outcome:
    lines = take_lines(text.encode(), codec_of("utf-8", b""), max_line=262_144, at_start=False)
    made = made_by.make(lines, FilePlace(path, "h"), offset=0, now_ms=NOW_MS, at_end=at_end)
    events = [event for block in made.blocks for event in json.loads(b"[" + block.body + b"]")]
    dead = [(json.loads(body), reason) for body, reason in made.dead]
    return Outcome(events, dead, made.consumed, made.counts, made.blocks)
