"""The careful path: one item at a time, every rule by name, normalised where the proxy would normalise.

It raises `Rejected` with the place inside the item; where the item stands is put in front by `check.py`.
"""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, NoReturn

import msgspec

from sidecar.core.errors import Place, Rejected
from sidecar.core.future_window import FUTURE_S, due_ms, latest_ms
from sidecar.core.model import METRIC_NAME, MS_MAX, MS_MIN, Kind
from sidecar.report.limits import MAX_DEPTH, MAX_GROWTH_BYTES, SECONDS_MAX, SECONDS_MIN
from sidecar.report.scanner import NotScannable, members
from sidecar.report.strings import strings_decoded, strings_written
from sidecar.report.words import describe, foreign

_MISSING: Any = object()
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_KNOWN = frozenset(("event_name", "target", "event", "dimension", "timestamp", "metrics"))
"""The fields of items of both kinds; all others are not published."""
_EXACT = 2**53
"""Up to here a double holds every whole number."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one stream for its items, in addition to the proxy's rules.

    `kind` None: each report may be of either kind. `default_target` stands in for an absent target. `max_ahead_ms`: how
    far in the future an event may be dated, to wait for its time.
    """

    kind: Kind | None = None
    timestamps: Literal["strict", "convert"] = "strict"
    default_target: str | None = None
    max_ahead_ms: int = 7 * 86_400_000


class CheckedItem(msgspec.Struct, frozen=True, gc=False):
    """A good item: as it came where nothing had to change, else normalised. `due_ms`: when it may be sent, if not now.

    `repaired`: a field had to be left out, since the proxy, or a parser behind it, could not have taken it.
    """

    json: bytes
    due_ms: int | None = None
    repaired: bool = False


def check_item(raw: bytes, kind: Kind, rules: Rules, now_ms: int, skew_ms: int = 0) -> CheckedItem:
    """Check the item `raw`. `skew_ms`: by how much the proxy's clock is ahead of ours. Raises Rejected (400)."""
    item, repaired = _decode(raw)
    if type(item) is not dict:
        _reject((), f"expected an object, got {describe(item)}")
    # Counted before anything is added or left out, since it is compared with the text as it came.
    strings = strings_decoded(item)
    repaired |= _leave_out_fields(item)
    changed = _normalise_target(item, kind, rules)
    _check_event(item) if kind == "event" else _check_metrics(item)
    changed |= _normalise_dimension(item, kind)
    changed |= _normalise_timestamp(item, rules, now_ms)
    due_ms = _due(item["timestamp"], rules, now_ms, skew_ms)
    # More strings in the text than decoded: a key stands there twice. Encoded anew, only the last one is left.
    if repaired or changed or strings_written(raw) != strings:
        return CheckedItem(msgspec.json.encode(item), due_ms, repaired)
    return CheckedItem(raw, due_ms)


def kind_of(raw: bytes) -> Kind:
    """Tell which of the two kinds an item of an unconfigured stream means to be.

    A time series has `metrics`. An item that has `event` too is an event if it is a good one, since `bkmonitorbeat
    -report` puts empty metrics into each event, and if there are no metrics in it.
    """
    item, _ = _decode(raw)
    if type(item) is not dict or "metrics" not in item:
        return "event"
    event, metrics = item.get("event"), item["metrics"]
    is_event = type(event) is dict and "content" in event and type(item.get("event_name")) is str
    return "event" if is_event or ("event" in item and not metrics) else "time_series"


def without_twins(item: dict[str, Any]) -> dict[str, Any]:
    """Return `item` without the keys that differ from a known one by nothing but the case of their letters.

    The proxy decodes an item a second time, and there such a key counts as the known one: it replaces it, or makes the
    whole report vanish if its value is of another type. Letters that are only alike in Unicode do not.
    """
    return {name: value for name, value in item.items() if name in _KNOWN or name.lower() not in _KNOWN}


def clean_again(events: bytes) -> bytes:
    """Return `events`, comma-joined JSON that an older version accepted, as they would be accepted now."""
    try:
        items = _split(b"[%b]" % events)
        return b",".join([_clean(bytes(item)) for item in items])
    except (msgspec.MsgspecError, RecursionError):
        # It was acknowledged when it was accepted: only the proxy may refuse it now.
        return events


