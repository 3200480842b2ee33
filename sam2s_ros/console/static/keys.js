// Everything by keys.

const $ = (id) => document.getElementById(id);
const TOOLS = { p: "add", m: "subtract", b: "box", s: "stroke", v: "pick" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const GO_ON = [...Object.keys(ARROWS), ",", ".", "[", "]"]; // for as long as they are held; any other acts once a press

export function bindKeys(page) {
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=text], input:not([type])") || document.querySelector("dialog[open]");
    if (typing || event.metaKey || (event.ctrlKey && event.key.toLowerCase() !== "z")) return;
    // Above all a key that is held is no second press, neither of the key itself nor of a button that has the focus.
    if (event.repeat && !GO_ON.includes(event.key)) {
      if (event.key === "Enter" || event.key.length === 1) event.preventDefault();
      return;
    }
    // Enter and space on a button press it, on a list open it.
    if (event.target.matches?.("button, select") && ["Enter", " "].includes(event.key)) return;
    if (event.target.matches?.("input[type=range], select") && ARROWS[event.key]) return;
    // A letter chooses nothing in a list: the class of an object would be another one.
    const chooses = event.target.matches?.("select") && event.key.length === 1;
    if (press(page, event) || chooses) event.preventDefault();
  });
}

function press(page, event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const may = page.state?.may === "operator";
  if (TOOLS[key]) page.tools.choose(TOOLS[key]);
  else if (ARROWS[key]) moveCross(page, ARROWS[key], event.shiftKey ? 10 : 1);
  else if (key === "Enter") atCross(page, event.shiftKey);
  else if (key >= "1" && key <= "9") chooseNumber(page, Number(key));
  else if (key === "n") page.choose(0);
  else if (key === "Escape") escape(page);
  else if (key === "d") may && page.discovery.look();
  else if (key === "u" || (key === "z" && event.ctrlKey)) may && page.undo();
  else if (key === "Delete" || key === "Backspace") removeChosen(page);
  else if (key === "c") nextClass(page, event.shiftKey);
  else if (key === "f" || key === " ") page.freeze.toggle();
  else if (key === ",") page.freeze.step(-1);
  else if (key === ".") page.freeze.step(1);
  else if (key === "[") page.setOpacity(page.view.opacity - 0.1);
  else if (key === "]") page.setOpacity(page.view.opacity + 0.1);
  else if (key === "o") page.setContours(!page.view.contours);
  else if (key === "e") may && $("enable").click();
  else if (key === "r") may && $("reset").click();
  else if (key === "g") may && page.annotate.press();
  else if (key === "l") may && page.annotate.learn();
  else if (key === "t") page.nextCamera();
  else if (key === "a") page.alarm.acknowledge();
  else if (key === "?") $("help").showModal();
  else return false;
  return true;
}

function chooseNumber(page, id) {
  if (page.panel.objects.some((object) => object.id === id)) page.choose(id);
  else page.say(`there is no object ${id} on this picture`, true);
}

function moveCross(page, [dx, dy], by) {
  const { view } = page;
  if (!view.frame) return;
  const { width, height } = view.frame.header;
  const step = by * Math.max(1, Math.round(width / 640));
  const [x, y] = view.cross ?? [Math.floor(width / 2), Math.floor(height / 2)];
  view.cross = [Math.max(0, Math.min(width - 1, x + dx * step)), Math.max(0, Math.min(height - 1, y + dy * step))];
  if (view.mark?.box) view.mark = { box: [...view.mark.box.slice(0, 2), ...view.cross] };
  view.drawMarks();
}

function atCross(page, off) {
  const { view, tools } = page;
  if (!view.cross || !view.frame) {
    page.say("move the cross with the arrow keys first", true);
    return;
  }
  if (tools.tool === "pick") page.choose(view.objectAt(view.cross)?.id ?? 0);
  else if (tools.tool === "box" && !off) {
    if (view.mark?.box) {
      const [x0, y0] = view.mark.box;
      tools.drop();
      tools.finishBox([x0, y0], view.cross);
    } else {
      view.mark = { box: [...view.cross, ...view.cross] };
      page.freeze.hold(true);
    }
  } else tools.click([...view.cross], off || tools.tool === "subtract" ? 0 : 1);
}

function escape(page) {
  if (page.view.mark) {
    page.tools.drop();
    return;
  }
  if (page.discovery.clear()) return;
  page.view.cross = null;
  page.choose(0);
}

function removeChosen(page) {
  const row = page.panel.rows.get(page.chosen);
  if (row && page.state?.may === "operator") page.remove(page.chosen, row.parts.remove);
}

function nextClass(page, ofNext) {
  const row = page.panel.rows.get(page.chosen);
  const select = ofNext || !row ? $("next_class") : row.parts.class;
  if (!select.options.length) return;
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.onchange?.();
}
