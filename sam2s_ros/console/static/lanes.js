// A lane for each object: its states over the last minutes, by colour, the newest at the right.

import { STATE_COLORS } from "./colors.js";

const LENGTHS = [10, 30, 60, 120, 300, 600]; // s, the shortest that holds all is shown
const LEFT = 34; // CSS px for the ids

/** lanes: of each id [ms, state] at each change; now: ms, of the newest masks */
export function drawLanes(canvas, lanes, now, color) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  const rows = Object.entries(lanes).slice(-6);
  const times = rows.flatMap(([, changes]) => changes.map(([time]) => time));
  if (!rows.length) {
    context.fillStyle = "#9fb0bc";
    context.fillText("States of the objects over time", 10, 18);
    return;
  }
  const span = 1000 * (LENGTHS.find((length) => now - Math.min(...times) <= 1000 * length) ?? LENGTHS[LENGTHS.length - 1]);
  const place = (time) => LEFT + (width - LEFT - 6) * Math.max(0, 1 - (now - time) / span);
  const tall = Math.min(18, (height - 18) / rows.length);
  rows.forEach(([id, changes], row) => {
    const top = 4 + row * tall;
    context.fillStyle = color(Number(id));
    context.fillText(id, 10, top + tall - 4);
    changes.forEach(([time, state], index) => {
      const end = changes[index + 1]?.[0] ?? now;
      if (end < now - span || !state) return;
      context.fillStyle = STATE_COLORS[state] ?? "#888";
      context.fillRect(place(time), top + 2, Math.max(1, place(end) - place(time)), tall - 4);
    });
  });
  context.fillStyle = "#9fb0bc";
  context.fillText(`${span / 1000} s`, LEFT, height - 4);
  context.fillText("now", width - 30, height - 4);
}
