//! Allocators that are recognized by the name of their library and not read yet: reports name them,
//! so that their memory is not taken for memory of no one.

use super::{Allocator, Coverage, Heap, Sink, Target};

/// An allocator that is recognized by the name of its library.
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// The beginning of its library's file name.
    pub library: &'static str,
}

/// The allocators that are named only.
pub static NAMED: [Named; 4] = [
    Named { name: "jemalloc", library: "libjemalloc" },
    Named { name: "tcmalloc", library: "libtcmalloc" },
    Named { name: "mimalloc", library: "libmimalloc" },
    Named { name: "musl malloc", library: "ld-musl-" },
];

impl Allocator for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, target: &Target) -> Option<Box<dyn Heap>> {
        let is_loaded = target.space.module_data().any(|(_, module)| {
            module.path.rsplit('/').next().is_some_and(|file| file.starts_with(self.library))
        });
        is_loaded.then(|| Box::new(Unread(self.name)) as _)
    }
}

/// A heap that is not read.
struct Unread(&'static str);

impl Heap for Unread {
    fn name(&self) -> String {
        format!("{} (not read yet)", self.0)
    }

    fn census(&self, _target: &Target, _sink: &mut dyn Sink) -> Coverage {
        let note = format!("The heap of {}, or of this release of it, is not read yet.", self.0);
        Coverage { notes: vec![note], ..Coverage::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        heap::{Image, Space},
        process::maps,
    };

    #[test]
    fn an_allocator_is_named_by_its_library() {
        let line = b"200000-201000 rw-p 0 fe:0 5 /usr/lib/libtcmalloc_minimal.so.4\n";
        let target =
            Target::of(Space::new(maps::parse(line)), Box::new(Image::default()), &Budget::session());
        let found: Vec<String> =
            NAMED.iter().filter_map(|named| Some(named.detect(&target)?.name())).collect();
        assert_eq!(found, ["tcmalloc (not read yet)"]);
    }
}
