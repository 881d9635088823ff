//! jitdump files (`jit-PID.dump`): a record for each function that a compiler generates, with its
//! code, its lines and its unwinding information (the kernel's
//! `tools/perf/Documentation/jitdump-specification.txt`). The file grows while the program runs.
//!
//! A record counts from its time on: code that was replaced belongs to older samples. What a record
//! contains is read when its function is met. Not here: finding the file (`source`).

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
};

use crate::budget::{Budget, Resource};

const MAGIC: u32 = 0x4a69_5444;
const HEADER_BYTES: usize = 40;
const RECORD_BYTES: usize = 16;
/// The fields of a record that are read when it is indexed.
const FIELDS: usize = 56;
/// How much of the file is read at once, and in one turn.
const CHUNK: usize = 1 << 20;
const MAX_PER_TURN: u64 = 64 << 20;
/// The most functions that are known at a time.
const MAX_LOADS: usize = 1 << 18;
/// The most records whose time has not come.
const MAX_PENDING: usize = 1 << 16;
/// The largest record that is read as a whole, in bytes.
const MAX_RECORD: u64 = 16 << 20;

const CODE_LOAD: u32 = 0;
const CODE_MOVE: u32 = 1;
const DEBUG_INFO: u32 = 2;
const UNWINDING_INFO: u32 = 4;

