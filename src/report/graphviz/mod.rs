//! Embedded Graphviz: draws graphs in its language as SVG or PostScript on machines without `dot`.
//! It is Graphviz's own code compiled to WebAssembly (`LICENSE-graphviz` has the source). It runs
//! in an interpreter and can only access the memory given to it.
//!
//! Not here: writing graphs (`pprof::dot`), running an installed `dot` (`cli`), which is faster for
//! large graphs.

use std::{io::Read, sync::OnceLock};

use flate2::read::GzDecoder;
use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, Extern, ExternType, Func, FuncType, Instance, Linker,
    Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc, Val, WasmParams, WasmResults,
};

pub mod page;

/// Built by `scripts/graphviz`.
const MODULE: &[u8] = include_bytes!("graphviz.wasm.gz");
/// Memory limit in bytes; a graph of 1000 nodes needs 20 MiB.
const MAX_MEMORY: usize = 1 << 30;
/// Limit of the recursion: Graphviz recurses along edges, as deep as a graph has nodes.
const MAX_DEPTH: usize = 200_000;
const MAX_STACK: usize = 512 << 20;

/// The names of the module's exports, shortened by its compiler.
mod exports {
    /// The memory.
    pub const MEMORY: &str = "z";
    /// Runs the static constructors.
    pub const CONSTRUCTORS: &str = "A";
    /// Allocates memory.
    pub const ALLOCATE: &str = "F";
    /// Parses a graph.
    pub const READ_GRAPH: &str = "I";
    /// Creates a Graphviz context.
    pub const CREATE_CONTEXT: &str = "V";
    /// Lays a graph out with an engine.
    pub const LAYOUT: &str = "X";
    /// Renders a graph in a format.
    pub const RENDER: &str = "_";
}

/// Why a graph was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// The text is not a graph.
    #[error("it is not a graph: {0}")]
    NotAGraph(String),
    /// The format is not one of [`FORMATS`].
    #[error("the format {0} needs an installed Graphviz")]
    Format(String),
    /// Graphviz could not lay the graph out.
    #[error("it could not be laid out: {0}")]
    Layout(String),
    /// The interpreter stopped: out of memory, too deep recursion, or a failed assertion in
    /// Graphviz.
    #[error("the built-in Graphviz failed: {0}")]
    Failed(#[from] Error),
}

/// The formats that [`draw`] supports.
pub const FORMATS: [&str; 2] = ["svg", "ps"];

/// Draws a graph in Graphviz's language in one of [`FORMATS`]. Errors: see [`DrawError`].
pub fn draw(graph: &[u8], format: &str) -> Result<Vec<u8>, DrawError> {
    if !FORMATS.contains(&format) {
        return Err(DrawError::Format(format.into()));
    }
    let mut graphviz = Graphviz::start()?;
    let text = graphviz.text(graph)?;
    let pointer = graphviz.call::<_, u32>(exports::READ_GRAPH, text)?;
    if pointer == 0 {
        return Err(DrawError::NotAGraph(graphviz.complaints()));
    }
    let context = graphviz.call::<_, u32>(exports::CREATE_CONTEXT, ())?;
    let engine = graphviz.text(b"dot")?;
    if graphviz.call::<_, u32>(exports::LAYOUT, (context, pointer, engine))? != 0 {
        return Err(DrawError::Layout(graphviz.complaints()));
    }
    let format = graphviz.text(format.as_bytes())?;
    let drawn = graphviz.call::<_, u32>(exports::RENDER, (context, pointer, format))?;
    if drawn == 0 {
        return Err(DrawError::Layout(graphviz.complaints()));
    }
    Ok(graphviz.text_at(drawn))
}

/// The state that the module's imports use.
struct HostState {
    limits: StoreLimits,
    /// The text the module wrote to standard error.
    complaints: Vec<u8>,
}

impl HostState {
    fn keep(&mut self, complaint: &[u8]) {
        const MAX: usize = 4096;
        let room = MAX.saturating_sub(self.complaints.len());
        self.complaints.extend_from_slice(&complaint[..complaint.len().min(room)]);
    }
}

/// A running instance of the module.
struct Graphviz {
    store: Store<HostState>,
    instance: Instance,
    memory: Memory,
}

impl Graphviz {
    fn start() -> Result<Graphviz, Error> {
        let module = module()?;
        let engine = module.engine();
        let limits = StoreLimitsBuilder::new().memory_size(MAX_MEMORY).build();
        let mut store = Store::new(engine, HostState { limits, complaints: Vec::new() });
        store.limiter(|outside| &mut outside.limits);
        let mut linker = Linker::new(engine);
        for import in module.imports() {
            if let ExternType::Func(kind) = import.ty() {
                let function = outside_function(&mut store, import.name(), kind);
                linker.define(import.module(), import.name(), function)?;
            }
        }
        let instance = linker.instantiate_and_start(&mut store, module)?;
        let memory = instance.get_memory(&store, exports::MEMORY);
        let memory = memory.ok_or_else(|| Error::new("the module has no memory"))?;
        let mut graphviz = Graphviz { store, instance, memory };
        graphviz.call::<_, ()>(exports::CONSTRUCTORS, ())?;
        Ok(graphviz)
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Result<R, Error> {
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name)?;
        function.call(&mut self.store, parameters)
    }

