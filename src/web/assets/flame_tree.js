// The tree of calls that the server sends, and where its boxes stand.

/** A tree as the page uses it: arrays by node, parents before children. */
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
    this.place();
  }

  /** Gives each node its row, its beginning (as a value) and its place in the order of drawing. */
  place() {
    this.depth = new Int32Array(this.count);
    this.start = new Float64Array(this.count);
    this.first = new Int32Array(this.count).fill(-1);
    this.next = new Int32Array(this.count).fill(-1);
    const last = new Int32Array(this.count).fill(-1);
    const used = new Float64Array(this.count);
    /** What the callees that were sent have together. */
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

  file(at) {
    return at === 0 ? "" : this.frames.file[this.frame[at]];
  }

  module(at) {
    return at === 0 ? "" : this.frames.modules[this.frames.module[this.frame[at]]];
  }

  /** Nodes from the root to this one. */
  path(at) {
    const path = [];
    for (let node = at; node > 0; node = this.parent[node]) path.push(node);
    return path.reverse();
  }

  /** The server's numbers of the frames of a path. */
  numbers(at) {
    return this.path(at).map((node) => this.frames.id[this.frame[node]]);
  }

  children(at) {
    const children = [];
    for (let child = this.first[at]; child >= 0; child = this.next[child]) children.push(child);
    return children;
  }

  /** Whether something below a node was too narrow to be sent, although it would be seen at this width. */
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

  /** By how much a node grew, between -1 (gone) and 1 (new). */
  change(at) {
    return this.net && this.weight[at] ? this.net[at] / this.weight[at] : 0;
  }

  /** The weight of all matching nodes, none counted twice. */
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

  /** `a;b;c 12` lines: what ends in each node. */
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
