// Pointer: click, box, stroke and pick, by mouse, pen or finger.

const DRAG = 5; // CSS px from which a press is no click
const STROKE_POINTS = 12; // of one stroke, evenly along it

export class Tools {
  constructor(page) {
    this.page = page;
    this.view = page.view;
    this.stage = page.view.stage;
    this.tool = "add";
    this.press = null; // {id, from: [x, y], start: [clientX, clientY], path, sign}
    for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => this.choose(button.dataset.tool);
    this.choose("add");
    this.stage.onpointerdown = (event) => this.down(event);
    this.stage.onpointermove = (event) => this.move(event);
    this.stage.onpointerup = (event) => this.up(event);
    this.stage.onpointercancel = () => this.drop();
    this.stage.onpointerleave = () => this.hover(null);
    this.stage.oncontextmenu = (event) => event.preventDefault();
  }

  choose(tool) {
    this.tool = tool;
    this.drop();
    for (const button of document.querySelectorAll("[data-tool]")) button.classList.toggle("on", button.dataset.tool === tool);
  }

  /** Forget what is begun, for which the picture has stayed. */
  drop() {
    this.press = this.view.mark = null;
    this.view.drawMarks();
    this.page.freeze?.hold(false); // there is none yet when the page is made
  }

  down(event) {
    const from = this.view.at(event.clientX, event.clientY);
    if (!from || this.press || (event.button !== 0 && event.button !== 2)) return;
    this.stage.setPointerCapture(event.pointerId);
    const off = event.button === 2 || event.altKey || this.tool === "subtract";
    this.press = { id: event.pointerId, from, start: [event.clientX, event.clientY], path: [from], sign: off ? 0 : 1 };
    // The picture stays while somebody draws on it: what is prompted is what was seen.
    this.page.freeze.hold(true);
  }

  move(event) {
    const at = this.view.at(event.clientX, event.clientY, Boolean(this.press));
    if (!this.press) {
      this.hover(event, at);
      return;
    }
    if (event.pointerId !== this.press.id) return;
    this.press.path.push(at);
    const dragged = Math.hypot(event.clientX - this.press.start[0], event.clientY - this.press.start[1]) > DRAG;
    if (!dragged) return;
    this.press.dragged = true;
    if (this.tool === "box") this.view.mark = { box: [...this.press.from, ...at] };
    else if (this.tool === "stroke") this.view.mark = { stroke: this.press.path };
    this.view.drawMarks();
  }

  up(event) {
    const press = this.press;
    if (!press || event.pointerId !== press.id) return;
    const to = this.view.at(event.clientX, event.clientY, true);
    this.drop();
    const proposal = press.sign && !press.dragged ? this.page.discovery.at(press.from) : null;
    if (proposal) this.page.discovery.accept(proposal);
    else if (this.tool === "pick") this.page.choose(this.view.objectAt(press.from)?.id ?? 0);
    else if (this.tool === "box" && press.sign) this.box(press, to);
    else if (this.tool === "stroke" && press.dragged) this.stroke(press.path, press.sign);
    else this.click(press.from, press.sign);
  }

  box(press, to) {
    if (press.dragged) this.finishBox(press.from, to);
    else this.page.say("drag from one corner of the object to the other", true);
  }

  /** Prompt with the box between two corners. */
  finishBox([ax, ay], [bx, by]) {
    // Corners are edges of pixels, the pointer's places are centres.
    const box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx) + 1, Math.max(ay, by) + 1].map(Math.round);
    const { width, height } = this.view.frame.header;
    this.page.prompt({ box: [box[0], box[1], Math.min(width, box[2]), Math.min(height, box[3])] });
  }

  click(at, sign) {
    const proposal = sign ? this.page.discovery.at(at) : null;
    if (proposal) {
      this.page.discovery.accept(proposal);
      return;
    }
    this.page.prompt({ points: [[...at, sign]] });
  }

  stroke(path, sign) {
    const lengths = [0];
    for (let i = 1; i < path.length; i++) {
      lengths.push(lengths[i - 1] + Math.hypot(path[i][0] - path[i - 1][0], path[i][1] - path[i - 1][1]));
    }
    const total = lengths[lengths.length - 1];
    const points = [];
    for (let n = 0; n < STROKE_POINTS; n++) {
      const index = lengths.findIndex((length) => length >= (total * n) / (STROKE_POINTS - 1) - 1e-6);
      const [x, y] = path[index];
      if (!points.some((own) => own[0] === x && own[1] === y)) points.push([x, y, sign]);
    }
    this.page.prompt({ points });
  }

  hover(event, at) {
    const object = at ? this.view.objectAt(at) : null;
    const tip = document.getElementById("tip");
    tip.hidden = !object;
    if (object) {
      const place = this.stage.getBoundingClientRect();
      tip.textContent = `${this.page.title(object)}, ${object.score.toFixed(2)}, (${Math.round(at[0])}, ${Math.round(at[1])})`;
      tip.style.left = `${Math.min(event.clientX - place.left + 14, place.width - 200)}px`;
      tip.style.top = `${event.clientY - place.top + 14}px`;
    }
    const id = object?.id ?? 0;
    if (id !== this.view.hovered) {
      this.view.hovered = id;
      this.view.drawMasks();
    }
  }
}
