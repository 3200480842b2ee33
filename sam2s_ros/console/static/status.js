// The line at the bottom: ages, times, losses by cause, device.

const DROPS = ["overload", "stamp", "image", "disabled", "error", "late"];
let last = { frames: 0, bytes: 0, at: 0 };
let rate = "";

export function showStatus(page) {
  const footer = document.getElementById("status");
  const node = page.state.node;
  const now = performance.now();
  if (now - last.at > 1000) {
    const seconds = (now - last.at) / 1000;
    rate = `${((page.frames - last.frames) / seconds).toFixed(1)} pictures/s, ${((page.bytes - last.bytes) / seconds / 1024).toFixed(0)} KiB/s`;
    last = { frames: page.frames, bytes: page.bytes, at: now };
  }
  if (!node) {
    footer.replaceChildren(item("no tracker was found: is one running on this ROS_DOMAIN_ID?", true));
    return;
  }
  if (page.state.annotate) {
    footer.replaceChildren(item(page.state.annotate.folder), item(`${node.model} on ${node.device}`), item(rate));
    return;
  }
  const ms = (value) => (value >= 0 ? `${value.toFixed(0)} ms` : "?");
  const header = page.view.frame?.header;
  const age = header && header.age !== null ? page.age() : null; // as it is now, also when no other follows
  const dropped = DROPS.map((cause) => [cause, node[`dropped_${cause}`] ?? 0]).filter(([, count]) => count);
  const items = [
    item(`picture ${age === null ? "of a recording" : `${age.toFixed(0)} ms old`}`, age !== null && age > 1000),
    item(`input ${node.input_age >= 0 ? `${node.input_age.toFixed(1)} s ago` : "none"}`, node.state === "STALE_INPUT"),
    item(`step ${ms(node.step_p50 ?? -1)} / p99 ${ms(node.step_p99 ?? -1)}`),
    item(`latency ${ms(node.latency_p50 ?? -1)} / p99 ${ms(node.latency_p99 ?? -1)}`),
    item(rate),
    item(`received ${node.received ?? 0}, published ${node.published ?? 0}`),
    item(dropped.length ? `dropped: ${dropped.map(([cause, count]) => `${cause} ${count}`).join(", ")}` : "none dropped", dropped.length > 0),
    item(`${node.model ?? ""} on ${node.device ?? ""}`),
  ];
  footer.replaceChildren(...items);
}

function item(text, bad = false) {
  const span = document.createElement("span");
  span.textContent = text;
  span.className = bad ? "bad" : "";
  return span;
}
