//! A trace in Perfetto's format, for ui.perfetto.dev: a track for each thread, and slices on the
//! tracks.
//!
//! The messages are those of Perfetto's `trace_packet.proto`, `track_event.proto`,
//! `track_descriptor.proto`, `interned_data.proto` and `debug_annotation.proto` (package
//! `perfetto.protos`, repository google/perfetto): only the fields used here, with their field
//! numbers. Not here: what a span is.

use std::io::{self, Write};

use prost::Message;
use rustc_hash::FxHashMap;

use super::{
    Ended, Trace,
    spans::{Span, ThreadActivity},
};

/// `TrackEvent.Type`.
const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
const INSTANT: i32 = 3;
/// `TracePacket.SequenceFlags`.
const STATE_CLEARED: u32 = 1;
const NEEDS_STATE: u32 = 2;
/// The only packet sequence.
const SEQUENCE: u32 = 1;
/// Interned names of annotations.
const CPU: u64 = 1;
const BY: u64 = 2;
const COUNT: u64 = 3;

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "12")]
    interned_data: Option<InternedData>,
    #[prost(uint32, tag = "13")]
    sequence_flags: u32,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, tag = "9")]
    r#type: i32,
    #[prost(uint64, optional, tag = "10")]
    name_iid: Option<u64>,
    #[prost(uint64, tag = "11")]
    track_uuid: u64,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flow_ids: Vec<u64>,
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    terminating_flow_ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct DebugAnnotation {
    #[prost(uint64, tag = "1")]
    name_iid: u64,
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct InternedData {
    #[prost(message, repeated, tag = "2")]
    event_names: Vec<InternedName>,
    #[prost(message, repeated, tag = "3")]
    debug_annotation_names: Vec<InternedName>,
}

#[derive(Clone, PartialEq, Message)]
struct InternedName {
    #[prost(uint64, tag = "1")]
    iid: u64,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(string, tag = "6")]
    process_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(int64, tag = "2")]
    tid: i64,
    #[prost(string, tag = "5")]
    thread_name: String,
}

/// Encodes and writes packets.
struct PacketWriter<'w> {
    writer: &'w mut dyn Write,
    buffer: Vec<u8>,
    names: FxHashMap<&'static str, u64>,
    next_flow: u64,
}

/// Writes a trace. Errors: those of `writer`.
pub fn write(trace: &Trace, writer: &mut dyn Write) -> io::Result<()> {
    let mut out = PacketWriter { writer, buffer: Vec::new(), names: FxHashMap::default(), next_flow: 1 };
    let mut spans = trace.spans();
    out.packet(Packet {
        sequence_flags: STATE_CLEARED,
        interned_data: Some(InternedData {
            event_names: Vec::new(),
            debug_annotation_names: vec![name(CPU, "cpu"), name(BY, "woken by"), name(COUNT, "count")],
        }),
        ..Packet::default()
    })?;
    descriptors(trace, &spans, &mut out)?;
    spans.sort_by_key(|span| span.from_ns);
    let mut own: Vec<u32> = spans.iter().map(|span| span.tid).collect();
    own.sort_unstable();
    own.dedup();
    for span in &spans {
        out.span(trace, span, &own)?;
    }
    out.notes(trace)?;
    out.flush()
}

fn name(iid: u64, name: &str) -> InternedName {
    InternedName { iid, name: name.to_owned() }
}

fn process_track(pid: u32) -> u64 {
    1 << 32 | u64::from(pid)
}

fn thread_track(tid: u32) -> u64 {
    2 << 32 | u64::from(tid)
}

/// The track of the notes on the trace itself.
const NOTES_TRACK: u64 = 3 << 32;

fn descriptors(trace: &Trace, spans: &[Span], out: &mut PacketWriter<'_>) -> io::Result<()> {
    for identity in &trace.identities {
        let process = ProcessDescriptor { pid: identity.pid as i32, process_name: identity.display_name() };
        out.track(TrackDescriptor {
            uuid: process_track(identity.pid),
            process: Some(process),
            ..TrackDescriptor::default()
        })?;
    }
    let mut threads: Vec<(u32, u32)> = spans.iter().map(|span| (span.pid, span.tid)).collect();
    threads.sort_unstable();
    threads.dedup();
    for (pid, tid) in threads {
        let thread_name = trace.name(tid).to_owned();
        out.track(TrackDescriptor {
            uuid: thread_track(tid),
            parent_uuid: Some(process_track(pid)),
            thread: Some(ThreadDescriptor { pid: pid as i32, tid: i64::from(tid), thread_name }),
            ..TrackDescriptor::default()
        })?;
    }
    out.track(TrackDescriptor {
        uuid: NOTES_TRACK,
        name: Some("rprof: about this trace".to_owned()),
        ..TrackDescriptor::default()
    })
}

