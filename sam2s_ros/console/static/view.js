// The picture, the masks over it, and the marks of what is being drawn.

import { channels } from "./colors.js";

export class View {
  constructor() {
    this.stage = document.getElementById("stage");
    [this.picture, this.masks, this.marks] = ["picture", "masks", "marks"].map((id) => document.getElementById(id));
    this.small = document.createElement("canvas");
    this.frame = null; // {header, labels, arrived (ms)} of what is on the screen
    this.opacity = 0.45;
    this.contours = true;
    this.hovered = 0;
    this.chosen = 0;
    this.color = () => "#ffffff";
    new ResizeObserver(() => this.drawMarks()).observe(this.stage);
    this.mark = null; // {box: [x0, y0, x1, y1]} or {points: [[x, y, sign]]} or {stroke: [[x, y]]}
    this.cross = null; // [x, y], moved by keys
    this.proposals = null; // {stamp, camera, list}: what discovery has found on a picture
    this.clicks = []; // [x, y, sign] on this picture, until another object or picture
  }

  /** Draw a frame; resolves once it is on the canvas, with false when it was not `wanted` any more. */
  async show({ header, jpeg, labels }, wanted = () => true) {
    const arrived = performance.now();
    if (!wanted()) return false;
    const image = await createImageBitmap(jpeg);
    if (!wanted()) {
      image.close();
      return false;
    }
    if (this.frame && this.frame.header.stamp !== header.stamp && !header.frozen) this.clicks = [];
    for (const canvas of [this.picture, this.masks]) {
      if (canvas.width !== image.width || canvas.height !== image.height) {
        canvas.width = image.width;
        canvas.height = image.height;
      }
    }
    this.picture.getContext("2d").drawImage(image, 0, 0);
    image.close();
    this.frame = { header, labels, arrived };
    this.drawMasks();
    this.drawMarks();
    return true;
  }

  /** Show nothing, until there is a frame. */
  clear() {
    this.frame = this.mark = this.cross = this.proposals = null;
    this.clicks = [];
    this.picture.getContext("2d").clearRect(0, 0, this.picture.width, this.picture.height);
    this.drawMasks();
    this.drawMarks();
  }

  /** Proposals of the picture that is on the screen. */
  shownProposals() {
    const header = this.frame?.header;
    const own = this.proposals && header && this.proposals.stamp === header.stamp && this.proposals.camera === header.camera;
    return own ? this.proposals.list : [];
  }

