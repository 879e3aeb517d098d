"""`sidecar send` in the spelling of `bkmonitorbeat -report`."""

import json
from typing import Any

import pytest

from sidecar.cli.send.beat import Beat, make_message, make_report, split_arguments

NOW_MS = 1_700_000_000_000
EVENT = {
    "event_name": "a", "target": "127.0.0.1", "event": {"content": "b"}, "dimension": {"x": "y"},
    "timestamp": 1591067660370,
}  # fmt: skip
SERIES = {"metrics": {"m": 1}, "target": "127.0.0.1", "dimension": {}, "timestamp": 1591067660370}


def split(*arguments: str) -> tuple[dict[str, str] | None, list[str]]:
    beat, others = split_arguments(arguments, ["--content", "--socket"])
    return beat.options if beat else None, others


@pytest.mark.parametrize(
    "arguments",
    [
        ("-report", "-report.type", "agent", "-report.bk_data_id", "5"),
        ("--report", "--report.type", "agent", "--report.bk_data_id", "5"),
        ("-report=true", "-report.type=agent", "--report.bk_data_id=5"),
        ("-report", "-c", "/etc/bkmonitorbeat.conf", "-report.bk_data_id=5", "-report.type", "agent"),
    ],
)
def test_options_as_go_takes_them(arguments: tuple[str, ...]) -> None:
    options, others = split(*arguments)
    assert options is not None
    assert others == []
    assert {name: options[name] for name in options if name != "c"} == {
        "report": "true", "report.type": "agent", "report.bk_data_id": "5",
    }  # fmt: skip


def test_values_may_look_like_options_and_hold_anything() -> None:
    options, others = split("-report", "-report.event.content", "-report.type", '-report.message.body={\n"a"=1}')
    assert options == {"report": "true", "report.event.content": "-report.type", "report.message.body": '{\n"a"=1}'}
    assert others == []


def test_our_own_options_are_left_alone() -> None:
    assert split("--name", "x", "--content", "-report", "--quiet") == (
        None, ["--name", "x", "--content", "-report", "--quiet"],
    )  # fmt: skip
    assert split("-c", "x") == (None, ["-c", "x"])
    assert split("--socket", "s", "-report", "--", "-report.x") == (
        {"report": "true"},
        ["--socket", "s", "--", "-report.x"],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-report.tipe", "agent"], "-report.tipe: no such option; there are report.type"),
        (["-report.type"], "-report.type: its value is missing"),
        (["-report.bk_data_id", "five"], "-report.bk_data_id: expected a whole number, got five"),
        (["-report.event.timestamp="], "-report.event.timestamp: expected a whole number"),
        (["-report.bk_data_id", "9" * 5000], "expected a whole number"),
        (["-report=maybe"], "-report: expected true or false, got maybe"),
        (["-report=false"], "nothing else to do"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_arguments(arguments, [])


def beat(kind: str = "event", type_: str = "agent", body: Any = None, **more: str) -> Beat:
    options = {"report.message.kind": kind, "report.type": type_}
    if body is not None:
        options["report.message.body"] = body if isinstance(body, str) else json.dumps(body)
    return Beat(options | {f"report.{name.replace('__', '.')}": value for name, value in more.items()})


def whole(*events: Any) -> dict[str, Any]:
    return {"data_id": 1, "access_token": "", "data": list(events)}


def test_an_event_of_nothing_but_options() -> None:
    message = make_message(
        beat(bk_data_id="1500512", event__name="n", event__target="t", event__content="c", http__token="tok"), NOW_MS
    )
    assert message == {
        "data_id": 1500512, "access_token": "tok",
        "data": [{"event_name": "n", "event": {"content": "c"}, "target": "t", "dimension": {}, "timestamp": NOW_MS}],
    }  # fmt: skip


def test_options_override_the_first_event_of_a_body() -> None:
    body = {"data_id": 1, "access_token": "old", "data": [EVENT | {"metrics": {"f": 1.1}}, EVENT]}
    message = make_message(
        beat(body=body, bk_data_id="2", event__name="n", event__content="c", event__target="t", event__timestamp="5",
             http__token="new"),
        NOW_MS,
    )  # fmt: skip
    changed = {"event_name": "n", "event": {"content": "c"}, "target": "t", "timestamp": 5, "metrics": {"f": 1.1}}
    assert message == {"data_id": 2, "access_token": "new", "data": [EVENT | changed, EVENT]}
    assert make_message(beat(body=body), NOW_MS) == body


@pytest.mark.parametrize("stamp", [{"timestamp": 0}, {"timestamp": None}])
def test_an_event_without_a_time_is_of_now(stamp: dict[str, Any]) -> None:
    body = whole(EVENT | stamp)
    assert make_message(beat(body=body), NOW_MS)["data"][0]["timestamp"] == NOW_MS


def test_a_time_series_takes_the_data_id_and_a_token_that_is_missing() -> None:
    message = make_message(beat("timeseries", body={"data": [SERIES]}, bk_data_id="5", http__token="tok"), NOW_MS)
    assert message == {"data_id": 5, "access_token": "tok", "data": [SERIES]}
    body = {"data_id": 1, "access_token": "own", "data": [SERIES]}
    assert make_message(beat("timeseries", body=body, http__token="tok", event__name="x"), NOW_MS) == body


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (beat(""), "^unexpected message kind$"),
        (beat("log"), "^unexpected message kind: log$"),
        (beat(type_="", body=whole(EVENT)), "report.type: expected agent or http"),
        (beat(body="{"), "report.message.body: not JSON"),
        (beat(body="[]"), "report.message.body: expected an object, got an array"),
        (beat("timeseries"), "report.message.body: not JSON"),
        (beat(event__name="n"), "data_id: expected .*; data.0..event.content: expected .*; data.0..target: expected"),
        (beat(body={"data_id": 1, "access_token": ""}), r"data\[0\].event_name: expected"),
        (beat(body=whole()), "data: expected an array of events, got an empty one"),
        (beat(body={"data_id": 1, "access_token": "", "data": {}}), "data: expected an array of events, got an object"),
        (beat(body=whole(5)), r"data\[0\]: expected an object, got 5"),
        (beat(body={"data_id": "1", "access_token": "", "data": [EVENT]}), "data_id: expected a whole number"),
        (beat(body={"data_id": True, "access_token": "", "data": [EVENT]}), "data_id: expected a whole number"),
        (beat(body={"data_id": 1, "data": [EVENT]}), "access_token: expected a string, got null"),
        (beat(body=whole(EVENT | {"dimension": []})), "dimension: expected an object"),
        (beat(body=whole(EVENT | {"timestamp": "5"})), "timestamp: expected a whole"),
        (beat("timeseries", body=whole(EVENT)), "metrics: expected an object"),
    ],
)  # fmt: skip
def test_messages_that_are_refused(options: Beat, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_message(options, NOW_MS)


def test_the_message_is_one_report_in_one_line() -> None:
    report = make_report({"data_id": 1.0, "access_token": "t", "data": [EVENT | {"x": "a\nb"}]}, "event")
    body = report.body(None)
    assert b"\n" not in body
    assert json.loads(body) == {"data_id": 1, "access_token": "t", "data": [EVENT | {"x": "a\nb"}]}
    assert report.halves() == []
