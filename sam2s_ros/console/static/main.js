// The page: what comes from the console goes to the parts, what people do goes to the console.

import { Alarm } from "./alarm.js";
import { Annotate } from "./annotate.js";
import { instanceColor } from "./colors.js";
import { Discovery } from "./discovery.js";
import { Freeze } from "./freeze.js";
import { bindKeys } from "./keys.js";
import { drawLanes } from "./lanes.js";
import { Panel } from "./panel.js";
import { Connection } from "./protocol.js";
import { showStatus } from "./status.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const MESSAGE_FOR = 8000; // ms
const OLD = 2000; // ms, from which a picture is not live

class Page {
  constructor() {
    this.state = null; // newest `state` message
    this.stateAt = 0;
    this.camera = "";
    this.awaited = ""; // camera that was chosen, until the console says the first of it
    this.choice = { object: 0 }; // of a person: another object at each choice; 0: the next prompt starts an object
    this.turn = Promise.resolve(); // ends with the answer to the newest prompt
    this.connected = false;
    this.newly = false; // connected, and nothing has come yet
    this.refusal = ""; // why the console has closed the connection
    this.frames = 0;
    this.ages = []; // ms, of the newest frames when they were on the screen
    this.bytes = 0;
    this.view = new View();
    this.view.color = (id) => this.description(id).color || instanceColor(id);
    this.view.name = (object) => this.title(object);
    this.tools = new Tools(this);
    this.panel = new Panel(this);
    this.freeze = new Freeze(this);
    this.alarm = new Alarm(this);
    this.annotate = new Annotate(this);
    this.discovery = new Discovery(this);
    this.connection = new Connection({
      frame: (parts) => this.onFrame(parts),
      message: (message) => this.onMessage(message),
      connection: (open, refusal) => this.onConnection(open, refusal),
    });
    bindKeys(this);
    this.bind();
    setInterval(() => this.tick(), 250);
  }

  bind() {
    $("undo").onclick = () => this.undo();
    $("enable").onclick = () => this.act("enable", { on: this.state?.node?.state === "DISABLED" });
    $("reset").onclick = () => this.sure($("reset"), () => this.act("reset", {}));
    $("opacity").oninput = () => this.setOpacity($("opacity").value / 100);
    $("contours").onchange = () => this.setContours($("contours").checked);
    $("help_open").onclick = () => $("help").showModal();
    $("who").value = localStorage.getItem("sam2s_name") ?? "";
    $("who").onchange = () => {
      localStorage.setItem("sam2s_name", $("who").value);
      this.connection.send({ type: "hello", name: $("who").value });
    };
  }

  // From the console

  async onFrame(parts) {
    const arrived = performance.now();
    // One of before a freeze, or of another camera, may have been under way.
    const wanted = () => (!this.freeze.stamp || parts.header.stamp === this.freeze.stamp) && parts.header.camera === this.camera;
    let drawn = false;
    try {
      drawn = await this.view.show(parts, wanted);
    } catch (error) {
      this.say(`a picture could not be shown: ${error.message}`, true);
    }
    // Asked for once it is on the screen: a page in the background draws nothing, and so gets nothing.
    requestAnimationFrame(() => {
      const shown = performance.now() - arrived;
      this.frames++;
      if (parts.header.age !== null && !parts.header.frozen) this.ages = [...this.ages.slice(-599), parts.header.age + shown];
      this.bytes += parts.bytes;
      this.connection.send({ type: "ack", count: parts.header.count, shown });
    });
    if (drawn) {
      $("empty").hidden = true;
      this.freeze.onFrame(parts.header);
    }
    this.panel.show();
    this.note();
  }

