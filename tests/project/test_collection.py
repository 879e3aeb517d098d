"""The collection of the tests is the same in every process: pytest-xdist refuses to run anything else."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def ids(hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_two_collections_give_the_same_ids() -> None:
    """In different seconds, since some formats hold the time of their making, and with other orders of sets."""
    first, began_s = ids("1"), int(time.time())
    while int(time.time()) == began_s:
        time.sleep(0.01)
    second = ids("2")
    assert len(first) > 1000
    assert first == second
    assert len(set(first)) == len(first)
