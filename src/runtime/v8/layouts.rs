//! Where V8's objects and frames have their parts: what the constants of the file state, and for
//! what they leave out, rules that hold in a range of releases.
//!
//! Sources: V8's `src/objects/*.tq`, `src/execution/frame-constants.h`, and the reader of the
//! OpenTelemetry profiler (`interpreter/nodev8`). Not here: reading.

use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use rustc_hash::FxHashMap;

/// The newest release whose layout was tried, major and minor.
pub const NEWEST: (u32, u32) = (14, 6);
/// The oldest release that is read.
pub const OLDEST: (u32, u32) = (10, 2);

/// Instance types of objects (`Map::instance_type`). `u16::MAX`: the release has no such type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types {
    /// `Code`.
    pub code: u16,
    /// The object that holds machine code.
    pub stream: u16,
    /// `BytecodeArray`.
    pub bytecode: u16,
    /// Arrays of objects.
    pub arrays: [u16; 5],
    /// Arrays of bytes.
    pub bytes: [u16; 2],
    /// `SharedFunctionInfo`.
    pub function: u16,
    /// `SharedFunctionInfoWrapper`.
    pub function_wrapper: u16,
    /// `Script`.
    pub script: u16,
    /// `ScopeInfo`.
    pub scope: u16,
    /// `InterpreterData`.
    pub interpreter_data: u16,
    /// `CodeWrapper`.
    pub code_wrapper: u16,
    /// The first and the last type of `JSFunction`.
    pub closures: (u16, u16),
    /// Types below this are strings.
    pub first_non_string: u16,
}

/// Offsets in bytes, except where stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `JSFunction::shared`.
    pub closure_function: u64,
    /// `SharedFunctionInfo::name_or_scope_info`.
    pub function_name: u64,
    /// `SharedFunctionInfo::script`.
    pub function_script: u64,
    /// `Script::source`, `name` and `line_ends`.
    pub script: [u64; 3],
    /// From the start of the object with machine code to its first instruction.
    pub stream_start: u64,
    /// The object with machine code is the `Code` itself (before V8 11).
    pub stream_is_code: bool,
    /// `Code`: deoptimization data, or the bytecode of baseline code.
    pub code_data: u64,
    /// `Code`: position table, or the bytecode offsets of baseline code.
    pub code_positions: u64,
    /// `Code::instruction_start`.
    pub code_start: u64,
    /// `Code::flags`.
    pub code_flags: u64,
    /// `Code::instruction_size`.
    pub code_size: u64,
    /// The first byte of `BytecodeArray`.
    pub bytecode_data: u64,
    /// `BytecodeArray::source_position_table`.
    pub bytecode_positions: u64,
    /// Elements of the deoptimization data: literals, inlining positions, number of inlined
    /// functions, the function itself.
    pub deopt: [usize; 4],
    /// The first word of `ScopeInfo` that may be a variable's name.
    pub scope_variables: u64,
    /// `ScopeInfo` has the function's position before the variables (V8 13 and newer).
    pub scope_starts_with_position: bool,
}

/// The representations of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strings {
    /// Which bits of the type are the representation.
    pub mask: u16,
    /// Characters follow the header.
    pub sequential: u16,
    /// Two strings, one after the other.
    pub cons: u16,
    /// Characters outside the heap.
    pub external: u16,
    /// A part of another string.
    pub sliced: u16,
    /// Another string.
    pub thin: u16,
    /// The bit of strings of 1-byte characters.
    pub one_byte: u16,
}

/// The types of frames (`StackFrame::Type`) that matter here. `u64::MAX`: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTypes {
    /// A builtin in C++, called from JavaScript.
    pub builtin_exit: u64,
    /// Frames of WebAssembly code.
    pub wasm: [u64; 2],
    /// Compiled regular expressions.
    pub regexp: u64,
}

