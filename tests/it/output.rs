//! The files rprof writes: names, formats, comments, and whether `go tool pprof` accepts them.

use std::{fs, process::Command};

use crate::harness::{Fixture, Outcome, Rprof, Skip, Stacks, Target, alone, installed, skip};

fn ratio() -> Target {
    Target::start(&Fixture::c(&["ratio.c"]).build())
}

#[test]
fn the_comments_state_tool_rate_samples_losses_and_cut_stacks() {
    let _alone = alone();
    let outcome = Rprof::attach(&ratio()).seconds(1).run();
    let (stderr, printed) = (outcome.stderr.clone(), outcome.printed());
    let profile = outcome.profile();
    assert_eq!(profile.comment("rprof"), env!("CARGO_PKG_VERSION"));
    assert_eq!(profile.comment("samples"), profile.samples().to_string());
    assert!(profile.comment("rate").starts_with("asked 999 Hz"));
    assert_eq!(profile.comment("lost"), "0 samples");
    assert!(profile.comment("stacks").starts_with("whole "));
    assert!(profile.comment("unnamed").contains('%'));
    assert!(profile.comment("sampler").contains('('));
    assert!(profile.profile.time_nanos > 1_600_000_000_000_000_000);
    let seconds = profile.profile.duration_nanos as f64 / 1e9;
    assert!((0.9..1.6).contains(&seconds), "a duration of {seconds} s");
    assert!(stderr.contains("wrote "), "{stderr}");
    assert!(printed.contains(&format!("quality: {} samples", profile.samples())), "{printed}");
}

/// The first look at a profile of `ratio.c`: the row of a function, without the shares.
fn row<'t>(printed: &'t str, function: &str) -> &'t str {
    let row = printed.lines().find(|line| line.contains(&format!(" {function} ")));
    row.unwrap_or_else(|| panic!("no row of {function} in:\n{printed}"))
}

/// The first two numbers of a row, in per cent.
fn total_and_self(row: &str) -> [f64; 2] {
    let mut shares = row.split('%').map(|share| share.trim().parse().expect(row));
    [shares.next(), shares.next()].map(|share| share.expect(row))
}

#[test]
fn attach_prints_the_heaviest_paths_as_a_tree_that_fits_a_terminal() {
    let _alone = alone();
    let target = ratio();
    let printed = Rprof::attach(&target).seconds(2).run().printed();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.len() <= 23 && lines.iter().all(|line| line.chars().count() <= 80), "{printed}");
    assert!(lines[0].starts_with(&format!("ratio ({}): ", target.pid())), "{printed}");
    assert!(lines[0].contains(" s of CPU time in ") && lines[0].contains(" samples: ±"), "{printed}");
    // The loop's own instructions, outside spin_unit, are a sample of some thousands.
    let [total, own] = total_and_self(row(&printed, "main › outer › middle"));
    assert!(total >= 99.5 && own < 1.0, "{printed}");
    let shares = ["sixty", "thirty", "ten"].map(|function| {
        let row = row(&printed, function);
        assert!(row.trim_end().ends_with(" ratio") && row.contains(['├', '└']), "{row}");
        total_and_self(row)[0]
    });
    for (share, expected) in shares.into_iter().zip([60.0, 30.0, 10.0]) {
        assert!((share - expected).abs() < 5.0, "{shares:?}\n{printed}");
    }
    assert!(lines[lines.len() - 1].starts_with("open it with: rprof top "), "{printed}");
}

#[test]
fn flat_prints_a_table_and_record_prints_to_standard_error() {
    let _alone = alone();
    let flat = Rprof::attach(&ratio()).seconds(1).args(&["--flat"]).run().printed();
    assert!(flat.contains("flat%") && flat.contains("spin_unit"), "{flat}");
    let program = Fixture::c(&["ratio.c"]).build();
    let path = program.to_string_lossy().into_owned();
    let recorded = Rprof::record(&["timeout", "1", &path]).run();
    assert!(
        recorded.stderr.contains("spin_unit") && recorded.stderr.contains("quality: "),
        "{}",
        recorded.stderr
    );
    assert_eq!(recorded.printed(), "ready\n", "standard output is the command's");
}

