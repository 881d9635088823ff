//! One compiled object: relocates its programs for this kernel's types, creates its maps, and has
//! the kernel check and attach its programs.
//!
//! Not here: which programs a sampler needs (`load`, `walkers`), which object fits the kernel
//! (`objects`).

use std::{
    collections::HashSet,
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::maps::{Array, Map, MapData};
use aya_obj::{Object, btf::Btf};

use super::{
    kernel_types,
    objects::Objects,
    refusal::{broken, failed, from_map, not_loaded},
};
use crate::{
    sampler::SamplerError,
    sys::bpf::{self, Instruction, KernelBtf, ProgramKind},
};

/// The memory of the programs.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of the ring: a power of two of pages.
    pub ring_bytes: u32,
    /// Buffers in which records are gathered: one more than the highest number of a CPU.
    pub buffers: u32,
}

/// The programs of the object that fits this kernel, with the offsets of its types; and what
/// `look_up` finds among these.
pub fn parse_and_relocate<T>(
    objects: &Objects,
    look_up: impl FnOnce(&kernel_types::Types<'_>) -> T,
) -> Result<(Object, T), SamplerError> {
    let kernel = KernelBtf::open()
        .map_err(|error| SamplerError::NoKernelTypes(format!("/sys/kernel/btf/vmlinux: {error}")))?;
    let types = kernel_types::Types::parse(kernel.bytes()).ok_or_else(|| {
        SamplerError::Unavailable("the kernel's description of its types cannot be read".to_owned())
    })?;
    let mut object = Object::parse(objects.for_kernel(&types)).map_err(broken)?;
    let own = object.btf.as_ref().map(Btf::to_bytes).unwrap_or_default();
    let wanted = kernel_types::Types::parse(&own).map(|types| types.structures()).unwrap_or_default();
    let excerpt = Btf::parse(&types.excerpt(&wanted), aya::Endianness::default()).map_err(broken)?;
    object.relocate_btf(&excerpt).map_err(|error| {
        SamplerError::Unavailable(format!("the BPF program does not fit this kernel: {error}"))
    })?;
    let found = look_up(&types);
    Ok((object, found))
}

/// Each map by name, with its definition.
pub struct Maps(Vec<(String, aya_obj::Map, MapData)>);

impl Maps {
    /// Creates the maps of an object.
    pub fn create(object: &mut Object, room: Room) -> Result<Maps, SamplerError> {
        Maps::create_but(object, room, &[])
    }

    /// Creates the maps, but uses those of `shared` that have the same name.
    pub fn create_but(
        object: &mut Object,
        room: Room,
        shared: &[(&str, BorrowedFd<'_>)],
    ) -> Result<Maps, SamplerError> {
        let mut maps = Vec::new();
        for (name, mut map) in object.maps.drain() {
            if let Some((_, fd)) = shared.iter().find(|(other, _)| *other == name) {
                let fd = fd
                    .try_clone_to_owned()
                    .map_err(|source| failed("duplicating the descriptor of a BPF map", source))?;
                let data = MapData::from_fd(fd).map_err(|error| from_map(&error))?;
                maps.push((name, map, data));
                continue;
            }
            match name.as_str() {
                "ring" => map.set_max_entries(room.ring_bytes),
                "records" => map.set_max_entries(room.buffers),
                _ => {}
            }
            // Created without the types of keys and values: nothing needs them, and they would
            // require loading the object's own type information.
            let plain = aya_obj::Map::new_from_params(
                map.map_type(),
                map.key_size(),
                map.value_size(),
                map.max_entries(),
                map.map_flags(),
            );
            let data = MapData::create(plain, &name, None).map_err(|error| from_map(&error))?;
            maps.push((name, map, data));
        }
        Ok(Maps(maps))
    }

    /// Makes the object's programs refer to these maps and to each other's code.
    pub fn relocate(&self, object: &mut Object) -> Result<(), SamplerError> {
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = self.0.iter().map(|(name, map, data)| (name.as_str(), data.fd().as_fd().as_raw_fd(), map));
        object.relocate_maps(maps, &sections).map_err(broken)?;
        object.relocate_calls(&sections).map_err(broken)
    }

    /// Fills a map of one element and returns it: it must stay open until programs that use it are
    /// loaded.
    pub fn set<T: aya::Pod>(&mut self, name: &str, value: T) -> Result<Array<MapData, T>, SamplerError> {
        let mut map = Array::<_, T>::try_from(Map::Array(self.take(name)?)).map_err(broken)?;
        map.set(0, value, 0).map_err(|error| from_map(&error))?;
        Ok(map)
    }

    /// A map.
    pub fn get(&self, name: &str) -> Result<&MapData, SamplerError> {
        let found = self.0.iter().find(|(other, _, _)| other == name);
        found.map(|(_, _, data)| data).ok_or_else(|| broken(format!("it has no map {name}")))
    }

    /// Another descriptor of a map.
    pub fn copy_of(&self, name: &str) -> Result<OwnedFd, SamplerError> {
        let copy = self.get(name)?.fd().as_fd().try_clone_to_owned();
        copy.map_err(|source| failed("duplicating the descriptor of a BPF map", source))
    }

    /// Takes a map out.
    pub fn take(&mut self, name: &str) -> Result<MapData, SamplerError> {
        let at = self.0.iter().position(|(other, _, _)| other == name);
        at.map(|at| self.0.swap_remove(at).2).ok_or_else(|| broken(format!("it has no map {name}")))
    }
}

/// Loads a program of this kind.
pub fn load_program(object: &Object, name: &str, kind: ProgramKind) -> Result<OwnedFd, SamplerError> {
    let (instructions, license) = code_of(object, name)?;
    bpf::load_program(kind, name, &instructions, license).map_err(|error| not_loaded(name, error))
}

/// Loads a program for a typed tracepoint.
pub fn load_typed(object: &Object, name: &str, tracepoint: u32) -> Result<OwnedFd, SamplerError> {
    let (instructions, license) = code_of(object, name)?;
    bpf::load_typed_tracepoint(name, &instructions, license, tracepoint)
        .map_err(|error| not_loaded(name, error))
}

/// Attaches a program to its typed tracepoint, until the descriptor is closed.
pub fn attach_typed(program: &OwnedFd) -> Result<OwnedFd, SamplerError> {
    bpf::attach_typed_tracepoint(program.as_fd())
        .map_err(|source| failed("attaching a BPF program to a tracepoint", source))
}

/// The instructions of a program, and its license.
pub fn code_of<'o>(object: &'o Object, name: &str) -> Result<(Vec<Instruction>, &'o CStr), SamplerError> {
    let program = object.programs.get(name).ok_or_else(|| broken(format!("it has no program {name}")))?;
    let function = object.functions.get(&program.function_key());
    let function = function.ok_or_else(|| broken(format!("it has no code for {name}")))?;
    let instructions = function
        .instructions
        .iter()
        .map(|instruction| {
            let registers = instruction.dst_reg() | instruction.src_reg() << 4;
            let [o0, o1] = instruction.off.to_ne_bytes();
            let [i0, i1, i2, i3] = instruction.imm.to_ne_bytes();
            [instruction.code, registers, o0, o1, i0, i1, i2, i3]
        })
        .collect();
    Ok((instructions, &program.license))
}

/// Loads a program and has the kernel call it at a tracepoint, until the descriptor is closed.
pub fn attach_raw(object: &Object, name: &str, tracepoint: &CStr) -> Result<OwnedFd, SamplerError> {
    let program = load_program(object, name, ProgramKind::RawTracepoint)?;
    bpf::attach_raw_tracepoint(tracepoint, program.as_fd()).map_err(|source| {
        failed(&format!("attaching a BPF program to {}", tracepoint.to_string_lossy()), source)
    })
}
