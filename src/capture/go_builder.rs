//! Go stacks as locations of a profile: one location per frame, its inlined functions as lines.
//!
//! Not here: where the stacks come from.

use std::collections::HashMap;

use rustc_hash::FxHashSet;

use crate::{
    budget::{Exhausted, Resource},
    profile::builder::{Builder, LineSpec, LocationId, MappingId, MappingSpec},
    runtime::go::{Frame, GoProcess, Sites},
    symbolize::hex,
};

/// Memory of one location with its lines, names and the caches for it.
const LOCATION_MEMORY: u64 = 1024;

/// Builds the locations of one process's frames.
pub struct GoLocations<'a> {
    process: &'a GoProcess,
    sites: Sites<'a>,
    mappings: HashMap<usize, MappingId>,
    /// Frames that have a location.
    known: FxHashSet<Frame>,
    /// Why frames were dropped, if any were.
    pub limit: Option<Exhausted>,
}

impl<'a> GoLocations<'a> {
    /// A builder without locations.
    pub fn new(process: &'a GoProcess) -> GoLocations<'a> {
        GoLocations {
            process,
            sites: Sites::new(process),
            mappings: HashMap::new(),
            known: FxHashSet::default(),
            limit: None,
        }
    }

    /// Whether the budget of the process allows a location for this frame.
    fn is_affordable(&mut self, frame: Frame) -> bool {
        if self.known.contains(&frame) {
            return true;
        }
        let taken = self.process.budget.take(Resource::Memory, LOCATION_MEMORY);
        match taken {
            Ok(()) => self.known.insert(frame),
            Err(why) => {
                self.limit = Some(why);
                false
            }
        }
    }

    /// The locations of a stack, leaf first, as in Go's own profiles: without `runtime.goexit` and
    /// without compiler-generated wrappers.
    pub fn stack(&mut self, frames: &[Frame], builder: &mut Builder) -> Vec<LocationId> {
        let mut ids = Vec::with_capacity(frames.len());
        let mut callee: Option<Box<str>> = None;
        for frame in frames {
            if !self.is_affordable(*frame) {
                continue;
            }
            let site = self.sites.at(*frame);
            let mut lines = Vec::new();
            for function in &site.functions {
                if !function.is_left_out(callee.as_deref()) && &*function.name != "runtime.goexit" {
                    let id =
                        builder.function(&function.name, &function.name, &function.path, function.start_line);
                    lines.push(LineSpec { function: id, line: function.line, column: 0 });
                }
                callee = Some(function.name.clone());
            }
            let address = site.functions.first().map_or(frame.pc, |function| function.pc);
            if lines.is_empty() && !site.functions.is_empty() {
                continue;
            }
            let mapping = self.mapping(site.file, builder);
            ids.push(builder.location(mapping, address, &lines));
        }
        ids
    }

    /// The locations of return addresses as the runtime records them: an inlined function has an
    /// address of its own, before that of the function it is inlined into.
    pub fn returns(&mut self, addresses: &[u64], builder: &mut Builder) -> Vec<LocationId> {
        let frames = self.sites.physical(addresses);
        self.stack(&frames, builder)
    }

    /// As [`GoLocations::returns`], for an allocation: like Go, without the runtime's functions at
    /// the leaf, unless there are no others.
    pub fn allocation(&mut self, addresses: &[u64], builder: &mut Builder) -> Vec<LocationId> {
        let mut frames = self.sites.physical(addresses);
        frames.retain(|frame| self.is_affordable(*frame));
        let inner = |name: &str| name.starts_with("runtime.") || name.starts_with("internal/runtime/");
        let of_runtime = |sites: &mut Sites<'_>, frame: &Frame| {
            let site = sites.at(*frame);
            site.functions.first().is_some_and(|function| inner(&function.name))
        };
        let first = frames.iter().position(|frame| !of_runtime(&mut self.sites, frame)).unwrap_or(0);
        self.stack(&frames[first..], builder)
    }

    /// A location for something that is not code.
    pub fn synthetic(&self, name: &str, builder: &mut Builder) -> LocationId {
        let function = builder.function(name, name, "", 0);
        builder.location(None, 1, &[LineSpec { function, line: 0, column: 0 }])
    }

    fn mapping(&mut self, file: usize, builder: &mut Builder) -> Option<MappingId> {
        let loaded = self.process.files.get(file)?;
        let id = *self.mappings.entry(file).or_insert_with(|| {
            let elf = loaded.tables.pclntab.elf();
            let code = elf.segments().iter().find(|segment| segment.executable);
            let (start, size, offset) = code.map_or((0, 0, 0), |segment| {
                (segment.address.0.wrapping_add(loaded.bias), segment.memory_size, segment.file_offset.0)
            });
            let build_id = hex(elf.build_id().unwrap_or_default());
            builder.mapping(&MappingSpec {
                start,
                limit: start.saturating_add(size),
                file_offset: offset,
                filename: &loaded.path,
                build_id: &build_id,
                symbolized: true,
            })
        });
        Some(id)
    }
}
