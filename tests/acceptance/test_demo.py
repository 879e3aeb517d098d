"""The demo is the first thing that a new user runs."""

from tests.support.process import run_command


def test_the_demo_ends_with_balanced_books_and_nothing_lost() -> None:
    done = run_command("demo", "--pace", "0.3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted = delivered, 0 lost, books balanced" in done.stdout
    assert "\x1b" not in done.stdout  # no progress display in a pipe
