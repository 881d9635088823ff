//! The symbolized places of a capture as locations of a profile, and labels and times as pprof has
//! them.
//!
//! Not here: samples and comments (`finish`, `threadcreate`, `dump`), names (`names`).

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::names::Names;
use crate::{
    capture::{
        collector::{Labels, LocationId, Place, SourceId},
        watch::{
            images::{ImageKind, KERNEL, SYNTHETIC},
            window::Window,
        },
    },
    profile::builder::{self, Builder, LabelValue, LineSpec, MappingSpec},
    symbolize::{SourceFrame, hex},
};

/// The IDs of a capture's locations in the profile.
pub struct Locations(Vec<Option<builder::LocationId>>);

impl Locations {
    /// Adds the locations that the stacks of a source contain, with their mappings and functions.
    /// `executable`: the program whose mapping becomes the profile's main mapping.
    pub fn add(
        window: &Window,
        source: SourceId,
        names: &Names,
        builder: &mut Builder,
        executable: Option<&Path>,
    ) -> Locations {
        let mut main = None;
        let all = window.collector.places();
        let used = window.collector.counts(source).used(all.len());
        let places = all.iter().zip(used).enumerate();
        let locations = places
            .map(|(index, (place, is_used))| {
                if !is_used {
                    return None;
                }
                let image = &window.placements.get(place.mapping).image;
                let name = image.mapping_name();
                let mapping = (place.mapping != SYNTHETIC).then(|| {
                    let spec = mapping_spec(window, *place, names.kernel_modules[index].as_deref(), &name);
                    let build_id = hex(image.elf.as_ref().and_then(|elf| elf.build_id()).unwrap_or_default());
                    builder.mapping(&MappingSpec { build_id: &build_id, ..spec })
                });
                if image.kind == ImageKind::File && executable == Some(Path::new(&image.path)) {
                    main = main.or(mapping);
                }
                let mut lines = lines(&names.frames[index], builder);
                if lines.is_empty() && image.is_memory() {
                    let function = builder.function(&name, &name, "", 0);
                    lines.push(LineSpec { function, line: 0, column: 0 });
                }
                // A frame of a language has no address: equal functions are one location.
                let address = if image.kind == ImageKind::Language { 0 } else { place.address };
                Some(builder.location(mapping, address, &lines))
            })
            .collect();
        if let Some(main) = main {
            builder.set_main_mapping(main);
        }
        Locations(locations)
    }

    /// The IDs of a stack's locations.
    pub fn of(&self, stack: &[LocationId]) -> Vec<builder::LocationId> {
        stack.iter().filter_map(|id| self.0[*id as usize]).collect()
    }
}

fn mapping_spec<'a>(
    window: &'a Window,
    place: Place,
    kernel_module: Option<&'a str>,
    name: &'a str,
) -> MappingSpec<'a> {
    let placement = window.placements.get(place.mapping);
    MappingSpec {
        start: placement.start.0,
        limit: placement.end.0,
        file_offset: placement.file_offset,
        filename: kernel_module.filter(|_| place.mapping == KERNEL).unwrap_or(name),
        build_id: "",
        symbolized: true,
    }
}

fn lines(frames: &[SourceFrame], builder: &mut Builder) -> Vec<LineSpec> {
    frames
        .iter()
        .map(|frame| {
            let file = frame.file.as_deref().unwrap_or_default();
            let function = builder.function(&frame.function, &frame.system_name, file, frame.start_line);
            LineSpec { function, line: frame.line, column: frame.column }
        })
        .collect()
}

pub fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub fn label_list(labels: &Labels) -> Vec<(&str, LabelValue<'_>)> {
    let mut list = vec![("thread", LabelValue::Text(&labels.thread))];
    list.extend(labels.process.as_deref().map(|name| ("process", LabelValue::Text(name))));
    list.extend(labels.pid.map(|pid| ("pid", LabelValue::Number(i64::from(pid), ""))));
    list.extend(labels.tid.map(|tid| ("tid", LabelValue::Number(i64::from(tid), ""))));
    let own = labels.own.iter().flat_map(|own| own.iter());
    list.extend(own.map(|(key, value)| (key.as_str(), LabelValue::Text(value))));
    list
}

/// A time as in profiles: nanoseconds since 1970.
pub fn epoch_ns(time: SystemTime) -> i64 {
    nanos(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
