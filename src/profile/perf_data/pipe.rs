//! `perf.data` as `perf record -o -` writes it to a pipe: a header of 16 bytes, then records only.
//! Events, their names and build IDs, which a file has in sections, are records too (kernel
//! document `tools/perf/Documentation/perf.data-file-format.txt`, "Pipe-mode data").
//!
//! Not here: the records that both kinds have ([`super::file`]).

use std::collections::HashMap;

use super::{
    bytes::Bytes,
    file::{File, event, header},
};

/// Size of the header, by which a stream differs from a file.
const HEADER_BYTES: u64 = 16;

const ATTR: u32 = 64;
const BUILD_ID: u32 = 67;
const EVENT_UPDATE: u32 = 78;
const FEATURE: u32 = 80;

/// `PERF_EVENT_UPDATE__NAME`.
const UPDATE_NAME: u64 = 2;
/// `HEADER_EVENT_DESC`.
const EVENT_DESC: u64 = 12;

/// Whether it is a stream that `perf` wrote into a pipe.
pub(super) fn is_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PERFILE2") && Bytes(&bytes[8..]).u64() == Some(HEADER_BYTES)
}

/// Reads the events of a stream. Errors: there are none, or one is truncated.
pub(super) fn open(bytes: &[u8]) -> Result<File<'_>, String> {
    let data = bytes.get(HEADER_BYTES as usize..).unwrap_or_default();
    let mut file = File {
        events: Vec::new(),
        build_ids: HashMap::new(),
        events_by_id: HashMap::new(),
        data,
        // The writer may have been stopped within a record.
        is_cut: true,
    };
    for at in file.offsets()? {
        let mut record = Bytes(&data[at..]);
        let Some((kind, misc, size)) = header(&mut record) else { break };
        let body = record.take(usize::from(size).saturating_sub(8)).unwrap_or_default();
        match kind {
            ATTR => file.add_event(body).ok_or("attributes: one is cut short")?,
            BUILD_ID => file.add_build_id(misc, body),
            EVENT_UPDATE => file.update_event(body),
            FEATURE => {
                let mut body = Bytes(body);
                if body.u64() == Some(EVENT_DESC) {
                    file.read_event_names(body);
                }
            }
            _ => {}
        }
    }
    file.check_events()?;
    Ok(file)
}

impl File<'_> {
    /// Adds the event of a record: a `perf_event_attr`, which states its size, and the event's IDs.
    fn add_event(&mut self, body: &[u8]) -> Option<()> {
        let mut start = Bytes(body);
        let (_kind, size) = (start.u32()?, start.u32()?);
        let (attr, ids) = body.split_at_checked(size as usize)?;
        let mut ids = Bytes(ids);
        while let Some(id) = ids.u64() {
            self.events_by_id.insert(id, self.events.len());
        }
        self.events.push(event(attr)?);
        Some(())
    }

    /// Takes the name of an event; other updates, and those of unknown events, are ignored.
    fn update_event(&mut self, body: &[u8]) {
        let mut body = Bytes(body);
        let (Some(UPDATE_NAME), Some(id)) = (body.u64(), body.u64()) else { return };
        let name = String::from_utf8_lossy(body.text()).into_owned();
        if let Some(event) = self.events_by_id.get(&id).and_then(|at| self.events.get_mut(*at)) {
            event.set_name(&name);
        }
    }
}
