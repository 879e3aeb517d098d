"""The proxy's answers, word for word."""

import json
import uuid

import httptools

from sidecar.inputs.http import answers


class Parsed:
    """A response, as httptools reads it."""

    def __init__(self, response: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(response)
        self.status = parser.get_status_code()
        assert self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def test_success_is_the_proxys_own() -> None:
    answer = Parsed(answers.success(close=False))
    document = json.loads(answer.body)
    assert answer.status == 200
    assert list(document) == ["code", "message", "request_id", "result"]
    assert (document["code"], document["message"], document["result"]) == ("200", "success", "true")
    assert uuid.UUID(document["request_id"]).version == 4
    assert b"connection" not in answer.headers


def test_request_ids_are_fresh() -> None:
    ids = {json.loads(Parsed(answers.success(close=True)).body)["request_id"] for _ in range(1000)}
    assert len(ids) == 1000
    assert all(uuid.UUID(i).variant == uuid.RFC_4122 for i in ids)


def test_refusals_have_the_same_shape() -> None:
    answer = Parsed(answers.refusal(503, 'full "up"', close=True, retry_after_s=7))
    document = json.loads(answer.body)
    assert (answer.status, document["code"], document["result"], document["message"]) == (
        503,
        "503",
        "false",
        'full "up"',
    )
    assert (answer.headers[b"retry-after"], answer.headers[b"connection"]) == (b"7", b"close")
