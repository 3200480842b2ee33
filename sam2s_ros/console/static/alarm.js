// What a person must not miss: an object that is LOST, an input that is stale, a tracker or a console that is gone.

const $ = (id) => document.getElementById(id);
const LOST = 3; // of TrackedObject
const BAD_STATES = {
  GONE: "The tracker is gone",
  STALE_INPUT: "No images: the input is stale",
  ERROR: "The tracker has an error",
  INACTIVE: "The tracker is not active",
  UNKNOWN: "The tracker is not configured",
};

export class Alarm {
  constructor(page) {
    this.page = page;
    this.seen = new Set(); // reasons that somebody has seen, until they are over
    this.reasons = new Map();
    this.silent = false;
    $("alarm_seen").onclick = () => this.acknowledge();
  }

  /** Look at everything again. silent: whether nothing is heard of the console */
  check(silent = this.silent) {
    this.silent = silent;
    const now = new Map();
    const node = this.page.state?.node;
    if (silent && this.page.stateAt) now.set("console", "No connection to the console: the picture is old");
    else if (node && BAD_STATES[node.state]) now.set(node.state, `${BAD_STATES[node.state]}. ${node.message ?? ""}`);
    if (!silent) {
      // From the lanes, not from the picture: that may be frozen, and a page in the background gets none.
      for (const [id, changes] of Object.entries(this.page.state?.lanes ?? {})) {
        const name = this.page.description(id).name || `object ${id}`;
        if (changes[changes.length - 1][1] === LOST) now.set(`lost ${id}`, `LOST: ${name}`);
      }
    }
    for (const key of this.seen) if (!now.has(key)) this.seen.delete(key);
    const fresh = [...now.keys()].some((key) => !this.seen.has(key));
    const arose = [...now.keys()].some((key) => !this.reasons.has(key));
    this.reasons = now;
    $("alarm").hidden = !now.size;
    $("alarm").classList.toggle("new", fresh);
    $("alarm_seen").hidden = !fresh;
    const text = [...now.values()].join("  |  ");
    if ($("alarm_text").textContent !== text) $("alarm_text").textContent = text;
    document.title = now.size ? "! sam2s console" : "sam2s console";
    if (arose) this.beep();
  }

  acknowledge() {
    this.seen = new Set(this.reasons.keys());
    this.check();
  }

  beep() {
    // Browsers keep silent until somebody has touched the page.
    if (!navigator.userActivation?.hasBeenActive) return;
    this.audio ??= new AudioContext();
    for (const [delay, pitch] of [[0, 880], [0.2, 660]]) {
      const tone = new OscillatorNode(this.audio, { frequency: pitch });
      const gain = new GainNode(this.audio, { gain: 0.12 });
      tone.connect(gain).connect(this.audio.destination);
      tone.start(this.audio.currentTime + delay);
      tone.stop(this.audio.currentTime + delay + 0.15);
    }
  }
}