def _clean(raw: bytes) -> bytes:
    item = msgspec.json.decode(raw)
    clean = without_twins(item) if type(item) is dict else item
    return raw if clean == item else msgspec.json.encode(clean)


def _leave_out_fields(item: dict[str, Any]) -> bool:
    """Leave out of `item` what must not be sent and is not published anyway; whether there was anything."""
    kept = without_twins(item)
    for name, value in list(kept.items()):
        extreme = _find_extreme(value, 2)
        if extreme is None:
            continue
        if name in _KNOWN:
            _reject((name, *extreme[0]), extreme[1])
        # The proxy publishes no unknown field, so this loses nothing.
        del kept[name]
    if len(kept) == len(item):
        return False
    item.clear()
    item.update(kept)
    return True


def _decode(raw: bytes) -> tuple[Any, bool]:
    """Return the decoded item, and whether fields that nobody looks at are missing, since they are nested too deep."""
    try:
        return msgspec.json.decode(raw), False
    except msgspec.DecodeError as error:
        _reject((), _problem(error))
    except RecursionError:
        return _decode_deep(raw), True


def _decode_deep(raw: bytes) -> dict[str, Any]:
    try:
        fields = dict(members(raw))
    except NotScannable as error:
        _reject((), f"nested too deep, and {error}")
    item = {}
    for name, value in fields.items():
        try:
            item[name] = msgspec.json.decode(value)
        except msgspec.DecodeError as error:  # the scanner does not look inside
            _reject((name,), _problem(error))
        except RecursionError:
            if name in _KNOWN:
                _reject((name,), f"nested deeper than {MAX_DEPTH} levels")
    return item


def _problem(error: msgspec.DecodeError) -> str:
    """Say what the decoder had against a value: bad JSON, or else a number."""
    return "a number is out of range" if isinstance(error, msgspec.ValidationError) else foreign(error)


def _reject(place: Place, problem: str) -> NoReturn:
    raise Rejected(400, problem, place, scope="event")


def _find_extreme(value: Any, depth: int) -> tuple[Place, str] | None:
    """Return where and what a strict parser further on could not take: endless nesting, numbers beyond a double.

    The place is put together only once something was found, on the way back.
    """
    if type(value) is int:
        return None if _fits_float(value) else ((), "a number is out of range")
    inner: Iterable[tuple[Any, Any]]
    if type(value) is dict:
        inner = value.items()
    elif type(value) is list:
        inner = enumerate(value)
    else:
        return None
    if depth > MAX_DEPTH:
        return (), f"nested deeper than {MAX_DEPTH} levels"
    for key, part in inner:
        found = _find_extreme(part, depth + 1)
        if found is not None:
            return (key, *found[0]), found[1]
    return None


def _fits_float(value: int) -> bool:
    # The proxy decodes every number as a double.
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _normalise_target(item: dict[str, Any], kind: Kind, rules: Rules) -> bool:
    target = item.get("target", _MISSING)
    if target is _MISSING:
        if rules.default_target is None:
            _reject(("target",), "missing, expected a string such as 0:192.168.0.1")
        item["target"] = rules.default_target
        return True
    if type(target) is not str:
        # The proxy answers 200 to a time series with such a target, and then loses the whole report.
        _reject(("target",), f"expected a string, got {describe(target)}")
    if not target and kind == "event":
        _reject(("target",), "empty, expected a string such as 0:192.168.0.1")
    return False


def _check_event(item: dict[str, Any]) -> None:
    name = item.get("event_name", _MISSING)
    if name is _MISSING and "metrics" in item:
        _reject((), "expected an event, got a time series; they go in reports, and streams, of their own")
    if type(name) is not str:
        _reject(("event_name",), _wrong(name, "a string"))
    event = item.get("event", _MISSING)
    if type(event) is not dict:
        _reject(("event",), _wrong(event, "an object"))
    if "content" not in event:
        _reject(("event", "content"), "missing, expected a string")