/// Whether a path is one of a jitdump file: `jit-PID.dump`, or `jit-TID-PID.dump` (JavaScriptCore).
pub fn is_jitdump(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let numbers = name.strip_prefix("jit-").and_then(|rest| rest.strip_suffix(".dump"));
    numbers.is_some_and(|numbers| {
        numbers
            .split('-')
            .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// The file of one process.
#[derive(Debug)]
pub struct Jitdump {
    file: File,
    /// Where the next record begins.
    at: u64,
    /// Times are of another clock: records count at once.
    is_timeless: bool,
    /// A record is damaged: the rest is not read.
    is_damaged: bool,
    /// The lines and the unwinding information for the next function.
    debug: Option<Stored>,
    unwinding: Option<Stored>,
    pending: VecDeque<(u64, Change)>,
    /// By start of their code.
    loads: BTreeMap<u64, Load>,
    budget: Budget,
}

/// Where a record is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    at: u64,
    size: u64,
}

/// A function.
#[derive(Clone, Copy, Debug)]
struct Load {
    end: u64,
    /// Where its code was when the record was written.
    written_at: u64,
    record: Stored,
    debug: Option<Stored>,
    unwinding: Option<Stored>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Load(u64, Load),
    Move { from: u64, to: u64, size: u64 },
}

/// A function with what the file states about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Where its code is.
    pub address: u64,
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: Vec<u8>,
    /// `.eh_frame`, from the next multiple of 8 after the code on; may be empty.
    pub eh_frame: Vec<u8>,
    /// Where lines begin: address, file as an index, line. Ascending.
    pub lines: Vec<(u64, usize, u32)>,
    /// The files of the lines.
    pub files: Vec<String>,
}

impl Jitdump {
    /// Opens a file; `now_ns`: CLOCK_MONOTONIC. `None`: it is not a jitdump of this byte order.
    pub fn open(file: File, now_ns: u64, budget: &Budget) -> Option<Jitdump> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let (magic, version, size) = (int(&header, 0)?, int(&header, 4)?, int(&header, 8)?);
        if magic != MAGIC || version != 1 || (size as usize) < HEADER_BYTES {
            return None;
        }
        let (time, flags) = (word(&header, 24)?, word(&header, 32)?);
        Some(Jitdump {
            file,
            at: u64::from(size),
            is_timeless: flags & 1 != 0 || time > now_ns,
            is_damaged: false,
            debug: None,
            unwinding: None,
            pending: VecDeque::new(),
            loads: BTreeMap::new(),
            budget: budget.clone(),
        })
    }

    /// Reads what was written since the last call. `false`: there is more, or no more is read.
    pub fn read_on(&mut self) -> bool {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        if self.at >= length {
            return true;
        }
        let mut chunk = vec![0; CHUNK.min(usize::try_from(length.saturating_sub(self.at)).unwrap_or(CHUNK))];
        let last = self.at.saturating_add(MAX_PER_TURN);
        while self.at < length.min(last) && !self.is_damaged && self.pending.len() < MAX_PENDING {
            let got = self.file.read_at(&mut chunk, self.at).unwrap_or(0);
            if self.budget.take(Resource::Work, got as u64).is_err() || !self.index(&chunk[..got], length) {
                break;
            }
        }
        self.at >= length
    }

    /// Indexes the records that begin in a chunk. `false`: none of them is complete.
    fn index(&mut self, chunk: &[u8], length: u64) -> bool {
        let (base, before) = (self.at, self.at);
        loop {
            let inside = usize::try_from(self.at - base).unwrap_or(usize::MAX);
            let Some(head) = chunk.get(inside..).filter(|rest| rest.len() >= RECORD_BYTES) else { break };
            let size = u64::from(int(head, 4).unwrap_or(0));
            if size < RECORD_BYTES as u64 {
                self.is_damaged = true;
                return false;
            }
            let fields = head.get(..FIELDS.min(size as usize));
            let Some(fields) = fields.filter(|_| self.at.saturating_add(size) <= length) else { break };
            self.record(fields, Stored { at: self.at, size });
            self.at += size;
            if self.pending.len() >= MAX_PENDING {
                break;
            }
        }
        self.at > before
    }

    fn record(&mut self, fields: &[u8], stored: Stored) {
        let time = if self.is_timeless { 0 } else { word(fields, 8).unwrap_or(0) };
        match int(fields, 0) {
            Some(CODE_LOAD) => {
                let (debug, unwinding) = (self.debug.take(), self.unwinding.take());
                let (Some(address), Some(size)) = (word(fields, 32), word(fields, 40)) else { return };
                let Some(end) = address.checked_add(size).filter(|end| *end > address) else { return };
                let load = Load { end, written_at: address, record: stored, debug, unwinding };
                self.pending.push_back((time, Change::Load(address, load)));
            }
            Some(CODE_MOVE) => {
                let at = |at: usize| word(fields, at).unwrap_or(0);
                // The last field of the record, its number, is not needed.
                let change = Change::Move { from: at(32), to: at(40), size: at(48) };
                self.pending.push_back((time, change));
            }
            Some(DEBUG_INFO) => self.debug = Some(stored),
            Some(UNWINDING_INFO) => self.unwinding = Some(stored),
            _ => {}
        }
    }

    /// Makes the records up to a time count; calls `replaced` with the code that they replace.
    pub fn advance(&mut self, time_ns: u64, mut replaced: impl FnMut(Range<u64>)) {
        while self.pending.front().is_some_and(|(time, _)| *time <= time_ns) {
            let Some((_, change)) = self.pending.pop_front() else { return };
            match change {
                Change::Load(start, load) => self.add(start, load, &mut replaced),
                Change::Move { from, to, size } => {
                    let Some(load) = self.loads.remove(&from) else { continue };
                    replaced(from..load.end);
                    let end = to.checked_add(size.min(load.end - from)).filter(|end| *end > to);
                    if let Some(end) = end {
                        self.add(to, Load { end, ..load }, &mut replaced);
                    }
                }
            }
        }
    }

    fn add(&mut self, start: u64, load: Load, replaced: &mut impl FnMut(Range<u64>)) {
        while let Some((old, end)) = self.loads.range(..load.end).next_back().map(|(at, old)| (*at, old.end))
            && end > start
        {
            self.loads.remove(&old);
            replaced(old..end);
        }
        if self.loads.len() < MAX_LOADS {
            self.loads.insert(start, load);
        }
    }

    /// The function whose code contains an address: where it is, and its number.
    pub fn find(&self, address: u64) -> Option<(Range<u64>, u64)> {
        let (start, load) = self.loads.range(..=address).next_back()?;
        (address < load.end).then_some((*start..load.end, load.record.at))
    }

    /// Where functions begin.
    pub fn starts(&self) -> impl Iterator<Item = u64> + '_ {
        self.loads.keys().copied()
    }

    /// The function whose code begins at `start`. `None`: it cannot be read, or is damaged.
    pub fn function(&self, start: u64) -> Option<Function> {
        let load = self.loads.get(&start)?;
        let record = self.content(load.record)?;
        let name_at = RECORD_BYTES + 40;
        let name = text_at(&record, name_at)?;
        let code_at = name_at + name.len() + 1;
        let size = usize::try_from(load.end - start).ok()?;
        let code = record.get(code_at..code_at.checked_add(size)?)?.to_vec();
        let name = String::from_utf8_lossy(name).into_owned();
        let mut function = Function { address: start, name, code, ..Function::default() };
        if let Some(debug) = load.debug.and_then(|stored| self.content(stored)) {
            function.read_lines(&debug, load.written_at);
        }
        if let Some(unwinding) = load.unwinding.and_then(|stored| self.content(stored)) {
            function.eh_frame = eh_frame(&unwinding).unwrap_or_default().to_vec();
        }
        Some(function)
    }

    fn content(&self, stored: Stored) -> Option<Vec<u8>> {
        let size = Some(stored.size).filter(|size| *size <= MAX_RECORD)?;
        self.budget.take(Resource::Work, size).ok()?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.file.read_exact_at(&mut bytes, stored.at).ok()?;
        Some(bytes)
    }
}

