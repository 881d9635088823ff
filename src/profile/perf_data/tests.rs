//! Crafted files, built record by record, and damage to them.

use proptest::prelude::*;

use super::*;

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let size = body.len() as u16 + 8;
    [&kind.to_le_bytes()[..], &misc.to_le_bytes(), &size.to_le_bytes(), body].concat()
}

/// Samples of the task clock with ip, tid, time, callchain and period.
const SAMPLE_TYPE: u64 = 1 | 2 | 4 | 1 << 5 | 1 << 8;

fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let data = records.concat();
    let attr = words(&[1, 1, 1_000_000, SAMPLE_TYPE, 0, 1 << 18, 0, 0, 0, 0]);
    let (attrs, data_start) = (104, 104 + attr.len() as u64);
    let head = words(&[0, 104, attr.len() as u64, attrs, attr.len() as u64, data_start, data.len() as u64]);
    [&b"PERFILE2"[..], &head[8..], &[0; 48], &attr, &data].concat()
}

fn mapping(pid: u32, start: u64, path: &[u8], time: u64) -> Vec<u8> {
    let ids = words(&[u64::from(pid) << 32 | u64::from(pid)]);
    let mut path = path.to_vec();
    path.resize(path.len() / 8 * 8 + 8, 0);
    let trailer = words(&[u64::from(pid) << 32 | u64::from(pid), time]);
    record(1, 2, &[ids, words(&[start, 0x1000, 0]), path, trailer].concat())
}

fn sample(pid: u32, time: u64, chain: &[u64]) -> Vec<u8> {
    let head = words(&[chain[0], u64::from(pid + 1) << 32 | u64::from(pid), time, 500, chain.len() as u64]);
    record(9, 2, &[head, words(chain)].concat())
}

fn whole() -> Vec<u8> {
    let name = [words(&[8 << 32 | 7]), b"worker\0\0".to_vec(), words(&[8 << 32 | 7, 2])].concat();
    let user = -512i64 as u64;
    file(&[
        sample(7, 10, &[user, 0x5010, 0x5020, 0x9000]),
        sample(7, 11, &[user, 0x5010, 0x5020, 0x9000]),
        mapping(7, 0x5000, b"/bin/a", 1),
        record(3, 0, &name),
    ])
}

#[test]
fn records_take_effect_in_the_order_of_their_times() {
    let columns = read(&whole()).unwrap();
    assert_eq!((columns.sample_count(), columns.values(0)), (1, &[2, 1000][..]));
    let places: Vec<_> = columns
        .stack(0)
        .iter()
        .map(|row| &columns.locations[*row as usize])
        .map(|location| (location.address, columns.text(columns.mapping_file(location))))
        .collect();
    assert_eq!(places, [(0x5010, "/bin/a"), (0x501f, "/bin/a"), (0x8fff, "")]);
    let labels: Vec<_> =
        columns.labels(0).iter().map(|label| columns.text(label.as_text().unwrap())).collect();
    assert_eq!(labels, ["worker"]);
    let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    assert_eq!((kinds, columns.header.period), (vec!["samples", "cpu"], 1_000_000));
}

