//! Prints the cost of unwinding: `cargo test --release --test unwind -- --ignored --nocapture
//! cost`.

use nix::time::{ClockId, clock_gettime};

use rprof::unwind::{CopiedStack, StackEnd, Unwinder};

use crate::target::{Held, Image, Target, build};

/// CPU time of this thread, in nanoseconds, so that other programs on the machine do not count.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("clock");
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

#[test]
#[ignore = "prints figures; asserts nothing about time"]
fn what_a_frame_costs() {
    for depth in [12, 1000] {
        let name = format!("cost-{depth}");
        let define = format!("-DDEPTH={depth}");
        let program = build(&name, "cc", "unwind_chain.c", &["-O2", "-fomit-frame-pointer", &define]);
        let target = Target::start(&program, &[]);
        let image = Image::read(target.pid());
        let held = Held::new(target.pid(), target.pid());
        let registers = held.registers();
        let (start, bytes) = held.stack(1 << 20);
        let mut frames = Vec::new();
        let mut unwinder = Unwinder::new();
        let mut copy = CopiedStack { start, bytes: &bytes, capped: true, has_holes: false };
        let begun = cpu_ns();
        let end = unwinder.unwind(&image.modules, &registers, &mut copy, &mut frames);
        let cold_ns = cpu_ns() - begun;
        assert_eq!(end, StackEnd::Root);
        let rounds = 2_000_000 / frames.len();
        let begun = cpu_ns();
        for _ in 0..rounds {
            unwinder.unwind(&image.modules, &registers, &mut copy, &mut frames);
        }
        let warm_ns = (cpu_ns() - begun) / (rounds * frames.len()) as f64;
        let count = frames.len();
        println!("{count} frames: {warm_ns:.1} ns a frame warm, {:.0} ns cold", cold_ns / count as f64);
    }
}

/// Compares with elfutils:
/// `RPROF_UNWIND_PID=1234 cargo test --release --test unwind -- --ignored eu_stack`.
#[test]
#[ignore = "needs a process to unwind"]
fn a_process_is_unwound_like_eu_stack() {
    let pid = std::env::var("RPROF_UNWIND_PID").expect("RPROF_UNWIND_PID").parse().expect("a number");
    let image = Image::read(pid);
    let mut unwinder = Unwinder::new();
    let mut differing = 0;
    let threads = crate::target::threads(pid);
    for tid in &threads {
        let (frames, end) = Held::new(pid, *tid).unwind(&mut unwinder, &image.modules);
        let output = std::process::Command::new("eu-stack")
            .args(["-n", "0", "-1", "-r", "-p", &tid.to_string()])
            .output()
            .expect("eu-stack");
        let theirs: Vec<u64> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| {
                u64::from_str_radix(line.split_whitespace().nth(1)?.strip_prefix("0x")?, 16).ok()
            })
            .collect();
        let ours: Vec<u64> = frames.iter().map(|frame| frame.addr.raw().0).collect();
        if ours != theirs {
            differing += 1;
            println!("{tid}:\n{}\neu-stack: {theirs:x?}", image.describe(&frames, end));
        }
        println!(
            "{tid}: {} frames, {end:?}, {}",
            ours.len(),
            if ours == theirs { "equal" } else { "DIFFERENT" }
        );
    }
    assert_eq!(differing, 0, "of {} threads", threads.len());
}

/// Stops a busy process many times: `RPROF_UNWIND_PID=1234 … -- --ignored --nocapture repeated`.
#[test]
#[ignore = "needs a process to unwind"]
fn stacks_of_a_repeatedly_stopped_process_are_complete() {
    let pid = std::env::var("RPROF_UNWIND_PID").expect("RPROF_UNWIND_PID").parse().expect("a number");
    let image = Image::read(pid);
    let mut unwinder = Unwinder::new();
    let mut ends = std::collections::BTreeMap::<String, (usize, String)>::new();
    for _ in 0..1000 {
        for tid in crate::target::threads(pid) {
            let (frames, end) = Held::new(pid, tid).unwind(&mut unwinder, &image.modules);
            let entry = ends.entry(format!("{end:?}")).or_insert_with(|| (0, image.describe(&frames, end)));
            entry.0 += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for (end, (count, example)) in ends {
        println!("{count} x {end}, for example:\n{example}\n");
    }
}
