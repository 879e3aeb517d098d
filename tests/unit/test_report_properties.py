"""What is accepted here satisfies the proxy's rules, and what those accept is accepted here, save the named points.

The oracle is the stand-in's judge, which was written from the proxy's rules alone.
"""

import json
import math
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.errors import Rejected
from sidecar.core.model import Block, Chunk, Kind, StreamKey
from sidecar.forward.batch import splice
from sidecar.report import Rules, check_items, open_envelope
from sidecar.report.careful import CheckedItem, check_item, kind_of, without_twins
from sidecar.report.fast import judge_plain
from sidecar.report.strings import strings_decoded, strings_written
from sidecar.standin.behind import decode_again
from sidecar.standin.judge import PipeRules, _document, judge
from sidecar.standin.rates import SlidingWindows
from tests.support.reports import NOW_MS, dump, event, report, sample
from tests.support.strategies import reports, weird

pytestmark = pytest.mark.property
KEY = StreamKey(1500006, "token")
KINDS: tuple[Kind, Kind] = ("event", "time_series")


def take(body: bytes, rules: Rules = Rules(), block_bytes: int = 62_000) -> bytes:  # noqa: B008
    """What would be sent to the proxy for `body`. Raises Rejected."""
    return splice(KEY, chunks_of(take_blocks(body, rules, block_bytes)))


def take_blocks(body: bytes, rules: Rules = Rules(), block_bytes: int = 62_000) -> list[Block]:  # noqa: B008
    envelope = open_envelope(body)
    return check_items(envelope.data, rules, now_ms=NOW_MS, block_bytes=block_bytes, event_bytes=490_000).blocks


def chunks_of(blocks: list[Block]) -> list[Chunk]:
    return [Chunk(i, block.body, block.events) for i, block in enumerate(blocks)]


def judged(body: bytes, at_ms: int = NOW_MS) -> int:
    return judge(body, PipeRules(rate=None), SlidingWindows(None), at_ms / 1000).status


