//! The offsets that rprof needs of HotSpot's structures, in one of the forms that releases have.
//!
//! All come from what libjvm.so states ([`VmStructs`]), so that a release in between follows. Where
//! a form is new and unknown, a field is missing and the process is refused. Not here: reading the
//! structures.

use super::structs::VmStructs;

/// Offsets in HotSpot's structures.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where memory for code is.
    pub heap: HeapLayout,
    /// Pieces of code.
    pub blob: BlobLayout,
    /// Compiled methods.
    pub compiled: CompiledLayout,
    /// Methods and classes.
    pub method: MethodLayout,
    /// The constant that the compressed numbers of this release exclude: 0 or 1 (`UNSIGNED5`).
    pub excluded: u8,
    /// From an interpreted frame's frame pointer to its bytecode pointer, in bytes.
    pub frame_bcp: i64,
}

/// A piece of memory for code (`CodeHeap`).
#[derive(Clone, Debug)]
pub struct HeapLayout {
    /// `CodeHeap._memory` and `CodeHeap._segmap`, both a `VirtualSpace`.
    pub memory: u64,
    /// See `memory`.
    pub segment_map: u64,
    /// `CodeHeap._log2_segment_size`.
    pub log2_segment_size: u64,
    /// `VirtualSpace._low_boundary` and `_high_boundary`.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// The header before a piece of code, in bytes.
    pub header_size: u64,
    /// The byte of the header that is not 0 if the piece is used.
    pub header_used: u64,
}

/// A piece of code (`CodeBlob`).
#[derive(Clone, Debug)]
pub struct BlobLayout {
    /// The name, a C string.
    pub name: u64,
    /// The size in bytes.
    pub size: u64,
    /// The size of a frame in words.
    pub frame_size: u64,
    /// From which offset on the frame is complete.
    pub frame_complete: u64,
    /// The offset `frame_complete` is a 16-bit number.
    pub is_frame_complete_short: bool,
    /// Where the instructions are.
    pub code: Bounds,
    /// The bytes of a compiled method's header that are read.
    pub header_bytes: usize,
}

/// Where the instructions of a piece of code are.
#[derive(Clone, Copy, Debug)]
pub enum Bounds {
    /// These fields are the addresses.
    Pointers(u64, u64),
    /// These fields are offsets from the piece's start.
    Offsets(u64, u64),
}

/// A compiled method (`nmethod`).
#[derive(Clone, Debug)]
pub struct CompiledLayout {
    /// The method.
    pub method: u64,
    /// The number of the compilation, which no other has.
    pub compile_id: u64,
    /// From the stack pointer of a frame to the return address that deoptimization replaced.
    pub orig_pc: Option<u64>,
    /// The addresses that replace return addresses.
    pub deopt: Vec<DeoptHandler>,
    /// Where the debug information is.
    pub info: InfoLayout,
}

/// A field with the address that deoptimization puts in the place of a return address.
#[derive(Clone, Copy, Debug)]
pub enum DeoptHandler {
    /// The address.
    Pointer(u64),
    /// An offset from the compiled method's start.
    Offset(u64),
}

/// Where a compiled method's debug information is.
#[derive(Clone, Debug)]
pub enum InfoLayout {
    /// In the compiled method itself: the offsets of metadata, scopes and `PcDesc`s (to 22).
    Inline {
        /// `_metadata_offset`.
        metadata: u64,
        /// The start of the scopes.
        scopes: ScopesStart,
        /// `_scopes_pcs_offset`.
        pcs: u64,
        /// `_dependencies_offset`, where the `PcDesc`s end.
        end: u64,
    },
    /// In memory of its own (from 23 on).
    Immutable {
        /// `_immutable_data`.
        data: u64,
        /// `_immutable_data_size`.
        size: u64,
        /// `_scopes_pcs_offset`.
        pcs: u64,
        /// `_scopes_data_offset`, where the `PcDesc`s end.
        scopes: u64,
        /// The metadata.
        metadata: MetadataStart,
    },
}

/// The start of the scopes in a compiled method.
#[derive(Clone, Copy, Debug)]
pub enum ScopesStart {
    /// A field with the offset.
    Offset(u64),
    /// A field with the address.
    Pointer(u64),
}

