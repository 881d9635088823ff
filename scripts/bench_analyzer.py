#!/usr/bin/env python3
"""The part `analyzer` of scripts/bench: compares `rprof pprof` with `go tool pprof`, each command as a
whole process, on the profiles that scripts/bench_profiles.py creates.

    scripts/bench_analyzer.py --list                 lists the rows
    scripts/bench_analyzer.py --only merge-proto     measures one row (repeatable)

The reference is the program that `go tool pprof` runs (`go tool -n pprof`), started without `go`, which
would add 0.3 s. Each figure is the median of the rounds; memory is the largest resident set. Output goes
to /dev/null. The two programs alternate, so other load on the machine affects both. A row is printed as
soon as it is measured. A run of the reference of more than LONG seconds is not repeated. One of more than
LIMIT seconds is ended, and its figures are printed as "more than".
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bench_profiles

LARGE = 1_000_000
USUAL = 100_000
ROOT = Path(__file__).resolve().parent.parent
SMALL = ROOT / "tests/fixtures/pprof/heap.pb.gz"
MERGED = 100
LONG, LIMIT = 10, 150
COLUMNS = ["", "rprof", "its CPU", "memory", "go tool pprof", "its CPU", "memory", "times as fast", "of the memory"]


def reference():
    """The program behind `go tool pprof`, or None."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    try:
        subprocess.run([go, "tool", "pprof", "-h"], capture_output=True)
        found = subprocess.run([go, "tool", "-n", "pprof"], capture_output=True, text=True).stdout.strip()
    except OSError:
        return None
    return found if found and Path(found).is_file() else None


def profile_file(folder, name, count, **options):
    path = folder / name
    if not path.exists():
        print(f"creating {name}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        bench_profiles.write(unfinished, count, **options)
        unfinished.rename(path)
    return path


class Run:
    """A command, finished or ended after `LIMIT` seconds: elapsed seconds, CPU seconds, MiB."""

    def __init__(self, command):
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            try:
                os.execv(command[0], [str(word) for word in command])
            finally:
                os._exit(127)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(LIMIT)
        _, status, usage = os.wait4(pid, 0)
        signal.alarm(0)
        self.seconds = time.monotonic() - began
        self.was_ended = os.WIFSIGNALED(status) and self.seconds >= LIMIT
        if status and not self.was_ended:
            raise SystemExit(f"{command} failed: {status}")
        self.cpu, self.memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def cases(folder):
    """The measurements by name: title, arguments, and whether it takes long."""

    def on(name, count, **options):
        return lambda: [profile_file(folder, name, count, **options)]

    usual, labels = on("100k.pb.gz", USUAL), on("100k-labels.pb.gz", USUAL, labels=True)
    large = on("1m.pb.gz", LARGE)

    def many():
        return [profile_file(folder, f"part{seed}.pb.gz", 5000, seed=seed) for seed in range(1, MERGED + 1)]

    found = {"small": ("a small file", "-top", lambda: [SMALL])}
    for name, arguments in {
        "top": "-top",
        "lines": "-top -lines -trim=false",
        "tree": "-tree",
        "dot": "-dot",
        "peek": "-peek=method777$",
        "focus": "-top -focus=package007",
        "proto": "-proto",
        "raw": "-raw",
        "traces": "-traces",
        "call-tree": "-dot -call_tree",
    }.items():
        found[name] = ("100,000 samples", arguments, usual)
    found["labels"] = ("100,000 with labels", "-top", labels)
    found["merge-proto"] = (f"{MERGED} files of 5,000", "-proto", many)
    found["merge-top"] = (f"{MERGED} files of 5,000", "-top", many)
    found["large-top"] = ("1,000,000 samples", "-top", large)
    return found


def measure(rprof, folder, rounds, only=()):
    other = reference()
    if other is None:
        print("analyzer: Go is not installed: rprof alone", file=sys.stderr)
    found = cases(folder)
    print(f"\n### Reports: median of {rounds}\n\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for name in only or found:
        title, arguments, sources = found[name]
        arguments = [*arguments.split(), *sources()]
        own, theirs = [], []
        for _ in range(rounds):
            own.append(Run([rprof, "pprof", *arguments]))
            if other and not (theirs and theirs[-1].seconds > LONG):
                theirs.append(Run([other, *arguments]))
        print(f"| {title}, `{found[name][1]}` | {' | '.join(cells(own, theirs))} |", flush=True)


def cells(own, theirs):
    def middle(runs, what):
        return statistics.median(getattr(run, what) for run in runs)

    def memory(runs):
        return max(run.memory for run in runs)

    def shown(runs):
        more = "> " if any(run.was_ended for run in runs) else ""
        seconds, cpu = middle(runs, "seconds"), middle(runs, "cpu")
        return [f"{more}{seconds:.3f} s", f"{more}{cpu:.2f} s", f"{more}{memory(runs):.0f} MiB"]

    if not theirs:
        return shown(own) + ["–"] * 5
    more = "> " if any(run.was_ended for run in theirs) else ""
    ratio = middle(theirs, "seconds") / middle(own, "seconds")
    return [*shown(own), *shown(theirs), f"{more}{ratio:.1f}", f"1/{memory(theirs) / memory(own):.1f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="ROW")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    folder = ROOT / "target/bench/profiles"
    if chosen.list:
        print("\n".join(cases(folder)))
        return
    unknown = set(chosen.only or []) - set(cases(folder))
    if unknown:
        parser.error(f"no such row: {' '.join(sorted(unknown))}; --list names them")
    measure(ROOT / "target/release/rprof", folder, chosen.rounds, chosen.only)


if __name__ == "__main__":
    main()
