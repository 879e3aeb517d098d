"""Web pages in a local browser are attackers."""

import pytest

from sidecar.core.errors import Rejected
from sidecar.inputs.http.guard import Guard

GUARD = Guard("127.0.0.1", ["sidecar.local"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"host": b"127.0.0.1:10205"},
        {b"host": b"localhost:10205"},
        {b"host": b"LOCALHOST"},
        {b"host": b"[::1]:10205"},
        {b"host": b"127.8.9.1"},
        {b"host": b"sidecar.local:10205"},
        {b"host": b"127.0.0.1:10205", b"origin": b"http://127.0.0.1:10205", b"sec-fetch-site": b"same-origin"},
        {b"host": b"localhost", b"sec-fetch-site": b"none"},
        {b"host": b"localhost:10205", b"origin": b"http://LOCALHOST:10205"},
        {b"host": b"localhost:"},
        {b"host": b"localhost:80", b"origin": b"http://localhost"},
    ],
)
def test_programs_and_our_own_page_may_speak(headers: dict[bytes, bytes]) -> None:
    GUARD.check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {b"host": b"evil.example:10205"},
        {b"host": b"127.0.0.1.evil.example"},
        {b"host": b""},
        {b"host": b"[::1"},
        {b"host": b"10.0.0.9:10205"},
        {b"host": b"127.0.0.1:10205", b"origin": b"http://evil.example"},
        {b"host": b"127.0.0.1:10205", b"origin": b"null"},
        {b"host": b"127.0.0.1:10205", b"origin": b"http://[::1"},
        {b"host": b"127.0.0.1:10205", b"origin": b"http://127.0.0.1:8080"},
        {b"host": b"127.0.0.1:10205", b"origin": b"http://localhost:10205"},
        {b"host": b"localhost:10205", b"origin": b"http://localhost"},
        {b"host": b"localhost:10205", b"origin": b"localhost:10205"},
        {b"origin": b"http://localhost:10205"},
        {b"host": b"x@localhost"},
        {b"host": b"evil.example@localhost:10205"},
        {b"host": b"localhost/x"},
        {b"host": b"localhost#@evil.example"},
        {b"host": b"localhost\\evil.example"},
        {b"host": b"local host"},
        {b"host": b"127.0.0.1:10205", b"sec-fetch-site": b"cross-site"},
        {b"host": b"127.0.0.1:10205", b"sec-fetch-site": b"same-site"},
    ],
)
def test_foreign_pages_may_not(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Rejected) as refused:
        GUARD.check(headers)
    assert refused.value.why.status == 403


def test_a_listener_for_other_hosts_takes_any_address_but_no_unknown_name() -> None:
    guard = Guard("0.0.0.0", [])
    guard.check({b"host": b"10.0.0.9:10205"})
    with pytest.raises(Rejected):
        guard.check({b"host": b"evil.example"})


def test_a_link_on_another_site_may_lead_to_the_page_and_to_nothing_else() -> None:
    link = {b"host": b"localhost", b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate"}
    GUARD.check(link | {b"sec-fetch-dest": b"document"}, is_page=True)
    for headers, is_page in (
        (link | {b"sec-fetch-dest": b"document"}, False),
        (link | {b"sec-fetch-dest": b"iframe"}, True),
        (link | {b"sec-fetch-dest": b"document", b"host": b"evil.example"}, True),
    ):
        with pytest.raises(Rejected):
            GUARD.check(headers, is_page=is_page)
