//! What is fuzzed: a function for each reader of foreign bytes. Each takes any bytes, must neither
//! panic nor hang, and asserts what must hold for any input.
//!
//! `fuzz/main.rs` calls them with the inputs of libFuzzer, `tests/corpora.rs` with those in
//! `fuzz/corpora`.

mod archive;
mod bpf_record;
mod columns_decode;
mod core_file;
mod debug_pair;
mod debuginfod;
mod demangle;
mod elf;
mod folded;
mod go_memory;
mod go_tables;
mod heap_image;
mod http_request;
mod jit_images;
mod jitdump;
mod jvm_memory;
mod kallsyms;
mod perf_map;
mod perf_record;
mod proc_maps;
mod proc_texts;
mod profile_decode;
mod profile_foreign;
mod profile_legacy;
mod python_memory;
mod symbolize;
mod unwind;
mod v8_memory;

/// What runs one input.
pub type Entry = fn(&[u8]);

/// Names and functions, sorted by name.
pub const ALL: &[(&str, Entry)] = &[
    ("archive", archive::run),
    ("bpf_record", bpf_record::run),
    ("columns_decode", columns_decode::run),
    ("core_file", core_file::run),
    ("debug_pair", debug_pair::run),
    ("debuginfod", debuginfod::run),
    ("demangle", demangle::run),
    ("elf", elf::run),
    ("folded", folded::run),
    ("go_memory", go_memory::run),
    ("go_tables", go_tables::run),
    ("heap_image", heap_image::run),
    ("http_request", http_request::run),
    ("jit_images", jit_images::run),
    ("jitdump", jitdump::run),
    ("jvm_memory", jvm_memory::run),
    ("kallsyms", kallsyms::run),
    ("perf_map", perf_map::run),
    ("perf_record", perf_record::run),
    ("proc_maps", proc_maps::run),
    ("proc_texts", proc_texts::run),
    ("profile_decode", profile_decode::run),
    ("profile_foreign", profile_foreign::run),
    ("profile_legacy", profile_legacy::run),
    ("python_memory", python_memory::run),
    ("symbolize", symbolize::run),
    ("unwind", unwind::run),
    ("v8_memory", v8_memory::run),
];
