"""`sam2s console` as it is installed: what it prints, tokens and TLS, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import subprocess
from pathlib import Path

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
from console_page import Console, Page  # noqa: E402

from sam2s_ros.processes.dds import share_directory  # noqa: E402

PROGRAM = share_directory().parents[1] / "bin" / "sam2s"


def test_without_aiohttp_it_says_what_to_install(start, tmp_path):
    (tmp_path / "aiohttp.py").write_text("raise ModuleNotFoundError(\"No module named 'aiohttp'\")\n")
    process = start(Console.command(), PYTHONPATH=str(tmp_path))
    assert process.wait(60) == 2
    assert process.output.splitlines()[-1] == (
        "the console needs aiohttp: pip install 'sam2s_ros[console]', or pip install aiohttp"
    )
    assert "Traceback" not in process.output


def test_the_command_serves_until_a_signal(start):
    process = start([str(PROGRAM), "console", "--port", "0", "--tracker", "tracker", "--read-only"])
    process.wait_for_output("console: http://127.0.0.1:", 60)
    address = re.search(r"console: (\S+)", process.output)[1]

    async def look():
        async with Page(address) as page:
            await page.until(lambda p: p.state)
            assert page.state["may"] == "viewer" and page.state["node"]["state"] == "GONE"
            assert page.state["cameras"] == [["/tracker", False]]

    asyncio.run(look())
    second = subprocess.run(
        [str(PROGRAM), "console", "--port", address.rstrip("/").rsplit(":", 1)[1]], capture_output=True, text=True
    )
    assert second.returncode == 2 and "the console cannot listen on 127.0.0.1" in second.stderr, second
    code, seconds = process.stop(signal.SIGINT)
    assert code == 0 and seconds < process.out_within and "Traceback" not in process.output, process.output


def test_on_another_address_there_are_tokens_and_tls(start, tmp_path):
    certificate = tmp_path / "both.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key.pem"),
         "-out", str(tmp_path / "certificate.pem"), "-days", "2", "-subj", "/CN=robot.lab"],
        capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"openssl made no certificate: {made.stderr.decode()[-200:]}")
    certificate.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    process = start(Console.command(host="0.0.0.0", certificate=str(certificate), names="robot.lab"))
    process.wait_for_output("to look only", 60)
    (port, operator), (_, viewer) = re.findall(r"https://0\.0\.0\.0:(\d+)/\?token=(\S+)", process.output)
    assert operator != viewer and process.output.count(operator) == 1
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    address = f"https://127.0.0.1:{port}"

    async def enter():
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(address) as refused:
                assert refused.status == 403 and "a token is needed" in await refused.text()
            async with session.get(f"{address}/?token={viewer}") as page:
                assert page.status == 200 and "Secure" in page.history[0].headers["Set-Cookie"]
            async with session.ws_connect(f"{address}/socket", headers={"Origin": address}) as socket:
                assert json.loads((await socket.receive(20)).data)["may"] == "viewer"

    asyncio.run(enter())
    code, _ = process.stop(signal.SIGINT)
    assert code == 0 and "Traceback" not in process.output, process.output


def test_the_files_of_the_page_are_installed():
    (installed,) = share_directory().parents[1].glob("lib/python*/*-packages/sam2s_ros/console/static")
    source = Path(__file__).resolve().parents[2] / "sam2s_ros" / "console" / "static"
    assert {path.name for path in installed.iterdir()} == {path.name for path in source.iterdir()}
