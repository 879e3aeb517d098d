"""How fast the queue grows, and when it will be through."""

from sidecar.queue.growth import Growth


def test_rates_are_those_of_the_last_half_minute() -> None:
    growth = Growth()
    assert growth.rates() == (0.0, 0.0)
    for second in range(100):
        growth.note(float(second), 1000 * second, 10 * second)
    assert growth.rates() == (1000.0, -10.0)
    for second in range(100, 200):
        growth.note(float(second), 100_000, 3000 - 20 * second)
    assert growth.rates() == (0.0, 20.0)


def test_nothing_is_said_from_a_moment() -> None:
    growth = Growth()
    growth.note(0.0, 0, 0)
    growth.note(1.0, 10**9, 10**6)
    assert growth.rates() == (0.0, 0.0)