/// DWARF numbers of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The interpreter's current offset.
    pub bytecode_offset: u16,
    /// The interpreter's bytecode array.
    pub bytecode: u16,
    /// The closure that is called.
    pub closure: u16,
}

/// The layout of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Instance types.
    pub types: Types,
    /// Offsets.
    pub at: Offsets,
    /// Strings.
    pub strings: Strings,
    /// Frames.
    pub frames: FrameTypes,
    /// Registers.
    pub registers: Roles,
    /// `CodeKind` in the flags of `Code`: mask, and the kind of baseline code, below which code is
    /// not a function's and above which it is optimized.
    pub code_kind: (u32, u32),
    /// Position tables have unsigned offsets (V8 14.1 and newer).
    pub unsigned_positions: bool,
    /// The sizes of bytecodes for the operand scales 1, 2 and 4; empty: not known.
    pub bytecode_sizes: Vec<u8>,
}

type Constants<'a> = FxHashMap<&'a str, i32>;

impl Layout {
    /// The layout that a file's constants state. Errors: what is missing.
    pub fn of(
        constants: &Constants<'_>,
        [major, minor, _]: [u32; 3],
        machine: u16,
        bytecode_sizes: Vec<u8>,
    ) -> Result<Layout, &'static str> {
        if (major, minor) < OLDEST {
            return Err("rprof reads V8 10.2 (Node.js 18) and newer");
        }
        let registers = match machine {
            EM_X86_64 => Roles { bytecode_offset: 9, bytecode: 12, closure: 5 },
            EM_AARCH64 => Roles { bytecode_offset: 19, bytecode: 20, closure: 1 },
            _ => return Err("the CPU is not supported"),
        };
        let all = Reader(constants);
        let mask = all.number(&["CodeKindFieldMask"]).ok_or("CodeKindFieldMask is missing")?;
        let baseline = all.number(&["CodeKindBaseline"]).ok_or("CodeKindBaseline is missing")?;
        Ok(Layout {
            types: all.types().ok_or("types of objects are missing")?,
            at: all.offsets().ok_or("offsets are missing")?,
            strings: all.strings(),
            frames: all.frames(),
            registers,
            code_kind: (mask as u32, baseline as u32),
            unsigned_positions: (major, minor) >= (14, 0),
            bytecode_sizes,
        })
    }
}

struct Reader<'c>(&'c Constants<'c>);

