"""Whether to gather before a commit."""

from sidecar.queue.group_commit import PAUSE_S, GroupCommit


def test_the_first_event_never_waits() -> None:
    assert GroupCommit().plan_pause_s(1000.0, 1) == 0


def test_right_after_a_commit_it_gathers_for_the_rest_of_the_pause() -> None:
    pace = GroupCommit()
    pace.committed(10.0, 1)
    assert 0 < pace.plan_pause_s(10.0 + PAUSE_S / 2, 1) <= PAUSE_S / 2 + 1e-9
    assert pace.plan_pause_s(10.0 + PAUSE_S, 2) == 0


def test_a_pause_that_brings_nothing_is_left_out_for_longer_and_longer() -> None:
    pace = GroupCommit()
    pace.committed(10.0, 1)
    skipped = []
    for _ in range(10):
        count = 0
        while not pace.plan_pause_s(10.0, 1):
            pace.committed(10.0, 1)
            count += 1
        skipped.append(count)
        pace.committed(10.0, 1)
    assert skipped == [0, 1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_pause_that_pays_is_made_again() -> None:
    pace = GroupCommit()
    pace.committed(10.0, 1)
    for size in (1, 2):  # the first brought nothing, the second doubled what waited
        while not pace.plan_pause_s(10.0, 1):
            pace.committed(10.0, 1)
        pace.committed(10.0, size)
    assert pace.plan_pause_s(10.0, 1) > 0


def test_it_ends_once_as_much_waits_as_the_last_commit_carried() -> None:
    pace = GroupCommit()
    pace.committed(10.0, 32)
    assert 0 < pace.plan_pause_s(10.0, 5) < PAUSE_S  # looks again soon
    assert pace.plan_pause_s(10.0005, 31) > 0
    assert pace.plan_pause_s(10.001, 32) == 0


def test_what_is_no_append_never_waits() -> None:
    pace = GroupCommit()
    pace.committed(10.0, 1)
    assert pace.plan_pause_s(10.0, 0) == 0