impl PacketWriter<'_> {
    fn packet(&mut self, packet: Packet) -> io::Result<()> {
        const FLUSH_BYTES: usize = 1 << 16;
        let packet = Packet { trusted_packet_sequence_id: SEQUENCE, ..packet };
        // `Trace.packet`: field 1, length-delimited.
        self.buffer.push(1 << 3 | 2);
        // Writing to memory does not fail.
        let _ = packet.encode_length_delimited(&mut self.buffer);
        if self.buffer.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<()> {
        self.packet(Packet { track_descriptor: Some(descriptor), ..Packet::default() })
    }

    /// Writes an event; its name is interned when it is first used.
    fn event(&mut self, time_ns: u64, text: Option<&'static str>, event: TrackEvent) -> io::Result<()> {
        let next = self.names.len() as u64 + 1;
        let iid = text.map(|text| (text, *self.names.entry(text).or_insert(next)));
        let new = iid.filter(|(_, iid)| *iid == next && self.names.len() as u64 == next);
        let interned_data = new.map(|(text, iid)| InternedData {
            event_names: vec![name(iid, text)],
            debug_annotation_names: Vec::new(),
        });
        self.packet(Packet {
            timestamp: Some(time_ns),
            interned_data,
            sequence_flags: NEEDS_STATE,
            track_event: Some(TrackEvent { name_iid: iid.map(|(_, iid)| iid), ..event }),
            ..Packet::default()
        })
    }

    fn span(&mut self, trace: &Trace, span: &Span, own: &[u32]) -> io::Result<()> {
        let track_uuid = thread_track(span.tid);
        let mut event = TrackEvent { r#type: SLICE_BEGIN, track_uuid, ..TrackEvent::default() };
        let text = match span.doing {
            ThreadActivity::Runs { cpu } => {
                event.debug_annotations = vec![number(CPU, cpu)];
                "runs"
            }
            ThreadActivity::Ready { by_tid: None } => "ready (preempted)",
            ThreadActivity::Ready { by_tid: Some(0) } => "ready",
            ThreadActivity::Ready { by_tid: Some(by) } => {
                event.debug_annotations = vec![DebugAnnotation {
                    name_iid: BY,
                    uint_value: None,
                    string_value: Some(format!("{} ({by})", trace.name(by))),
                }];
                if own.binary_search(&by).is_ok() && by != span.tid {
                    event.terminating_flow_ids = vec![self.next_flow];
                    self.wakes(span.from_ns, by)?;
                }
                "ready"
            }
            ThreadActivity::Waits { system_call, .. } => system_call.unwrap_or("waits"),
        };
        self.event(span.from_ns, Some(text), event)?;
        let end = TrackEvent { r#type: SLICE_END, track_uuid, ..TrackEvent::default() };
        self.event(span.until_ns, None, end)
    }

    /// Writes the start of the arrow to the woken thread.
    fn wakes(&mut self, time_ns: u64, by_tid: u32) -> io::Result<()> {
        let flow_ids = vec![self.next_flow];
        self.next_flow += 1;
        let track_uuid = thread_track(by_tid);
        self.event(
            time_ns,
            Some("wakes"),
            TrackEvent { r#type: INSTANT, track_uuid, flow_ids, ..TrackEvent::default() },
        )
    }

    /// Writes what is missing in the trace.
    fn notes(&mut self, trace: &Trace) -> io::Result<()> {
        let mut notes = vec![("lost events", trace.lost)];
        if trace.is_full {
            notes.push(("the trace is full and ends early", trace.events.len() as u64));
        }
        if trace.ended == Ended::Failed {
            notes.push(("tracing failed: the trace ends early", trace.events.len() as u64));
        }
        for (text, count) in notes {
            let event = TrackEvent { r#type: INSTANT, track_uuid: NOTES_TRACK, ..TrackEvent::default() };
            let count = DebugAnnotation { name_iid: COUNT, uint_value: Some(count), string_value: None };
            self.event(trace.until_ns, Some(text), TrackEvent { debug_annotations: vec![count], ..event })?;
        }
        Ok(())
    }
}

fn number(name_iid: u64, value: u32) -> DebugAnnotation {
    DebugAnnotation { name_iid, uint_value: Some(u64::from(value)), string_value: None }
}