impl Reader<'_> {
    /// The first of these constants that there is.
    fn number(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| u64::try_from(*self.0.get(name)?).ok())
    }

    /// The constant whose name begins like this.
    fn beginning(&self, prefix: &str) -> Option<u64> {
        let found = self.0.iter().filter(|(name, _)| name.starts_with(prefix)).min()?;
        u64::try_from(*found.1).ok()
    }

    fn instance_type(&self, class: &str) -> Option<u16> {
        u16::try_from(self.beginning(&format!("type_{class}__"))?).ok()
    }

    fn types(&self) -> Option<Types> {
        let optional = |class: &str| self.instance_type(class).unwrap_or(u16::MAX);
        let code = self.instance_type("Code")?;
        let closure = self.instance_type("JSFunction")?;
        let bound = |name: &str| self.number(&[name]).and_then(|bound| u16::try_from(bound).ok());
        // Class constructors are the last of the types of functions.
        let last = bound("LastJSFunctionType").unwrap_or(closure.saturating_add(15));
        Some(Types {
            code,
            stream: self.instance_type("InstructionStream").unwrap_or(code),
            bytecode: self.instance_type("BytecodeArray")?,
            arrays: [
                self.instance_type("FixedArray")?,
                optional("TrustedFixedArray"),
                optional("ProtectedFixedArray"),
                optional("TrustedWeakFixedArray"),
                optional("WeakFixedArray"),
            ],
            bytes: [self.instance_type("ByteArray")?, optional("TrustedByteArray")],
            function: self.instance_type("SharedFunctionInfo")?,
            function_wrapper: optional("SharedFunctionInfoWrapper"),
            script: self.instance_type("Script")?,
            scope: self.instance_type("ScopeInfo")?,
            interpreter_data: optional("InterpreterData"),
            code_wrapper: optional("CodeWrapper"),
            closures: (bound("FirstJSFunctionType").unwrap_or(closure), last),
            first_non_string: bound("FirstNonstringType")?,
        })
    }

    fn offsets(&self) -> Option<Offsets> {
        let class = |prefix: &str| self.beginning(&format!("class_{prefix}__"));
        let stream = class("InstructionStream__instruction_start");
        let code = self.code_offsets(stream.is_none())?;
        let scope_variables = self.number(&["scopeinfo_idx_first_vars"])?;
        let deopt = |names: &[&str], other: u64| {
            let name = |name: &&str| format!("DeoptimizationData{name}Index");
            let all: Vec<String> = names.iter().map(name).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            self.number(&all).unwrap_or(other) as usize
        };
        Some(Offsets {
            closure_function: class("JSFunction__shared")?,
            function_name: class("SharedFunctionInfo__name_or_scope_info")?,
            function_script: class("SharedFunctionInfo__raw_script")
                .or(class("SharedFunctionInfo__script_or_debug_info"))
                .or(class("SharedFunctionInfo__script"))?,
            script: [class("Script__source")?, class("Script__name")?, class("Script__line_ends")?],
            stream_start: stream.or(class("Code__instruction_start"))?,
            stream_is_code: stream.is_none(),
            code_data: code[0],
            code_positions: code[1],
            code_start: code[2],
            code_flags: code[3],
            code_size: code[4],
            bytecode_data: class("BytecodeArray__data")?,
            bytecode_positions: if class("BytecodeArray__wrapper").is_some() { 24 } else { 32 },
            deopt: [
                deopt(&["LiteralArray"], 2),
                deopt(&["InliningPositions"], 7),
                deopt(&["InlinedFunctionCount"], 1),
                deopt(&["WrappedSharedFunctionInfo", "SharedFunctionInfo"], 6),
            ],
            scope_variables,
            scope_starts_with_position: scope_variables >= 5,
        })
    }

    /// `Code`: data, positions, start, flags, size.
    fn code_offsets(&self, stream_is_code: bool) -> Option<[u64; 5]> {
        let class = |prefix: &str| self.beginning(&format!("class_Code__{prefix}__"));
        if stream_is_code {
            // The code is its own stream: nothing states its start.
            return Some([16, 24, 0, class("flags")?, class("instruction_size")?]);
        }
        if let Some(start) = self.number(&["class_Code__instruction_start__Address"]) {
            let before = |bytes: u64| start.checked_sub(bytes);
            return Some([before(32)?, before(24)?, start, class("flags")?, class("instruction_size")?]);
        }
        let positions = class("source_position_table")?;
        Some([positions.checked_sub(8)?, positions, positions + 16, positions + 24, positions + 32])
    }

    fn strings(&self) -> Strings {
        let tag = |name: &str, other: u16| {
            self.number(&[name]).and_then(|tag| u16::try_from(tag).ok()).unwrap_or(other)
        };
        Strings {
            mask: tag("StringRepresentationMask", 7),
            sequential: tag("SeqStringTag", 0),
            cons: tag("ConsStringTag", 1),
            external: tag("ExternalStringTag", 2),
            sliced: tag("SlicedStringTag", 3),
            thin: tag("ThinStringTag", 5),
            one_byte: tag("OneByteStringTag", 8),
        }
    }

    fn frames(&self) -> FrameTypes {
        let frame = |name: &str| self.number(&[&format!("frametype_{name}Frame")]).unwrap_or(u64::MAX);
        FrameTypes {
            builtin_exit: frame("BuiltinExit"),
            wasm: [frame("Wasm"), frame("WasmToJs")],
            regexp: frame("Irregexp"),
        }
    }
}