/// Where the metadata of a compiled method is, whose other debug information is elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum MetadataStart {
    /// In `_mutable_data`, after the relocations: data, size of both, size of the relocations.
    Mutable(u64, u64, u64),
    /// In the compiled method: the offset of its data, and from there a 16-bit one.
    Inline(u64, u64),
}

/// Methods and classes.
#[derive(Clone, Debug)]
pub struct MethodLayout {
    /// `Method._constMethod`.
    pub const_method: u64,
    /// `ConstMethod._constants`.
    pub constants: u64,
    /// `ConstMethod._code_size`.
    pub code_size: u64,
    /// `ConstMethod._name_index`.
    pub name_index: u64,
    /// `ConstMethod._flags`.
    pub flags: u64,
    /// The flag of a method with a table of lines.
    pub has_lines: u16,
    /// The size of a `ConstMethod`, after which the bytecode is.
    pub const_method_size: u64,
    /// The size of a `ConstantPool`, after which the constants are.
    pub pool_size: u64,
    /// `ConstantPool._pool_holder`.
    pub pool_holder: u64,
    /// The index of the source file's name.
    pub source_file: SourceFileIndex,
    /// `Klass._name`.
    pub class_name: u64,
    /// `Symbol._length`.
    pub symbol_length: u64,
    /// `Symbol._body`.
    pub symbol_body: u64,
}

/// Which structure has the index of the source file's name.
#[derive(Clone, Copy, Debug)]
pub enum SourceFileIndex {
    /// The constant pool.
    Pool(u64),
    /// The class.
    Class(u64),
    /// None.
    Unknown,
}

impl Layout {
    /// The layout of a release; the error names what is missing.
    pub fn of(structs: &VmStructs) -> Result<Layout, &'static str> {
        let is_8 = structs.address(&["CodeCache._heap"]).is_some();
        let has_stream = structs.offset(&["InstanceKlass._fieldinfo_stream"]).is_some();
        Ok(Layout {
            heap: heap(structs).ok_or("CodeHeap")?,
            blob: blob(structs).ok_or("CodeBlob")?,
            compiled: compiled(structs).ok_or("nmethod")?,
            method: method(structs).ok_or("Method")?,
            excluded: u8::from(has_stream),
            frame_bcp: if is_8 { -56 } else { -64 },
        })
    }
}

fn heap(structs: &VmStructs) -> Option<HeapLayout> {
    Some(HeapLayout {
        memory: structs.offset(&["CodeHeap._memory"])?,
        segment_map: structs.offset(&["CodeHeap._segmap"])?,
        log2_segment_size: structs.offset(&["CodeHeap._log2_segment_size"])?,
        low: structs.offset(&["VirtualSpace._low_boundary"])?,
        high: structs.offset(&["VirtualSpace._high_boundary"])?,
        header_size: structs.size("HeapBlock")?.clamp(8, 64),
        header_used: structs.offset(&["HeapBlock::Header._used"]).unwrap_or(8).min(56),
    })
}

fn blob(structs: &VmStructs) -> Option<BlobLayout> {
    let code = match structs.offset(&["CodeBlob._code_begin"]).zip(structs.offset(&["CodeBlob._code_end"])) {
        Some((begin, end)) => Bounds::Pointers(begin, end),
        None => Bounds::Offsets(
            structs.offset(&["CodeBlob._code_offset"])?,
            structs.offset(&["CodeBlob._data_offset"])?,
        ),
    };
    let size = structs.size("nmethod").unwrap_or(512);
    Some(BlobLayout {
        name: structs.offset(&["CodeBlob._name"])?,
        size: structs.offset(&["CodeBlob._size"])?,
        frame_size: structs.offset(&["CodeBlob._frame_size"])?,
        frame_complete: structs.offset(&["CodeBlob._frame_complete_offset"])?,
        is_frame_complete_short: structs
            .kind("CodeBlob._frame_complete_offset")
            .is_some_and(|kind| kind.contains("16")),
        code,
        header_bytes: size.clamp(64, 1024) as usize,
    })
}

