"""Reports on both sides of the border between good and bad, and most of them on the good one.

They begin as good ones. In three of four what is replaced, removed or added leaves them good; in the others not.
"""

import json
from typing import Any

from hypothesis import strategies as st

from tests.support.reports import NOW_MS

texts = st.text(max_size=8)
names = st.sampled_from(["module", "set", "cpu_load", "a-b", "1st", "", "é", "_x", "event_type"]) | texts
numbers = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 0.0, -0.0, 1e300, 1e-300, 2**53 + 1, 0.1, 1587218838, 1587218838000, 1587218838000.7])
)
scalars = st.none() | st.booleans() | numbers | texts
weird = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
timestamps = (
    st.sampled_from([0, None, NOW_MS, NOW_MS + 3_600_000, NOW_MS + 3_600_999, NOW_MS + 3_601_000, 10**13 - 1, 10**13])
    | st.sampled_from([10**12, 10**12 - 1, 1587218838, 1587218838.5, 1587218838000.0, -1, 1e20])
    | st.integers(10**12, NOW_MS)
)
dimensions = st.dictionaries(names, scalars, max_size=4)
_values = {
    "event_name": texts,
    "target": texts | st.just("0:192.168.0.1"),
    "event": st.fixed_dictionaries({"content": texts}, optional={"more": weird})
    | st.dictionaries(names, weird, max_size=2),
    "metrics": st.dictionaries(names, numbers, max_size=3),
    "dimension": dimensions,
    "timestamp": timestamps,
}
_EVENT = ("event_name", "target", "event", "dimension", "timestamp")
_SAMPLE = ("metrics", "target", "dimension", "timestamp")
_good = {
    "event_name": "login_failed", "target": "0:10.0.0.1", "event": {"content": "x"}, "metrics": {"cpu": 1.5},
    "dimension": {"module": "db"}, "timestamp": 1587218838000,
}  # fmt: skip


_some = st.text(min_size=1, max_size=8)
_name = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True)
_GOOD_VALUES = {
    "event_name": _some,
    "target": _some,
    "event": st.fixed_dictionaries({"content": texts}, optional={"more": weird}),
    "metrics": st.dictionaries(
        _name,
        st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300),
        min_size=1,
        max_size=3,
    ),
    "dimension": st.dictionaries(_name, st.booleans() | st.integers(-(2**53), 2**53) | texts, max_size=4),
    "timestamp": st.sampled_from([0, NOW_MS, NOW_MS + 3_600_000, 10**12, 1587218838000.0])
    | st.integers(10**12, NOW_MS),
}


@st.composite
def good_items(draw: st.DrawFn, kind: tuple[str, ...]) -> Any:
    """A good item in which up to three things are otherwise, and as good."""
    item: dict[str, Any] = {name: _good[name] for name in kind}
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["vary", "vary", "vary", "remove", "unknown"])):
            case "vary":
                name = draw(st.sampled_from(kind))
                item[name] = draw(_GOOD_VALUES[name])
            case "remove":
                item.pop("timestamp", None)
            case "unknown":
                item["x" + draw(texts)] = draw(weird)
    return item


@st.composite
def items(draw: st.DrawFn, kind: tuple[str, ...]) -> Any:
    """A good item in which up to three things are otherwise; now and then something else altogether."""
    if draw(st.integers(0, 30)) == 0:
        return draw(weird)
    item: dict[str, Any] = {name: _good[name] for name in kind}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(kind))
        match draw(st.sampled_from(["vary", "vary", "vary", "weird", "remove", "unknown", "twin"])):
            case "vary":
                item[name] = draw(_values[name])
            case "weird":
                item[name] = draw(weird)
            case "remove":
                item.pop(name, None)
            case "unknown":
                item["x" + draw(texts)] = draw(weird)
            case "twin":
                item[draw(st.sampled_from([str.title, str.upper]))(name)] = draw(weird | _values[name])
    return item


@st.composite
def reports(draw: st.DrawFn) -> bytes:
    """The bytes of a report; mostly of one kind."""
    kind = draw(st.sampled_from([_EVENT, _SAMPLE]))
    good = draw(st.sampled_from([True, True, True, False]))
    data: Any = draw(st.lists(good_items(kind) if good else items(kind), min_size=1, max_size=4))
    match None if good else draw(st.integers(0, 40)):
        case 0:
            data = draw(weird)
        case 1:
            data = []
        case 2:
            data.append(draw(items(_SAMPLE if kind is _EVENT else _EVENT)))
    document = {"data_id": 1500006, "access_token": "token", "data": data}
    match None if good else draw(st.integers(0, 20)):
        case 0:
            document = {name.upper(): value for name, value in document.items()}
        case 1:
            document |= {draw(st.sampled_from(["Data_Id", "ACCESS_TOKEN", "Data", "x"])): draw(weird | st.none())}
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), separators=spaces)
    if draw(st.integers(0, 10)) == 0:
        text = text.replace("\\n", "\n").replace("\\u0001", "\x01")  # as shell scripts write them
    return text.encode("utf-8", "surrogatepass")
