//! Stacks recorded from real programs, with the files they ran: a recorded stack must always unwind
//! the same. `tests/fixtures/recorded/NAME.json` holds registers, the words of memory that were
//! read, and the frames; `NAME.elf` is the program.
//!
//! To record a new one: `cargo test --release --test unwind -- --ignored record`.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use rprof::{
    addr::{FrameAddr, RuntimeAddr},
    arch::Registers,
    elf::ElfFile,
    unwind::{Frame, Module, Modules, ReadFailure, StackEnd, StackMemory, UnwindTables, Unwinder},
};
use serde_json::{Value, json};

use crate::target::{Held, Image, Target, build};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded")
}

/// The words of memory that unwinding read.
struct Words(BTreeMap<u64, u64>);

impl StackMemory for Words {
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        self.0.get(&addr.0).copied().ok_or(ReadFailure::Unreadable)
    }
}

struct Recorder {
    memory: fs::File,
    words: BTreeMap<u64, u64>,
}

impl StackMemory for Recorder {
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, addr.0).map_err(|_| ReadFailure::Unreadable)?;
        self.words.insert(addr.0, u64::from_le_bytes(word));
        Ok(u64::from_le_bytes(word))
    }
}

fn hex(value: u64) -> Value {
    json!(format!("{value:#x}"))
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().expect("a number as text");
    u64::from_str_radix(text.strip_prefix("0x").expect("0x"), 16).expect("hexadecimal")
}

fn frame_text(frame: &Frame) -> Value {
    let kind = if matches!(frame.addr, FrameAddr::Pc(_)) { "pc" } else { "return" };
    json!(format!("{kind} {:#x} {:?}", frame.addr.raw(), frame.how))
}

#[test]
fn recorded_stacks_are_unwound_as_they_were() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let recorded: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        let bytes = fs::read(path.with_extension("elf")).expect("the program");
        let elf = Arc::new(ElfFile::from_bytes(bytes).expect("ELF"));
        let module = Module {
            start: RuntimeAddr(number(&recorded["start"])),
            end: RuntimeAddr(number(&recorded["end"])),
            bias: number(&recorded["bias"]),
            tables: Some(Arc::new(UnwindTables::new(elf))),
            code: None,
            id: 0,
        };
        let mut registers = Registers::default();
        let values = recorded["registers"].as_array().expect("registers");
        values.iter().zip(0..).for_each(|(value, index)| registers.set(index, number(value)));
        let words = recorded["words"].as_array().expect("words").iter();
        let mut memory = Words(words.map(|pair| (number(&pair[0]), number(&pair[1]))).collect());
        let mut frames = Vec::new();
        let end = Unwinder::new().unwind(&Modules::new(vec![module]), &registers, &mut memory, &mut frames);
        let frames: Vec<Value> = frames.iter().map(frame_text).collect();
        assert_eq!(Value::from(frames), recorded["frames"], "{}", path.display());
        assert_eq!(format!("{end:?}"), recorded["end_reason"], "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "there are recorded stacks");
}

#[test]
#[ignore = "writes the fixtures"]
fn record() {
    let cases: [(&str, &str, &[&str], &[&str]); 3] = [
        ("chain_realigned_musl_static", "unwind_chain.c", &["-O2", "-static"], &[]),
        ("signal_own_stack_musl_stripped", "unwind_signal.c", &["-O2", "-static", "-s"], &["own-stack"]),
        ("signal_musl_static", "unwind_signal.c", &["-O2", "-static"], &[]),
    ];
    for (name, source, compile, arguments) in cases {
        let program = build(name, "musl-gcc", source, compile);
        let target = Target::start(&program, arguments);
        let image = Image::read(target.pid());
        let held = Held::new(target.pid(), target.pid());
        let memory = fs::File::open(format!("/proc/{}/mem", target.pid())).expect("memory");
        let mut recorder = Recorder { memory, words: BTreeMap::new() };
        let (registers, mut frames) = (held.registers(), Vec::new());
        let end = Unwinder::new().unwind(&image.modules, &registers, &mut recorder, &mut frames);
        assert_eq!(end, StackEnd::Root, "{}", image.describe(&frames, end));
        let module = &image.modules.as_slice()[0];
        let text = json!({
            "start": hex(module.start.0), "end": hex(module.end.0), "bias": hex(module.bias),
            "registers": (0..17).map(|index| hex(registers.get(index).expect("known"))).collect::<Vec<_>>(),
            "words": recorder.words.iter().map(|(at, word)| json!([hex(*at), hex(*word)])).collect::<Vec<_>>(),
            "frames": frames.iter().map(frame_text).collect::<Vec<_>>(),
            "end_reason": format!("{end:?}"),
        });
        let text = serde_json::to_string_pretty(&text).expect("JSON");
        fs::write(folder().join(format!("{name}.json")), text + "\n").expect("write");
        fs::copy(&program, folder().join(format!("{name}.elf"))).expect("copy");
    }
}