#[test]
fn nothing_but_the_profile_is_left_in_the_folder_and_an_old_one_is_replaced() {
    let _alone = alone();
    let target = ratio();
    let outcome = Rprof::attach(&target).seconds(1).to("again.pb.gz").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.leftovers(), Vec::<String>::new());
    let first = fs::read(&outcome.output).expect("written");
    let second = Rprof::attach(&target).seconds(1).option("-o", &outcome.output.to_string_lossy()).run();
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_ne!(fs::read(&outcome.output).expect("written"), first);
    assert_eq!(outcome.leftovers(), Vec::<String>::new());
}

#[test]
fn the_default_name_contains_program_process_and_time() {
    let _alone = alone();
    let target = ratio();
    let pid = target.pid().to_string();
    // An option that is last and has its value keeps the harness from choosing a name.
    let folder = crate::harness::open_folder();
    let status = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["attach", &pid, "-d", "1s"])
        .current_dir(folder.path())
        .output()
        .expect("rprof runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let names: Vec<String> = (fs::read_dir(folder.path()).expect("own folder"))
        .map(|entry| entry.expect("own folder").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(
        names[0].starts_with(&format!("rprof-ratio-{pid}-")) && names[0].ends_with(".pb.gz"),
        "{names:?}"
    );
    Stacks::read(&folder.path().join(&names[0])).expect("a profile");
}

#[test]
fn a_dash_writes_the_profile_and_nothing_else_to_standard_output() {
    let _alone = alone();
    let outcome = Rprof::attach(&ratio()).seconds(1).args(&["-o", "-"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let profile = Stacks::decode(&outcome.stdout).expect("a profile on standard output");
    profile.assert_at_least(100);
}

fn written_as(name: &str) -> (Outcome, String) {
    let outcome = Rprof::attach(&ratio()).seconds(1).to(name).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let text = fs::read_to_string(&outcome.output).expect("text");
    (outcome, text)
}

#[test]
fn the_extension_folded_gives_folded_stacks_root_first() {
    let _alone = alone();
    let (_outcome, text) = written_as("profile.folded");
    let mut total = 0;
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a stack, a space, a count");
        total += count.parse::<i64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(stack.contains("main;outer"), "{line}");
    }
    assert!(total >= 100, "{total} samples");
    assert!(text.contains("main;outer;middle;sixty;spin_unit "), "{text}");
}

#[test]
fn the_extension_svg_gives_a_flame_graph_that_needs_nothing_else() {
    let _alone = alone();
    let (_outcome, text) = written_as("profile.svg");
    assert!(text.contains("<svg") && text.trim_end().ends_with("</svg>"));
    assert!(text.contains("sixty") && text.contains("thirty"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!text.contains(outside), "the picture loads something: {outside}");
    }
}

#[test]
fn a_flame_graph_is_drawn_as_text_with_boxes_as_wide_as_their_shares() {
    let _alone = alone();
    let outcome = Rprof::attach(&ratio()).seconds(2).run();
    let file = outcome.output.to_string_lossy().into_owned();
    let drawn = |options: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rprof")).args(["flame", &file]).args(options).output();
        let output = output.expect("rprof runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let text = drawn(&[]);
    assert!(text.starts_with("ratio · CPU flame graph: ") && !text.contains('\u{1b}'), "{text}");
    let row = text.lines().find(|line| line.contains("│sixty ")).unwrap_or_else(|| panic!("{text}"));
    let column = |name: &str| {
        let at = row.find(&format!("│{name}")).unwrap_or_else(|| panic!("{name} is missing from {row}"));
        row[..at].chars().count()
    };
    // Without a terminal a line has 100 columns.
    assert_eq!(column("sixty"), 0, "{text}");
    assert!((55..=65).contains(&column("thirty")) && (85..=95).contains(&column("ten")), "{text}");
    let focused = drawn(&["--focus", "thirty", "--color", "always"]);
    assert!(focused.contains("thirty") && !focused.contains("sixty"), "{focused}");
    assert!(focused.contains("\u{1b}[30;48;") && focused.contains("\u{1b}[0m ratio"), "{focused}");
    let short = drawn(&["--depth", "1"]);
    assert!(short.contains("not shown: --depth 0 shows all"), "{short}");
}

#[test]
fn the_extension_json_gives_speedscope() {
    let _alone = alone();
    let (_outcome, text) = written_as("profile.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = json["shared"]["frames"].as_array().expect("frames");
    assert!(frames.iter().any(|frame| frame["name"] == "sixty"));
    let profiles = json["profiles"].as_array().expect("profiles");
    for profile in profiles {
        assert_eq!(profile["type"], "sampled");
        let samples = profile["samples"].as_array().expect("samples").len();
        assert_eq!(samples, profile["weights"].as_array().expect("weights").len());
    }
}

#[test]
fn a_requested_format_wins_over_the_extension() {
    let _alone = alone();
    let outcome = Rprof::attach(&ratio()).seconds(1).option("--format", "folded").to("profile.txt").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(fs::read_to_string(&outcome.output).expect("text").contains("main;outer"));
}

#[test]
fn stacks_carry_the_names_of_their_threads_and_ids_when_requested() {
    let _alone = alone();
    let program = Fixture::c(&["names.c"]).build();
    for tier in crate::shares::allowed_tiers() {
        let target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).seconds(1).args(&["--label", "tid,pid"]).profile();
        for (function, name) in [("alpha_thread", "alpha-worker"), ("beta_thread", "beta-worker")] {
            let share = profile.share_of(function);
            assert!(share > 30.0, "{tier}: {function} has {share:.1} %\n{}", profile.summary());
            let odd: Vec<_> = (profile.stacks.iter())
                .filter(|stack| stack.has(function) && stack.label("thread") != Some(name))
                .map(|stack| &stack.labels)
                .collect();
            assert!(odd.is_empty(), "{tier}: {function} runs in {odd:?}");
        }
        let pid = target.pid().to_string();
        assert!(profile.stacks.iter().all(|stack| stack.label("pid") == Some(&pid)), "{tier}");
        let tids: std::collections::BTreeSet<_> =
            profile.stacks.iter().filter_map(|stack| stack.label("tid")).collect();
        assert!(tids.len() >= 2 && !tids.contains(&""), "{tier}: {tids:?}");
    }
}

#[test]
fn a_process_that_slept_gives_a_valid_empty_profile_and_a_warning() {
    let _alone = alone();
    for tier in crate::shares::allowed_tiers() {
        let mut target = Target::start(&Fixture::c(&["sleeper.c"]).build());
        let outcome = Rprof::attach(&target).sampler(tier).seconds(1).run();
        assert!(outcome.stderr.contains("warning:"), "{tier}:\n{}", outcome.stderr);
        let profile = outcome.profile();
        assert!(profile.samples() <= 2, "{tier}: {}", profile.summary());
        assert!(!profile.profile.mapping.is_empty() || profile.samples() == 0);
        target.assert_unhurt();
    }
}

/// Runs `go tool pprof`; gives what it printed, and fails on any message.
#[track_caller]
fn pprof(arguments: &[&str]) -> String {
    let home = crate::harness::open_folder();
    let output = Command::new(installed("go").expect("asked before"))
        .args(["tool", "pprof"])
        .args(arguments)
        .env("HOME", home.path())
        .env("PPROF_TMPDIR", home.path())
        .env("PPROF_BINARY_PATH", home.path())
        .env("GOCACHE", crate::harness::go_cache())
        .output()
        .expect("go runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.trim().is_empty(), "go tool pprof: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn go_tool_pprof_opens_the_file_without_a_complaint_where_the_program_is_gone() {
    let _alone = alone();
    if installed("go").is_none() {
        return skip(Skip::NotInstalled("go"));
    }
    let folder = crate::harness::open_folder();
    let copy = folder.path().join("gone");
    fs::copy(Fixture::c(&["ratio.c"]).build(), &copy).expect("room in /tmp");
    let target = Target::start(&copy);
    let outcome = Rprof::attach(&target).run();
    drop(target);
    fs::remove_file(&copy).expect("own file");
    let file = outcome.output.to_string_lossy();
    let top = pprof(&["-top", "-cum", &file]);
    let sixty =
        top.lines().find(|line| line.trim_end().ends_with(" sixty")).unwrap_or_else(|| panic!("{top}"));
    let percent: f64 = (sixty.split_whitespace().nth(4))
        .and_then(|field| field.trim_end_matches('%').parse().ok())
        .unwrap_or_else(|| panic!("{sixty}"));
    assert!((58.0..=62.0).contains(&percent), "{top}");
    assert!(top.contains("Type: cpu"), "{top}");
    let raw = pprof(&["-raw", &file]);
    assert!(raw.contains("samples/count cpu/nanoseconds"), "{raw}");
    let tags = pprof(&["-tags", &file]);
    assert!(tags.contains("thread"), "{tags}");
    let lines = pprof(&["-list", "^middle$", "-source_path", "tests/fixtures/programs", &file]);
    assert!(lines.contains("sixty();"), "{lines}");
}
