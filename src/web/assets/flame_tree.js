// The call tree that the server sends, and the positions of its boxes.

/** A call tree: arrays indexed by node, parents before children. */
export class FlameTree {
  constructor(sent) {
    this.sent = sent;
    const { parent, frame, weight, own, hidden, inlined, net, own_net: ownNet } = sent.nodes;
    this.parent = Int32Array.from(parent);
    this.frame = Int32Array.from(frame);
    this.weight = Float64Array.from(weight);
    this.own = Float64Array.from(own);
    this.hidden = Int32Array.from(hidden);
    this.net = net ? Float64Array.from(net) : null;
    this.ownNet = ownNet ? Float64Array.from(ownNet) : null;
    this.count = parent.length;
    this.inlined = new Uint8Array(this.count);
    for (const at of inlined) this.inlined[at] = 1;
    this.frames = sent.frames;
    this.total = sent.total;
    /** The totals of the base and of the new profile, in a difference. */
    this.sides = sent.sides;
    this.place();
  }

  /** Computes the row of each node, its start (as a value) and its place in the drawing order. */
  place() {
    this.depth = new Int32Array(this.count);
    this.start = new Float64Array(this.count);
    this.first = new Int32Array(this.count).fill(-1);
    this.next = new Int32Array(this.count).fill(-1);
    const last = new Int32Array(this.count).fill(-1);
    const used = new Float64Array(this.count);
    /** The sum of the callees that were sent. */
    this.childSum = used;
    for (let at = 1; at < this.count; at++) {
      const parent = this.parent[at];
      this.depth[at] = this.depth[parent] + 1;
      this.start[at] = this.start[parent] + used[parent];
      used[parent] += this.weight[at];
      if (last[parent] < 0) this.first[parent] = at;
      else this.next[last[parent]] = at;
      last[parent] = at;
    }
  }

  name(at) {
    return at === 0 ? this.rootName ?? "all" : this.frames.name[this.frame[at]];
  }

  /** The name with folded template arguments. */
  shortName(at) {
    return (at > 0 && this.frames.short?.[this.frame[at]]) || this.name(at);
  }

  file(at) {
    return at === 0 ? "" : this.frames.file[this.frame[at]];
  }

  module(at) {
    return at === 0 ? "" : this.frames.modules[this.frames.module[this.frame[at]]];
  }

  /** The nodes from the root to this one. */
  path(at) {
    const path = [];
    for (let node = at; node > 0; node = this.parent[node]) path.push(node);
    return path.reverse();
  }

  /** The server's frame numbers of a path. */
  numbers(at) {
    return this.path(at).map((node) => this.frames.id[this.frame[node]]);
  }

  children(at) {
    const children = [];
    for (let child = this.first[at]; child >= 0; child = this.next[child]) children.push(child);
    return children;
  }

  /** Whether callees below a node were too narrow to be sent but are visible after a zoom to it. */
  isCut(at) {
    if (at === 0) return false;
    const nodes = [at];
    while (nodes.length) {
      const node = nodes.pop();
      if (this.hidden[node] > 0) return true;
      nodes.push(...this.children(node));
    }
    return false;
  }

  /** The values of a node in the base and in the new profile, in a difference. */
  both(at) {
    return [(this.weight[at] - this.net[at]) / 2, (this.weight[at] + this.net[at]) / 2];
  }

  /** The shares of a node of its profile's total, in the base and in the new profile. */
  shares(at) {
    return this.both(at).map((value, side) => (this.sides[side] ? value / this.sides[side] : 0));
  }

  /** The relative change of a node's share, from -1 (gone) to 1 (new): profiles may differ in length. */
  change(at) {
    if (!this.net) return 0;
    const [base, now] = this.shares(at);
    return base + now ? (now - base) / (base + now) : 0;
  }

  /** The weight of all matching nodes; nested matches count once. */
  matched(matches, from = 0) {
    let sum = 0;
    const nodes = [from];
    while (nodes.length) {
      const node = nodes.pop();
      if (node > 0 && matches[this.frame[node]]) sum += this.weight[node];
      else nodes.push(...this.children(node));
    }
    return sum;
  }

  /** Folded stacks: a line `a;b;c 12` for the own value of each node. */
  folded() {
    const lines = [];
    for (let at = 1; at < this.count; at++) {
      const below = this.children(at).reduce((sum, child) => sum + this.weight[child], 0);
      const own = this.weight[at] - below;
      if (own <= 0) continue;
      const names = this.path(at).map((node) => this.name(node).replace(/[;\n]/g, " "));
      lines.push(`${names.join(";")} ${own}`);
    }
    return lines.join("\n") + "\n";
  }
}
