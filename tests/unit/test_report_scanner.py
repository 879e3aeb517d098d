"""What strict decoders refuse is cut at its commas, and its strings are counted."""

import pytest

from sidecar.report.scanner import MAX_BYTES, MAX_DEPTH, NotScannable, elements, members
from sidecar.report.strings import strings_written


@pytest.mark.parametrize(
    ("json", "found"),
    [
        (b"{}", []),
        (b" { } ", []),
        (b' { "a" : 1 , "b" : { } } ', [("a", b"1"), ("b", b"{ }")]),
        (b'{"a":[{"b":"]}"}],"a":null}', [("a", b'[{"b":"]}"}]'), ("a", b"null")]),
        (b'{"\\u0061\\"":-1.5e+3}', [('a"', b"-1.5e+3")]),
        (b'{"\\q\xff":true}', [('"\\q\ufffd"', b"true")]),  # a name that nobody knows is as good as any
    ],
)
def test_an_object_is_cut_into_names_and_values(json: bytes, found: list[tuple[str, bytes]]) -> None:
    assert members(json) == found


@pytest.mark.parametrize(
    ("json", "found"), [(b"[]", []), (b" [ ] ", []), (b'[ 1 , "," ,[2,3] ]', [b"1", b'","', b"[2,3]"])]
)
def test_an_array_is_cut_into_its_elements(json: bytes, found: list[bytes]) -> None:
    assert elements(json) == found


@pytest.mark.parametrize(
    ("json", "problem"),
    [
        (b"", "expected {"),
        (b"[]", "expected {"),
        (b"{a:1}", "expected a name and a colon"),
        (b"{:1}", "expected a name and a colon"),
        (b'{"a" 1}', "expected a name and a colon"),
        (b'{"a":1,}', "expected a name and a colon"),
        (b'{"a":}', "expected a value"),
        (b'{"a":tru}', "expected a value"),
        (b'{"a":[1', "a bracket is not closed"),
        (b'{"a":1', "expected a comma or }, and then the end"),
        (b'{"a":1 "b":2}', "expected a comma or }, and then the end"),
        (b'{"a":1} x', "expected a comma or }, and then the end"),
        (b"{}x", "expected a comma or }, and then the end"),
    ],
)
def test_what_is_no_object_is_told(json: bytes, problem: str) -> None:
    with pytest.raises(NotScannable) as refused:
        members(json)
    assert str(refused.value) == problem


def test_its_limits_are_taken_and_what_is_beyond_is_not() -> None:
    text = b'["%b"]' % (b"x" * (MAX_BYTES - 4))
    assert elements(text) == [text[1:-1]]
    with pytest.raises(NotScannable, match="too large to be looked through"):
        elements(text + b" ")
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert elements(b"[%b]" % deep) == [deep]
    with pytest.raises(NotScannable, match="nested deeper than 10000 levels"):
        elements(b"[[%b]]" % deep)


@pytest.mark.parametrize(
    ("json", "strings"),
    [
        (b"5", 0),
        (b'{"a":"b"}', 2),
        (rb'["a\"b\"c","\n"]', 2),
        (rb'["\\","\\\"",""]', 3),
    ],
)
def test_strings_are_counted_whatever_is_escaped_in_them(json: bytes, strings: int) -> None:
    assert strings_written(json) == strings
