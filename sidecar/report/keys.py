"""Counts the member names written in a piece of JSON, to tell duplicate keys that a decoder silently merges.

Decoding keeps one of each name, so a document has duplicates exactly if it spells more names than were decoded.
"""

import re

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?', re.DOTALL)


def count_keys(json: bytes) -> int:
    """How many member names stand in `json`, which must be valid JSON. Exact; fast where nothing is ambiguous.

    In valid JSON the bytes `":` end a name, unless they are an escaped quote inside a string; and a name is
    followed by `":` unless white space comes between. Only where one of the two occurs are strings tokenised.
    """
    ambiguous = (
        (b"\\" in json and b'\\":' in json)
        or b" :" in json
        or (b"\n" in json and b"\n:" in json)
        or (b"\t" in json and b"\t:" in json)
        or (b"\r" in json and b"\r:" in json)
    )
    if not ambiguous:
        return json.count(b'":')
    return sum(1 for found in _STRINGS.finditer(json) if found[1])
