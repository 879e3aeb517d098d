"""Whether to gather before a commit."""

from sidecar.queue.pace import PAUSE_S, Pace


def test_the_first_event_never_waits() -> None:
    assert Pace().pause_s(1000.0) == 0


def test_right_after_a_commit_it_gathers_for_the_rest_of_the_pause() -> None:
    pace = Pace()
    pace.committed(10.0)
    assert 0 < pace.pause_s(10.0 + PAUSE_S / 2) <= PAUSE_S / 2 + 1e-9
    assert pace.pause_s(10.0 + PAUSE_S) == 0


def test_a_pause_that_brings_nothing_is_left_out_for_longer_and_longer() -> None:
    pace = Pace()
    skipped = []
    for _ in range(10):
        count = 0
        while True:
            pace.committed(10.0)
            if pace.pause_s(10.0):
                break
            count += 1
        skipped.append(count)
        pace.paused(1, 1)
    assert skipped == [0, 1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_pause_that_pays_is_made_again() -> None:
    pace = Pace()
    for before, after in ((1, 1), (3, 6)):
        pace.paused(before, after)
    pace.committed(10.0)
    assert pace.pause_s(10.0) > 0
