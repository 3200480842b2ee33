// Of a recording: track on, where masks are and how sure they are, frames to look at first, exports.

const $ = (id) => document.getElementById(id);
// Of the timeline's codes: none, four of how sure a mask is, given by a person, stale.
const CODES = ["", "#e5484d", "#f5b83d", "#8fc93a", "#2dd4a7", "#ffffff", "#4b5a66"];
const LEFT = 34; // CSS px for the numbers

export class Annotate {
  constructor(page) {
    this.page = page;
    this.reviewed = "";
    $("track_on").onclick = () => this.press();
    $("export").onclick = () => page.act("export", { name: $("export_name").value });
    $("learn").onclick = () => this.learn();
    $("learn_copy").onclick = () => this.copy();
    $("timeline").onclick = (event) => this.goTo(event);
  }

  /** Whether the page is of a recording. */
  get on() {
    return Boolean(this.page.state?.annotate);
  }

  /** Track on, or stop. */
  press() {
    if (!this.on) return;
    if (this.page.state.annotate.tracking) this.page.act("stop", {});
    else {
      this.page.act("track", {});
      this.page.freeze.leave(); // follow it
      this.page.connection.send({ type: "show", stamp: "0" });
    }
  }

  /** Show the command that learns from what was annotated. */
  async learn() {
    if (!this.on) return;
    const answer = await this.page.act("learn", {});
    if (!answer.ok) return;
    $("learn_text").textContent = `The data set is written. ${answer.message}`;
    $("learn_command").textContent = answer.command;
    $("learning").showModal();
  }

  async copy() {
    const command = $("learn_command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      $("learn_copy").textContent = "Copied";
    } catch { // over http on another machine's address there is no clipboard: marked, Ctrl C takes it
      getSelection().selectAllChildren(command);
      $("learn_copy").textContent = "Press Ctrl C";
    }
    setTimeout(() => ($("learn_copy").textContent = "Copy"), 3000);
  }

  allow(may) {
    for (const id of ["track_on", "export", "learn"]) $(id).disabled = !may;
  }

  onState() {
    const state = this.page.state.annotate;
    document.body.classList.toggle("annotate", this.on);
    $("annotate").hidden = !this.on;
    if (!state) return;
    const { tracking } = state;
    $("track_on").firstChild.data = tracking ? "Stop " : "Track on ";
    $("track_on").classList.toggle("on", Boolean(tracking));
    $("track_progress").hidden = !tracking;
    if (tracking) $("track_progress").value = tracking.total ? tracking.done / tracking.total : 0;
    $("live_text").textContent = "Follow";
    const left = state.to_track ? `${state.to_track} masks to track` : "all is tracked";
    $("track_text").textContent = tracking ? `${tracking.done} of ${tracking.total} frames` : state.message || left;
    if ($("export_name").options.length !== state.exports.length) {
      $("export_name").replaceChildren(...state.exports.map((name) => new Option(name, name)));
    }
    this.drawTimeline(state);
    if (!tracking) this.showReview(state.review);
  }

  drawTimeline({ timeline, frames }) {
    const canvas = $("timeline");
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    const rows = Object.entries(timeline ?? {});
    const place = (at) => LEFT + ((width - LEFT - 6) * at) / frames;
    const tall = Math.min(18, (height - 6) / Math.max(1, rows.length));
    rows.forEach(([number, stretches], row) => {
      const top = 3 + row * tall;
      context.fillStyle = this.page.view.color(Number(number));
      context.fillText(number, 10, top + tall - 4);
      for (const [first, end, code] of stretches) {
        context.fillStyle = CODES[code];
        context.fillRect(place(first), top + 1, Math.max(code === 5 ? 2 : 0.5, place(end) - place(first)), tall - 2);
      }
    });
    const shown = Number(this.page.view.frame?.header.stamp ?? 1) - 1;
    context.fillStyle = "#7cc4ff";
    context.fillRect(place(shown + 0.5) - 1, 0, 2, height);
  }

  goTo(event) {
    const canvas = $("timeline");
    const share = (event.clientX - canvas.getBoundingClientRect().left - LEFT) / (canvas.clientWidth - LEFT - 6);
    const { history } = this.page.freeze;
    this.page.freeze.show(history[Math.max(0, Math.min(history.length - 1, Math.floor(share * history.length)))]);
  }

  /** review: [position, confidence], the least sure first */
  showReview(review) {
    const key = JSON.stringify([review, this.page.state.undo]);
    if (key === this.reviewed) return;
    this.reviewed = key;
    $("review").replaceChildren(...review.map(([position, confidence]) => {
      const button = document.createElement("button");
      button.title = `frame ${position + 1}, confidence ${confidence.toFixed(2)}`;
      const image = document.createElement("img");
      image.src = `thumbnail/${position}`;
      image.loading = "lazy";
      image.alt = button.title;
      const text = document.createElement("span");
      text.textContent = `${position + 1}: ${confidence.toFixed(2)}`;
      button.append(image, text);
      button.onclick = () => this.page.freeze.show(String(position + 1));
      return button;
    }));
  }
}
