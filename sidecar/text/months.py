"""Knows the months of other languages, as programs write them where the host's locale is not English. Pure.

German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian, Turkish, the Scandinavian languages, Chinese,
Japanese and Korean: by the first letters, so that long and short forms and cases are one. No two of these languages
begin different months in the same way.
"""

import re

ENGLISH = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_BEGINNINGS = (
    "jan gen ene sty янв oca", "feb fév fev lut фев şub", "mar mär mrz mrt мар", "apr abr avr kwi апр nis",
    "may mai mag maj mei мая май", "jun juin giu cze июн haz", "jul juil lug lip июл tem", "aug ago aoû sie авг ağu",
    "sep set wrz сен eyl", "oct okt ott out paź окт eki", "nov lis ноя kas", "dec dez déc dic gru дек ara",
)  # fmt: skip
_MONTHS = {begin: number for number, words in enumerate(_BEGINNINGS) for begin in words.split()}
_WORD = re.compile(r"([^\W\d_]{3,})\.?|(1[0-2]|0?[1-9])[月월]")


def in_english(text: str, *, short: bool) -> str:
    """Return a text with the months in it in English; other words stay. `short`: as in %b, else as in %B."""
    return _WORD.sub(lambda found: _translated(found, short=short), text)


def _translated(found: re.Match[str], *, short: bool) -> str:
    if found[2]:
        number: int | None = int(found[2]) - 1
    else:
        word = found[1].lower()
        number = next((_MONTHS[word[:size]] for size in (4, 3) if word[:size] in _MONTHS), None)
    if number is None:
        return found[0]
    return ENGLISH[number][:3] if short else ENGLISH[number]
