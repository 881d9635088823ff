"""The part `go` of scripts/bench: goroutines and the heap of a Go program, read from outside.

Starts the program tests/fixtures/programs/gotruth.go with many goroutines or allocation sites. Then reads
it with rprof, with its own profiles (`goroutine?debug=2` and `debug=1`, which stop it), and with delve if
`dlv` is installed (which stops it too).
"""

import os
import re
import shutil
import subprocess
import tempfile
import time


class Program:
    def __init__(self, program, **environment):
        self.process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        )
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid

    def says(self, profile, debug, path):
        self.process.stdin.write(f"{profile} {debug} {path}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def build(root, built, name, flags):
    program = built / name
    sources = [root / "tests/fixtures/programs" / name for name in ("gotruth.go", "gotruth_plain.go")]
    built.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", *flags, "-o", program, *sources]
    subprocess.run(command, check=True, env={**os.environ, "GO111MODULE": "off", "GOFLAGS": ""})
    return program


def timed(command, said=None):
    began = time.monotonic()
    run = subprocess.run(command, input=said, capture_output=True, text=True, errors="replace")
    took = time.monotonic() - began
    peak = re.search(r"reading ([\d.]+) ms", run.stderr)
    return took, run, float(peak[1]) if peak else None


def part_go(root, rprof, built, table, number, median, quick):
    if not shutil.which("go"):
        return table("Go from outside", ["not measured: go is not installed"], [])
    program = build(root, built, "gotruth", ["-ldflags=-s -w"])
    # delve needs debug information.
    whole = build(root, built, "gotruth_whole", [])
    rows = []
    for count in [1_000, 100_000] if quick else [1_000, 100_000, 1_000_000]:
        with Program(program, GOTRUTH_GOROUTINES=count) as target, tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            for form, name in [("text", "debug=2"), ("aggregated", "debug=1"), ("pprof", "pprof")]:
                command = [rprof, "dump", str(target.pid), "--format", form, "--stats", "-o", out]
                runs = [timed(command) for _ in range(3)]
                reading = median([reading for _, _, reading in runs if reading is not None])
                state = re.search(r"(\d+) read again, (\d+) unstable", runs[-1][1].stderr)
                torn = f"{state[1]} read again, {state[2]} unstable" if state else "?"
                took = median([took for took, _, _ in runs])
                rows.append([f"rprof dump, {name}", f"{count:,}", number(took, " s", 2), number(reading / 1e3, " s", 3), "no", torn])
            for debug in (2, 1):
                began = time.monotonic()
                target.says("goroutine", debug, out)
                took = time.monotonic() - began
                rows.append([f"the program itself, debug={debug}", f"{count:,}", number(took, " s", 2), "–", "yes", "–"])
        if shutil.which("dlv") and count <= 1_000:
            with Program(whole, GOTRUTH_GOROUTINES=count) as target:
                command = ["dlv", "attach", str(target.pid), "--allow-non-terminal-interactive=true"]
                took, run, _ = timed(command, "goroutines -t\nexit\nn\n")
                seen = len(re.findall(r"Goroutine \d+", run.stdout))
                shown = number(took, " s", 2) if seen >= count else f"{seen:,} seen: {run.stderr.strip()[-60:]}"
                rows.append(["delve, goroutines -t (program with debug information)", f"{count:,}", shown, "–", "yes", "–"])
    table("Goroutines of a running Go program", ["command", "goroutines", "time", "reading", "stops it", "torn"], rows)
    buckets = 50_000
    with Program(program, GOTRUTH_BUCKETS=buckets) as target, tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "heap.pb.gz")
        runs = [timed([rprof, "attach", str(target.pid), "--kind", "heap", "-o", out]) for _ in range(3)]
        records = re.search(r"heap: (\d+) records", runs[-1][1].stderr)
        began = time.monotonic()
        target.says("heap", 0, out)
        own = time.monotonic() - began
        heads = ["command", "records", "time"]
        row = ["rprof attach --kind heap", records[1] if records else "?", number(median([run[0] for run in runs]), " s", 2)]
        table("The heap profile of a running Go program", heads, [row, ["the program itself", "", number(own, " s", 2)]])
