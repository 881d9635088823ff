//! Names the output of real compilers: small programs are compiled, split, stripped and compressed
//! as distributions do it.

mod damage;
mod debug_files;
mod lines;
mod symbols;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{ModuleFiles, ModuleSymbols, SourceFrame, SymbolizeOptions, Symbolized, symbolize_module};
use crate::{addr::ElfAddr, elf::ElfFile};

/// `leaf` is inlined into `middle`, and that into `outer`. Tests assert the line numbers.
const INLINES_C: &str = "\
volatile int sink;
static inline __attribute__((always_inline)) int leaf(int x) {
    sink = x;
    return x + 1;
}
static inline __attribute__((always_inline)) int middle(int x) {
    return leaf(x * 3) + 2;
}

__attribute__((noinline)) int outer(int x) {
    int sum = 0;
    for (int i = 0; i < x; i++)
        sum += middle(i);
    return sum;
}
__attribute__((noinline)) static int hidden(int x) {
    sink = x;
    return sink * 7;
}
int main(int argc, char **argv) {
    return outer(argc) + hidden(argc);
}
";

/// A directory with compiled programs.
struct CompiledPrograms {
    directory: tempfile::TempDir,
}

impl CompiledPrograms {
    fn new() -> CompiledPrograms {
        CompiledPrograms { directory: tempfile::tempdir().expect("temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a tool in the directory.
    fn run(&self, command: &str) {
        let mut words = command.split_whitespace();
        let output = Command::new(words.next().expect("a command"))
            .args(words)
            .current_dir(self.directory.path())
            .output()
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes `source` to a file and runs a command.
    fn compile(&self, file: &str, source: &str, command: &str) {
        fs::write(self.path(file), source).expect("write the source");
        self.run(command);
    }

    fn c(&self, flags: &str) {
        self.compile("inlines.c", INLINES_C, &format!("cc -O2 {flags} -o program inlines.c"));
    }

    fn module(&self, name: &str) -> ModuleFiles {
        let path = self.path(name);
        ModuleFiles { file: Arc::new(open(&path)), path: Some(path), root: None }
    }

    fn symbolize(&self, name: &str, addresses: &[ElfAddr]) -> ModuleSymbols {
        symbolize_module(&self.module(name), addresses, &SymbolizeOptions::default())
    }
}

fn open(path: &Path) -> ElfFile {
    ElfFile::open(&File::open(path).expect("open")).expect("an ELF file")
}

/// Start and end of a function, by the symbol table of an unstripped file.
fn extent(path: &Path, function: &str) -> std::ops::Range<u64> {
    let elf = open(path);
    let symbol = elf.symbols().find(|symbol| symbol.name == function.as_bytes()).expect("the symbol");
    symbol.address.0..symbol.address.0 + symbol.size
}

/// All addresses of a function.
fn addresses(path: &Path, function: &str) -> Vec<ElfAddr> {
    extent(path, function).map(ElfAddr).collect()
}

fn functions(symbolized: &Symbolized) -> Vec<&str> {
    symbolized.frames.iter().map(|frame| frame.function.as_str()).collect()
}

/// The address at which the most functions are inlined.
fn deepest(symbols: &ModuleSymbols) -> &[SourceFrame] {
    &symbols.addresses.iter().max_by_key(|address| address.frames.len()).expect("addresses").frames
}
