//! The stacks that an allocator sampled itself, as a profile: real calls, with the memory that they
//! allocated and that is still in use.
//!
//! Not here: how they are read (`heap`).

use std::collections::HashMap;

use super::{
    super::{
        Request,
        name::locations::{clamp, epoch_ns},
        rename,
    },
    report::HeapReport,
};
use crate::{
    budget::Budget,
    elf::cache,
    heap::{Sampled, Target},
    process::{Mapping, files, threads},
    profile::{
        builder::{Builder, MappingId, MappingSpec},
        proto::Profile,
    },
    symbolize::hex,
};

const SAMPLE_TYPES: &[(&str, &str)] = &[("inuse_objects", "count"), ("inuse_space", "bytes")];

/// Reads what the allocator of the report's process has sampled, as a profile; `None`: it does not
/// sample.
pub fn read(report: &HeapReport, request: &Request) -> Option<Profile> {
    let target = Target::open(report.identity.pid, &request.symbolize.budget).ok()?;
    let sampled = Sampled::read(&target).filter(|sampled| !sampled.stacks.is_empty())?;
    let mut places = Places { target: &target, mappings: HashMap::new() };
    let mut builder = Builder::new(SAMPLE_TYPES);
    builder.set_default_sample_type("inuse_space");
    builder.set_time(epoch_ns(report.taken_at), 0);
    builder.set_period("space", "bytes", clamp(sampled.period));
    for stack in &sampled.stacks {
        let frames = places.without_allocator(&stack.frames);
        let locations: Vec<_> = (frames.iter())
            .map(|address| {
                let mapping = places.mapping(*address, &mut builder);
                // A return address is behind its call.
                builder.location(mapping, address.saturating_sub(1), &[])
            })
            .collect();
        builder.sample(&locations, &[stack.objects.round() as i64, stack.bytes.round() as i64], &[]);
    }
    let identity = &report.identity;
    builder.comment("kind: heap");
    builder.comment(&format!("target: {} (pid {})", identity.display_name(), identity.pid));
    let assumed = if sampled.is_period_assumed { " (assumed)" } else { "" };
    builder.comment(&format!(
        "stacks: sampled by {} itself, one in {} bytes{assumed}; {} samples, {} unreadable; numbers are estimates",
        sampled.allocator,
        sampled.period,
        sampled.samples(),
        sampled.broken
    ));
    builder.comment(&format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    Some(rename::rename(builder.finish(), &request.symbolize).profile)
}

struct Places<'t> {
    target: &'t Target,
    /// The mappings of the profile, by their start.
    mappings: HashMap<u64, Option<MappingId>>,
}

impl Places<'_> {
    fn find(&self, address: u64) -> Option<&Mapping> {
        self.target.space.find(address.saturating_sub(1)).filter(|mapping| mapping.inode != 0)
    }

    /// A stack without the frames of the allocator's own library at its leaf.
    fn without_allocator<'f>(&self, frames: &'f [u64]) -> &'f [u64] {
        let is_allocator = |address: &u64| {
            self.find(*address).is_some_and(|mapping| {
                ["libjemalloc", "libtcmalloc"].iter().any(|name| mapping.path.contains(name))
            })
        };
        let count = frames.iter().take_while(|address| is_allocator(address)).count();
        if count < frames.len() { &frames[count..] } else { frames }
    }

    fn mapping(&mut self, address: u64, builder: &mut Builder) -> Option<MappingId> {
        let mapping = self.find(address)?.clone();
        let reader = threads::reader(self.target.pid);
        *self.mappings.entry(mapping.start.0).or_insert_with(|| {
            let file = files::open(&files::MappedFile::of(reader, &mapping)).ok();
            let elf = file.and_then(|file| cache::open(&file, &Budget::session()).ok());
            let build_id = elf.map(|elf| hex(elf.build_id().unwrap_or_default())).unwrap_or_default();
            Some(builder.mapping(&MappingSpec {
                start: mapping.start.0,
                limit: mapping.end.0,
                file_offset: mapping.file_offset,
                filename: &mapping.path,
                build_id: &build_id,
                symbolized: false,
            }))
        })
    }
}
