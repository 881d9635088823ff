//! Stacks that a language runtime has given, as locations of a profile.
//!
//! Not here: where the stacks come from (`runtime`).

use std::collections::HashMap;

use crate::{
    profile::builder::{Builder, LineSpec, LocationId, MappingId, MappingSpec},
    runtime::{CodeMapping, TaskFrame},
};

/// Builds the locations of one runtime's stacks.
pub struct RuntimeStacks {
    files: Vec<CodeMapping>,
    /// The mappings of the profile, by the number of the file.
    mappings: HashMap<usize, MappingId>,
}

impl RuntimeStacks {
    /// A builder without locations. `files` are those that the frames number.
    pub fn new(files: Vec<CodeMapping>) -> RuntimeStacks {
        RuntimeStacks { files, mappings: HashMap::new() }
    }

    /// The locations of a stack, leaf first.
    pub fn locations(&mut self, frames: &[TaskFrame], builder: &mut Builder) -> Vec<LocationId> {
        frames.iter().map(|frame| self.location(frame, builder)).collect()
    }

    fn location(&mut self, frame: &TaskFrame, builder: &mut Builder) -> LocationId {
        let lines: Vec<LineSpec> = (frame.lines.iter())
            .map(|line| {
                let file = line.file.as_deref().unwrap_or_default();
                let function = builder.function(&line.function, &line.system_name, file, line.start_line);
                LineSpec { function, line: line.line, column: line.column }
            })
            .collect();
        let mapping = frame.mapping.and_then(|file| self.mapping(file, builder));
        builder.location(mapping, frame.address, &lines)
    }

    fn mapping(&mut self, file: usize, builder: &mut Builder) -> Option<MappingId> {
        let code = self.files.get(file)?;
        Some(*self.mappings.entry(file).or_insert_with(|| {
            builder.mapping(&MappingSpec {
                start: code.start,
                limit: code.limit,
                file_offset: code.file_offset,
                filename: &code.path,
                build_id: &code.build_id,
                symbolized: true,
            })
        }))
    }
}
