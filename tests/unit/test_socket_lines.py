"""Lines are found whole, byte by byte, and with trailing data; what is too long costs nothing but itself."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import Rejection
from sidecar.inputs.socket.acks import Acks
from sidecar.inputs.socket.line_framer import LineFramer, Overlong, Piece

MAX = 20


def lines(pieces: list[Piece]) -> list[bytes | None]:
    """One entry for each line: its text, or None where it is missing."""
    found: list[bytes | None] = []
    for piece in pieces:
        if isinstance(piece, Overlong):
            found.append(None)
        else:
            assert piece.endswith(b"\n")
            assert piece.strip(b" \t\r\n")
            found += [line.rstrip(b"\r") for line in piece.split(b"\n")[:-1]]
    return found


def framed(*parts: bytes, max_bytes: int = MAX) -> tuple[list[bytes | None], LineFramer]:
    framer = LineFramer(max_bytes)
    pieces = [piece for part in parts for piece in framer.feed(part)]
    return lines(pieces), framer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\r\ntwo\r\n", [b"one", b"two"]),
        (b"\n\none\n \t\n\r\ntwo\n\n", [b"one", b"two"]),
        (b" one\n", [b"one"]),
        (b"x" * 20 + b"\n", [b"x" * 20]),
        (b"x" * 21 + b"\n", [None]),
        (b"one\n" + b"x" * 30 + b"\ntwo\n", [b"one", None, b"two"]),
        (b"x" * 300 + b"\ntwo\n" + b"x" * 25 + b"\n", [None, b"two", None]),
        (b"nul\0l\xff\n", [b"nul\0l\xff"]),
        (b"\n", []),
    ],
)
def test_lines_whole_and_byte_by_byte(text: bytes, expected: list[bytes | None]) -> None:
    whole, framer = framed(text)
    assert [line.strip(b" \t\r\n") if line else line for line in whole] == expected
    assert framer.unfinished_bytes == 0
    by_bytes, _ = framed(*(text[i : i + 1] for i in range(len(text))))
    assert [line.strip(b" \t\r\n") if line else line for line in by_bytes] == expected


def test_blocks_are_of_a_size_that_finds_room() -> None:
    framer = LineFramer(1_000_000)
    text = b"".join(b"%0*d\n" % (size, number) for number, size in enumerate([10, 200_000, 5, 131_071, 131_072] * 20))
    pieces = framer.feed(text)
    assert b"".join(pieces) == text  # type: ignore[arg-type]
    for piece in pieces:
        assert isinstance(piece, bytes)
        assert len(piece) <= 131_072 or piece.count(b"\n") == 1
    framer = LineFramer(300_000)
    many = b"x" * 999 + b"\n"
    pieces = framer.feed(many * 1000 + b"y" * 400_000 + b"\n" + many * 1000)
    assert len(lines(pieces)) == 2001
    assert max(len(piece) for piece in pieces if isinstance(piece, bytes)) <= 131_072


def test_what_has_no_end_yet_waits_and_is_refused_at_the_end() -> None:
    found, framer = framed(b"one\ntw", b"o")
    assert found == [b"one"]
    assert framer.unfinished_bytes == 3
    assert lines(framer.feed(b"\nthree")) == [b"two"]
    assert framer.end()
    assert not framer.end()
    assert framer.unfinished_bytes == 0


def test_blank_bytes_at_the_end_are_no_line() -> None:
    _, framer = framed(b"one\n  \r")
    assert not framer.end()


def test_an_endless_line_is_reported_once_and_takes_no_memory() -> None:
    framer = LineFramer(MAX)
    pieces = [piece for _ in range(1000) for piece in framer.feed(b"x" * 100)]
    assert pieces == [Overlong("longer than 20 bytes (max_line)")]
    assert framer.unfinished_bytes == 0
    assert lines(framer.feed(b"rest\nnext\n")) == [b"next"]


def test_a_line_that_was_given_up_is_left_out_up_to_its_end() -> None:
    framer = LineFramer(MAX)
    framer.feed(b"half a li")
    assert framer.discard("no room") == Overlong("no room")
    assert framer.unfinished_bytes == 0
    assert lines(framer.feed(b"ne\nnext\n")) == [b"next"]


@pytest.mark.property
@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.lists(st.integers(0, 300), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_wherever_the_stream_is_cut_the_lines_are_the_same(texts: list[bytes], cuts: list[int], end: bytes) -> None:
    stream = b"".join(text + end for text in texts)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    found, framer = framed(*(stream[start:stop] for start, stop in pairwise(places)))
    expected = [None if len(t) > MAX else t.strip(b" \t\r") for t in texts if t.strip(b" \t\r")]
    # White space around a line may or may not count for its length; nothing else may differ.
    for given_line, text in zip(found, (t for t in texts if t.strip(b" \t\r")), strict=True):
        if given_line is None:
            assert len(text) + len(end) - 1 > MAX
        else:
            assert given_line.strip(b" \t\r") == text.strip(b" \t\r")
            assert len(given_line.strip(b" \t\r")) <= MAX
    assert len(found) == len(expected)
    assert framer.unfinished_bytes == 0


def test_acks_are_cumulative_and_coalesce() -> None:
    acks = Acks()
    assert acks.take() == b""
    acks.committed(3)
    acks.committed(4)
    assert acks.take() == b'{"acked":7}\n'
    assert acks.take() == b""


def test_refusals_come_before_the_ack_and_are_numbered() -> None:
    acks = Acks()
    acks.committed(1)
    acks.reject(2, Rejection(400, "not valid JSON"))
    assert acks.take() == b'{"line":2,"error":"not valid JSON"}\n{"acked":1}\n'


def test_a_refusal_is_told_as_data_too() -> None:
    acks = Acks()
    acks.reject(1, Rejection(400, "expected a string, got 5", ("data", 3, "target"), "event"))
    acks.reject(2, Rejection(401, "wrong for stream app", ("access_token",), "stream"))
    assert [json.loads(line) for line in acks.take().splitlines()] == [
        {"line": 1, "error": "data[3].target: expected a string, got 5", "place": ["data", 3, "target"],
         "problem": "expected a string, got 5", "scope": "event"},
        {"line": 2, "error": "access_token: wrong for stream app", "place": ["access_token"],
         "problem": "wrong for stream app", "scope": "stream"},
    ]  # fmt: skip


def test_refusals_that_nobody_reads_are_bounded_and_the_rest_is_counted() -> None:
    acks = Acks()
    for line in range(1, 100_001):
        acks.reject(line, Rejection(400, "x" * 10_000))
    acks.committed(5)
    answer = acks.take()
    assert len(answer) < 70_000
    said = answer.count(b'{"line":')
    assert b'{"not_shown":%d,' % (100_000 - said) in answer
    assert answer.endswith(b'{"acked":5}\n')
    assert acks.take() == b""
