"""What the stand-in loses behind its 200: the table of what was measured on the real proxy."""

import json
from typing import Any

import pytest

from sidecar.standin.behind import MESSAGE_MAX_BYTES, Behind, ReportDocument, decode_again, message_bytes
from tests.support.reports import event, sample, without


def document(*items: Any, number: int = 1, data_id: int = 7) -> ReportDocument:
    return ReportDocument(number, 0, data_id, list(items))


def arrived(behind: Behind) -> list[Any]:
    return [item for document in behind.take() for item in document.data]


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        (event, "Event_Name", [5, {}, [], True]),
        (event, "TARGET", [5, {}, [], True]),
        (sample, "Target", [5, {}, [], True]),
        (event, "Event", [5, "x", [], True]),
        (event, "Dimension", [5, "x", [], {"a": 1}, {"a": None}]),
        (sample, "DIMENSION", [5, "x", [], {"a": 1}]),
        (event, "Timestamp", ["x", {}, [], 1.5, True]),
        (sample, "Metrics", [5, "x", [], {"a": "x"}, {"a": True}]),
    ],
)
def test_a_document_with_an_odd_key_vanishes_whole(make: Any, name: str, values: list[Any]) -> None:
    for value in values:
        assert decode_again([make(), make(**{name: value}), make()]) is None, value
    assert decode_again([make(), make(**{name: None}), make()]) is not None


def test_an_odd_key_of_the_right_type_replaces_the_real_one() -> None:
    assert decode_again([event(Target="x")])[0]["target"] == "x"  # type: ignore[index]


@pytest.mark.parametrize("name", ["eventName", "event-name", "Dimensions", "time", "dimen\u017fion"])
def test_other_keys_are_harmless_and_are_not_published(name: str) -> None:
    item = event()
    assert decode_again([item | {name: []}]) == [item]


def test_a_time_series_without_a_target_vanishes() -> None:
    assert decode_again([without(sample(), "target")]) is None
    assert decode_again([sample(target=5)]) is None
    assert decode_again([sample(event={"more": 1})]) is not None


def test_what_is_accepted_within_three_seconds_becomes_one_message() -> None:
    behind = Behind(3.0, lossless=False)
    items = [event(event={"content": "x" * 4000}) for _ in range(120)]
    for number in range(40):  # a body of 480 KB each: 19 MB in all
        behind.accept(document(*items, number=number), now_s=100 + number * 0.06)
    behind.flush(102.9)
    assert arrived(behind) == []
    assert behind.waiting == (40 * 120) % 3000
    behind.flush(103.0)
    assert behind.lost["message too large"] == 3000
    assert len(arrived(behind)) == 1800  # 7 MB, the rest of them
    assert behind.waiting == 0


def test_few_enough_bytes_arrive_and_so_do_many_small_items() -> None:
    behind = Behind(3.0, lossless=False)
    for number in range(20):
        behind.accept(document(*[event() for _ in range(1000)], number=number), now_s=100)
    assert len(arrived(behind)) == 18_000  # each 3,000 go out at once
    behind.flush(103)
    assert len(arrived(behind)) == 2_000
    assert not behind.lost


def test_a_document_of_half_a_megabyte_with_a_single_item_arrives() -> None:
    behind = Behind(0.0, lossless=False)
    behind.accept(document(event(event={"content": "x" * 499_000})), now_s=0)
    assert len(arrived(behind)) == 1


def test_the_pipes_are_apart_and_a_document_may_arrive_in_parts() -> None:
    behind = Behind(3.0, lossless=False)
    behind.accept(document(*[event() for _ in range(2_999)], number=1), now_s=0)
    behind.accept(document(event(), event(), number=2), now_s=0)
    behind.accept(document(event(), number=3, data_id=8), now_s=1)
    assert [(d.number, len(d.data)) for d in behind.take()] == [(1, 2_999), (2, 1)]
    behind.flush(3)
    assert [(d.number, len(d.data)) for d in behind.take()] == [(2, 1)]
    behind.flush(4)
    assert [(d.number, d.data_id) for d in behind.take()] == [(3, 8)]


def test_a_stop_loses_what_was_not_passed_on() -> None:
    behind = Behind(3.0, lossless=False)
    behind.accept(document(event(), event()), now_s=0)
    behind.stop()
    behind.flush(10)
    assert arrived(behind) == []
    assert behind.lost == {"restart": 2}


def test_a_lossless_one_passes_everything_on_as_it_is() -> None:
    behind = Behind(3.0, lossless=True)
    items = [event(Target=5), without(sample(), "target")]
    behind.accept(document(*items), now_s=0)
    assert arrived(behind) == items


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<b>&", r'"\u003cb\u003e\u0026"'),
        ("\u2028 \u2029", r'"\u2028 \u2029"'),
        ("\b \f \n \x01", r'"\u0008 \u000c \n \u0001"'),
        ("\u4e2d", '"\u4e2d"'),
        ('"\\', r'"\"\\"'),
    ],
)
def test_the_message_is_as_long_as_the_proxys(value: Any, text: str) -> None:
    assert message_bytes({"a": value}) == len(b'{"a":%b}' % text.encode())


def test_numbers_are_never_taken_for_shorter_than_they_become() -> None:
    assert message_bytes({"a": 1e20}) >= len('{"a":100000000000000000000}')
    assert message_bytes({"a": 1e-6}) >= len('{"a":0.000001}')
    assert message_bytes({"a": 10.5}) == len('{"a":10.5}')
    assert message_bytes(json.loads('{"a":[1,2,{}]}')) == len('{"a":[1,2,{}]}')


def test_the_limit_is_ten_mebibytes() -> None:
    assert MESSAGE_MAX_BYTES == 10_485_760