/// V8 states addresses of lines as they are behind the ELF header that `perf inject` adds.
const V8_SHIFT: u64 = 0x40;
const V8_NAMES: [&str; 5] = ["JS:", "LazyCompile:", "Function:", "Script:", "Eval:"];

impl Function {
    /// Reads a record of lines; `written_at`: where the code was when it was written.
    fn read_lines(&mut self, record: &[u8], written_at: u64) {
        let is_of_this = word(record, RECORD_BYTES) == Some(written_at);
        let count = word(record, RECORD_BYTES + 8).filter(|_| is_of_this).unwrap_or(0);
        let shift = if V8_NAMES.iter().any(|tag| self.name.starts_with(tag)) { V8_SHIFT } else { 0 };
        let mut at = RECORD_BYTES + 16;
        for _ in 0..count {
            let (Some(address), Some(line), Some(file)) =
                (word(record, at), int(record, at + 8), text_at(record, at + 16))
            else {
                break;
            };
            at += 16 + file.len() + 1;
            // "The same file again".
            if file != b"\xff" || self.files.is_empty() {
                let file = String::from_utf8_lossy(file);
                let known = self.files.last().is_some_and(|last| *last == *file);
                if !known {
                    self.files.push(file.into_owned());
                }
            }
            let inside = address.wrapping_sub(written_at).wrapping_sub(shift);
            self.lines.push((self.address.wrapping_add(inside), self.files.len() - 1, line));
        }
        self.lines.sort_by_key(|(address, ..)| *address);
    }

    /// The file and the line at an address of its code.
    pub fn line_at(&self, address: u64) -> Option<(&str, u32)> {
        let before = self.lines.partition_point(|(start, ..)| *start <= address).checked_sub(1)?;
        let (_, file, line) = self.lines.get(before)?;
        Some((self.files.get(*file)?, *line))
    }
}

/// `.eh_frame` in a record of unwinding information; the table for searching it follows.
fn eh_frame(record: &[u8]) -> Option<&[u8]> {
    let (size, table) = (word(record, RECORD_BYTES)?, word(record, RECORD_BYTES + 8)?);
    let start = RECORD_BYTES + 24;
    let length = usize::try_from(size.checked_sub(table)?).ok()?;
    record.get(start..start.checked_add(length)?)
}

