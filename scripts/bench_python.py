"""The part `python` of scripts/bench: Python programs, beside py-spy and `profiling.sampling` of 3.15.

The rows alternate in each round, so that a change of the machine's load meets all of them. Throughput lost:
the program's work per second, compared with the windows before and after. Work per CPU second lost: the
same by the program's own CPU time, which other load hardly changes; the time that it is stopped is not in
it. `rprof, native, no stack` is the same sampler without Python: it copies 1 KiB of stack and names native
frames. py-spy is used if it is installed (PYSPY, or `py-spy` in PATH), and an interpreter with
`profiling.sampling` if scripts/pythons provides one.
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

    rows = [row("py-spy record"), row("py-spy record --native", "--native")]
    return [*rows, row("py-spy record --nonblocking", "--nonblocking")]


def own_rows(bench):
    def command(pid, rate, seconds, output):
        # In the mount namespace of the target: it looks for the target's files by their paths.
        inside = ["env", "LC_ALL=C", "nsenter", "-t", str(pid), "-m", "-r", "-w", "/usr/bin/python3.15"]
        how = ["-m", "profiling.sampling", "attach", "-r", str(rate), "-d", str(seconds), "--collapsed"]
        return [*inside, *how, "-o", output, str(pid)]

    return [bench.Profiler("python -m profiling.sampling", command)]


class Target:
    """A bench.Target that also keeps its CPU time at each count."""

    def __init__(self, bench, command):
        class WithCpu(bench.Target):
            def _read(target):
                for line in target.process.stdout:
                    if line.startswith("units "):
                        cpu = int(Path(f"/proc/{target.pid}/schedstat").read_text().split()[0])
                        target.counts.append((time.monotonic(), int(line.split()[1]), cpu / 1e9))

        self.target = WithCpu(command)
        self.pid = self.target.pid

    def rates(self, start, end):
        """Units per second, and per second of CPU time, between two times."""
        inside = [one for one in list(self.target.counts) if start <= one[0] <= end]
        if len(inside) < 2:
            return None
        (t0, n0, c0), (t1, n1, c1) = inside[0], inside[-1]
        return ((n1 - n0) / (t1 - t0), (n1 - n0) / max(c1 - c0, 1e-9))

    def __enter__(self):
        return self

    def __exit__(self, *how):
        self.target.__exit__(*how)


def one_run(bench, target, profiler, rate, seconds, folder):
    """A window without a profiler, one with it, one without; the ratios of the work, and the cost."""

    def quiet():
        began = time.monotonic()
        time.sleep(seconds - bench.SETTLE - bench.MARGIN)
        return target.rates(began, time.monotonic())

    output = folder / "profile.pb.gz"
    before = quiet()
    began = time.monotonic()
    run = profiler.start(target.pid, rate, seconds, output).wait()
    if run.status != 0:
        bench.say(f"  {profiler.name} failed: {run.stderr.strip()[-600:]}")
        return None
    during = target.rates(began + bench.SETTLE, began + seconds - bench.MARGIN)
    whole = profiler.whole(output, run.stderr) if profiler.whole else None
    output.unlink(missing_ok=True)
    after = quiet()
    if not (before and during and after):
        return None
    lost = [100 * (1 - now / ((first + last) / 2)) for first, now, last in zip(before, during, after)]
    return {"throughput": lost[0], "work": lost[1], "cpu": run.cpu, "peak": run.peak_mib, "whole": whole}


def measure(bench, title, command, rows, rounds, seconds):
    runs = {}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for rate in [99, 1000]:
            for number in range(rounds):
                for profiler in rows:
                    bench.say(f"{title}: {profiler.name} at {rate} Hz, round {number + 1}")
                    with Target(bench, command) as target:
                        time.sleep(0.7)
                        run = one_run(bench, target, profiler, rate, seconds, Path(folder))
                    if run:
                        runs.setdefault((profiler.name, rate), []).append(run)
    lines = []
    for (name, rate), found in runs.items():
        of = lambda key: bench.median([run[key] for run in found])
        line = [name, str(rate), bench.number(of("throughput"), " %", 1), bench.number(of("work"), " %", 1)]
        line += [bench.number(of("cpu"), " s", 3), bench.number(of("peak"), " MiB", 0)]
        lines.append([*line, bench.number(of("whole"), " %", 1)])
    title = f"{title}: {seconds} s, median of {rounds}, load {os.getloadavg()[0]:.1f} at the end"
    heads = ["profiler", "Hz", "throughput lost", "work per CPU second lost", "own CPU", "peak memory", "whole"]
    bench.table(title, heads, lines)


def dumps(bench, python, program, rounds):
    lines = []
    pyspy = os.environ.get("PYSPY") or shutil.which("py-spy")
    programs = [("threads", 1000, "1,000 threads"), ("tasks", 100000, "100,000 asyncio tasks")]
    for kind, count, what in programs:
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
    heads = ["command", "program", "time", "first thread observed stopped", "text"]
    bench.table("Dumps of Python programs", heads, lines)


def part_python(bench, rounds, seconds):
    program = bench.PROGRAMS / "python_bench.py"
    python = os.environ.get("PYTHON") or shutil.which("python3")
    version = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()
    for kind in ["long", "mixed"]:
        rows = rprof_rows(bench) + py_spy_rows(bench)
        measure(bench, f"{version}, `{kind}`", [python, program, kind], rows, rounds, seconds)
    script = [bench.ROOT / "scripts/pythons", "3.15"]
    found = subprocess.run(script, capture_output=True, text=True).stdout.strip()
    if found:
        rows = rprof_rows(bench)[-1:] + own_rows(bench)
        measure(bench, "Python 3.15, `mixed`", [found, program, "mixed"], rows, rounds, seconds)
    else:
        bench.say("Python 3.15 is not available: its profiler is left out")
    dumps(bench, python, program, rounds)
