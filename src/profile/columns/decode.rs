//! Bytes to [`Columns`]: google/pprof's profile.proto, gzipped or not, or else one of the older
//! formats ([`legacy`]), `perf.data`, or folded stacks.
//!
//! Not here: writing ([`super::encode`]). Memory is bounded by the size of the decompressed file,
//! which is limited.

use std::sync::{Mutex, PoisonError};

use super::{
    Columns,
    error::ReadError,
    gunzip::{self, Stopped},
    parallel::threads,
    parse::{Failure, MAX_ENTRIES, Parser, Sizes},
};
use crate::profile::{folded, legacy, perf_data};

/// Below this size, one thread reads a file faster than several can be started.
const WORTH_THREADS: usize = 64 << 10;

/// Reads a profile of any known format. The result is valid.
pub fn read(bytes: Vec<u8>) -> Result<Columns, ReadError> {
    read_with(&bytes, if bytes.len() < WORTH_THREADS { 1 } else { threads() }, Sizes::default())
}

/// Reads similar files one after the other, on the caller's thread only.
#[derive(Default)]
pub struct Series {
    /// The row numbers of the last file read.
    sizes: Mutex<Sizes>,
}

impl Series {
    /// Like the function [`read`].
    pub fn read(&self, bytes: Vec<u8>) -> Result<Columns, ReadError> {
        let sizes = || self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = *sizes();
        let columns = read_with(&bytes, 1, expected)?;
        *sizes() = Sizes::of(&columns);
        Ok(columns)
    }
}

fn read_with(bytes: &[u8], threads: usize, expected: Sizes) -> Result<Columns, ReadError> {
    let columns = match parse(bytes, threads, expected) {
        Ok((_, Some(fault))) => return Err(ReadError::Invalid(fault)),
        Ok((columns, None)) => columns,
        Err(Stopped::Unpacking(error)) => return Err(error),
        Err(Stopped::Taking(failure)) => {
            // Damage to the compression is reported first, even if the content before it is invalid
            // too.
            let unpacked = gunzip::is_packed(bytes).then(|| gunzip::whole(bytes)).transpose()?;
            match failure {
                Failure::Empty => return Err(ReadError::Empty),
                Failure::Concatenated => return Err(ReadError::Concatenated),
                Failure::TooManyEntries => {
                    return Err(ReadError::TooManyEntries { max_entries: MAX_ENTRIES });
                }
                Failure::Malformed => read_other(unpacked.as_deref().unwrap_or(bytes))?,
            }
        }
    };
    super::check::check(&columns).map_err(ReadError::Invalid)?;
    Ok(columns)
}

/// Reads a decompressed file that is not profile.proto.
pub fn read_other(bytes: &[u8]) -> Result<Columns, ReadError> {
    if perf_data::is_perf_data(bytes) {
        return perf_data::read(bytes).map_err(ReadError::PerfData);
    }
    match legacy::read(bytes) {
        Err(ReadError::Unrecognized) => match folded::read(bytes) {
            Some(read) => read.map_err(ReadError::Folded),
            None => Err(ReadError::Unrecognized),
        },
        read => read,
    }
}

