"""The numbers and names of the proxy's rules, and the sidecar's own, for both paths of validation."""

SECONDS_MIN, SECONDS_MAX = 10**9, 10**10 - 1
"""Ten digits are seconds, of the same years as the 13 digits of a timestamp."""

MAX_GROWTH_BYTES = 1_000_000
"""Bytes by which a report may grow when it is normalised; `1e308` becomes 309 digits."""

MAX_DEPTH = 128
"""Levels of nesting inside one item. The proxy takes 10,000, parsers behind it fewer; nobody sends over ten."""