    /// Copies a text into the module's memory, with a terminating zero.
    fn text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let size = u32::try_from(text.len() + 1).map_err(|_| Error::new("the graph is too large"))?;
        let pointer = self.call::<_, u32>(exports::ALLOCATE, size)?;
        let place = self.memory.data_mut(&mut self.store).get_mut(pointer as usize..);
        let place = place.and_then(|place| place.get_mut(..size as usize)).filter(|_| pointer != 0);
        let place = place.ok_or_else(|| Error::new("the graph is too large"))?;
        place[..text.len()].copy_from_slice(text);
        place[text.len()] = 0;
        Ok(pointer)
    }

    fn text_at(&self, pointer: u32) -> Vec<u8> {
        let bytes = self.memory.data(&self.store).get(pointer as usize..).unwrap_or_default();
        bytes.iter().copied().take_while(|byte| *byte != 0).collect()
    }

    /// The error messages of the module.
    fn complaints(&self) -> String {
        let text = String::from_utf8_lossy(&self.store.data().complaints);
        if text.trim().is_empty() { "no reason given".into() } else { text.trim().into() }
    }
}

/// The module, decompressed and validated once.
fn module() -> Result<&'static Module, Error> {
    static MODULE_ONCE: OnceLock<Result<Module, String>> = OnceLock::new();
    let module = MODULE_ONCE.get_or_init(|| {
        let mut bytes = Vec::new();
        GzDecoder::new(MODULE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        config.set_max_recursion_depth(MAX_DEPTH).set_max_stack_height(MAX_STACK);
        // Most of Graphviz is never called.
        config.compilation_mode(CompilationMode::Lazy);
        Module::new(&Engine::new(&config), &bytes).map_err(|error| error.to_string())
    });
    module.as_ref().map_err(|error| Error::new(error.clone()))
}

/// The import with this name (see `wasmImports` in the compiler's script). There are no files,
/// clocks or random numbers: the module can only request memory, write messages, and fail.
fn outside_function(store: &mut Store<HostState>, name: &str, kind: &FuncType) -> Func {
    const NO_SUCH_FILE: i32 = -2;
    let results: Vec<_> = kind.results().to_vec();
    let name = name.to_string();
    Func::new(store, kind.clone(), move |caller, parameters, outputs| {
        for (result, kind) in outputs.iter_mut().zip(&results) {
            *result = Val::default_for_ty(*kind);
        }
        let number = |at: usize| parameters.get(at).and_then(Val::i32).unwrap_or(0) as u32;
        let result = match name.as_str() {
            "a" | "b" | "c" | "h" => return Err(Error::new("it exited")),
            "d" => write(caller, number(0), number(1), number(2), number(3)),
            "k" => grow(caller, number(0)),
            "l" | "v" | "y" => NO_SUCH_FILE,
            "p" => {
                complain(caller, number(0));
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(first) = outputs.first_mut() {
            *first = Val::I32(result);
        }
        Ok(())
    })
}

fn memory_of(caller: &Caller<'_, HostState>) -> Option<Memory> {
    caller.get_export(exports::MEMORY).and_then(Extern::into_memory)
}

/// Grows the memory to `size` bytes. Returns 1 on success.
fn grow(mut caller: Caller<'_, HostState>, size: u32) -> i32 {
    const PAGE: u64 = 65_536;
    let Some(memory) = memory_of(&caller) else { return 0 };
    let missing = u64::from(size).saturating_sub(memory.data_size(&caller) as u64).div_ceil(PAGE);
    i32::from(memory.grow(&mut caller, missing).is_ok())
}

/// Keeps a message of Graphviz, a zero-terminated text.
fn complain(mut caller: Caller<'_, HostState>, text: u32) {
    let Some(memory) = memory_of(&caller) else { return };
    let (data, outside) = memory.data_and_store_mut(&mut caller);
    let bytes = data.get(text as usize..).unwrap_or_default();
    outside.keep(bytes.split(|byte| *byte == 0).next().unwrap_or_default());
}

/// `fd_write`: keeps the text written to standard error.
fn write(mut caller: Caller<'_, HostState>, file: u32, vectors: u32, count: u32, written_at: u32) -> i32 {
    const BAD_ADDRESS: i32 = 21;
    let Some(memory) = memory_of(&caller) else { return BAD_ADDRESS };
    let (data, outside) = memory.data_and_store_mut(&mut caller);
    let word = |data: &[u8], at: u32| {
        let bytes = data.get(at as usize..at as usize + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut written = 0u32;
    for vector in 0..count.min(1024) {
        let at = vectors.wrapping_add(vector * 8);
        let (Some(start), Some(length)) = (word(data, at), word(data, at.wrapping_add(4))) else {
            return BAD_ADDRESS;
        };
        let end = (start as usize).saturating_add(length as usize);
        let Some(bytes) = data.get(start as usize..end) else { return BAD_ADDRESS };
        if file == 2 {
            outside.keep(bytes);
        }
        written = written.saturating_add(length);
    }
    match data.get_mut(written_at as usize..written_at as usize + 4) {
        Some(place) => place.copy_from_slice(&written.to_le_bytes()),
        None => return BAD_ADDRESS,
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_drawn() {
        let graph =
            br#"digraph "x" { node [style=filled]; N1 [label="one & only"]; N2; N1 -> N2 [label=" 3s"] }"#;
        let svg = String::from_utf8(draw(graph, "svg").unwrap()).unwrap();
        assert!(svg.contains("<svg width=") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("one &amp; only") && svg.contains(" 3s<"), "{svg}");
        assert!(draw(graph, "ps").unwrap().starts_with(b"%!PS-Adobe"));
    }

    #[test]
    fn an_error_has_the_reason_why_a_graph_cannot_be_drawn() {
        let error = draw(b"digraph { a -> ", "svg").unwrap_err().to_string();
        assert!(error.contains("syntax error"), "{error}");
        assert!(matches!(draw(b"digraph {}", "png"), Err(DrawError::Format(_))));
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        let edges: String = (0..1500).map(|at| format!("N{at} -> N{};", at + 1)).collect();
        assert!(draw(format!("digraph {{ {edges} }}").as_bytes(), "svg").is_ok());
    }
}
