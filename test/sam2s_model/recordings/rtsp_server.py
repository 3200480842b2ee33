"""A small RTSP server (RFC 2326) for tests: MPEG-TS in RTP (RFC 2250), interleaved in the TCP connection."""

from __future__ import annotations

import re
import socketserver
import struct
import threading
import time

PACKET = 7 * 188  # bytes of MPEG-TS in an RTP packet
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=endoscope\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 33\r\na=rtpmap:33 MP2T/90000\r\na=control:track0\r\n"
)


class RtspServer(socketserver.ThreadingTCPServer):
    """Serves `content`, an MPEG-TS file, within `seconds`, and closes the connection. password: "user:word" or ""."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, content: bytes, seconds: float):
        super().__init__(("127.0.0.1", 0), _Client)
        self.content, self.seconds = content, seconds
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"rtsp://surgeon:secret@127.0.0.1:{self.server_address[1]}/theatre"


class _Client(socketserver.StreamRequestHandler):
    server: RtspServer

    def handle(self) -> None:
        while True:
            lines = []
            while (line := self.rfile.readline().decode().strip()) or not lines:
                if not line:
                    return
                lines.append(line)
            verb = lines[0].split()[0]
            self.server.asked.append(verb)
            sequence = next(re.search(r"\d+", line)[0] for line in lines if line.lower().startswith("cseq"))
            headers, body = {"CSeq": sequence, "Session": "1"}, ""
            if verb == "OPTIONS":
                headers["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
            elif verb == "DESCRIBE":
                headers |= {"Content-Type": "application/sdp", "Content-Length": str(len(SDP))}
                body = SDP
            elif verb == "SETUP":
                headers["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
            text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.wfile.write(f"RTSP/1.0 200 OK\r\n{text}\r\n{body}".encode())
            if verb == "PLAY":
                self._play()
            if verb in ("PLAY", "TEARDOWN"):
                return

    def _play(self) -> None:
        content = self.server.content
        parts = [content[i : i + PACKET] for i in range(0, len(content), PACKET)]
        for number, part in enumerate(parts):
            header = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, number * 3600, 7)
            try:
                self.wfile.write(struct.pack("!cBH", b"$", 0, len(header) + len(part)) + header + part)
            except OSError:  # the client has gone
                return
            time.sleep(self.server.seconds / len(parts))
