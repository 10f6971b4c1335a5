"""Addresses of servers as they stand in statuses, Events and logs."""

import pytest

from fleet_contract import names


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://broker:4222", "nats://broker:4222"),
        ("nats://me:secret@a:4222,tls://token@b:4222", "nats://a:4222,tls://b:4222"),
        ("me:secret@a:4222,token@b:4222,c:4222", "a:4222,b:4222,c:4222"),
    ],
)
def test_no_user_password_or_token_of_an_address_is_shown(url: str, shown: str) -> None:
    assert names.shown(url) == shown
