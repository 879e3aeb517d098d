"""Who may use a socket that has no file, and so no mode that the kernel would keep."""

import os
from typing import Any

import pytest

from sidecar.config import Listen, Socket
from sidecar.inputs.socket.peer_credentials import Allowed, PeerCredentials

ME, ROOT, OTHER = os.geteuid(), 0, 12_345
MY_GROUP, OTHER_GROUP = os.getegid(), 12_346


def allows(listen: Listen, uid: int, *groups: int, **settings: Any) -> bool:
    return Allowed.of(Socket(listen=listen, **settings)).allows(PeerCredentials(1, uid, frozenset(groups)))


ABSTRACT = Listen("unix", path="@name")
FILE = Listen("unix", path="/run/name")


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "may"),
    [
        (0o600, ME, (), True),
        (0o600, ROOT, (), True),
        (0o600, OTHER, (MY_GROUP,), False),
        (0o660, OTHER, (MY_GROUP,), True),
        (0o660, OTHER, (OTHER_GROUP,), False),
        (0o666, OTHER, (), True),
    ],
)
def test_the_mode_of_an_abstract_socket_is_kept(mode: int, uid: int, groups: tuple[int, ...], *, may: bool) -> None:
    assert allows(ABSTRACT, uid, *groups, mode=mode) is may


def test_owner_and_group_are_those_that_the_mode_is_for() -> None:
    named: dict[str, Any] = {"owner": str(OTHER), "group": str(OTHER_GROUP)}
    assert allows(ABSTRACT, OTHER, mode=0o600, **named)
    assert allows(ABSTRACT, 777, OTHER_GROUP, mode=0o660, **named)
    assert not allows(ABSTRACT, 777, MY_GROUP, mode=0o660, **named)


def test_who_is_named_counts_and_not_the_mode() -> None:
    assert allows(ABSTRACT, OTHER, allow_users=(str(OTHER),))
    assert not allows(ABSTRACT, 777, mode=0o666, allow_users=(str(OTHER),))


def test_the_mode_of_a_file_is_the_kernels_business() -> None:
    assert allows(FILE, OTHER, mode=0o600)
