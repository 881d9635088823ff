//! Graphviz, carried along: draws a graph written in its language as SVG or PostScript, on machines
//! that have no `dot`. It is Graphviz's own code, compiled to WebAssembly (`LICENSE-graphviz` tells from
//! where), run by an interpreter: it can reach nothing but the memory it is given.
//!
//! Not here: graphs (`pprof::dot` writes them), and running a `dot` that is installed (`cli`), which is
//! faster where graphs are big.

use std::{io::Read, sync::OnceLock};

use flate2::read::GzDecoder;
use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, Extern, ExternType, Func, FuncType, Instance, Linker,
    Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc, Val, WasmParams, WasmResults,
};

pub mod page;

/// Made by `scripts/graphviz`.
const MODULE: &[u8] = include_bytes!("graphviz.wasm.gz");
/// What a graph may take; one of 1000 nodes takes 20 MiB.
const MAX_MEMORY: usize = 1 << 30;
/// Graphviz follows edges by recursion: as deep as a graph has nodes.
const MAX_DEPTH: usize = 200_000;
const MAX_STACK: usize = 512 << 20;

/// The module's exports, whose names its compiler has shortened.
mod exports {
    pub const MEMORY: &str = "z";
    pub const CONSTRUCTORS: &str = "A";
    pub const ALLOCATE: &str = "F";
    pub const READ_GRAPH: &str = "I";
    pub const CREATE_CONTEXT: &str = "V";
    pub const LAYOUT: &str = "X";
    pub const RENDER: &str = "_";
}

/// Why a graph was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    #[error("it is not a graph: {0}")]
    NotAGraph(String),
    #[error("{0} is not a format that can be drawn without Graphviz")]
    Format(String),
    #[error("it could not be laid out: {0}")]
    Layout(String),
    /// The interpreter gave up: memory, recursion, or a failed assertion in Graphviz.
    #[error("the built-in Graphviz failed: {0}")]
    Failed(#[from] Error),
}

/// The formats that [`draw`] knows.
pub const FORMATS: [&str; 2] = ["svg", "ps"];

/// Draws a graph written in Graphviz's language in one of [`FORMATS`].
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

/// What the module's calls to the outside find there.
struct HostState {
    limits: StoreLimits,
    /// What it wrote to its standard error.
    complaints: Vec<u8>,
}

impl HostState {
    fn keep(&mut self, complaint: &[u8]) {
        const MOST: usize = 4096;
        let room = MOST.saturating_sub(self.complaints.len());
        self.complaints.extend_from_slice(&complaint[..complaint.len().min(room)]);
    }
}

/// The module, running.
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

    /// Puts a text into the module's memory, with a zero behind it.
    fn text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let size = u32::try_from(text.len() + 1).map_err(|_| Error::new("the graph is too big"))?;
        let pointer = self.call::<_, u32>(exports::ALLOCATE, size)?;
        let place = self.memory.data_mut(&mut self.store).get_mut(pointer as usize..);
        let place = place.and_then(|place| place.get_mut(..size as usize)).filter(|_| pointer != 0);
        let place = place.ok_or_else(|| Error::new("the graph is too big"))?;
        place[..text.len()].copy_from_slice(text);
        place[text.len()] = 0;
        Ok(pointer)
    }

    fn text_at(&self, pointer: u32) -> Vec<u8> {
        let bytes = self.memory.data(&self.store).get(pointer as usize..).unwrap_or_default();
        bytes.iter().copied().take_while(|byte| *byte != 0).collect()
    }

    /// What it said of what went wrong.
    fn complaints(&self) -> String {
        let text = String::from_utf8_lossy(&self.store.data().complaints);
        if text.trim().is_empty() { "no reason given".into() } else { text.trim().into() }
    }
}

/// The module, unpacked and checked once.
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

/// What the module calls by this name (see the `wasmImports` of the script it comes from). There are
/// no files, no clock and no chance: all it can do is ask for memory, complain, and fail.
fn outside_function(store: &mut Store<HostState>, name: &str, kind: &FuncType) -> Func {
    const NO_SUCH_FILE: i32 = -2;
    let results: Vec<_> = kind.results().to_vec();
    let name = name.to_string();
    Func::new(store, kind.clone(), move |caller, parameters, answers| {
        for (answer, kind) in answers.iter_mut().zip(&results) {
            *answer = Val::default_for_ty(*kind);
        }
        let number = |at: usize| parameters.get(at).and_then(Val::i32).unwrap_or(0) as u32;
        let answer = match name.as_str() {
            "a" | "b" | "c" | "h" => return Err(Error::new("it ended itself")),
            "d" => write(caller, number(0), number(1), number(2), number(3)),
            "k" => grow(caller, number(0)),
            "l" | "v" | "y" => NO_SUCH_FILE,
            "p" => {
                complain(caller, number(0));
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(first) = answers.first_mut() {
            *first = Val::I32(answer);
        }
        Ok(())
    })
}

fn memory_of(caller: &Caller<'_, HostState>) -> Option<Memory> {
    caller.get_export(exports::MEMORY).and_then(Extern::into_memory)
}

/// Makes the memory `size` bytes big: 1 if that could be done.
fn grow(mut caller: Caller<'_, HostState>, size: u32) -> i32 {
    const PAGE: u64 = 65_536;
    let Some(memory) = memory_of(&caller) else { return 0 };
    let missing = u64::from(size).saturating_sub(memory.data_size(&caller) as u64).div_ceil(PAGE);
    i32::from(memory.grow(&mut caller, missing).is_ok())
}

/// Keeps a message of Graphviz's, a text that ends with a zero.
fn complain(mut caller: Caller<'_, HostState>, text: u32) {
    let Some(memory) = memory_of(&caller) else { return };
    let (data, outside) = memory.data_and_store_mut(&mut caller);
    let bytes = data.get(text as usize..).unwrap_or_default();
    outside.keep(bytes.split(|byte| *byte == 0).next().unwrap_or_default());
}

/// `fd_write`: keeps what is written to standard error.
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
    fn what_cannot_be_drawn_says_why() {
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
