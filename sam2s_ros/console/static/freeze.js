// Staying on one picture, and going through those that can still be prompted.

const $ = (id) => document.getElementById(id);

export class Freeze {
  constructor(page) {
    this.page = page;
    this.stamp = ""; // of the frozen picture; "": live
    this.held = false; // frozen only while somebody draws
    $("freeze").onclick = () => this.toggle();
    $("live").onclick = () => this.toggle();
    $("earlier").onclick = () => this.step(-1);
    $("later").onclick = () => this.step(1);
    $("scrubber").oninput = () => this.show(this.history[$("scrubber").value]);
  }

  get history() {
    const frames = this.page.state?.annotate?.frames; // of a recording: all of them
    if (!frames) return this.page.state?.history ?? [];
    if (this.all?.length !== frames) this.all = Array.from({ length: frames }, (_, at) => String(at + 1));
    return this.all;
  }

  /** Whether the frozen picture can no longer be prompted. */
  get expired() {
    return Boolean(this.stamp) && !this.held && this.history.length > 0 && this.at < 0;
  }

  /** Where the frozen picture is in `history`: -1 for one that is too old, the length for one that it does not tell of yet. */
  get at() {
    const { history, stamp } = this;
    const at = history.indexOf(stamp);
    return at < 0 && history.length && BigInt(stamp) > BigInt(history[history.length - 1]) ? history.length : at;
  }

  toggle() {
    if (this.stamp) {
      this.leave();
      this.page.connection.send({ type: "show", stamp: "0" });
    } else if (this.page.view.frame) {
      this.show(this.page.view.frame.header.stamp);
    }
  }

  /** Keep the picture for as long as a press lasts. */
  hold(on) {
    const header = this.page.view.frame?.header;
    if (on && !this.stamp && header?.tracked) {
      this.held = true;
      this.stamp = header.stamp;
      this.page.connection.send({ type: "show", stamp: header.stamp });
    } else if (!on && this.held) {
      this.leave();
      this.page.connection.send({ type: "show", stamp: "0" });
    }
  }

  show(stamp) {
    if (!stamp) return;
    this.held = false;
    this.stamp = stamp;
    this.page.view.clicks = [];
    this.page.connection.send({ type: "show", stamp });
    this.onState();
  }

  /** Stay on the picture in another connection, which begins live. */
  resume() {
    if (this.stamp) this.page.connection.send({ type: "show", stamp: this.stamp });
  }

  /** Of a recording: the frame on the screen, which may be any. */
  showPlace(frozen) {
    $("scrub").hidden = false;
    $("freeze").classList.toggle("on", frozen);
    const count = this.history.length;
    const at = Number(this.stamp || this.page.view.frame?.header.stamp || 1) - 1;
    $("scrubber").max = count - 1;
    if (document.activeElement !== $("scrubber") || !frozen) $("scrubber").value = at;
    $("scrub_text").textContent = `frame ${at + 1} of ${count}`;
  }

  step(by) {
    if (this.page.annotate.on && !this.stamp) {
      const at = Number(this.page.view.frame?.header.stamp ?? 1) - 1 + by;
      this.show(this.history[Math.max(0, Math.min(this.history.length - 1, at))]);
      return;
    }
    if (!this.stamp) {
      this.toggle();
      return;
    }
    this.show(this.history[Math.max(0, Math.min(this.history.length - 1, this.at + by))]);
  }

  /** Live, as after the choice of another camera. */
  leave() {
    this.stamp = "";
    this.held = false;
    this.onState();
  }

  onFrame(header) {
    $("stage").dataset.stamp = header.stamp;
    if (this.page.annotate.on) this.onState();
  }

  onState() {
    const frozen = Boolean(this.stamp) && !this.held;
    if (this.page.annotate.on) {
      this.showPlace(frozen);
      return;
    }
    $("scrub").hidden = !frozen;
    $("stage").classList.toggle("frozen", frozen);
    $("freeze").classList.toggle("on", frozen);
    if (!frozen) return;
    const at = Math.min(this.at, this.history.length - 1);
    $("scrubber").max = Math.max(0, this.history.length - 1);
    if (at >= 0) $("scrubber").value = at;
    const newest = this.history[this.history.length - 1];
    const behind = newest ? Math.max(0, Number(BigInt(newest) - BigInt(this.stamp)) / 1e9) : 0;
    $("scrub_text").textContent = `${behind.toFixed(2)} s ago, ${at < 0 ? "too old" : `${at + 1} of ${this.history.length}`}`;
    this.page.note();
  }
}
