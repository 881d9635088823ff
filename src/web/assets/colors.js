// The colour of a frame: frames of the same package or library have the same colour.

function hash(text) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}

/** A name without the suffixes that compilers give to copies and parts of a function. */
export function withoutSuffixes(name) {
  return name.replace(/(\.(isra|part|constprop|lto_priv|localalias|clone|llvm)\.\d+|\.cold(\.\d+)?)+$/, "");
}

/** The package of a function name: the part before the function in Go, C++, Rust, Java, Python. */
export function packageOf(name, module) {
  const plain = withoutSuffixes(name).replace(/^<+/, "").replace(/[<(].*$/, "");
  const go = /^(.*\/[\w-]+|[\w-]+)\.[^/]*$/.exec(plain);
  if (go) return go[1];
  const cpp = /^([\w$]+|\(anon\))::/.exec(plain);
  if (cpp) return /^(std|core|alloc|__gnu_cxx|__cxxabiv1)$/.test(cpp[1]) ? "std" : cpp[1] === "(anon)" ? module || "?" : cpp[1];
  return module || "?";
}

/** Red for more than in the base, green for less, grey for no change. */
function changeColor(change, dark) {
  const strength = Math.min(1, Math.abs(change)) ** 0.6;
  const hue = change > 0 ? 4 : 140;
  return dark
    ? `hsl(${hue} ${strength * 62}% ${30 + strength * 8}%)`
    : `hsl(${hue} ${strength * 78}% ${86 - strength * 22}%)`;
}

export class Colors {
  constructor(dark) {
    this.dark = dark;
    this.known = new Map();
  }

  ofPackage(name) {
    let color = this.known.get(name);
    if (!color) {
      const number = hash(name);
      const hue = (number % 360 + 360) % 360;
      const light = (number >>> 12) % 9;
      const fade = (number >>> 20) % 18;
      color = this.dark
        ? `hsl(${hue} ${34 + fade}% ${28 + light}%)`
        : `hsl(${hue} ${56 + fade}% ${72 + light}%)`;
      this.known.set(name, color);
    }
    return color;
  }

  ofChange(change) {
    return changeColor(change, this.dark);
  }
}
