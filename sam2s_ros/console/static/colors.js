// A colour for each instance: neighbours in id are far apart in hue, and people may choose another.

export const STATES = ["", "TRACKED", "OCCLUDED", "LOST", "SUSPECT"];
export const STATE_COLORS = ["#2f3a43", "#2dd4a7", "#f5b83d", "#e5484d", "#c084fc"];

/** "#rrggbb" of an object's id. */
export function instanceColor(id) {
  const hue = (id * 137.508 + 20) % 360;
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const value = 0.58 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

/** [r, g, b] of "#rrggbb". */
export function channels(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}