  onMessage(message) {
    if (message.type === "refused") {
      this.say(message.message, true);
      return;
    }
    if (message.type !== "state" || (this.awaited && message.camera !== this.awaited)) return;
    this.awaited = "";
    if (this.newly) this.say("connected"); // not before: one that is refused is open for a moment as well
    this.newly = false;
    this.refusal = "";
    this.state = message;
    this.stateAt = performance.now();
    if (message.camera !== this.camera) this.forget(message.camera);
    if (message.camera && !this.connection.hello.length) this.want(message.camera); // where people are who chose none
    this.showCameras();
    this.panel.show();
    this.annotate.onState();
    this.freeze.onState();
    this.alarm.check();
    drawLanes($("lanes"), message.lanes, message.newest, (id) => this.view.color(id));
    showStatus(this);
    const may = message.may === "operator";
    $("may").hidden = may;
    for (const element of document.querySelectorAll("#undo, #discover, #enable, #reset, [data-tool]:not([data-tool=pick]), #new_object")) {
      element.disabled = !may;
    }
    $("undo").disabled ||= !message.undo;
    this.annotate.allow(may);
    $("undo").title = message.undo ? `take back: ${message.undo}` : "nothing to take back";
    const off = message.node?.state === "DISABLED";
    $("enable").firstChild.data = off ? "On " : "Off ";
    $("enable").classList.toggle("on", off);
  }

  onConnection(open, refusal = "") {
    this.connected = this.newly = open;
    this.awaited = "";
    if (open) {
      this.connection.send({ type: "hello", name: $("who").value });
      this.freeze.resume();
    } else {
      this.refusal = refusal;
      if (refusal) this.say(refusal, true);
    }
    this.tick();
  }

  tick() {
    // What does not come any more must not look as if it did.
    const silent = !this.connected || performance.now() - this.stateAt > 2000;
    const node = this.state?.node?.state ?? "GONE";
    $("stage").classList.toggle("stale", silent || this.old || !["RUNNING", "DISABLED"].includes(node));
    const chip = $("node_state");
    const gone = this.refusal ? "REFUSED" : "NO CONNECTION";
    chip.textContent = silent ? gone : node;
    chip.title = (silent ? this.refusal : this.state?.node?.message) ?? "";
    chip.className = `chip ${silent || node !== "RUNNING" ? "bad" : "good"}`;
    this.alarm.check(silent);
    this.note();
  }

  /** Nothing of another camera is shown, or chosen, on this one. */
  forget(camera) {
    this.camera = camera;
    this.chosen = 0;
    this.turn = Promise.resolve(); // this camera waits for no answer about another
    this.tools.drop();
    this.tools.hover(null);
    this.view.clear();
    $("empty").hidden = false;
    this.freeze.leave();
    for (const button of document.querySelectorAll(".sure")) button.classList.remove("sure");
    this.panel.show();
  }

  // What people do

  watch(camera) {
    if (camera === this.camera && camera === this.connection.hello[0]?.camera) return;
    this.forget(camera);
    this.want(camera);
    this.awaited = camera;
    this.connection.send({ type: "watch", camera });
  }

  /** Come back to this camera after a loss of the connection, also when the console finds others sooner. */
  want(camera) {
    this.connection.hello = [{ type: "watch", camera }];
  }

  /** Header of the picture that is on the screen; null, and said so, when there is none of this camera. */
  pictured() {
    const header = this.view.frame?.header;
    if (header && header.camera === this.camera) return header;
    this.say("there is no picture of this camera yet", true);
    return null;
  }

  async act(type, fields) {
    const answer = await this.connection.ask(type, { camera: this.camera, ...fields });
    this.say(answer.message, !answer.ok);
    return answer;
  }

  /** Prompt on the picture that is on the screen, about the object that is chosen now. */
  async prompt(fields) {
    const header = this.pictured();
    if (!header) return;
    this.view.clicks.push(...(fields.points ?? []));
    this.view.drawMarks();
    await this.promptAbout(this.choice, { stamp: header.stamp, class: $("next_class").value, ...fields });
    this.view.drawMarks();
  }

  /** Prompt about the object of a choice, to which the answer gives its number; class: of one that is started. */
  async promptAbout(choice, fields) {
    const { camera } = this;
    const answer = await this.inTurn(() => {
      const { object } = choice;
      this.say(object ? `correcting object ${object} ...` : "starting an object ...");
      return this.act("prompt", { ...fields, camera, object, class: object ? "" : fields.class });
    });
    if (answer.ok) choice.object = answer.objects[0];
    if (this.choice !== choice) return answer; // somebody has chosen something else meanwhile
    if (answer.ok) this.showChosen();
    else this.view.clicks = [];
    return answer;
  }

  /** Ask once what was asked before is answered: a click may be about the object that the one before has started. */
  inTurn(ask) {
    this.turn = this.turn.then(ask, ask);
    return this.turn;
  }

