"""Finishes the texts of an event: colours of a terminal taken out, blanks around them, and what is not to be known.

Nothing gets out unmasked: a mask that could not be applied, since its pattern took too long, hides the whole text; and
at the end of a line that was cut, what may be the beginning of a match is hidden.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from sidecar.text.regexes import Replacement, Replacer

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Sequences of ECMA-48, such as colours, and the titles of xterm."""
HIDDEN = "***"


class Mask(msgspec.Struct, frozen=True):
    """Hide what a pattern matches in `field`: `content`, a dimension, or "" for all texts of an event."""

    field: str
    replacement: Replacement


class FinishRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is done to the texts of events before they leave."""

    strip_ansi: bool = False
    trim: bool = False
    masks: Sequence[Mask] = ()


Finish = Callable[[str, str, bool], str]
"""Takes the name of a field, its text, and whether its line was cut; returns the text as it may leave."""


def without_escapes(text: str) -> str:
    """Return a text without the sequences that colour it, or move the cursor, in a terminal."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


def finisher(rule: FinishRule, clock: Callable[[], float], late: Callable[[int, str], None]) -> Finish | None:
    """Return what finishes the texts of one block; None: nothing is to be done. `late` is told of slow patterns."""
    if rule == FinishRule():
        return None
    replacer = Replacer(clock)

    def finish(field: str, text: str, cut: bool) -> str:
        if rule.strip_ansi:
            text = without_escapes(text)
        if rule.trim:
            text = text.strip()
        for mask in rule.masks:
            if text and mask.field in ("", field):
                masked = replacer.replace(mask.replacement, text, HIDDEN if cut else None)
                if masked is None:
                    late(1, "mask")
                    return HIDDEN
                text = masked
        return text

    return finish
