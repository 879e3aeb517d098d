"""The demo is the first thing that a new user runs."""

from tests.support.process import run_command


def test_the_demo_ends_with_balanced_books_and_nothing_lost() -> None:
    elsewhere = {
        "SIDECAR_STATE": "/nonexistent/state",
        "SIDECAR_PROXY": "http://127.0.0.1:9",
        "SIDECAR_CONFIG": "/dev/null",
    }
    done = run_command("demo", "--pace", "0.3", env=elsewhere)  # it has nothing to do with the real one's settings
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted = delivered, 0 lost, books balanced" in done.stdout
    assert "\x1b" not in done.stdout  # no progress display in a pipe