def strict(body: bytes) -> Any:
    """Parses as the strictest JSON parser would."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "duplicate keys"
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise AssertionError(name)

    text = body.decode()
    document = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    json.dumps(document, ensure_ascii=False).encode()  # no lone surrogates
    return document


def published(body: bytes) -> Any:
    """What arrives behind the proxy of an accepted document; None: it vanishes."""
    return decode_again(judge(body, PipeRules(rate=None), SlidingWindows(None), NOW_MS / 1000).items)


def data_of(body: bytes) -> Any:
    """The items, of a document that is read as the proxy does."""
    return (_document(body) or {}).get("data")


def ambiguous(body: bytes) -> bool:
    """An item with both `event` and `metrics`: without a configured kind, the first of them cannot be told."""
    data = data_of(body)
    return isinstance(data, list) and any(isinstance(i, dict) and "event" in i and "metrics" in i for i in data)


def stricter_here(body: bytes) -> bool:
    """Whether `body` falls under a point in which the sidecar is stricter than the proxy, by its documentation."""
    return any(_item_is_stricter(item) for item in data_of(body))


def _item_is_stricter(item: dict[str, Any]) -> bool:
    stamp = item.get("timestamp", 0)
    return (
        not isinstance(item.get("target"), str)
        or not (stamp == 0 or 10**12 <= int(stamp) < 10**13)
        or _beyond_a_double(item)
    )


def _beyond_a_double(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_beyond_a_double, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and abs(value) > 1.7e308


def test_most_examples_are_accepted_and_not_all() -> None:
    """Or the properties below would speak of refusals, or of nothing but good ones."""
    seen: Counter[bool] = Counter()

    @settings(max_examples=300, derandomize=True, database=None)
    @given(reports())
    def look(body: bytes) -> None:
        try:
            take(body)
        except Rejected:
            seen[False] += 1
        else:
            seen[True] += 1

    look()
    assert 0.6 < seen[True] / seen.total() < 0.95


@given(reports())
@example(dump(report(event(dimension={"a": None, "b": 1.5, "c": True}))))
def test_what_is_accepted_here_satisfies_the_proxy(body: bytes) -> None:
    try:
        blocks = take_blocks(body)
    except Rejected:
        return
    strict(splice(KEY, chunks_of(blocks)))
    for block in blocks if not ambiguous(body) else ():
        sent = splice(KEY, chunks_of([block]))
        assert judged(sent, block.due_ms or NOW_MS) == 200
        assert decode_again(json.loads(sent)["data"]) is not None  # and nothing vanishes behind its 200
        if block.due_ms is not None:  # and it waits no longer than it must
            assert judged(sent, block.due_ms - 10_000 - 1000) == 400


@given(reports())
def test_what_the_proxy_accepts_is_accepted_here(body: bytes) -> None:
    if judged(body) == 200 and not stricter_here(body) and not ambiguous(body):
        take(body)


@given(reports())
def test_what_arrives_directly_arrives_the_same_through_the_sidecar(body: bytes) -> None:
    """Field by field, behind the proxy; where the direct way loses nothing, and replaces nothing at random."""
    if judged(body) != 200 or stricter_here(body) or ambiguous(body) or has_twins(body):
        return
    direct, through = published(body), published(take(body))
    for one, other in zip(direct, through, strict=True) if all(b.due_ms is None for b in take_blocks(body)) else ():
        assert normal(one) == normal(other)


def has_twins(body: bytes) -> bool:
    return any(without_twins(item) != item for item in data_of(body))


def normal(item: dict[str, Any]) -> dict[str, Any]:
    """The item as the first decoding leaves it: dimensions are text, a time is there, and halves of pairs are not."""
    dimension = {k: v if isinstance(v, str) else go_text(v) for k, v in item.get("dimension", {}).items()}
    stamp = int(item.get("timestamp") or NOW_MS)
    return json.loads(json.dumps(item | {"dimension": dimension, "timestamp": stamp}, ensure_ascii=False)
                      .encode(errors="replace").decode().replace("\ufffd", "?"))  # fmt: skip


def go_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@given(reports())
def test_the_fast_path_agrees_with_the_careful_one(body: bytes) -> None:
    data = bytes(open_envelope(body).data) if judged(body) == 200 else b"[]"
    plain = judge_plain(data, None, NOW_MS)
    if plain is not None:
        kind, count = plain
        items = [bytes(raw) for raw in msgspec.json.decode(data, type=list[msgspec.Raw])]
        assert count == len(items)
        assert kind == kind_of(items[0])
        assert [check_item(item, kind, Rules(), NOW_MS) for item in items] == [CheckedItem(item) for item in items]


@pytest.mark.parametrize("make", [event, sample])
def test_the_fast_path_takes_what_is_plain_and_nothing_else(make: Any) -> None:
    items = [make(), make(dimension={}), make(timestamp=NOW_MS + 3_600_999)]
    kind, other = KINDS if make is event else KINDS[::-1]
    assert judge_plain(dump(items), None, NOW_MS) == judge_plain(dump(items), kind, NOW_MS) == (kind, 3)
    assert judge_plain(dump(items), other, NOW_MS) is None
    assert judge_plain(dump([*items, make(timestamp=NOW_MS + 3_601_000)]), kind, NOW_MS) is None
    for name in (b'"module"', b'"timestamp"', b'"target"'):
        twice = dump(items).replace(name, b'%b:"0:1",%b' % (name, name), 1)
        assert judge_plain(twice.replace(b'"timestamp":"0:1"', b'"timestamp":1587218838000'), kind, NOW_MS) is None


@given(reports(), st.integers(1, 300))
def test_cutting_into_blocks_changes_nothing(body: bytes, block_bytes: int) -> None:
    try:
        whole = take(body)
    except Rejected:
        return
    assert json.loads(take(body, block_bytes=block_bytes)) == json.loads(whole)


@given(reports())
def test_what_comes_out_goes_in_again_unchanged(body: bytes) -> None:
    try:
        once = take(body)
    except Rejected:
        return
    if not ambiguous(body):
        assert take(once) == once


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_answered(body: bytes) -> None:
    with pytest.raises(Rejected):
        take(body)


@given(st.binary(max_size=40))
def test_mangled_characters_cost_no_event_and_never_reach_the_queue(noise: bytes) -> None:
    noise = noise.translate(None, b'"\\' + bytes(range(32)))
    body = dump(report(event(event={"content": "NOISE"}))).replace(b"NOISE", noise)
    sent = strict(take(body))
    assert sent["data"][0]["event"]["content"] == noise.decode(errors="replace")


@given(weird)
def test_strings_are_counted_exactly(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert strings_written(text) == strings_decoded(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_in_dimensions_are_written_as_go_does(number: float) -> None:
    sent = json.loads(take(dump(report(event(dimension={"n": number})))))
    text = sent["data"][0]["dimension"]["n"]
    assert "e" not in text.lower()
    assert float(text) == number
    assert text == "-0" or not math.copysign(1, number) < 0 or text.startswith("-")