  drawMasks() {
    const context = this.masks.getContext("2d");
    context.clearRect(0, 0, this.masks.width, this.masks.height);
    if (!this.frame || !this.frame.header.objects.length) return;
    const { header, labels } = this.frame;
    const [width, height] = header.mask;
    this.small.width = width;
    this.small.height = height;
    const small = this.small.getContext("2d");
    const image = small.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [fill, line] = this.palette(header.objects);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const label = labels[at];
        if (!line[label]) continue;
        const edge = this.contours && ((x > 0 && labels[at - 1] !== label) || (x + 1 < width && labels[at + 1] !== label)
          || (y > 0 && labels[at - width] !== label) || (y + 1 < height && labels[at + width] !== label));
        pixels[at] = edge ? line[label] : fill[label];
      }
    }
    small.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    // Every n-th pixel was sent, from the first on: the last one may stand for fewer than n.
    const step = Math.ceil(header.width / width);
    const scale = this.masks.width / header.width;
    context.drawImage(this.small, 0, 0, width * step * scale, height * step * scale);
  }

  /** Colours of labels as the bytes of ImageData, of the inside and of the outline. */
  palette(objects) {
    const fill = new Uint32Array(256);
    const line = new Uint32Array(256);
    for (const object of objects) {
      const [r, g, b] = channels(this.color(object.id));
      const strong = object.id === this.hovered || object.id === this.chosen;
      const alpha = object.state === 4 ? 0.1 : Math.min(1, this.opacity + (strong ? 0.2 : 0));
      const rgb = (b << 16) | (g << 8) | r;
      fill[object.label] = ((Math.round(255 * alpha) << 24) | rgb) >>> 0;
      line[object.label] = ((255 << 24) | rgb) >>> 0;
    }
    return [fill, line];
  }

  /** Scale and offset from px of the image to CSS px of the stage, as object-fit: contain does it. */
  fit() {
    const { width, height } = this.frame.header;
    const { clientWidth, clientHeight } = this.stage;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    return [scale, (clientWidth - width * scale) / 2, (clientHeight - height * scale) / 2];
  }

  /** px of the image at a place of the window, clamped into it; null when outside and not `clamp`. */
  at(clientX, clientY, clamp = false) {
    if (!this.frame) return null;
    const { width, height } = this.frame.header;
    const place = this.stage.getBoundingClientRect();
    const [scale, left, top] = this.fit();
    const x = (clientX - place.left - left) / scale - 0.5; // the centre of the first pixel is (0, 0)
    const y = (clientY - place.top - top) / scale - 0.5;
    if (!clamp && (x < -0.5 || y < -0.5 || x > width - 0.5 || y > height - 0.5)) return null;
    return [Math.max(0, Math.min(width - 1, x)), Math.max(0, Math.min(height - 1, y))];
  }

  /** The object at px of the image, or null. */
  objectAt([x, y]) {
    const { header, labels } = this.frame;
    const step = Math.ceil(header.width / header.mask[0]);
    const column = Math.min(header.mask[0] - 1, Math.round(x / step));
    const label = labels[Math.min(header.mask[1] - 1, Math.round(y / step)) * header.mask[0] + column];
    return header.objects.find((object) => object.label === label) ?? null;
  }

  drawMarks() {
    const canvas = this.marks;
    const ratio = devicePixelRatio || 1;
    canvas.width = this.stage.clientWidth * ratio;
    canvas.height = this.stage.clientHeight * ratio;
    if (!this.frame) return;
    const context = canvas.getContext("2d");
    const [scale, left, top] = this.fit();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const place = ([x, y]) => [left + (x + 0.5) * scale, top + (y + 0.5) * scale];
    for (const proposal of this.shownProposals()) this.outline(context, proposal, place);
    for (const object of this.frame.header.objects) this.caption(context, object, place);
    for (const [x, y, sign] of [...this.clicks, ...(this.mark?.points ?? [])]) this.dot(context, place([x, y]), sign);
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    if (this.mark?.box) {
      const [x0, y0] = place(this.mark.box.slice(0, 2));
      const [x1, y1] = place(this.mark.box.slice(2));
      context.setLineDash([6, 4]);
      context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
      context.setLineDash([]);
    }
    if (this.mark?.stroke) {
      context.beginPath();
      for (const point of this.mark.stroke) context.lineTo(...place(point));
      context.stroke();
    }
    if (this.cross) {
      const [x, y] = place(this.cross);
      context.beginPath();
      context.moveTo(x - 14, y);
      context.lineTo(x + 14, y);
      context.moveTo(x, y - 14);
      context.lineTo(x, y + 14);
      context.stroke();
    }
  }

  outline(context, { outline, class: name, score }, place) {
    context.beginPath();
    for (const part of outline) {
      part.forEach((point, at) => (at ? context.lineTo(...place(point)) : context.moveTo(...place(point))));
      context.closePath();
    }
    context.fillStyle = "#7cc4ff33";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#7cc4ff";
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
    if (!outline.length) return;
    const [x, y] = place(outline[0].reduce((top, own) => (own[1] < top[1] ? own : top)));
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = "#cfe8ff";
    context.fillText(`${name || "?"} ${score.toFixed(2)}`, x, Math.max(12, y - 4));
  }

  caption(context, object, place) {
    if (!object.area) return;
    const [x, y] = place([object.box[0], object.box[1]]);
    const text = this.name(object);
    context.font = "600 13px system-ui, sans-serif";
    const width = context.measureText(text).width;
    const left = Math.max(0, Math.min(x, this.stage.clientWidth - width - 10));
    const bottom = Math.max(18, y);
    context.fillStyle = "#000b";
    context.fillRect(left, bottom - 18, width + 10, 18);
    context.fillStyle = this.color(object.id);
    context.fillText(text, left + 5, bottom - 5);
  }

  dot(context, [x, y], sign) {
    context.beginPath();
    context.arc(x, y, 6, 0, 2 * Math.PI);
    context.fillStyle = sign ? "#16c784" : "#e5484d";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3, y);
    context.lineTo(x + 3, y);
    if (sign) {
      context.moveTo(x, y - 3);
      context.lineTo(x, y + 3);
    }
    context.stroke();
  }

  name(object) {
    return `${object.id} ${object.class}`;
  }
}
