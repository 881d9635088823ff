//! Damaged tables, random registers and random memory: unwinding ends with a reason and in time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rprof::{
    addr::RuntimeAddr,
    arch::Registers,
    elf::ElfFile,
    unwind::{MAX_FRAMES, Module, Modules, ReadFailure, StackEnd, StackMemory, UnwindTables, Unwinder},
};

use crate::target::build;

/// Pseudo-random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit.max(1)
    }
}

/// Memory in which every word is an address of code, an address of the stack, or random.
struct WildMemory {
    random: Random,
    code: (u64, u64),
}

impl StackMemory for WildMemory {
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        Ok(match self.random.below(8) {
            0 => self.random.next(),
            1 => addr.0.wrapping_add(self.random.below(256)),
            2 => return Err(ReadFailure::Unreadable),
            _ => self.code.0 + self.random.below(self.code.1 - self.code.0),
        })
    }
}

fn unwind_wildly(bytes: Vec<u8>, random: &mut Random) -> Vec<StackEnd> {
    let Ok(elf) = ElfFile::from_bytes(bytes) else { return Vec::new() };
    let code = elf.segments().iter().find(|segment| segment.executable).copied();
    let Some(code) = code.filter(|code| code.memory_size > 0 && code.memory_size < 1 << 32) else {
        return Vec::new();
    };
    let range = (0x10_0000_0000, 0x10_0000_0000 + code.memory_size);
    let modules = Modules::new(vec![Module {
        start: RuntimeAddr(range.0),
        end: RuntimeAddr(range.1),
        bias: range.0.wrapping_sub(code.address.0),
        tables: Some(Arc::new(UnwindTables::new(Arc::new(elf)))),
        code: None,
        id: 1,
    }]);
    let mut unwinder = Unwinder::new();
    let mut frames = Vec::new();
    let stacks = (0..40).map(|_| {
        let mut registers = Registers::default();
        (0..17).for_each(|number| registers.set(number, 0x7000_0000 + random.below(1 << 20) * 8));
        registers.set(16, range.0 + random.below(code.memory_size));
        let mut memory = WildMemory { random: Random(random.next()), code: range };
        let end = unwinder.unwind(&modules, &registers, &mut memory, &mut frames);
        assert!(frames.len() <= MAX_FRAMES);
        end
    });
    stacks.collect()
}

#[test]
fn damaged_files_and_random_memory_end_with_a_reason_and_in_time() {
    let begun = Instant::now();
    let mut random = Random(7);
    let builds = [
        ("crafted-dynamic", "cc", &["-O2"][..]),
        ("crafted-musl", "musl-gcc", &["-O2", "-static"]),
        ("crafted-no-header", "cc", &["-O2", "-Wl,--no-eh-frame-hdr"]),
        ("crafted-debug", "cc", &["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]),
    ];
    let mut ended = 0;
    for (name, compiler, arguments) in builds {
        let original =
            std::fs::read(build(name, compiler, "unwind_chain.c", arguments)).expect("the program");
        let elf = ElfFile::from_bytes(original.clone()).expect("ELF");
        let tables: Vec<(u64, u64)> = [".eh_frame", ".eh_frame_hdr", ".debug_frame", ".symtab", ".text"]
            .iter()
            .filter_map(|name| elf.section(name).map(|section| (section.file_offset.0, section.size)))
            .chain([(0, original.len() as u64), (0, 0x400)])
            .collect();
        for _ in 0..150 {
            let mut bytes = original.clone();
            for _ in 0..=random.below(40) {
                let (offset, size) = tables[random.below(tables.len() as u64) as usize];
                let at = (offset + random.below(size)) as usize % bytes.len();
                bytes[at] = if random.below(3) == 0 { 0xff } else { random.next() as u8 };
            }
            if random.below(10) == 0 {
                bytes.truncate(random.below(original.len() as u64) as usize);
            }
            ended += unwind_wildly(bytes, &mut random).len();
        }
    }
    assert!(ended > 10_000, "{ended} stacks were tried");
    assert!(begun.elapsed() < Duration::from_secs(120), "it took {:?}", begun.elapsed());
}
