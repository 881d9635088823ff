//! The profiles of the last minutes, compressed, so that the time shown can be saved.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, anyhow};

use super::history::last;
use crate::profile::{
    columns::{Columns, decode, merge},
    encode_gzip,
    proto::Profile,
};

/// The maximum size of all profiles, in bytes.
const MOST_BYTES: usize = 64 << 20;

/// The profiles of the last minutes.
#[derive(Default)]
pub struct ProfileHistory {
    /// The duration and the bytes of each; oldest first.
    profiles: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
}

impl ProfileHistory {
    /// Adds a profile of this length; drops the oldest ones that are over the limit.
    pub fn add(&mut self, length: Duration, profile: &Profile) {
        let packed = encode_gzip(profile);
        self.bytes += packed.len();
        self.profiles.push_back((length, packed));
        while self.bytes > MOST_BYTES && self.profiles.len() > 1 {
            self.bytes -= self.profiles.pop_front().map_or(0, |(_, old)| old.len());
        }
    }

    /// The last `span` as one profile. Errors: there is no profile yet.
    pub fn last(&self, span: Duration) -> Result<Columns> {
        let wanted = last(&self.profiles, span, |(length, _)| *length);
        let read: Vec<Columns> =
            wanted.map(|(_, packed)| decode::read(packed.clone())).collect::<Result<_, _>>()?;
        if read.is_empty() {
            return Err(anyhow!("there are no samples yet"));
        }
        // Oldest first: its start time becomes the profile's.
        merge::merge(read.into_iter().rev().collect()).map_err(|why| anyhow!(why))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::history::tests::capture, *};

    #[test]
    fn the_last_seconds_are_merged_into_one_profile() {
        let mut history = ProfileHistory::default();
        assert!(history.last(Duration::from_secs(1)).is_err());
        for milliseconds in [1, 2, 4] {
            history.add(Duration::from_secs(1), &capture(&[("a", &["hot"], milliseconds)]).profile);
        }
        let total = |seconds| -> i64 {
            let columns = history.last(Duration::from_secs(seconds)).unwrap();
            (0..columns.sample_count()).map(|sample| columns.values(sample)[1]).sum()
        };
        assert_eq!([total(1), total(2), total(60)], [4_000_000, 6_000_000, 7_000_000]);
    }
}
