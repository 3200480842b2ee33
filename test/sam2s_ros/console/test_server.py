"""The web server: who is let in, what is answered, and what a hostile or a stopped browser can do."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")

from echo_link import EchoLink  # noqa: E402
from wild_messages import bombard, connect, next_of, wild  # noqa: E402

from sam2s_ros.console.action_log import ActionLog  # noqa: E402
from sam2s_ros.console.safety import Access, Limits  # noqa: E402

OPERATOR, VIEWER = "operator-token-123", "viewer-token-12345"
TOKENS = Access("127.0.0.1", (), OPERATOR, VIEWER)


@contextlib.asynccontextmanager
async def opened(serving, **how):
    """A socket, and the log of actions."""
    async with (
        serving(**how) as (address, log),
        aiohttp.ClientSession() as session,
        connect(session, address) as socket,
    ):
        yield socket, log


async def refusal_of(socket) -> tuple[int, str]:
    """Code and reason of the end, which is all that comes."""
    message = await socket.receive(timeout=20)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra


def test_the_page_and_its_files_are_served_and_nothing_else(serving):
    async def work():
        async with serving() as (address, _), aiohttp.ClientSession() as session:
            async with session.get(address) as page:
                text = await page.text()
                assert page.status == 200 and page.content_type == "text/html"
                assert "default-src 'none'" in page.headers["Content-Security-Policy"]
                assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert "https://" not in text and "http://" not in text, "nothing comes from a network"
            for name in ("main.js", "style.css", "protocol.js", "icon.svg"):
                async with session.get(f"{address}/{name}") as file:
                    assert file.status == 200 and (await file.read())
            from yarl import URL

            for path in ("/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/static/main.js", "//etc/passwd",
                         "/etc/passwd", "/main.js/", "/server.py", "/main.js%00", "/%2fetc%2fpasswd"):  # fmt: skip
                async with session.get(URL(address + path, encoded=True)) as file:
                    assert file.status in (400, 404), path
            async with session.post(address) as posted:
                assert posted.status == 405 and "Content-Security-Policy" in posted.headers

    asyncio.run(work())


def test_host_and_origin_are_checked(serving):
    async def work():
        async with serving() as (address, _), aiohttp.ClientSession() as session:
            async with session.get(address, headers={"Host": "evil.example"}) as page:
                assert page.status == 403 and "Host is 'evil.example'" in await page.text()
            for origin in ("", "http://evil.example", "null", "http://" + "\u00e9" * 200):
                async with connect(session, address, headers={"Origin": origin}) as socket:
                    code, why = await refusal_of(socket)
                    assert code == 4403 and why.startswith(f"Origin is {origin[:40]!r}"[:-1]), "and nothing before it"
            async with connect(session, address) as socket:
                assert (await next_of(socket, "state"))["may"] == "operator"

    asyncio.run(work())


def test_a_token_opens_the_page_as_its_role_and_stays_out_of_the_address(serving):
    async def work():
        async with serving(TOKENS) as (address, _):
            for token, may in ((OPERATOR, "operator"), (VIEWER, "viewer")):
                jar = aiohttp.CookieJar(unsafe=True)  # for an address instead of a name
                async with aiohttp.ClientSession(cookie_jar=jar) as session:
                    async with connect(session, address) as socket:
                        code, why = await refusal_of(socket)
                        assert code == 4403 and why.startswith("a token is needed: open the address")
                    for path in ("/", "/main.js", "/socket", "/?token=wrong"):
                        async with session.get(address + path, headers={"Origin": address}) as refused:
                            assert refused.status == 403 and "token" in await refused.text()
                    async with session.get(f"{address}/?token={token}", allow_redirects=False) as entered:
                        cookie = entered.headers["Set-Cookie"]
                        assert cookie.startswith(f"sam2s_console_{address.rpartition(':')[2]}={token};")
                        assert (entered.status, entered.headers["Location"]) == (303, "/")
                        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
                    async with session.get(address) as page:
                        assert page.status == 200
                    async with connect(session, address) as socket:
                        assert (await next_of(socket, "state"))["may"] == may

    asyncio.run(work())


def test_two_consoles_on_one_host_keep_their_tokens_apart(serving):
    others = Access("127.0.0.1", (), "another-operator-1", "another-viewer-123")

    async def work():
        jar = aiohttp.CookieJar(unsafe=True)  # which gives a cookie to all ports, as browsers do
        async with (
            serving(TOKENS) as (one, _),
            serving(others) as (two, _),
            aiohttp.ClientSession(cookie_jar=jar) as session,
        ):
            for address, token in ((one, OPERATOR), (two, others.operator)):
                async with session.get(f"{address}/?token={token}") as entered:
                    assert entered.status == 200
            for address in (one, two):
                async with session.get(address) as page:
                    assert page.status == 200

    asyncio.run(work())


def test_no_more_browsers_than_allowed(serving):
    async def work():
        async with serving(limits=Limits(clients=2)) as (address, _), aiohttp.ClientSession() as session:
            async with connect(session, address), connect(session, address) as second:
                async with connect(session, address) as third:
                    assert await refusal_of(third) == (4503, "2 browsers are connected: expected at most 2")
                await second.close()
            while True:  # until there is room again
                async with connect(session, address) as another:
                    if (await another.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
                        return
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(work(), 30))


def test_one_frame_is_in_flight_and_the_newest_follows(serving, link):
    async def work():
        link.step()
        async with serving() as (address, _), aiohttp.ClientSession() as session, connect(session, address) as socket:
            first = await next_of(socket, "frame")
            for _ in range(20):
                newest = link.step()
            await next_of(socket, "state")
            await socket.send_str(
                json.dumps({"type": "ack", "count": 10**6, "shown": 1})
            )  # of a frame that was not sent
            header = await next_of(socket, "frame")
            assert (header["count"], header["stamp"]) == (first["count"] + 1, str(newest.stamp)), (
                "the 19 before are not sent"
            )

    asyncio.run(work())


def test_each_camera_has_its_frames_and_its_objects(serving, link):
    other = EchoLink("/other")

    async def work():
        mine, its = link.step(), other.step()
        async with opened(serving, others=(other,)) as (socket, _):
            assert [name for name, _ in (await next_of(socket, "state"))["cameras"]] == ["/echo", "/other"]
            header = await next_of(socket, "frame")
            assert (header["camera"], header["stamp"]) == ("/echo", str(mine.stamp))
            await socket.send_str(json.dumps({"type": "watch", "camera": "/other"}))
            await socket.send_str(json.dumps({"type": "ack", "count": header["count"], "shown": 1}))
            header = await next_of(socket, "frame")
            assert (header["camera"], header["stamp"]) == ("/other", str(its.stamp))
            asked = {"type": "prompt", "request": 1, "camera": "/other", "stamp": header["stamp"], "object": 0}
            await socket.send_str(json.dumps({**asked, "points": [[20, 24, 1]]}))
            assert (await next_of(socket, "answer"))["ok"] and len(other.places) == 1 and not link.places

    asyncio.run(work())


def test_rates_are_limited_and_what_is_refused_says_why(serving, link):
    limits = Limits(messages=1000.0, actions=5.0, burst=1.0)

    async def work():
        link.step()
        async with opened(serving, limits=limits) as (socket, log):
            state = await next_of(socket, "state")
            for request in range(20):
                await socket.send_str(json.dumps({"type": "reset", "request": request, "camera": state["camera"]}))
            answers = [await next_of(socket, "answer") for _ in range(20)]
            refused = [a for a in answers if not a["ok"]]
            assert len(refused) >= 10 and "at most 5 a second" in refused[0]["message"]
            assert sum(record["action"] == "reset" for record in log) == 20 - len(refused)
        async with opened(serving, limits=Limits(messages=5.0)) as (socket, _):
            for _ in range(40):
                await socket.send_str('{"type": "show", "stamp": "0"}')
            assert "at most 5 a second" in (await next_of(socket, "refused"))["message"]

    asyncio.run(work())


@pytest.mark.parametrize("message, code", [("x" * 20_000, 1009), ("{}", 1008)])
def test_a_message_that_is_too_large_or_too_many_bad_ones_end_the_connection(serving, message, code):
    async def work():
        async with opened(serving, limits=Limits(messages=1e6)) as (socket, _):
            try:
                for _ in range(1 if code == 1009 else 1100):
                    await socket.send_str(message)
            except ConnectionError:
                pass
            async for _ in socket:
                pass
            assert socket.close_code == code

    asyncio.run(work())


def test_a_browser_that_reads_nothing_is_let_go(serving, link):
    """Answers that nobody reads fill the connection; it ends after `patience`, and the others do not notice."""
    limits = Limits(patience=0.5, messages=1e6, actions=1e6)

    async def work():
        link.step()
        async with serving(limits=limits) as (address, log):
            host, port = address.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=64)
            writer.write(
                f"GET /socket HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {address}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            ping = b"\x81\x80\x00\x00\x00\x00"  # an empty text message, which is refused in words
            while not any(record["action"] == "disconnect" for record in log):
                writer.write(ping * 50)
                await asyncio.sleep(0.005)
                link.step()
            writer.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_every_action_is_logged_with_who_and_what(serving, link):
    async def work():
        link.step()
        async with serving() as (address, log), aiohttp.ClientSession() as session, connect(session, address) as socket:
            state = await next_of(socket, "state")
            await socket.send_str(json.dumps({"type": "hello", "name": "Ada"}))
            wanted = {"type": "prompt", "request": 1, "camera": state["camera"], "stamp": "0", "object": 0}
            await socket.send_str(json.dumps({**wanted, "points": [[20, 24, 1]]}))
            answer = await next_of(socket, "answer")
            return answer, log

    answer, log = asyncio.run(work())
    connected, record, left = log
    assert connected["action"] == "connect" and left["action"] == "disconnect"
    assert record["who"].startswith("operator Ada at 127.0.0.1 #1")
    assert (record["action"], record["points"], record["ok"]) == ("prompt", ((20.0, 24.0, 1),), True)
    assert answer["ok"] and record["answer"] == answer["message"]


def test_a_file_of_actions_on_a_full_disk_locks_nobody_out(serving, link):
    said = []
    actions = ActionLog("action_log", "/dev/full", said.append)

    async def work():
        link.step()
        async with serving(also=actions.add) as (address, log), aiohttp.ClientSession() as session:
            for number in (1, 2):
                async with connect(session, address) as socket:
                    camera = (await next_of(socket, "state"))["camera"]
                    wanted = {"type": "prompt", "request": number, "camera": camera, "stamp": "0", "object": 0}
                    await socket.send_str(json.dumps({**wanted, "points": [[20, 24, 1]]}))
                    assert (await next_of(socket, "answer"))["ok"]
        return log

    log = asyncio.run(asyncio.wait_for(work(), 60))
    assert [record["action"] for record in log if record["action"] != "disconnect"] == ["connect", "prompt"] * 2
    assert said == ["action_log /dev/full cannot be written to (No space left on device): actions are left out"]


def test_proposals_are_drawn_by_their_outlines_and_accepted_by_their_ids(serving, link):
    async def work():
        frame = link.step()
        async with opened(serving) as (socket, log):
            camera = (await next_of(socket, "state"))["camera"]

            async def ask(kind, request, **more):
                message = {"type": kind, "request": request, "camera": camera, "stamp": "0", "class": "", **more}
                await socket.send_str(json.dumps(message))
                return await next_of(socket, "answer")

            answer = await ask("discover", 1)
            assert answer["ok"] and answer["stamp"] == str(frame.stamp) and "2 may be objects" in answer["message"]
            assert [own["id"] for own in answer["proposals"]] == [7, 9]
            (part,) = answer["proposals"][1]["outline"]
            assert sorted(part) == [[34, 24], [34, 35], [45, 24], [45, 35]]
            assert answer["proposals"][0]["class_score"] is None
            accepted = await ask("prompt", 2, stamp=answer["stamp"], object=0, proposal=9)
            assert accepted["ok"] and list(link.places.values()) == [(40, 30)]
            assert link.session.state()["undo"].startswith("start of object")
            unknown = await ask("prompt", 3, stamp=answer["stamp"], object=0, proposal=8)
            assert (unknown["ok"], unknown["error"]) == (False, "UNKNOWN_PROPOSAL")
            assert log[-2]["proposal"] == 9

    asyncio.run(work())


def test_any_messages_at_all(serving, link, caplog):
    bombard(serving, wild("/echo"), caplog, batches=5, size=40, each=link.step)


@pytest.mark.full
def test_ten_thousand_messages(serving, link, caplog):
    bombard(serving, wild("/echo"), caplog, batches=50, size=100, each=link.step)


def test_what_is_for_recordings_is_refused_by_a_live_tracker(serving, link):
    async def work():
        async with opened(serving) as (socket, _):
            camera = (await next_of(socket, "state"))["camera"]
            for number, kind in enumerate(("track", "stop", "export", "learn")):
                await socket.send_str(json.dumps({"type": kind, "request": number, "camera": camera, "name": "coco"}))
                answer = await next_of(socket, "answer")
                assert not answer["ok"] and answer["message"] == f"{kind} is for recordings: this is a live tracker"

    asyncio.run(work())
