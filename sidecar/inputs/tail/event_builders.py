"""Builds what turns the lines of a tail into events, from the configuration."""

import time
from zoneinfo import ZoneInfo

from sidecar.config import Config, FieldCondition, Tail
from sidecar.parsing import (
    ContainerRule,
    DelimitedRule,
    EventBuilder,
    EventSpec,
    FinishRule,
    Grouping,
    Mask,
    RepeatRule,
    ThrottleRule,
)
from sidecar.text.filters import Condition
from sidecar.text.regexes import Replacement
from sidecar.text.templates import Template
from sidecar.text.timestamps import by_formats, by_unit


def make_event_builders(config: Config) -> dict[str, EventBuilder]:
    """Build the builder of each tail, by its name."""
    return {name: make_event_builder(config, name) for name in config.tails}


def make_event_builder(config: Config, name: str) -> EventBuilder:
    """Build the builder of the tail called `name`."""
    tail = config.tails[name]
    return EventBuilder(
        _shape(config, name, tail),
        _grouping(tail),
        block_bytes=config.proxy.block_bytes,
        event_bytes=config.proxy.event_bytes,
        cpu_clock=time.thread_time,
    )


def _shape(config: Config, name: str, tail: Tail) -> EventSpec:
    event, stamp = tail.event, tail.event.timestamp
    own_target = config.defaults.own_target
    clock = None
    if stamp.unit is not None:
        clock = by_unit(stamp.unit)
    elif stamp.format:
        clock = by_formats(stamp.format, ZoneInfo(stamp.timezone) if stamp.timezone is not None else None)
    return EventSpec(
        kind="time_series" if event.metrics else "event",
        parse=tail.parse.fields,
        container=_container(tail),
        delimited=_delimited(tail),
        path=tail.parse.path,
        where={name: _condition(wanted) for name, wanted in tail.where.items()},
        where_not={name: _condition(unwanted) for name, unwanted in tail.where_not.items()},
        unparsed="drop" if event.metrics else tail.unparsed,
        name=event.name or _literal(name),
        own_name=name,
        target=event.target or _literal(own_target),
        own_target=own_target,
        content=event.content,
        dimension=event.dimension,
        metrics=event.metrics,
        units=event.units,
        time_fields=stamp.field,
        clock=clock,
        max_ahead_ms=int(config.queue.max_age * 1000),
        finish=_finish(tail),
        maps=tail.map,
        each=tail.parse.each,
        sample=tail.sample,
        throttle=_throttle(tail),
        repeats=_repeats(tail),
        line_end=tail.line_end,
    )


def _container(tail: Tail) -> ContainerRule | None:
    if tail.parse.container is None:
        return None
    wait_ms = int(tail.multiline.flush_after * 1000)
    return ContainerRule(
        format=tail.parse.container, max_bytes=tail.max_line, max_wait_ms=wait_ms, strip_ansi=tail.strip_ansi
    )


def _finish(tail: Tail) -> FinishRule:
    masks = [Mask(mask.field or "", Replacement(mask.pattern, mask.replacement)) for mask in tail.mask]
    return FinishRule(strip_ansi=tail.strip_ansi, trim=tail.trim, masks=tuple(masks))


def _throttle(tail: Tail) -> ThrottleRule | None:
    rule = tail.throttle
    if rule.at_most is None:
        return None
    return ThrottleRule(at_most=rule.at_most, period_ms=int(rule.every * 1000), by=rule.by)


def _repeats(tail: Tail) -> RepeatRule | None:
    return None if tail.dedupe is None else RepeatRule(within_ms=int(tail.dedupe * 1000), max_bytes=tail.max_line)


def _delimited(tail: Tail) -> DelimitedRule | None:
    form = tail.parse.delimited
    return form and DelimitedRule(format=form, delimiter=tail.parse.delimiter, columns=tail.parse.columns)


def _grouping(tail: Tail) -> Grouping | None:
    rule = tail.multiline
    if rule.start is None and rule.continuation is None:
        return None
    return Grouping(start=rule.start, continuation=rule.continuation, max_lines=rule.max_lines, max_bytes=tail.max_line)


def _condition(wanted: FieldCondition) -> Condition:
    return Condition(
        one_of=wanted.one_of or None,
        matches=wanted.matches,
        contains=wanted.contains,
        within=wanted.within,
        at_least=wanted.at_least,
        at_most=wanted.at_most,
    )


def _literal(text: str) -> Template:
    return Template(text, (text,))
