//! Tests of the flame graph as a whole.

use super::*;
use crate::profile::{Builder, LabelValue, LineSpec, LocationId, MappingSpec, Profile};

pub(super) const MS: i64 = 1_000_000;

fn place(builder: &mut Builder, name: &str) -> LocationId {
    let mapping = builder.mapping(&MappingSpec { filename: "/bin/app", ..MappingSpec::default() });
    let function = builder.function(name, name, "src/app.c", 7);
    builder.location(Some(mapping), 0x10, &[LineSpec { function, line: 9, column: 0 }])
}

/// Stacks as `root;…;leaf`, each with its milliseconds.
pub(super) fn profile(stacks: &[(&str, i64)]) -> Profile {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    for (stack, ms) in stacks {
        let leaf_first: Vec<_> = stack.split(';').rev().map(|name| place(&mut builder, name)).collect();
        let thread = [("thread", LabelValue::Text(if ms % 2 == 0 { "even" } else { "odd" }))];
        builder.sample(&leaf_first, &[1, ms * MS], &thread);
    }
    builder.finish()
}

fn draw(profile: &Profile, options: &FlameOptions) -> String {
    let mut bytes = Vec::new();
    write_flame(&Stacks::new(profile), 1, options, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn placed(profile: &Profile, options: &FlameOptions) -> Vec<(String, usize, i64, i64, i64)> {
    let stacks = Stacks::new(profile);
    let layout = layout::lay_out(&stacks, 1, options);
    let name = |label| match label {
        layout::Label::Root => "all".to_string(),
        layout::Label::Thread(number) => layout.threads[number as usize].clone(),
        layout::Label::Rest(count) => format!("{count} smaller"),
        layout::Label::Frame(frame) => stacks.frame(frame).name.to_string(),
    };
    let row = |p: &layout::Placed| (name(p.label), p.depth, p.start / MS, p.value / MS, p.own / MS);
    layout.boxes.iter().map(row).collect()
}

fn row(name: &str, depth: usize, start: i64, value: i64, own: i64) -> (String, usize, i64, i64, i64) {
    (name.to_string(), depth, start, value, own)
}

#[test]
fn equal_beginnings_share_boxes_and_the_largest_stands_first() {
    let profile =
        profile(&[("main;small", 10), ("main;large;leaf", 50), ("main", 20), ("main;large;leaf", 15)]);
    let expected = [
        row("all", 0, 0, 95, 0),
        row("main", 1, 0, 95, 20),
        row("large", 2, 0, 65, 0),
        row("small", 2, 65, 10, 10),
        row("leaf", 3, 0, 65, 65),
    ];
    assert_eq!(placed(&profile, &FlameOptions::default()), expected);
}

#[test]
fn threads_make_a_row_when_asked_for() {
    let options = FlameOptions { by_thread: true, ..FlameOptions::default() };
    let boxes = placed(&profile(&[("main", 10), ("main", 31)]), &options);
    let expected = [
        row("all", 0, 0, 41, 0),
        row("odd", 1, 0, 31, 0),
        row("even", 1, 31, 10, 0),
        row("main", 2, 0, 31, 31),
        row("main", 2, 31, 10, 10),
    ];
    assert_eq!(boxes, expected);
}

#[test]
fn a_sliver_is_not_drawn_and_still_counts_in_its_callers() {
    let profile = profile(&[("main;wide", 99_999), ("main;sliver;deep", 1)]);
    let boxes = placed(&profile, &FlameOptions::default());
    assert_eq!(boxes[1], row("main", 1, 0, 100_000, 0));
    assert!(!boxes.iter().any(|(name, ..)| name == "sliver" || name == "deep"));
}

#[test]
fn many_slivers_are_drawn_as_one_box_so_that_their_caller_does_not_look_busy() {
    let names: Vec<_> = (0..30_000).map(|at| format!("main;f{at}")).collect();
    let mut stacks: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    stacks.extend([("main;wide", 10_000), ("main", 5_000)]);
    let boxes = placed(&profile(&stacks), &FlameOptions::default());
    let expected = [
        row("all", 0, 0, 45_000, 0),
        row("main", 1, 0, 45_000, 5_000),
        row("wide", 2, 0, 10_000, 10_000),
        row("30000 smaller", 2, 10_000, 30_000, 0),
    ];
    assert_eq!(boxes, expected);
}

#[test]
fn where_boxes_are_too_many_the_largest_are_drawn_and_the_picture_says_so() {
    let names: Vec<_> = (0..200).map(|at| vec![format!("f{at}"); 100].join(";")).collect();
    let mut stacks: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    stacks.push(("wide", 100));
    let svg = draw(&profile(&stacks), &FlameOptions::default());
    assert!(svg.contains("only boxes above 0.333% are drawn"));
    assert!(svg.contains("<g class=\"rest\"><title>(200 smaller)\n200ms · 66.67%</title>"));
}

#[test]
fn a_name_cannot_become_markup_or_script() {
    let name = "</title></text><script>alert(1)</script>]]>&\"'\u{0}\u{1b}";
    let svg =
        draw(&profile(&[(name, 10)]), &FlameOptions { title: Some(name.into()), ..FlameOptions::default() });
    assert_eq!(svg.matches("<script>").count(), 1);
    assert_eq!(svg.matches("]]>").count(), 2);
    assert!(svg.contains("&lt;/title&gt;&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;]]&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}"));
}

#[test]
fn the_script_and_style_cannot_end_their_sections() {
    for text in [include_str!("flame.js"), include_str!("flame.css")] {
        assert!(!text.contains("]]>"));
    }
    let fetches = ["http://", "https://", "fetch(", "import", "innerHTML", "eval("];
    let script = include_str!("flame.js").replace("http://www.w3.org/1999/xhtml", "");
    assert!(fetches.iter().all(|word| !script.contains(word)));
}

#[test]
fn the_heading_says_what_was_measured() {
    let mut profile = profile(&[("main", 10), ("main", 20)]);
    profile.duration_nanos = 2_000 * MS;
    profile.string_table.push("2 of 2 stacks are whole".into());
    profile.comment.push(profile.string_table.len() as i64 - 1);
    let svg = draw(&profile, &FlameOptions::default());
    for expected in [
        "<title>app · CPU flame graph</title>",
        "30ms in total · 2 samples · over 2s · 1 stack",
        "2 of 2 stacks are whole",
        "<title>main\n30ms · 100% · itself 30ms\napp · src/app.c:7</title>",
    ] {
        assert!(svg.contains(expected), "{expected}\n{svg}");
    }
}

#[test]
fn a_hundred_thousand_different_stacks_stay_a_few_megabytes() {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let locations: Vec<_> =
        (0..3000).map(|at| place(&mut builder, &format!("module::submodule::function_{at}"))).collect();
    let mut state = 1u64;
    for _ in 0..100_000 {
        let stack: Vec<_> = (0..20)
            .map(|depth| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                locations[(depth * 150) as usize + (state >> 33) as usize % 3]
            })
            .collect();
        builder.sample(&stack, &[1, MS], &[]);
    }
    let svg = draw(&builder.finish(), &FlameOptions::default());
    assert!(svg.len() < 6_000_000, "{} bytes", svg.len());
}

#[test]
fn a_profile_without_samples_is_a_picture_too() {
    let svg = draw(&profile(&[]), &FlameOptions::default());
    assert!(svg.contains("0 in total") && svg.trim_end().ends_with("</svg>"));
    let endless = vec!["f"; 5_000].join(";");
    assert!(
        draw(&profile(&[(&endless, 3)]), &FlameOptions::default())
            .contains("1 stack is truncated at the leaf")
    );
}

#[test]
fn labels_fold_template_arguments_and_tooltips_have_the_whole_name() {
    let name = "std::vector<Row, std::allocator<Row> >::at";
    let svg = draw(&profile(&[(&format!("main;{name}"), 10)]), &FlameOptions::default());
    let escaped = name.replace('<', "&lt;").replace('>', "&gt;");
    assert!(svg.contains(&format!("<title>{escaped}\n")), "{svg}");
    assert!(svg.contains("data-label=\"std::vector&lt;…&gt;::at\""), "{svg}");
    assert!(svg.contains(">std::vector&lt;…&gt;::at</text>"), "{svg}");
    assert!(!svg.contains("data-label=\"main\""), "{svg}");
}