fn compiled(structs: &VmStructs) -> Option<CompiledLayout> {
    let mut deopt = Vec::new();
    for class in ["nmethod", "CompiledMethod"] {
        let field = |name: &str| structs.offset(&[format!("{class}.{name}").as_str()]);
        deopt.extend(
            ["_deopt_handler_begin", "_deopt_mh_handler_begin"]
                .map(field)
                .into_iter()
                .flatten()
                .map(DeoptHandler::Pointer),
        );
        let offsets = [
            "_deoptimize_offset",
            "_deoptimize_mh_offset",
            "_deopt_handler_offset",
            "_deopt_mh_handler_offset",
            "_deopt_handler_entry_offset",
        ];
        deopt.extend(offsets.map(field).into_iter().flatten().map(DeoptHandler::Offset));
    }
    Some(CompiledLayout {
        method: structs.offset(&["nmethod._method", "CompiledMethod._method"])?,
        compile_id: structs.offset(&["nmethod._compile_id"])?,
        orig_pc: structs.offset(&["nmethod._orig_pc_offset"]),
        deopt,
        info: info(structs)?,
    })
}

fn info(structs: &VmStructs) -> Option<InfoLayout> {
    let pcs = structs.offset(&["nmethod._scopes_pcs_offset"])?;
    let Some(data) = structs.offset(&["nmethod._immutable_data"]) else {
        let scopes = match structs.offset(&["nmethod._scopes_data_offset"]) {
            Some(offset) => ScopesStart::Offset(offset),
            None => ScopesStart::Pointer(
                structs.offset(&["CompiledMethod._scopes_data_begin", "nmethod._scopes_data_begin"])?,
            ),
        };
        return Some(InfoLayout::Inline {
            metadata: structs.offset(&["nmethod._metadata_offset"])?,
            scopes,
            pcs,
            end: structs.offset(&["nmethod._dependencies_offset"])?,
        });
    };
    let metadata = match structs.offset(&["CodeBlob._mutable_data"]) {
        Some(data) => MetadataStart::Mutable(
            data,
            structs.offset(&["CodeBlob._mutable_data_size"])?,
            structs.offset(&["CodeBlob._relocation_size"])?,
        ),
        None => MetadataStart::Inline(
            structs.offset(&["CodeBlob._data_offset"])?,
            structs.offset(&["nmethod._metadata_offset"])?,
        ),
    };
    Some(InfoLayout::Immutable {
        data,
        size: structs.offset(&["nmethod._immutable_data_size"])?,
        pcs,
        scopes: structs.offset(&["nmethod._scopes_data_offset"])?,
        metadata,
    })
}

fn method(structs: &VmStructs) -> Option<MethodLayout> {
    let has_lines = structs
        .constant(&["ConstMethodFlags::_misc_has_linenumber_table", "ConstMethod::_has_linenumber_table"]);
    let pool = structs.offset(&["ConstantPool._source_file_name_index"]).map(SourceFileIndex::Pool);
    let class = structs.offset(&["InstanceKlass._source_file_name_index"]).map(SourceFileIndex::Class);
    Some(MethodLayout {
        const_method: structs.offset(&["Method._constMethod"])?,
        constants: structs.offset(&["ConstMethod._constants"])?,
        code_size: structs.offset(&["ConstMethod._code_size"])?,
        name_index: structs.offset(&["ConstMethod._name_index"])?,
        flags: structs.offset(&["ConstMethod._flags._flags", "ConstMethod._flags"])?,
        has_lines: has_lines.map_or(1, |flag| flag as u16),
        const_method_size: structs.size("ConstMethod")?.clamp(32, 256),
        pool_size: structs.size("ConstantPool")?.clamp(32, 512),
        pool_holder: structs.offset(&["ConstantPool._pool_holder"])?,
        source_file: pool.or(class).unwrap_or(SourceFileIndex::Unknown),
        class_name: structs.offset(&["Klass._name"])?,
        symbol_length: structs.offset(&["Symbol._length"])?,
        symbol_body: structs.offset(&["Symbol._body[0]", "Symbol._body"])?,
    })
}