fn parse(
    bytes: &[u8],
    threads: usize,
    expected: Sizes,
) -> Result<(Columns, Option<String>), Stopped<Failure>> {
    let mut parser = Parser::with_room(expected);
    if !gunzip::is_packed(bytes) {
        parser.feed(bytes).map_err(Stopped::Taking)?;
    } else if threads > 1 {
        gunzip::pieces_beside(bytes, |piece| parser.feed(piece))?;
    } else {
        gunzip::pieces(bytes, |piece| parser.feed(piece))?;
    }
    parser.finish(threads).map_err(Stopped::Taking)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::columns::merge::combine;

    const FIXTURES: [&[u8]; 6] = [
        include_bytes!("../../../tests/fixtures/pprof/labels.pb.gz"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.heap"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.cpu"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.thread"),
        include_bytes!("../../../tests/fixtures/pprof/java.contention"),
        include_bytes!("../../../tests/fixtures/pprof/java.cpu"),
    ];

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        if gunzip::is_packed(bytes) { gunzip::whole(bytes).unwrap() } else { bytes.to_vec() }
    }

    /// Reads everything that reports read.
    fn walk(bytes: Vec<u8>) {
        let Ok(mut columns) = read(bytes) else { return };
        for sample in 0..columns.sample_count() {
            columns.labels_by_key(sample);
            for location in columns.stack(sample) {
                let _ = columns.lines_of(&columns.locations[*location as usize]);
            }
        }
        columns.drop_uninteresting();
        let _ = combine(vec![columns.clone(), columns.clone()]);
        columns.encode();
    }

    #[test]
    fn encoding_and_decoding_returns_the_same_profile() {
        for fixture in FIXTURES {
            let columns = read(fixture.to_vec()).unwrap();
            let again = read(columns.encode()).unwrap();
            assert_eq!(again.encode(), columns.encode());
            assert_eq!(again.sample_count(), columns.sample_count());
        }
    }

    #[test]
    fn each_kind_of_damage_has_its_error() {
        let error = |bytes: &[u8]| read(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(error(b""), "parsing profile: empty input file");
        assert_eq!(error(b"no profile"), "parsing profile: unrecognized profile format");
        assert_eq!(error(&FIXTURES[0][..99]), "decompressing profile: unexpected EOF");
        let twice = [0x32, 0x00, 0x48, 0x01, 0x48, 0x02];
        assert_eq!(error(&twice), "parsing profile: concatenated profiles detected");
        let sample = [0x32, 0x00, 0x12, 0x02, 0x10, 0x01];
        assert_eq!(error(&sample), "malformed profile: missing sample type information");
    }

    #[test]
    fn stacks_of_other_profilers_are_profiles() {
        let columns = read(b"main;work 3\nmain 1\n".to_vec()).unwrap();
        assert_eq!((columns.sample_count(), columns.values(0)), (2, &[3][..]));
        let columns = read(b"main;work 3\nmain;work\n".to_vec()).unwrap();
        let comments: Vec<_> = columns.header.comments.iter().map(|text| columns.text(*text)).collect();
        assert_eq!(comments, ["left out: 1 line without a stack and a count (line 2: \"main;work\")"]);
        let error = read(b"PERFILE2".to_vec()).unwrap_err().to_string();
        assert_eq!(error, "parsing perf.data: the header is cut short");
    }

    #[test]
    fn memory_is_bounded_by_the_decompressed_size() {
        let sample = |content: &[u8]| {
            let mut file = vec![0x0a, 0x00, 0x32, 0x00, 0x12];
            let mut length = content.len();
            while length >= 0x80 {
                file.push(length as u8 | 0x80);
                length >>= 7;
            }
            file.push(length as u8);
            [file, content.to_vec()].concat()
        };
        // A million labels whose keys do not exist.
        let labels = [0x1a, 0x04, 0x08, 0x05, 0x18, 0x01].repeat(1_000_000);
        assert_eq!(read(sample(&labels)).unwrap_err(), ReadError::Unrecognized);
        // A length of 2^60, and an ID of 2^63.
        let long = [0x32, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(read(long.to_vec()).unwrap_err(), ReadError::Unrecognized);
        let id = [0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x10, 0x01];
        let error = read(sample(&id)).unwrap_err().to_string();
        assert_eq!(error, "malformed profile: sample has nil location");
        // Samples of two bytes each, whose number is limited.
        let many = [[0x32, 0x00].to_vec(), [0x12, 0x00].repeat(MAX_ENTRIES)].concat();
        assert_eq!(read(many).unwrap_err(), ReadError::TooManyEntries { max_entries: MAX_ENTRIES });
    }

    #[test]
    fn many_labels_of_one_sample_take_time_in_proportion() {
        let mut columns = Columns::default();
        let kind = columns.intern("a");
        columns.header.kinds.push(crate::profile::columns::SampleKind { name: kind, unit: kind });
        let keys: Vec<_> = (0..200_000).map(|key| columns.intern(&format!("key{key}"))).collect();
        let label = |key: &u32| crate::profile::columns::Label::number(*key, 1, *key);
        let labels: Vec<_> = keys.iter().map(label).collect();
        columns.push_sample(&[1], &[], &labels);
        assert_eq!(columns.labels_by_key(0).numbers.len(), 200_000);
        assert_eq!(read(columns.encode()).unwrap().labels(0).len(), 200_000);
    }

    #[test]
    fn merging_one_by_one_equals_merging_all_at_once() {
        use crate::profile::columns::merge::Accumulator;
        for fixture in FIXTURES {
            let whole = read(fixture.to_vec()).unwrap();
            let mut part = whole.clone();
            part.retain(None, |sample, stack| (sample % 3 != 0).then_some(0..stack.len()));
            let parts = [part.clone(), whole.clone(), part];
            let mut gathered = Accumulator::merged();
            assert!(parts.iter().all(|part| gathered.add(part.clone())));
            let one_by_one = gathered.finish().unwrap().unwrap();
            assert_eq!(one_by_one.encode(), combine(parts.into()).unwrap().encode());
        }
        let labels = read(FIXTURES[0].to_vec()).unwrap();
        let mut gathered = Accumulator::merged();
        assert!(gathered.add(labels) && !gathered.add(read(FIXTURES[1].to_vec()).unwrap()));
    }

    proptest! {
        #[test]
        fn no_damage_causes_a_panic(
            which in 0..FIXTURES.len(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = unpacked(FIXTURES[which]);
            let place = at.index(bytes.len());
            bytes[place] = byte;
            walk(bytes.clone());
            bytes.truncate(cut.index(bytes.len()));
            walk(bytes);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            walk(bytes);
        }
    }
}
