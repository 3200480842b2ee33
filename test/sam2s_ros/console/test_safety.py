"""Who may use the console: tokens, hosts, origins, rates."""

from __future__ import annotations

import hmac

import pytest

from sam2s_model.errors import ConsoleError
from sam2s_ros.console import safety
from sam2s_ros.console.safety import Access, Bucket, Role, is_loopback, new_token

OPERATOR, VIEWER = "operator-token-123", "viewer-token-12345"
OPEN = Access()
GUARDED = Access("0.0.0.0", ("robot.lab",), OPERATOR, VIEWER)


@pytest.mark.parametrize("host, own", [
    ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
    ("10.0.0.4", False), ("localhost.example.com", False), ("", False), ("robot", False),
])  # fmt: skip
def test_what_is_this_machines_own_address(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.4", "::", "robot.lab"])
def test_another_address_asks_for_both_tokens(host):
    for tokens in ({}, {"operator": OPERATOR}, {"viewer": VIEWER}):
        with pytest.raises(ConsoleError, match=f"listens on {host} without tokens"):
            Access(host, **tokens)


def test_a_token_says_what_somebody_may_do():
    assert GUARDED.role(OPERATOR) is Role.OPERATOR and GUARDED.role(VIEWER) is Role.VIEWER
    for wrong in ("", OPERATOR[:-1], OPERATOR + "x", OPERATOR.upper(), "é", "\ud800"):
        assert GUARDED.role(wrong) is None
    assert OPEN.role("") is Role.OPERATOR and Access(read_only=True).role("") is Role.VIEWER
    assert Access("0.0.0.0", (), OPERATOR, VIEWER, read_only=True).role(OPERATOR) is Role.VIEWER


def test_tokens_are_compared_in_constant_time_and_both_each_time(monkeypatch):
    compared = []

    def compare(given, right):
        compared.append(right)
        return hmac.compare_digest(given, right)

    monkeypatch.setattr(safety, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    for token in (OPERATOR, VIEWER, "wrong"):
        GUARDED.role(token)
    assert compared == [OPERATOR.encode(), VIEWER.encode()] * 3


def test_tokens_are_long_and_stand_in_no_representation():
    made = {new_token() for _ in range(50)}
    assert len(made) == 50 and all(len(token) >= 32 for token in made)
    assert OPERATOR not in repr(GUARDED) and VIEWER not in repr(GUARDED)


@pytest.mark.parametrize("access, header, right", [
    (OPEN, "127.0.0.1:8765", True), (OPEN, "localhost:8765", True), (OPEN, "[::1]:8765", True),
    (OPEN, "LOCALHOST", True),
    (OPEN, "evil.example:8765", False), (OPEN, "10.0.0.4:8765", False), (OPEN, "", False), (OPEN, "[", False),
    (OPEN, "127.0.0.1.evil.example", False),
    (GUARDED, "10.0.0.4:8765", True), (GUARDED, "robot.lab:8765", True), (GUARDED, "evil.example", False),
])  # fmt: skip
def test_a_page_is_opened_under_a_known_name(access, header, right):
    if right:
        access.check_host(header)
    else:
        with pytest.raises(ConsoleError, match="Host is"):
            access.check_host(header)


@pytest.mark.parametrize("origin, right", [
    ("http://localhost:8765", True), ("https://localhost:8765", True), ("HTTP://LOCALHOST:8765", True),
    ("http://localhost:8766", False), ("http://evil.example", False), ("", False), ("null", False), ("http://[", False),
    ("http://localhost:8765.evil.example", False), ("file://localhost:8765", False),
])  # fmt: skip
def test_a_socket_is_opened_by_our_own_page(origin, right):
    if right:
        OPEN.check_origin(origin, "localhost:8765")
    else:
        with pytest.raises(ConsoleError, match="Origin is"):
            OPEN.check_origin(origin, "localhost:8765")


def test_a_rate_and_a_burst():
    now = 0.0
    bucket = Bucket(10.0, 2.0, clock=lambda: now)
    assert [bucket.take() for _ in range(21)] == [True] * 20 + [False]
    now = 0.1
    assert [bucket.take() for _ in range(2)] == [True, False]
    now = 100.0
    assert sum(bucket.take() for _ in range(50)) == 20, "a long silence saves up one burst and no more"
