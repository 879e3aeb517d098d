"""Frames of the agent's clients: split anywhere, several at once, and with lengths that lie."""

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inputs.socket.agent_frames import BadFrame, Frame, FrameDecoder, FrameItem, GetConfiguration, configuration
from tests.support.agent import (
    COMMON,
    DYNAMIC,
    META_BYTES,
    OPERATIONS,
    beat_report,
    dynamic,
    frame,
    get_configuration,
)

MAX = 10_000


def decoded(*parts: bytes) -> tuple[list[FrameItem], FrameDecoder]:
    decoder = FrameDecoder(MAX)
    return [item for part in parts for item in decoder.feed(part)], decoder


STREAM = (
    get_configuration()
    + frame(b"common", 7, COMMON, 1700000000)
    + frame(b"", 8, OPERATIONS)
    + dynamic(b"dynamic", -9)
    + dynamic(b"no meta", 10, meta_bytes=0)
)
ITEMS = [
    GetConfiguration(),
    Frame(7, 1700000000, b"common"),
    Frame(8, 0, b""),
    Frame(-9, 0, b"dynamic"),
    Frame(10, 0, b"no meta"),
]


def test_all_kinds_of_frames_in_one_read() -> None:
    items, decoder = decoded(STREAM)
    assert items == ITEMS
    assert decoder.unfinished_bytes == 0
    assert not decoder.end()


def test_frames_byte_by_byte_and_split_at_every_byte() -> None:
    assert decoded(*(STREAM[i : i + 1] for i in range(len(STREAM))))[0] == ITEMS
    for cut in range(len(STREAM)):
        assert decoded(STREAM[:cut], STREAM[cut:])[0] == ITEMS


def test_the_layout_is_that_of_libgse() -> None:
    assert META_BYTES == 408
    data = beat_report(1500006, {"event_name": "x"})
    assert data[:16] == struct.pack(">IiII", 9, 1500006, 0, len(data) - 24)
    [item], _ = decoded(data)
    assert isinstance(item, Frame)
    assert json.loads(item.data)["data"] == [{"event_name": "x"}]


def test_half_a_frame_at_the_end_is_noticed() -> None:
    for cut in (1, 23, 24, 29):
        items, decoder = decoded(frame(b"common", 7)[:cut])
        assert items == []
        assert decoder.unfinished_bytes == cut
        assert decoder.end()


@pytest.mark.parametrize("excess", [1, 5_000, 5_000_000])
def test_a_frame_that_is_too_long_is_passed_over_without_being_kept(excess: int) -> None:
    size = MAX + excess
    decoder = FrameDecoder(MAX)
    items = decoder.feed(frame(b"", 7, length=size))
    for _ in range(size // 1000):
        items += decoder.feed(b"\0" * 1000)
        assert decoder.unfinished_bytes <= 24
    items += decoder.feed(b"\0" * (size % 1000) + frame(b"next", 8))
    assert items == [BadFrame(7, f"a frame of {size} bytes, longer than {MAX} (max_line)"), Frame(8, 0, b"next")]
    assert decoder.lost is None


@pytest.mark.parametrize(
    "head",
    [
        frame(b"", 7, length=2**31),
        frame(b"", 7, length=2**32 - 1),
        frame(b"", 7, kind=2),
        frame(b"", 7, kind=0),
        b"\0" * 24,
        b"\0HTTP/1.1 200 OK, and so on and so on",
    ],
)
def test_after_what_no_client_sends_the_connection_is_lost_and_nothing_is_kept(head: bytes) -> None:
    items, decoder = decoded(frame(b"before", 1), head, b"x" * 100_000, frame(b"after", 2))
    assert items == [Frame(1, 0, b"before")]
    assert decoder.lost is not None
    assert "no client sends this" in decoder.lost
    assert decoder.unfinished_bytes == 0


def test_a_dynamic_frame_whose_meta_goes_beyond_its_body_is_refused_alone() -> None:
    body = struct.pack(">QIIII", 0, 0, 0, 2**31, 0) + b"data"
    items, decoder = decoded(frame(body, 7, DYNAMIC) + frame(b"short", 8, DYNAMIC) + frame(b"good", 9))
    assert [type(item) for item in items] == [BadFrame, BadFrame, Frame]
    assert "2147483648 bytes of meta" in items[0].reason  # type: ignore[union-attr]
    assert "too short" in items[1].reason  # type: ignore[union-attr]
    assert decoder.lost is None


def test_a_frame_that_is_given_up_is_passed_over() -> None:
    decoder = FrameDecoder(MAX)
    assert decoder.discard("no room") is None
    data = frame(b"x" * 5000, 7)
    decoder.feed(data[:100])
    assert decoder.discard("no room") == BadFrame(7, "no room")
    assert decoder.unfinished_bytes == 0
    assert decoder.feed(data[100:] + frame(b"next", 8)) == [Frame(8, 0, b"next")]


def test_the_answer_is_one_write_with_its_length_ahead() -> None:
    answer = configuration(ip="10.0.0.1", cloud_id=3, biz_id=2, hostname="web-1", agent_id="0200ab")
    kind, length = struct.unpack(">II", answer[:8])
    assert (kind, length) == (10, len(answer) - 8)
    said = json.loads(answer[8:])
    assert (said["ip"], said["cloudid"], said["bizid"], said["bk_biz_id"]) == ("10.0.0.1", 3, 2, 2)
    assert said["bk_agent_id"] == "0200ab"


@pytest.mark.property
@given(
    st.lists(
        st.tuples(st.binary(max_size=60), st.integers(-(2**31), 2**31 - 1), st.sampled_from([COMMON, OPERATIONS])),
        max_size=6,
    ),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_wherever_frames_are_cut_they_are_the_same(sent: list[tuple[bytes, int, int]], cuts: list[int]) -> None:
    stream = b"".join(frame(body, data_id, kind) for body, data_id, kind in sent)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    items, _ = decoded(*(stream[start:stop] for start, stop in pairwise(places)))
    assert items == [Frame(data_id, 0, body) for body, data_id, _ in sent]


@pytest.mark.property
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_whatever_comes_memory_is_bounded_and_nothing_is_raised(parts: list[bytes]) -> None:
    decoder = FrameDecoder(MAX)
    for part in parts:
        decoder.feed(b"\0\0\0\x09" + part)
        assert decoder.unfinished_bytes <= MAX + 24
    decoder.discard("enough")
    decoder.end()
