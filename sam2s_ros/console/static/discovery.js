// Proposals: what may be an object on a picture, drawn over it; a click on one accepts it.

const $ = (id) => document.getElementById(id);

export class Discovery {
  constructor(page) {
    this.page = page;
    this.looking = false;
    $("discover").onclick = () => this.look();
  }

  /** Look for objects: of a recording on the frame that is shown, otherwise on the newest image, which then stays. */
  async look() {
    const { view, freeze, camera } = this.page;
    const header = this.looking ? null : this.page.pictured();
    if (!header) return;
    this.looking = true;
    $("discover").classList.add("on");
    this.page.say("looking for objects ...");
    const answer = await this.page.act("discover", { stamp: header.stamp, class: "" });
    this.looking = false;
    $("discover").classList.remove("on");
    if (!answer.ok || !answer.proposals.length || camera !== this.page.camera) return;
    freeze.show(answer.stamp);
    view.proposals = { stamp: answer.stamp, camera, list: answer.proposals };
    view.drawMarks();
  }

  /** The smallest proposal at px of the image, or null. */
  at(place) {
    const found = this.page.view.shownProposals().filter((own) => own.outline.some((part) => contains(part, place)));
    return found.sort((a, b) => extent(a) - extent(b))[0] ?? null;
  }

  async accept(proposal) {
    const { view } = this.page;
    const { proposals } = view;
    const { stamp } = proposals;
    const name = proposal.class || $("next_class").value;
    this.page.choose(0); // what is clicked from now on is about this one
    const answer = await this.page.promptAbout(this.page.choice, { stamp, class: name, proposal: proposal.id });
    if (!answer.ok || view.proposals !== proposals) return;
    proposals.list = proposals.list.filter((own) => own !== proposal);
    view.drawMarks();
  }

  /** Drop them; whether there were any. */
  clear() {
    const some = this.page.view.shownProposals().length > 0;
    this.page.view.proposals = null;
    this.page.view.drawMarks();
    return some;
  }
}

function contains(part, [x, y]) {
  let inside = false;
  for (let i = 0, j = part.length - 1; i < part.length; j = i++) {
    const [[ax, ay], [bx, by]] = [part[i], part[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

function extent({ outline }) {
  const [xs, ys] = [0, 1].map((axis) => outline.flatMap((part) => part.map((point) => point[axis])));
  return (Math.max(...xs) - Math.min(...xs)) * (Math.max(...ys) - Math.min(...ys));
}
