"""The part `python` of scripts/bench: Python programs, beside py-spy and `profiling.sampling` of 3.15.

The rows alternate in each round, so that a change of the machine's load meets all of them. `rprof, native,
no stack` is the same sampler without Python: it copies 1 KiB of stack and names native frames. py-spy is
used if it is installed (PYSPY, or `py-spy` in PATH), and an interpreter with `profiling.sampling` if
scripts/pythons provides one.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


def rprof_rows(bench):
    def row(name, *options):
        def command(pid, rate, seconds, output):
            how = ["attach", "--pid", str(pid), "-F", str(rate), "-d", f"{seconds}s", "--sampler", "bpf"]
            return [bench.RPROF, *how, *options, "-o", output, "--stats"]

        return bench.Profiler(f"rprof, {name}", command, whole=bench.whole_by_rprof)

    return [
        row("native, no stack", "--frames", "native", "--max-stack-bytes", "1024"),
        row("native", "--frames", "native"),
        row("language", "--frames", "language"),
        row("mixed"),
    ]


def py_spy_rows(bench):
    program = os.environ.get("PYSPY") or shutil.which("py-spy")
    if not program:
        bench.say("py-spy is not installed (set PYSPY to its path): left out")
        return []

    def row(name, *options):
        def command(pid, rate, seconds, output):
            how = ["record", "-p", str(pid), "-r", str(rate), "-d", str(seconds), "-f", "raw", "-o", output]
            return [program, *how, *options]

        return bench.Profiler(name, command)

    return [row("py-spy record"), row("py-spy record --native", "--native"), row("py-spy record --nonblocking", "--nonblocking")]


def own_rows(bench):
    def command(pid, rate, seconds, output):
        # In the mount namespace of the target: it looks for the target's files by their paths.
        inside = ["env", "LC_ALL=C", "nsenter", "-t", str(pid), "-m", "-r", "-w", "/usr/bin/python3.15"]
        how = ["-m", "profiling.sampling", "attach", "-r", str(rate), "-d", str(seconds), "--collapsed"]
        return [*inside, *how, "-o", output, str(pid)]

    return [bench.Profiler("python -m profiling.sampling", command)]


def measure(bench, title, command, rows, rounds, seconds):
    runs = {}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for rate in [99, 1000]:
            for number in range(rounds):
                for profiler in rows:
                    bench.say(f"{title}: {profiler.name} at {rate} Hz, round {number + 1}")
                    with bench.Target(command) as target:
                        time.sleep(0.7)
                        run = bench.one_run(target, profiler, rate, seconds, Path(folder))
                        quiet = time.monotonic()
                        time.sleep(seconds - bench.SETTLE - bench.MARGIN)
                        after = target.rate(quiet, time.monotonic())
                    if run and run["during"] and run["before"] and after:
                        run["ratio"] = run["during"] / ((run["before"] + after) / 2)
                        runs.setdefault((profiler.name, rate), []).append(run)
    lines = []
    for (name, rate), found in runs.items():
        of = lambda key: bench.median([run.get(key) for run in found])
        slowdown = None if of("ratio") is None else 100 * (1 - of("ratio"))
        line = [name, str(rate), bench.number(slowdown, " %", 1), bench.number(of("cpu"), " s", 3)]
        lines.append(line + [bench.number(of("peak"), " MiB", 0), bench.number(of("whole"), " %", 1)])
    load = os.getloadavg()[0]
    title = f"{title}: {seconds} s, median of {rounds}, load {load:.1f} at the end"
    bench.table(title, ["profiler", "Hz", "slowdown", "own CPU", "peak memory", "whole"], lines)


def dumps(bench, python, program, rounds):
    lines = []
    pyspy = os.environ.get("PYSPY") or shutil.which("py-spy")
    for kind, count, what in [("threads", 1000, "1,000 threads"), ("tasks", 100000, "100,000 asyncio tasks")]:
        with bench.Target([python, program, kind, str(count)]) as target:
            time.sleep(1.5)
            commands = {"rprof dump": [bench.RPROF, "dump", "--pid", str(target.pid), "--stats"]}
            commands["rprof dump --each"] = [*commands["rprof dump"], "--each"]
            if pyspy and kind == "threads":
                commands["py-spy dump"] = [pyspy, "dump", "--pid", str(target.pid)]
                commands["py-spy dump --nonblocking"] = [*commands["py-spy dump"], "--nonblocking"]
            for name, command in commands.items():
                took, stopped, text = [], [], ""
                for _ in range(rounds):
                    watch = bench.Stopwatch(target.pid)
                    began = time.monotonic()
                    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
                    took.append(time.monotonic() - began)
                    stopped.append(watch.stop())
                    text = run.stdout
                lines.append(
                    [name, what, bench.number(1e3 * bench.median(took), " ms", 0)]
                    + [bench.number(1e3 * bench.median(stopped), " ms", 1), str(len(text) // 1024) + " KiB"]
                )
    bench.table("Dumps of Python programs", ["command", "program", "time", "first thread observed stopped", "text"], lines)


def part_python(bench, rounds, seconds):
    program = bench.PROGRAMS / "python_bench.py"
    python = os.environ.get("PYTHON") or shutil.which("python3")
    version = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()
    for kind in ["long", "mixed"]:
        rows = rprof_rows(bench) + py_spy_rows(bench)
        measure(bench, f"{version}, `{kind}`", [python, program, kind], rows, rounds, seconds)
    found = subprocess.run([bench.ROOT / "scripts/pythons", "3.15"], capture_output=True, text=True).stdout.strip()
    if found:
        rows = rprof_rows(bench)[-1:] + own_rows(bench)
        measure(bench, "Python 3.15, `mixed`", [found, program, "mixed"], rows, rounds, seconds)
    else:
        bench.say("Python 3.15 is not available: its profiler is left out")
    dumps(bench, python, program, rounds)
