"""The numbers and names of the proxy's rules, and the sidecar's own, for both paths of validation."""

import re

MS_MIN, MS_MAX = 10**12, 10**13 - 1
"""A timestamp has 13 digits: milliseconds from 2001 to 2286."""

SECONDS_MIN, SECONDS_MAX = 10**9, 10**10 - 1
"""Ten digits are seconds of the same years."""

METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
"""Names of metrics and of a time series' dimensions (bk-collector, `namePattern`); use with fullmatch."""

MAX_GROWTH_BYTES = 1_000_000
"""Bytes by which a report may grow when it is normalised; `1e308` becomes 309 digits."""

MAX_DEPTH = 128
"""Levels of nesting inside one item. The proxy takes 10,000, parsers behind it fewer; nobody sends over ten."""
