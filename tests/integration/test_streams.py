"""Streams that come and go: one row for each name, and a limit for each peer."""

from tests.support.process import Sidecar
from tests.support.reports import event, report


def test_one_peer_cannot_take_the_places_of_all_others(sidecar: Sidecar) -> None:
    answers = [sidecar.post(report(event(), data_id=5000 + n, token="passes-through")) for n in range(260)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) <= 260 - 200
    assert {answer.status_code for answer in refused} == {503}
    assert "streams of this host that are not configured" in refused[0].json()["message"]
    assert sidecar.post(report(event())).status_code == 200  # a configured stream always has its place
    status = sidecar.status()
    assert any(reason.startswith("this host has as many streams") for reason in status["reasons"])
    assert status["queue"]["refused_by"]["too many streams"] == len(refused)