def _check_metrics(item: dict[str, Any]) -> None:
    metrics = item.get("metrics", _MISSING)
    if metrics is _MISSING and "event" in item:
        _reject((), "expected a time series, got an event; they go in reports, and streams, of their own")
    if type(metrics) is not dict:
        _reject(("metrics",), _wrong(metrics, "an object of names and numbers"))
    if not metrics:
        _reject(("metrics",), "empty, expected at least one name and number")
    for name, value in metrics.items():
        _check_name("metrics", name)
        # Not isinstance: True is an int in Python, but a boolean is no number for the proxy.
        if type(value) is not int and type(value) is not float:
            _reject(("metrics", name), f"expected a number, got {describe(value)}")


def _check_name(field: str, name: str) -> None:
    if not METRIC_NAME.fullmatch(name):
        shown = msgspec.json.encode(name[:80]).decode()
        _reject((field, shown), "expected a name of letters, digits and _ that does not begin with a digit")


def _wrong(value: Any, expected: str) -> str:
    return f"missing, expected {expected}" if value is _MISSING else f"expected {expected}, got {describe(value)}"


def _normalise_dimension(item: dict[str, Any], kind: Kind) -> bool:
    dimension = item.get("dimension", _MISSING)
    if dimension is _MISSING:
        return False  # the proxy takes it as empty
    if type(dimension) is not dict:
        _reject(("dimension",), _wrong(dimension, "an object"))
    changed, growth = False, 0
    for name, value in list(dimension.items()):
        if kind == "time_series":
            _check_name("dimension", name)
        if type(value) is str:
            continue
        changed = True
        if value is None:
            del dimension[name]
        elif type(value) in (bool, int, float):
            dimension[name] = text = _as_text(value)
            growth += len(text)
            if growth > MAX_GROWTH_BYTES:
                problem = f"grows by over {MAX_GROWTH_BYTES} bytes when normalised"
                raise Rejected(413, problem, ("dimension",), scope="event")
        else:
            _reject(("dimension", name), f"expected a string, got {describe(value)}")
    return changed


def _as_text(value: bool | int | float) -> str:
    """Write it as the proxy does: `true`, `false`, and Go's shortest decimal form of a double without exponent."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        if abs(value) <= _EXACT:
            return str(value)
        # Rounded as the proxy would round it: with and without a sidecar the dimension is the same.
        value = float(value)
    # repr gives the shortest digits, as Go does, but may use an exponent; Decimal writes that out.
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _normalise_timestamp(item: dict[str, Any], rules: Rules, now_ms: int) -> bool:
    given = item.get("timestamp", 0)
    if (type(given) is not int and type(given) is not float) or not math.isfinite(given):
        _reject(("timestamp",), f"expected milliseconds since 1970, got {describe(given)}")
    stamp = int(given)
    # To the proxy it means the time of arrival: after an outage that would be wrong by hours.
    if given == 0:
        stamp = now_ms
    elif SECONDS_MIN <= stamp <= SECONDS_MAX:
        if rules.timestamps == "strict":
            millis = int(given * 1000)
            _reject(("timestamp",), f"{given} has ten digits: seconds; expected 13-digit milliseconds, {millis}")
        stamp = int(given * 1000)
    elif not MS_MIN <= stamp <= MS_MAX:
        _reject(("timestamp",), f"expected 13-digit milliseconds since 1970, such as {now_ms}, got {describe(given)}")
    if type(given) is int and stamp == given:
        return False
    item["timestamp"] = stamp
    return True


def _due(stamp_ms: int, rules: Rules, now_ms: int, skew_ms: int) -> int | None:
    """Return when an event that is dated beyond what the proxy takes will be valid; None: it is now.

    Too far ahead is what is so by our own clock: that the proxy's is wrong is no fault of the event.
    """
    if stamp_ms - now_ms > rules.max_ahead_ms + FUTURE_S * 1000:
        ahead, limit = (stamp_ms - now_ms) // 1000, rules.max_ahead_ms // 1000
        _reject(
            ("timestamp",), f"{ahead} s in the future; the proxy takes at most {FUTURE_S} s, and it can wait {limit} s"
        )
    return due_ms(stamp_ms) if stamp_ms > latest_ms(now_ms + skew_ms) else None
