#!/usr/bin/env python3
"""Creates large profiles for benchmarks of reports. The bytes are the same each time.

    scripts/bench_profiles.py SAMPLES FILE.pb.gz [--labels] [--tree] [--seed N]

50,000 functions in 200 packages with three locations each, an inlined callee at every twelfth location,
and five mappings. Stacks have 20 to 60 frames (mean 40) at evenly distributed locations, which is the
worst case for caches and for gzip. With --tree each location calls three others, one of them half of the
time, so stacks share prefixes. With --labels a third of the samples has a thread and a request label. The
seed changes the samples, not the functions.
"""

import argparse
import array
import gzip
import random

FUNCTIONS = 50_000
PACKAGES = 200
LOCATIONS = 3 * FUNCTIONS
MAPPINGS = ["/usr/bin/server", "/lib/libc.so.6", "/lib/libssl.so.3", "/lib/libz.so.1", "[vdso]"]
PERIOD_NS = 10_000_000


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def message(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


class Strings:
    def __init__(self):
        self.indexes = {"": 0}

    def index(self, text):
        return self.indexes.setdefault(text, len(self.indexes))


def walk(depth, rng):
    """A stack, leaf first. Each location calls a few others, one of them half of the time."""
    at, picks = 0, []
    bits = rng.getrandbits(2 * depth)
    for _ in range(depth):
        picks.append(at)
        at = (at * 31 + (bits & bits >> 1 & 1) * 7919 + (bits & 1) * 104729 + 1) % LOCATIONS
        bits >>= 2
    picks.reverse()
    return picks


def samples(count, rng, strings, labels, tree=False):
    """The samples as messages, several thousand at a time."""
    ids = [varint(id) for id in range(1, LOCATIONS + 1)]
    for start in range(0, count, 10_000):
        block = []
        for at in range(start, min(start + 10_000, count)):
            depth = rng.randrange(20, 61)
            picks = walk(depth, rng) if tree else array.array("I", rng.randbytes(4 * depth))
            content = message(1, b"".join([ids[pick % LOCATIONS] for pick in picks]))
            times = rng.randrange(1, 5)
            content += number(2, times) + number(2, times * PERIOD_NS)
            if labels and at % 3 == 0:
                pairs = [("request_id", f"req-{rng.randrange(2000)}"), ("thread", f"worker-{rng.randrange(64)}")]
                for key, value in pairs:
                    content += message(3, number(1, strings.index(key)) + number(2, strings.index(value)))
            block.append(message(2, content))
        yield b"".join(block)


def tables(strings):
    out = []
    base = 0x400000
    for at, path in enumerate(MAPPINGS):
        size = LOCATIONS // len(MAPPINGS) * 0x40 + 0x1000
        start = base if at == 0 else 0x7F0000000000 + at * 0x1000000
        flags = b"".join(number(field, 1) for field in range(7, 11))
        path = number(5, strings.index(path))
        out.append(message(3, number(1, at + 1) + number(2, start) + number(3, start + size) + path + flags))
    for at in range(LOCATIONS):
        function, mapping = at // 3, at % len(MAPPINGS)
        start = base if mapping == 0 else 0x7F0000000000 + mapping * 0x1000000
        address = start + at // len(MAPPINGS) * 0x40 + 8
        lines = [(function, 10 + at % 3 * 7)]
        if at % 12 == 0:
            lines.insert(0, ((function * 7 + 13) % FUNCTIONS, 5 + at % 11))
        content = number(1, at + 1) + number(2, mapping + 1) + number(3, address)
        for of, line in lines:
            content += message(4, number(1, of + 1) + number(2, line))
        out.append(message(4, content))
    for at in range(FUNCTIONS):
        package = at % PACKAGES
        name = strings.index(f"example.com/project/package{package:03}.(*Type{at // PACKAGES % 40}).method{at}")
        file = strings.index(f"/src/project/package{package:03}/file{at // PACKAGES % 10}.go")
        fields = [at + 1, name, name, file, at % 900 + 1]
        out.append(message(5, b"".join(number(field, value) for field, value in enumerate(fields, 1))))
    return b"".join(out)


def profile(count, labels, seed, tree=False):
    """The parts of a profile, uncompressed."""
    strings = Strings()
    kinds = [("samples", "count"), ("cpu", "nanoseconds")]
    kinds = [number(1, strings.index(name)) + number(2, strings.index(unit)) for name, unit in kinds]
    for kind in kinds:
        yield message(1, kind)
    yield from samples(count, random.Random(seed), strings, labels, tree)
    yield tables(strings)
    for text in strings.indexes:
        yield message(6, text.encode())
    yield number(9, 1_700_000_000_000_000_000 + seed) + number(10, 30_000_000_000)
    yield message(11, kinds[1]) + number(12, PERIOD_NS)


def write(path, count, labels=False, seed=1, tree=False):
    # No name and no time in the gzip header, so that equal profiles are equal files.
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for part in profile(count, labels, seed, tree):
            packed.write(part)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=int)
    parser.add_argument("file")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    write(chosen.file, chosen.samples, chosen.labels, chosen.seed, chosen.tree)


if __name__ == "__main__":
    main()
