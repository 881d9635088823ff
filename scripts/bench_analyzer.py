"""The part `analyzer` of scripts/bench: `rprof pprof` beside `go tool pprof`, each command as a whole
process, on the profiles that scripts/bench_profiles.py makes.

The reference is the program that `go tool pprof` runs (`go tool -n pprof`), started without `go`, which
would add 0.3 s. Each figure is the median of the rounds; memory is the largest resident set. Output goes
to /dev/null. The two take turns, so that what else the machine does meets both.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bench_profiles

LARGE = 1_000_000
USUAL = 100_000
SMALL = Path(__file__).resolve().parent.parent / "tests/fixtures/pprof/heap.pb.gz"
MERGED = 100


def reference():
    """The program behind `go tool pprof`, or None."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    try:
        subprocess.run([go, "tool", "pprof", "-h"], capture_output=True)
        found = subprocess.run([go, "tool", "-n", "pprof"], capture_output=True, text=True).stdout.strip()
    except OSError:
        return None
    return found if found and Path(found).is_file() else None


def made(folder, name, count, **options):
    path = folder / name
    if not path.exists():
        print(f"making {name}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        bench_profiles.write(unfinished, count, **options)
        unfinished.rename(path)
    return path


def run(command):
    """Seconds, seconds of the processor, MiB."""
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
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{command} failed: {status}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def cases(folder, quick):
    usual = made(folder, "100k.pb.gz", USUAL)
    labels = made(folder, "100k-labels.pb.gz", USUAL, labels=True)
    many = [made(folder, f"part{seed}.pb.gz", 5000, seed=seed) for seed in range(1, MERGED + 1)]
    found = [("small file, `-top`", ["-top", SMALL])]
    for words in ["-top", "-top -lines -trim=false", "-tree", "-dot", "-peek=method777$"]:
        found.append((f"100,000, `{words}`", [*words.split(), usual]))
    found.append(("100,000 with labels, `-top`", ["-top", labels]))
    for words in ["-top -focus=package007", "-proto", "-raw", "-traces", "-dot -call_tree"]:
        found.append((f"100,000, `{words}`", [*words.split(), usual]))
    for words in ["-proto", "-top"]:
        found.append((f"{MERGED} files of 5,000, `{words}`", [words, *many]))
    if not quick:
        found.append(("1,000,000, `-top`", ["-top", made(folder, "1m.pb.gz", LARGE)]))
    return found


def measure(rprof, folder, rounds, quick, table):
    other = reference()
    if other is None:
        print("analyzer: Go is not installed: rprof alone", file=sys.stderr)
    rows = []
    for name, words in cases(folder, quick):
        print(f"analyzer: {name}", file=sys.stderr, flush=True)
        own, theirs = [], []
        for _ in range(rounds):
            own.append(run([rprof, "pprof", *words]))
            if other:
                theirs.append(run([other, *words]))
        rows.append([name, *cells(own, theirs)])
    columns = ["", "rprof", "its CPU", "memory", "go tool pprof", "its CPU", "memory", "times as fast", "of the memory"]
    table(f"Reports: median of {rounds}", columns, rows)


def cells(own, theirs):
    def middle(runs, at):
        return statistics.median([run[at] for run in runs])

    def shown(runs):
        return [f"{middle(runs, 0):.3f} s", f"{middle(runs, 1):.2f} s", f"{max(run[2] for run in runs):.0f} MiB"]

    if not theirs:
        return shown(own) + ["–"] * 5
    ratio = middle(theirs, 0) / middle(own, 0)
    memory = max(run[2] for run in own) / max(run[2] for run in theirs)
    return [*shown(own), *shown(theirs), f"{ratio:.0f}", f"1/{1 / memory:.1f}"]
