//! Whose memory it is: what `rprof info --json` says, against what runtimes and allocators count of
//! themselves.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Fixture, Rprof, Skip, Stacks, Target, installed, skip};

/// The memory of a process, in which no part is missing.
#[track_caller]
fn memory(pid: u32) -> Value {
    let outcome = Rprof::verb("info").args(&["--pid", &pid.to_string(), "--json"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let json: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let memory = json["memory"].clone();
    let parts = memory["parts"].as_array().expect("parts");
    let sum: u64 = parts.iter().filter_map(|part| part["rss"].as_u64()).sum();
    assert_eq!(Some(sum), memory["rss"].as_u64(), "{memory:#}");
    memory
}

/// A number of a part.
fn part(memory: &Value, name: &str, field: &str) -> u64 {
    let parts = memory["parts"].as_array().into_iter().flatten();
    parts.filter(|part| part["part"] == name).filter_map(|part| part[field].as_u64()).sum()
}

#[track_caller]
fn assert_close(found: u64, truth: u64, percent: f64, memory: &Value) {
    let off = (found as f64 / truth as f64 - 1.0).abs() * 100.0;
    assert!(off <= percent, "{found} is {off:.2} % off {truth}: {memory:#}");
}

#[test]
fn the_heap_of_v8_is_what_node_counts() {
    let Some(node) = installed("node") else { return skip(Skip::NotInstalled("node")) };
    let program = "let keep = []; for (let i = 0; i < 200000; i++) keep.push({i, text: 'x' + i});
        const total = process.memoryUsage().heapTotal;
        require('fs').writeSync(1, `ready\\n${total}\\n`);
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30000);";
    let target = Target::spawn(Command::new(node).args(["-e", program]));
    let memory = memory(target.pid());
    let total: u64 = target.end_and_read_output().trim().parse().expect("a number");
    assert_close(memory["runtimes"]["V8_heap_committed"].as_u64().unwrap_or(0), total, 2.0, &memory);
    assert_close(part(&memory, "V8 heap", "size"), total, 2.0, &memory);
    let unexplained = part(&memory, "unexplained", "rss") as f64;
    assert!(unexplained < 0.05 * memory["rss"].as_f64().expect("a number"), "{memory:#}");
}

#[test]
fn the_heap_of_go_is_what_its_statistics_count() {
    let Some(_) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = Target::start(&Fixture::go("memory.go").build());
    let memory = memory(target.pid());
    let text = target.end_and_read_output();
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    assert_close(part(&memory, "Go heap and goroutine stacks", "size"), numbers[0], 2.0, &memory);
    assert!(part(&memory, "Go heap and goroutine stacks", "rss") > 39 << 20, "{memory:#}");
    assert_eq!(part(&memory, "unexplained", "rss"), 0, "{memory:#}");
}

#[test]
fn the_memory_of_malloc_is_what_malloc_info_counts() {
    let target = Target::start(&Fixture::c(&["memory.c"]).with(&["-pthread"]).build());
    let memory = memory(target.pid());
    let text = target.end_and_read_output();
    let last = |line: &str, field: &str| -> u64 {
        let line = text.lines().rfind(|found| found.starts_with(line)).expect("malloc_info");
        let number = line.split(field).nth(1).expect("a field").split('"').nth(1);
        number.and_then(|number| number.parse().ok()).expect("a number")
    };
    let truth = last("<system type=\"current\"", "size=") + last("<total type=\"mmap\"", "size=");
    assert_close(part(&memory, "glibc malloc", "size"), truth, 2.0, &memory);
    assert!(part(&memory, "thread stacks", "size") > 3 * (8 << 20), "{memory:#}");
    let unexplained = part(&memory, "unexplained", "rss");
    assert!(unexplained < 100 << 10, "{memory:#}");
}

#[test]
fn the_heap_of_java_is_what_native_memory_tracking_counts() {
    let Some(java) = installed("java") else { return skip(Skip::NotInstalled("java")) };
    let Some(jcmd) = installed("jcmd") else { return skip(Skip::NotInstalled("jcmd")) };
    let mut command = Command::new(java);
    command.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:NativeMemoryTracking=summary"]);
    command.args(["-cp", "tests/fixtures/programs", "JavaRatio", "sleeps", "3"]);
    let target = Target::spawn(&mut command);
    let jcmd = Command::new(jcmd).args([&target.pid().to_string(), "VM.native_memory"]).output();
    let text = String::from_utf8(jcmd.expect("jcmd").stdout).expect("text");
    let memory = memory(target.pid());
    let committed = |section: &str, line: &str| -> u64 {
        let rest = text.split(section).nth(1).expect(section).split(line).nth(1).expect(line);
        let number = rest.split("committed=").nth(1).and_then(|rest| rest.split("KB").next());
        number.and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
    };
    assert_close(part(&memory, "Java heap", "size"), committed("Java Heap", "(mmap"), 2.0, &memory);
    assert_close(part(&memory, "Java code cache", "size"), committed("Code (", "(mmap"), 2.0, &memory);
    let metadata = committed("Metadata:", "reserved") + committed("Class space:", "reserved");
    assert_close(part(&memory, "Java metaspace", "size"), metadata, 2.0, &memory);
}

#[test]
fn the_blocks_of_python_are_those_that_its_allocator_states() {
    let Some(python) = installed("python3") else { return skip(Skip::NotInstalled("python3")) };
    let program = "
import os, sys, time
class Cart:
    def __init__(self, i): self.i = i; self.items = [i]
keep = [Cart(i) for i in range(20000)]
names = ['name %d' % i for i in range(30000)]
print('ready', flush=True)
os.dup2(1, 2)
sys._debugmallocstats()
time.sleep(30)";
    let target = Target::spawn(Command::new(python).args(["-c", program]));
    // The statistics are printed after the line that the harness waits for.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let arguments = ["--pid", &target.pid().to_string(), "--memory", "--json"];
    let outcome = Rprof::verb("info").args(&arguments).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let json: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let heap = &json["memory"]["heaps"][0];
    let text = target.end_and_read_output();
    // class, size, pools, blocks in use, free blocks
    let rows = text.lines().filter_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        <[u64; 5]>::try_from(numbers).ok()
    });
    let truth: Vec<[u64; 5]> = rows.collect();
    let bytes: u64 = truth.iter().map(|row| row[1] * row[3]).sum();
    assert!(truth.len() >= 20 && bytes > 4 << 20, "{text}");
    assert_close(heap["bytes"].as_u64().unwrap_or(0), bytes, 1.0, heap);
    for row in truth.iter().filter(|row| row[3] > 1000) {
        let own = heap["sizes"].as_array().into_iter().flatten().find(|own| own["size"] == row[1]);
        assert_close(own.and_then(|own| own["used"].as_u64()).unwrap_or(0), row[3], 1.0, heap);
    }
    let types = heap["types"].as_array().expect("types");
    let count = |name: &str| types.iter().find(|row| row["type"] == name).map(|row| row["count"].clone());
    assert_eq!(count("Cart"), Some(20000.into()), "{heap:#}");
    let arenas = part(&json["memory"], "Python arenas", "rss");
    assert!(arenas > bytes, "{arenas} bytes of arenas: {json:#}");
}

