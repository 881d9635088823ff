//! Bytes to [`Columns`]: the profile.proto of google/pprof, gzipped or bare, or, where that fails,
//! one of the older formats ([`super::super::legacy`]).
//!
//! Not here: writing ([`super::encode`]). Memory is bounded by the size of the unpacked file, which
//! is limited.

use super::{
    Columns,
    gunzip::{self, Stopped},
    parallel::threads,
    parse::{Failure, MAX_ENTRIES, Parser},
};
use crate::profile::legacy;

/// Why bytes are no profile, in the words of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("decompressing profile: {0}")]
    Gzip(String),
    #[error("parsing profile: empty input file")]
    Empty,
    #[error("parsing profile: concatenated profiles detected")]
    Concatenated,
    #[error("parsing profile: unrecognized profile format")]
    Unrecognized,
    #[error("parsing profile: {0}")]
    Legacy(String),
    #[error("malformed profile: {0}")]
    Invalid(String),
    #[error("decompressing profile: it would become larger than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("parsing profile: it has more than {max_entries} samples, locations, functions and texts")]
    TooManyEntries { max_entries: usize },
}

/// Most bytes a file may have when unpacked.
pub const MAX_BYTES: usize = 2 << 30;

/// Files of fewer bytes are read faster by one thread than several can be started.
const WORTH_THREADS: usize = 64 << 10;

/// Reads a profile of any known format, which is valid when it is given.
pub fn read(bytes: Vec<u8>) -> Result<Columns, ReadError> {
    read_with(&bytes, if bytes.len() < WORTH_THREADS { 1 } else { threads() })
}

/// As [`read`], with no thread but the caller's.
pub fn read_alone(bytes: Vec<u8>) -> Result<Columns, ReadError> {
    read_with(&bytes, 1)
}

fn read_with(bytes: &[u8], threads: usize) -> Result<Columns, ReadError> {
    let columns = match parse(bytes, threads) {
        Ok((_, Some(fault))) => return Err(ReadError::Invalid(fault)),
        Ok((columns, None)) => columns,
        Err(Stopped::Unpacking(error)) => return Err(error),
        Err(Stopped::Taking(failure)) => {
            // Damage to the packing comes first, even if the content before it is wrong too.
            let unpacked = gunzip::is_packed(bytes).then(|| gunzip::whole(bytes)).transpose()?;
            match failure {
                Failure::Empty => return Err(ReadError::Empty),
                Failure::Concatenated => return Err(ReadError::Concatenated),
                Failure::TooManyEntries => {
                    return Err(ReadError::TooManyEntries { max_entries: MAX_ENTRIES });
                }
                Failure::Malformed => legacy::read(unpacked.as_deref().unwrap_or(bytes))?,
            }
        }
    };
    super::check::check(&columns).map_err(ReadError::Invalid)?;
    Ok(columns)
}

fn parse(bytes: &[u8], threads: usize) -> Result<(Columns, Option<String>), Stopped<Failure>> {
    let mut parser = Parser::default();
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

    /// Touches everything that reports touch.
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
    fn what_is_written_is_read_again_as_it_was() {
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