/// The text up to the next zero.
fn text_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn header(flags: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [MAGIC, 1, 40, 62, 0, 1] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(5u64.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    }

    fn record(id: u32, time: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend((content.len() as u32 + 16).to_le_bytes());
        bytes.extend(time.to_le_bytes());
        bytes.extend(content);
        bytes
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn load(time: u64, address: u64, name: &str, size: u64) -> Vec<u8> {
        let mut content = words(&[1 | 1 << 32, address, address, size, 7]);
        content.extend(name.as_bytes());
        content.push(0);
        content.extend(vec![0x90; size as usize]);
        record(CODE_LOAD, time, &content)
    }

    fn lines(address: u64, entries: &[(u64, u32, &[u8])]) -> Vec<u8> {
        let mut content = words(&[address, entries.len() as u64]);
        for (at, line, file) in entries {
            content.extend(at.to_le_bytes());
            content.extend(line.to_le_bytes());
            content.extend(0u32.to_le_bytes());
            content.extend(*file);
            content.push(0);
        }
        record(DEBUG_INFO, 0, &content)
    }

    fn dump(parts: &[Vec<u8>]) -> (Jitdump, File) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&parts.concat()).expect("write");
        let reader = file.try_clone().expect("the same file");
        (Jitdump::open(reader, 1000, &Budget::session()).expect("a jitdump"), file)
    }

    fn name_at(dump: &Jitdump, address: u64) -> Option<String> {
        let (range, _) = dump.find(address)?;
        Some(dump.function(range.start)?.name)
    }

    #[test]
    fn jitdump_files_are_recognized_by_their_names() {
        for (path, expected) in [
            ("/tmp/jit-7.dump", true),
            ("/home/a/.debug/jit/x/jit-12-11.dump", true),
            ("/tmp/jit-.dump", false),
            ("/tmp/jit-x.dump", false),
            ("/tmp/jit-7-.dump", false),
        ] {
            assert_eq!(is_jitdump(path), expected, "{path}");
        }
    }

    #[test]
    fn code_counts_from_its_time_on_and_replaces_what_it_overlaps() {
        let parts = [header(0), load(10, 0x1000, "first", 64), load(20, 0x1020, "second", 64)];
        let (mut dump, _file) = dump(&parts);
        assert!(dump.read_on());
        let mut replaced = Vec::new();
        dump.advance(9, |range| replaced.push(range));
        assert_eq!(name_at(&dump, 0x1000), None);
        dump.advance(19, |range| replaced.push(range));
        assert_eq!(name_at(&dump, 0x103f).as_deref(), Some("first"));
        assert!(replaced.is_empty());
        dump.advance(20, |range| replaced.push(range));
        assert!(replaced.len() == 1 && replaced[0] == (0x1000..0x1040));
        assert_eq!((name_at(&dump, 0x1000), name_at(&dump, 0x1020).as_deref()), (None, Some("second")));
    }

    #[test]
    fn moved_code_has_its_name_and_its_lines_at_the_new_address() {
        let moved = record(CODE_MOVE, 30, &words(&[1, 0, 0x1000, 0x5000, 64, 7]));
        let lines = lines(0x1000, &[(0x1000, 3, b"a.c"), (0x1010, 4, b"\xff"), (0x1020, 9, b"b.c")]);
        let (mut dump, _file) = dump(&[header(0), lines, load(10, 0x1000, "f", 64), moved]);
        dump.read_on();
        dump.advance(10, |_| {});
        let line = |dump: &Jitdump, start: u64, at: u64| {
            let function = dump.function(start).expect("a function");
            function.line_at(at).map(|(file, line)| (file.to_owned(), line))
        };
        assert_eq!(line(&dump, 0x1000, 0x101f), Some(("a.c".to_owned(), 4)));
        dump.advance(30, |_| {});
        assert_eq!(name_at(&dump, 0x1000), None);
        assert_eq!(name_at(&dump, 0x503f).as_deref(), Some("f"));
        assert_eq!(line(&dump, 0x5000, 0x5020), Some(("b.c".to_owned(), 9)));
    }

    #[test]
    fn unwinding_information_belongs_to_the_next_function_only() {
        let mut content = words(&[12, 4, 0]);
        content.extend(b"eh_frameHEAD");
        let unwinding = record(UNWINDING_INFO, 0, &content);
        let parts = [header(0), unwinding, load(1, 0x1000, "f", 8), load(1, 0x2000, "g", 8)];
        let (mut dump, _file) = dump(&parts);
        dump.read_on();
        dump.advance(1, |_| {});
        assert_eq!(dump.function(0x1000).expect("f").eh_frame, b"eh_frame");
        assert_eq!(dump.function(0x2000).expect("g").eh_frame, b"");
    }

    #[test]
    fn a_record_that_is_not_complete_is_read_once_it_is() {
        let second = load(1, 0x2000, "second", 32);
        let (half, rest) = second.split_at(30);
        let (mut dump, mut file) = dump(&[header(1), load(1, 0x1000, "first", 32), half.to_vec()]);
        assert!(!dump.read_on());
        dump.advance(0, |_| {});
        assert_eq!((name_at(&dump, 0x1000).as_deref(), name_at(&dump, 0x2000)), (Some("first"), None));
        file.write_all(rest).expect("write");
        assert!(dump.read_on());
        dump.advance(0, |_| {});
        assert_eq!(name_at(&dump, 0x2000).as_deref(), Some("second"));
    }

    #[test]
    fn a_record_of_impossible_size_ends_the_reading() {
        let bad = [0u32.to_le_bytes(), 3u32.to_le_bytes(), [0; 4], [0; 4]].concat();
        let (mut dump, _file) = dump(&[header(0), bad, load(1, 0x1000, "f", 8)]);
        assert!(!dump.read_on());
        dump.advance(u64::MAX, |_| {});
        assert_eq!(name_at(&dump, 0x1000), None);
    }
}
