//! Builds, starts, stops and reads programs.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use rprof::{
    addr::{ElfAddr, FileOffset, RuntimeAddr},
    arch::{Registers, x86_64},
    elf::{ElfFile, SymbolKind},
    unwind::{CopiedStack, Frame, Module, Modules, StackEnd, UnwindTables, Unwinder},
};

/// Builds a fixture program with a compiler and arguments, once for each name.
pub fn build(name: &str, compiler: &str, source: &str, arguments: &[&str]) -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("temporary folder"));
    let program = folder.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs").join(source);
    let mut command = Command::new(compiler);
    if compiler == "go" {
        command.args(["build", "-o"]).arg(&program).args(arguments).arg(source);
        command.env("GOCACHE", folder.path().join("go-cache")).env("GOFLAGS", "-mod=mod");
    } else {
        command.arg(source).arg("-o").arg(&program).args(arguments);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// A running program; killed when dropped.
pub struct Target {
    pub child: Child,
}

impl Target {
    /// Starts a program and waits until it has written its first byte.
    pub fn start(program: &Path, arguments: &[&str]) -> Target {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut byte = [0];
        child.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("the program's first byte");
        std::thread::sleep(std::time::Duration::from_millis(20));
        Target { child }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Lets the program continue reading.
    pub fn feed(&mut self) {
        self.child.stdin.as_mut().expect("piped").write_all(b"x").expect("write to the program");
    }

    pub fn threads(&self) -> Vec<i32> {
        threads(self.pid())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("task folder");
    let mut all: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// A thread held by ptrace; released when dropped.
pub struct Held {
    pid: i32,
    tid: Pid,
}

impl Held {
    pub fn new(pid: i32, tid: i32) -> Held {
        let thread = Pid::from_raw(tid);
        ptrace::seize(thread, ptrace::Options::empty()).expect("seize");
        ptrace::interrupt(thread).expect("interrupt");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("wait for the stop");
        Held { pid, tid: thread }
    }

    /// Runs one instruction.
    pub fn step(&self) {
        ptrace::step(self.tid, None).expect("step");
        waitpid(self.tid, Some(WaitPidFlag::__WALL)).expect("wait for the step");
    }

    pub fn registers(&self) -> Registers {
        let raw = ptrace::getregs(self.tid).expect("registers");
        let mut registers = Registers::default();
        let values = [
            raw.rax, raw.rdx, raw.rcx, raw.rbx, raw.rsi, raw.rdi, raw.rbp, raw.rsp, raw.r8, raw.r9, raw.r10,
            raw.r11, raw.r12, raw.r13, raw.r14, raw.r15, raw.rip,
        ];
        values.iter().zip(0..).for_each(|(value, number)| registers.set(number, *value));
        registers
    }

    /// Up to `limit` bytes from the stack pointer to the end of its mapping.
    pub fn stack(&self, limit: usize) -> (RuntimeAddr, Vec<u8>) {
        let sp = self.registers().get(x86_64::SP).expect("sp");
        let mut bytes = vec![0; limit];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).expect("memory");
        let length = memory.read_at(&mut bytes, sp).expect("stack");
        bytes.truncate(length);
        (RuntimeAddr(sp), bytes)
    }

    pub fn unwind(&self, unwinder: &mut Unwinder, modules: &Modules) -> (Vec<Frame>, StackEnd) {
        let (start, bytes) = self.stack(1 << 20);
        let mut memory = rprof::unwind::LateReads {
            copy: CopiedStack { start, bytes: &bytes, capped: bytes.len() == 1 << 20, has_holes: false },
            late: |addr: RuntimeAddr| {
                let mut word = [0; 8];
                let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
                memory.read_exact_at(&mut word, addr.0).ok()?;
                Some(u64::from_le_bytes(word))
            },
        };
        let mut frames = Vec::new();
        let end = unwinder.unwind(modules, &self.registers(), &mut memory, &mut frames);
        (frames, end)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.tid, None);
    }
}

/// A file's tables, with what its language states about its code.
fn tables(elf: Arc<ElfFile>, name: &str) -> UnwindTables {
    let tables = UnwindTables::new(elf.clone());
    match rprof::runtime::code_of(&rprof::runtime::detect(&elf, name)) {
        Some(code) => tables.with_code(code),
        None => tables,
    }
}

/// A process's executable mappings, with names.
pub struct Image {
    pub modules: Modules,
    pub files: HashMap<u32, (String, Arc<ElfFile>)>,
    symbols: HashMap<u32, Vec<(u64, u64, String)>>,
}

impl Image {
    pub fn read(pid: i32) -> Image {
        let mut files: HashMap<String, (Arc<ElfFile>, Arc<UnwindTables>)> = HashMap::new();
        let mut image = Image { modules: Modules::default(), files: HashMap::new(), symbols: HashMap::new() };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        for (line, id) in maps.lines().zip(0u32..) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if !fields[1].contains('x') || fields.get(5) == Some(&"[vsyscall]") {
                continue;
            }
            let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
            let (start, end) = fields[0].split_once('-').map(|(a, b)| (number(a), number(b))).expect("range");
            let name = fields.get(5).copied().unwrap_or("").to_owned();
            if !files.contains_key(&name)
                && let Some(elf) = open(pid, &name, start, end).map(Arc::new)
            {
                files.insert(name.clone(), (elf.clone(), Arc::new(tables(elf, &name))));
            }
            let file = files.get(&name);
            let bias = file.map_or(0, |(elf, _)| {
                let address = elf.address_of(FileOffset(number(fields[2]))).expect("a mapped segment");
                start.wrapping_sub(address.0)
            });
            if let Some((elf, _)) = file {
                image.symbols.insert(id, symbols(elf));
                image.files.insert(id, (name, elf.clone()));
            }
            let tables = file.map(|(_, tables)| tables.clone());
            image.modules.insert(Module {
                start: RuntimeAddr(start),
                end: RuntimeAddr(end),
                bias,
                tables,
                code: None,
                id,
            });
        }
        image
    }

    /// The function of a frame, by the symbol tables; empty if there is none.
    pub fn name(&self, frame: &Frame) -> &str {
        let lookup = frame.addr.lookup();
        let found = self.modules.find(lookup).and_then(|module| {
            let address = module.elf_addr(lookup).0;
            let symbols = self.symbols.get(&module.id)?;
            let after = symbols.partition_point(|(start, ..)| *start <= address);
            let (start, size, name) = symbols.get(after.checked_sub(1)?)?;
            (address - start < (*size).max(1)).then_some(name.as_str())
        });
        found.unwrap_or("")
    }

    /// The names of a stack, leaf first, restricted to the functions in `known`.
    pub fn known_names<'a>(&'a self, frames: &[Frame], known: &[&str]) -> Vec<&'a str> {
        frames.iter().map(|frame| self.name(frame)).filter(|name| known.contains(name)).collect()
    }

    /// A stack as readable text.
    pub fn describe(&self, frames: &[Frame], end: StackEnd) -> String {
        let lines = frames.iter().map(|frame| {
            let file = frame.module.and_then(|id| self.files.get(&id)).map_or("?", |(name, _)| name.as_str());
            format!("{:#x} {:?} {} {file}\n", frame.addr.raw(), frame.how, self.name(frame))
        });
        format!("{}{end:?}", lines.collect::<String>())
    }
}

fn open(pid: i32, name: &str, start: u64, end: u64) -> Option<ElfFile> {
    if name == "[vdso]" {
        let mut bytes = vec![0; (end - start) as usize];
        File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, start).ok()?;
        return ElfFile::from_bytes(bytes).ok();
    }
    ElfFile::open(&File::open(name).ok()?).ok()
}

fn symbols(elf: &ElfFile) -> Vec<(u64, u64, String)> {
    let functions = elf.symbols().filter(|symbol| symbol.kind == SymbolKind::Function || symbol.size == 0);
    let mut all: Vec<(u64, u64, String)> = functions
        .map(|symbol| {
            let ElfAddr(start) = symbol.address;
            let name = String::from_utf8_lossy(symbol.name).into_owned();
            (start, symbol.size.max(if symbol.size == 0 { 32 } else { 0 }), name)
        })
        .collect();
    all.sort();
    all.dedup_by_key(|(start, ..)| *start);
    all
}