#[test]
fn stacks_that_jemalloc_samples_are_read_and_stand_for_all_memory_in_use() {
    let library = format!("/usr/lib/{}-linux-gnu/libjemalloc.so.2", std::env::consts::ARCH);
    if !std::path::Path::new(&library).exists() {
        return skip(Skip::NotInstalled("libjemalloc"));
    }
    let program = Fixture::c(&["sampled_heap.c"]).build();
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", library).env("MALLOC_CONF", "prof:true,lg_prof_sample:14");
    let target = Target::spawn(&mut command);
    let outcome = Rprof::verb("heap").args(&[&target.pid().to_string(), "--format", "pprof"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let profile = Stacks::decode(&outcome.stdout).expect("a profile");
    assert!(profile.comment("stacks").contains("jemalloc"), "{:?}", profile.comments);
    for (site, objects, bytes) in [("small_site", 200_000, 22_400_000), ("large_site", 2000, 40_960_000)] {
        let of_site = || profile.stacks.iter().filter(|stack| stack.has_in_order(&["main", site, "keep"]));
        let found = (
            of_site().map(|stack| stack.count).sum::<i64>() as f64 / f64::from(objects),
            of_site().map(|stack| stack.cpu_ns).sum::<i64>() as f64 / f64::from(bytes),
        );
        // Of the small site 1,300 samples are expected: one standard deviation is 2.8 %.
        assert!((0.85..1.15).contains(&found.0) && (0.85..1.15).contains(&found.1), "{site}: {found:?}");
    }
}