#[test]
fn errors_name_the_place() {
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    let bytes = whole();
    assert!(error(&bytes[..bytes.len() - 1]).starts_with("data: "), "{}", error(&bytes[..bytes.len() - 1]));
    assert_eq!(error(b"PERFILE2"), "the header is cut short");
    let mut piped = b"PERFILE2".to_vec();
    piped.extend(words(&[16]));
    assert_eq!(error(&piped), "attributes: there is none");
    let packed = file(&[sample(7, 10, &[0x5010]), record(81, 0, &[0; 8])]);
    assert_eq!(error(&packed), "its records are packed, which is not read: record without -z");
    let traced = file(&[record(71, 0, &words(&[16])), words(&[1, 2]), sample(7, 10, &[0x5010])]);
    assert_eq!(read(&traced).unwrap().sample_count(), 1);
    let mut many = sample(7, 10, &[0x5010]);
    let count = many.len() - 16;
    many[count..count + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    let expected =
        "record at 0 of the data: sample: callchain claims 1152921504606846976 addresses, 8 bytes are left";
    assert_eq!(error(&file(&[many])), expected);
}

/// As `perf record -o -` writes it: the events and their names are records.
fn piped(records: &[Vec<u8>]) -> Vec<u8> {
    [&b"PERFILE2"[..], &words(&[16]), &records.concat()].concat()
}

/// An attribute record: 64 bytes of `perf_event_attr`, one ID.
fn attribute(kind: u64, config: u64, id: u64) -> Vec<u8> {
    let sample_type = SAMPLE_TYPE | 1 << 16;
    record(64, 0, &words(&[64 << 32 | kind, config, 1_000_000, sample_type, 0, 1 << 18, 0, 0, id]))
}

/// A sample with an identifier.
fn sample_of(id: u64, time: u64) -> Vec<u8> {
    let pid = 7u64 << 32 | 7;
    record(9, 2, &words(&[id, 0x5010, pid, time, 500, 2, -512i64 as u64, 0x5010]))
}

#[test]
fn the_output_to_a_pipe_is_read() {
    let name = [words(&[2, 11]), b"cpu-clock:u\0\0\0\0\0".to_vec()].concat();
    let build_id = [&7u32.to_le_bytes()[..], &[0xab; 20], &[20, 0, 0, 0], b"/bin/a\0\0"].concat();
    let traced = [record(66, 0, &words(&[9])), vec![0; 16]].concat();
    let mut bytes = piped(&[
        attribute(1, 0, 11),
        record(78, 0, &name),
        record(67, 1 << 15, &build_id),
        traced,
        mapping(7, 0x5000, b"/bin/a", 1),
        sample_of(11, 10),
        sample_of(11, 12),
    ]);
    let check = |bytes: &[u8], count: i64| {
        let columns = read(bytes).unwrap();
        assert_eq!((columns.sample_count(), columns.values(0)), (1, &[count, count * 500][..]));
        let mapping = columns.mappings.iter().find(|mapping| columns.text(mapping.file) == "/bin/a");
        let build_id = mapping.map(|mapping| columns.text(mapping.build_id).to_owned());
        assert_eq!(build_id, Some("ab".repeat(20)));
    };
    check(&bytes, 2);
    // The writer was stopped in the middle of the last record.
    bytes.truncate(bytes.len() - 3);
    check(&bytes, 1);
}

#[test]
fn a_dummy_event_is_left_out_and_the_first_event_with_samples_is_shown() {
    let records = [attribute(1, 9, 10), attribute(0, 0, 11), attribute(0, 1, 12), sample_of(12, 10)];
    let columns = read(&piped(&records)).unwrap();
    let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    assert_eq!(kinds, ["cycles_samples", "cycles", "instructions_samples", "instructions"]);
    assert_eq!(columns.values(0), [0, 0, 1, 500]);
    assert_eq!(columns.text(columns.header.default_kind), "instructions");
    // Alone, a dummy event is shown: a profile needs a value.
    let columns = read(&piped(&[attribute(1, 9, 10)])).unwrap();
    let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    assert_eq!(kinds, ["samples", "dummy"]);
    // With one event besides, names are as for one event.
    let columns = read(&piped(&[attribute(1, 9, 10), attribute(1, 0, 11), sample_of(11, 10)])).unwrap();
    let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    assert_eq!((kinds, columns.text(columns.header.default_kind)), (vec!["samples", "cpu"], "cpu"));
}

proptest! {
    #[test]
    fn no_damage_causes_a_panic(at in any::<prop::sample::Index>(), word in any::<u64>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = whole();
        let place = at.index(bytes.len() - 8);
        bytes[place..place + 8].copy_from_slice(&word.to_le_bytes());
        let _ = read(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = read(&bytes);
        let mut bytes = piped(&[attribute(1, 9, 10), attribute(1, 0, 11), sample_of(11, 10)]);
        let place = at.index(bytes.len() - 8);
        bytes[place..place + 8].copy_from_slice(&word.to_le_bytes());
        let _ = read(&bytes);
    }
}

/// Notes what it is given; each stack has the address in its first word.
#[derive(Default)]
struct Noting {
    mapped: Vec<(u32, u64, String, String)>,
    stacks: Vec<(u32, u64, Vec<u64>, usize, bool)>,
}

impl StackUnwinder for Noting {
    fn map(&mut self, pid: u32, code: &MappedCode<'_>) {
        self.mapped.push((pid, code.start, code.path.to_owned(), code.build_id.to_owned()));
    }

    fn copy(&mut self, _parent: u32, _child: u32) {}

    fn forget(&mut self, _pid: u32) {}

    fn unwind(&mut self, pid: u32, stack: &UserStack<'_>, addresses: &mut Vec<u64>) -> bool {
        let words = |bytes: &[u8]| -> Vec<u64> {
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
        };
        let registers = words(stack.registers);
        self.stacks.push((pid, stack.register_mask, registers, stack.bytes.len(), stack.capped));
        addresses.extend([0x5010, words(stack.bytes)[0]]);
        true
    }
}

#[test]
fn copies_of_stacks_are_given_to_the_unwinder_with_their_registers() {
    // IDENTIFIER, the usual ones, REGS_USER and STACK_USER; two registers.
    let sample_type = SAMPLE_TYPE | 1 << 16 | 1 << 12 | 1 << 13;
    let attribute = [104u64 << 32 | 1, 0, 1_000_000, sample_type, 0, 1 << 18, 0, 0, 0, 0, 0b101, 16, 0];
    let mut attribute = words(&attribute);
    attribute.extend(words(&[11]));
    let pid = 7u64 << 32 | 7;
    // A call chain of the kernel alone, then the registers, then a copy of 16 bytes, 8 of them used.
    let mut stacked = vec![11, 0x5010, pid, 10, 500, 2, -128i64 as u64, 0xffff_ffff_8000_0000];
    stacked.extend([2, 0xaaaa, 0xbbbb, 16, 0x5020, 0, 8]);
    let sample = record(9, 2, &words(&stacked));
    let bytes = piped(&[record(64, 0, &attribute), mapping(7, 0x5000, b"/bin/a", 1), sample]);
    let mut noting = Noting::default();
    let columns = read_with(&bytes, Some(&mut noting)).unwrap();
    assert_eq!(noting.mapped, [(7, 0x5000, "/bin/a".to_owned(), String::new())]);
    assert_eq!(noting.stacks, [(7, 0b101, vec![0xaaaa, 0xbbbb], 8, false)]);
    let addresses: Vec<u64> =
        columns.stack(0).iter().map(|at| columns.locations[*at as usize].address).collect();
    assert_eq!(addresses, [0xffff_ffff_8000_0000, 0x5010, 0x5020]);
    let comments = |columns: &Columns| -> Vec<String> {
        columns.header.comments.iter().map(|comment| columns.text(*comment).to_owned()).collect()
    };
    assert_eq!(comments(&columns), ["copied stacks: 1 unwound, 100.00% of them whole"]);
    let columns = read(&bytes).unwrap();
    assert!(comments(&columns)[0].contains("were not unwound"));
}