  async undo() {
    const { camera, choice } = this;
    this.view.clicks.pop();
    const answer = await this.inTurn(() => this.act("undo", { camera }));
    if (answer.ok && answer.objects?.length && this.choice === choice) this.choose(answer.objects[0]);
  }

  remove(id, button) {
    this.sure(button, () => this.act("remove", { objects: [id] }));
  }

  reclass(id, name) {
    this.act("prompt", { stamp: "0", object: id, class: name });
  }

  describe(id, change) {
    this.act("describe", { object: id, ...this.description(id), ...change });
  }

  /** Number of the object that is chosen; 0: none. */
  get chosen() {
    return this.choice.object;
  }

  set chosen(id) {
    this.choice = { object: id };
    this.view.chosen = id;
  }

  choose(id) {
    if (!id || id !== this.chosen) this.view.clicks = [];
    this.chosen = id;
    this.showChosen();
  }

  showChosen() {
    this.view.chosen = this.chosen;
    this.view.drawMasks();
    this.view.drawMarks();
    this.panel.show();
  }

  setOpacity(value) {
    this.view.opacity = Math.max(0, Math.min(1, value));
    $("opacity").value = 100 * this.view.opacity;
    this.view.drawMasks();
  }

  setContours(on) {
    this.view.contours = $("contours").checked = on;
    this.view.drawMasks();
  }

  // Helpers

  description(id) {
    return this.state?.names[id] ?? { name: "", color: "" };
  }

  title(object) {
    const name = this.description(object.id).name;
    return name ? `${object.id} ${name}` : `${object.id} ${object.class}`;
  }

  /** Do it on the second press within 3 s. */
  sure(button, act) {
    if (button?.classList.contains("sure")) {
      button.classList.remove("sure");
      act();
      return;
    }
    button?.classList.add("sure");
    this.say("once more, to be sure", true);
    setTimeout(() => button?.classList.remove("sure"), 3000);
  }

  say(sentence, bad = false) {
    const line = $("message");
    line.textContent = sentence;
    line.classList.toggle("bad", bad);
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => (line.textContent = ""), MESSAGE_FOR);
  }

  /** ms since the image on the screen was taken, or, where its stamp does not say that, since it came; null without one. */
  age() {
    const { frame } = this.view;
    return frame && (frame.header.age ?? 0) + performance.now() - frame.arrived;
  }

  /** Whether the picture is not live, though nobody stays on it. */
  get old() {
    return !this.freeze.stamp && !this.annotate.on && this.age() > OLD;
  }

  /** What must be said over the picture itself. */
  note() {
    const header = this.view.frame?.header;
    let text = "";
    if (this.old) text = `${header.age === null ? "No newer picture for" : "This picture is old:"} ${(this.age() / 1000).toFixed(0)} s`;
    else if (header && !header.tracked) text = "Input without masks: nothing is tracked";
    else if (header?.late) text = "These masks came too late to act on";
    else if (header?.objects.some((own) => own.stale)) {
      const ids = header.objects.filter((own) => own.stale).map((own) => own.id);
      text = `Corrected on an earlier picture, and not known on this one: ${ids.join(", ")}`;
    } else if (this.freeze.expired) text = "This picture is too old to be prompted: go live, or raise prompt_history";
    else if (this.freeze.stamp && !this.annotate.on) text = "Frozen";
    $("note").textContent = text;
    $("note").hidden = !text;
  }

  showCameras() {
    const names = this.state.cameras;
    const key = JSON.stringify([names, this.camera]);
    if (key === this.shownCameras) return;
    this.shownCameras = key;
    $("cameras").replaceChildren(...names.map(([name, alive]) => {
      const button = document.createElement("button");
      button.textContent = name;
      button.className = `${name === this.camera ? "on" : ""} ${alive ? "" : "gone"}`;
      button.onclick = () => this.watch(name);
      return button;
    }));
  }

  nextCamera() {
    const names = (this.state?.cameras ?? []).map(([name]) => name);
    if (names.length > 1) this.watch(names[(names.indexOf(this.camera) + 1) % names.length]);
  }
}

globalThis.sam2s = new Page(); // for those who measure it, or drive it by a script
