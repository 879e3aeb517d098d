"""The options of `bkmonitorbeat -report`, among others or alone. Pure: what they make, `beat_message.py` knows.

Source: bkmonitor-datalink, `pkg/bkmonitorbeat/report/report.go`, and Go's package `flag` for how they are written.
"""

from collections.abc import Collection, Sequence

import msgspec

_NAMES = (
    "report.type", "report.http.server", "report.http.token", "report.agent.address", "report.bk_data_id",
    "report.message.kind", "report.message.body", "report.event.name", "report.event.content", "report.event.target",
    "report.event.timestamp",
)  # fmt: skip
_IGNORED = ("c",)
"""Its configuration file: scripts give it, and nothing here needs it."""
_NUMBERS = ("report.bk_data_id", "report.event.timestamp")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Beat(msgspec.Struct, frozen=True):
    """The options that were given, by their names without dashes."""

    options: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.options.get(name, "")

    @property
    def over_http(self) -> bool:
        """Return whether the original would have posted to a proxy, and shown its answer."""
        return self["report.type"] == "http"

    def number(self, name: str) -> int:
        """0 where it is not given, as in the original."""
        return _whole(name, self[name]) if self[name] else 0


def split_arguments(arguments: Sequence[str], with_value: Collection[str]) -> tuple[Beat | None, list[str]]:
    """Return the beat's options, with one or two dashes as Go takes them, and all other arguments.

    `with_value` names the other options that take the next argument for their value, whatever it looks like. The first
    is None where no option of the beat is given. Raises ValueError that says what would be right.
    """
    options: dict[str, str] = {}
    others: list[str] = []
    left = list(arguments)
    is_beat = any(_name_of(argument) == "report" for argument in arguments)
    while left:
        argument = left.pop(0)
        name = _name_of(argument)
        if argument == "--":
            others += [argument, *left]
            break
        if name == "report" or (name in _IGNORED and is_beat and not argument.startswith("--")) or name in _NAMES:
            options[name] = _value(argument, name, left)
        elif name.startswith("report."):
            raise ValueError(f"{argument.partition('=')[0]}: no such option; there are {', '.join(_NAMES)}")
        else:
            others.append(argument)
            if argument in with_value and left:
                others.append(left.pop(0))
    return (Beat(options) if options else None), others


def _name_of(argument: str) -> str:
    """Return the name of an option as Go reads it, else nothing."""
    name = argument[2:] if argument.startswith("--") else argument[1:] if argument.startswith("-") else ""
    return name.partition("=")[0]


def _value(argument: str, name: str, left: list[str]) -> str:
    _, equals, value = argument.partition("=")
    if name == "report":
        if equals and value not in _TRUE + _FALSE:
            raise ValueError(f"-report: expected true or false, got {value}")
        if value in _FALSE:
            raise ValueError("-report=false: there is nothing else to do here than to report")
        return "true"
    if not equals:
        if not left:
            raise ValueError(f"{argument}: its value is missing")
        value = left.pop(0)
    if name in _NUMBERS:
        _whole(name, value)
    return value


def _whole(name: str, text: str) -> int:
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise ValueError(f"-{name}: expected a whole number, got {text[:40]}") from None
