//! Tests of the heaviest paths: trees of small profiles, as text.

use super::{
    fold::Expand,
    text::{TextOptions, hottest, tree},
    *,
};
use crate::profile::{Builder, LineSpec, MappingSpec, columns::parse};

/// A profile of folded stacks `module!function;…  samples`, root first; a module `k` is the kernel.
fn profile(stacks: &[(&str, i64)]) -> Columns {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    for (stack, count) in stacks {
        let locations: Vec<_> = stack
            .split(';')
            .map(|frame| {
                let (module, name) = frame.split_once('!').unwrap_or(("app", frame));
                let (start, filename) = match module {
                    "k" => (1 << 63, "[kernel.kallsyms]".to_owned()),
                    "app" => (0x1000, "/bin/app".to_owned()),
                    _ => (0x10_0000, format!("/usr/lib/{module}")),
                };
                let mapping = builder.mapping(&MappingSpec {
                    start,
                    limit: start + 0xffff,
                    filename: &filename,
                    ..MappingSpec::default()
                });
                let function = builder.function(name, name, "", 0);
                let at = start + name.bytes().map(u64::from).sum::<u64>();
                builder.location(Some(mapping), at, &[LineSpec { function, line: 1, column: 0 }])
            })
            .collect();
        let leaf_first: Vec<_> = locations.into_iter().rev().collect();
        builder.sample(&leaf_first, &[*count, *count * 10_000_000], &[]);
    }
    parse::of_profile(&builder.finish()).expect("a valid profile")
}

fn shown(columns: &Columns, rows: usize, expand: Expand) -> String {
    let paths = heaviest(columns, 1, PathOptions { rows, expand });
    tree(&paths, TextOptions { width: 60, full_names: false })
}

const SERVER: &[(&str, i64)] = &[
    ("_start;main;loop;handle;find;compare", 40),
    ("_start;main;loop;handle;find", 10),
    ("_start;main;loop;handle;libc.so.6!malloc;libc.so.6!int_malloc", 10),
    ("_start;main;loop;libc.so.6!read;k!do_syscall_64;k!__x64_sys_read;k!vfs_read", 30),
    ("_start;main;loop;libc.so.6!memcpy;k!asm_exc_page_fault;k!handle_mm_fault", 9),
    ("_start;main;loop;rare", 1),
];

#[test]
fn the_heaviest_paths_are_a_tree_with_own_code_first_and_the_kernel_folded() {
    let expected = concat!(
        " TOTAL   SELF  FUNCTION                           MODULE\n",
        "  100%     0%  main › loop                        app\n",
        " 60.0%     0%  ├ handle                           app\n",
        " 50.0%  10.0%  │ ├ find                           app\n",
        " 40.0%  40.0%  │ │ └ compare                      app\n",
        " 10.0%  10.0%  │ └ malloc                         libc.so.6\n",
        "  9.0%     0%  ├ memcpy                           libc.so.6\n",
        "  9.0%   9.0%  │ └ page fault                     kernel\n",
        " 30.0%  30.0%  └ read (system call)               kernel\n",
    );
    assert_eq!(shown(&profile(SERVER), 20, Expand::default()), expected);
}

#[test]
fn the_number_of_rows_is_limited_to_the_heaviest() {
    let expected = concat!(
        " TOTAL   SELF  FUNCTION                              MODULE\n",
        "  100%     0%  main › loop                           app\n",
        " 60.0%     0%  ├ handle                              app\n",
        " 50.0%  10.0%  │ └ find                              app\n",
        " 40.0%  40.0%  │   └ compare                         app\n",
        " 30.0%  30.0%  └ read (system call)                  kernel\n",
    );
    assert_eq!(shown(&profile(SERVER), 5, Expand::default()), expected);
}

#[test]
fn the_kernel_and_the_runtime_are_shown_if_requested() {
    let text = shown(&profile(SERVER), 30, Expand { kernel: true, runtime: true });
    for function in ["_start › main › loop", "vfs_read", "int_malloc", "handle_mm_fault"] {
        assert!(text.contains(function), "{function}:\n{text}");
    }
}

#[test]
fn a_long_chain_keeps_its_first_and_last_functions() {
    let name = |at: usize| format!("a_name_{at}");
    let stack = (0..9).map(name).collect::<Vec<_>>().join(";");
    let text = shown(&profile(&[(&stack, 5)]), 9, Expand::default());
    let expected = "  100%   100%  a_name_0 › … › a_name_7 › a_name_8    app\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn the_uncertainty_follows_from_the_number_of_samples() {
    let error = |samples| heaviest(&profile(&[("main", samples)]), 1, OPTIONS).error_points.round();
    assert_eq!([40, 100, 10_000].map(error), [15.0, 10.0, 1.0]);
    assert_eq!(heaviest(&profile(SERVER), 1, OPTIONS).samples, 100);
}

const OPTIONS: PathOptions = PathOptions { rows: 9, expand: Expand { kernel: false, runtime: false } };

#[test]
fn the_functions_with_the_most_own_time_are_listed_even_if_no_path_to_them_is_heavy() {
    let stacks: Vec<(String, i64)> = (0..200).map(|at| (format!("main;path_{at};hot"), 1)).collect();
    let stacks: Vec<(&str, i64)> = stacks.iter().map(|(stack, count)| (stack.as_str(), *count)).collect();
    let paths = heaviest(&profile(&stacks), 1, OPTIONS);
    let line = hottest(&paths, TextOptions { width: 80, full_names: false });
    assert_eq!(line.as_deref(), Some("most self: hot 100%"));
}

#[test]
fn the_kernel_is_one_share_beside_the_functions_with_the_most_own_time() {
    let line = hottest(&heaviest(&profile(SERVER), 1, OPTIONS), TextOptions { width: 80, full_names: false });
    let expected = "most self: compare 40.0%, find 10.0%, int_malloc 10.0%, rare 1.0%; kernel 39.0%";
    assert_eq!(line.as_deref(), Some(expected));
}

#[test]
fn an_empty_profile_has_no_rows() {
    let paths = heaviest(&profile(&[]), 1, OPTIONS);
    assert_eq!((paths.rows.len(), paths.hottest.len(), paths.total, paths.samples), (0, 0, 0, 0));
}

#[test]
fn every_line_fits_into_the_width_whatever_the_names() {
    let long = "x::".repeat(60) + "end";
    let stack = format!("main;{long};b;{long}<{long}>;d");
    for width in [60, 80, 120] {
        let paths = heaviest(&profile(&[(&stack, 5), ("main;b", 3), ("main;c", 9)]), 1, OPTIONS);
        let text = tree(&paths, TextOptions { width, full_names: false });
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}
