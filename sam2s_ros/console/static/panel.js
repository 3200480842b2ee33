// The list of objects: choose, rename, class, colour, remove.

import { STATES } from "./colors.js";

const $ = (id) => document.getElementById(id);

export class Panel {
  constructor(page) {
    this.page = page;
    this.rows = new Map();
    this.classes = "";
    // A list that has been used gives the keys back to the page.
    for (const id of ["next_class", "export_name"]) $(id).onchange = () => $(id).blur();
    $("new_object").onclick = () => page.choose(0);
  }

  get objects() {
    const header = this.page.view.frame?.header;
    return header && header.camera === this.page.camera ? header.objects : [];
  }

  show() {
    this.showClasses();
    const objects = this.objects;
    for (const [id, row] of this.rows) {
      if (!objects.some((object) => object.id === id)) {
        row.remove();
        this.rows.delete(id);
        if (this.page.chosen === id) this.page.chosen = 0;
      }
    }
    for (const object of objects) {
      let row = this.rows.get(object.id);
      if (!row) {
        row = this.makeRow(object.id);
        this.rows.set(object.id, row);
        $("objects").append(row);
      }
      this.fill(row, object);
    }
    $("new_object").classList.toggle("on", !this.page.chosen);
  }

  showClasses() {
    const classes = this.page.state?.classes ?? [];
    const key = JSON.stringify(classes);
    if (key === this.classes) return;
    this.classes = key;
    const options = () => [new Option("class: auto", ""), ...classes.map((own) => new Option(own.name, own.name))];
    const chosen = $("next_class").value;
    $("next_class").replaceChildren(...options());
    if (classes.some((own) => own.name === chosen)) $("next_class").value = chosen;
    for (const row of this.rows.values()) row.parts.class.replaceChildren(...options().slice(1));
  }

  makeRow(id) {
    const row = document.createElement("li");
    row.dataset.id = id;
    const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const color = make("input", { type: "color", title: "colour" });
    const name = make("input", { type: "text", maxLength: 40, title: "name of this object" });
    const state = make("span", { className: "state" });
    const remove = make("button", { textContent: "✕", title: "stop tracking it (press twice)" });
    const choice = make("select", { title: "class" });
    const facts = make("span", { className: "facts" });
    row.append(color, name, state, remove, facts, choice);
    row.parts = { color, name, state, remove, class: choice, facts };
    choice.append(...(this.page.state?.classes ?? []).map((own) => new Option(own.name, own.name)));
    row.onclick = (event) => {
      if (event.target === row || event.target === state || event.target === facts) this.page.choose(id);
    };
    color.onchange = () => this.page.describe(id, { color: color.value });
    name.onchange = () => this.page.describe(id, { name: name.value });
    name.onkeydown = (event) => event.key === "Enter" && name.blur();
    choice.onchange = () => {
      choice.blur(); // and from now on it says what the tracker does, also when that refuses
      this.page.reclass(id, choice.value);
    };
    remove.onclick = () => this.page.remove(id, remove);
    return row;
  }

  fill(row, object) {
    const { color, name, state, remove, facts } = row.parts;
    const choice = row.parts.class;
    const description = this.page.description(object.id);
    const busy = document.activeElement;
    if (busy !== color) color.value = this.page.view.color(object.id);
    if (busy !== name) name.value = description.name;
    name.placeholder = `object ${object.id}`;
    if (busy !== choice) choice.value = object.class;
    state.textContent = STATES[object.state] ?? object.state;
    state.className = `state ${state.textContent}`;
    const sure = object.class_score === null ? "" : `, class ${object.class_score.toFixed(2)}`;
    const here = object.stale ? "not known here" : `${object.area} px`;
    facts.textContent = `#${object.id}, score ${object.score.toFixed(2)}${sure}, ${here}`;
    row.classList.toggle("chosen", this.page.chosen === object.id);
    row.classList.toggle("lost", object.state === 3);
    const may = this.page.state?.may === "operator";
    for (const part of [color, name, choice, remove]) part.disabled = !may;
  }
}
