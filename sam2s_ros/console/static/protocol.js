// The page's half of protocol.py, where the messages are written down.

const PREFIX = 16;
const FRAME = 1;
const VERSION = 1;
const REFUSED = [4403, 4503]; // codes of an end that says why
const LONGEST = 2000; // ms between two attempts to connect
const text = new TextDecoder();

/** header, jpeg (Blob), labels (Uint8Array, h x w of header.mask), bytes of a binary message. Throws for another message. */
export function readFrame(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < PREFIX || view.getUint8(0) !== FRAME || view.getUint8(1) !== VERSION) {
    throw new Error("this page and the console are of different versions: load the page again");
  }
  const [headerBytes, jpegBytes, runs] = [4, 8, 12].map((offset) => view.getUint32(offset, true));
  let at = PREFIX;
  const header = JSON.parse(text.decode(new Uint8Array(buffer, at, headerBytes)));
  at += headerBytes;
  const jpeg = new Blob([new Uint8Array(buffer, at, jpegBytes)], { type: "image/jpeg" });
  at += jpegBytes;
  const labels = new Uint8Array(header.mask[0] * header.mask[1]);
  for (let run = 0, pixel = 0; run < runs; run++) {
    const length = view.getUint16(at + 2 * run, true);
    labels.fill(view.getUint8(at + 2 * runs + run), pixel, pixel + length);
    pixel += length;
  }
  return { header, jpeg, labels, bytes: buffer.byteLength };
}

/** The socket, opened again whenever it is lost. handlers: frame(parts), message(object), connection(bool, why it was refused) */
export class Connection {
  constructor(handlers) {
    this.handlers = handlers;
    this.hello = [];
    this.next = 1;
    this.waiting = new Map();
    this.delay = 250;
    this.open();
  }

  open() {
    const look = new URLSearchParams(location.search).has("look") ? "?look" : "";
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket${look}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.delay = 250;
      for (const message of this.hello) this.send(message);
      this.handlers.connection(true);
    };
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = ({ code, reason }) => {
      const refusal = REFUSED.includes(code) ? reason : "";
      this.handlers.connection(false, refusal);
      for (const answer of this.waiting.values()) answer({ ok: false, message: "the connection was lost" });
      this.waiting.clear();
      setTimeout(() => this.open(), refusal ? LONGEST : this.delay);
      this.delay = Math.min(LONGEST, 1.6 * this.delay);
    };
    this.socket = socket;
  }

  take(data) {
    if (typeof data !== "string") {
      this.handlers.frame(readFrame(data));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "answer") {
      this.waiting.get(message.request)?.(message);
      this.waiting.delete(message.request);
    } else {
      this.handlers.message(message);
    }
  }

  /** Send a message that has no answer; false when there is no connection. */
  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** Send a request; resolves with its answer. */
  ask(type, fields) {
    const request = this.next++;
    return new Promise((resolve) => {
      this.waiting.set(request, resolve);
      if (!this.send({ type, request, ...fields })) {
        this.waiting.delete(request);
        resolve({ ok: false, message: "there is no connection to the console" });
      }
    });
  }
}
