//! Counts the chunks of a census by arena, state, size class and type. Its memory is bounded: it
//! does not grow with the number of chunks.

use std::collections::BTreeMap;

use super::{
    Chunk, Sink, State, Target,
    classes::{CLASSES, class_of, class_size},
    type_name::{TypeId, TypeName},
    types::{Types, UNKNOWN},
};

/// A number of chunks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Chunks.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds another amount.
    pub fn add(&mut self, other: Amount) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What chunks that are counted together have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The arena.
    pub arena: u32,
    /// The state.
    pub state: State,
    /// The largest size of the class.
    pub size: u64,
    /// The type.
    pub of_type: TypeId,
}

/// Counts of chunks.
pub struct Tally<'t> {
    types: Types<'t>,
    /// By arena and state, then by class: chunks without a type, which are the most.
    untyped: Vec<Option<Box<[Amount; CLASSES]>>>,
    /// The others.
    typed: BTreeMap<Row, Amount>,
    /// The type of the chunk that was counted last.
    last: TypeId,
}

/// The most arenas that are counted separately; further ones are counted with the last.
const MAX_ARENAS: u32 = 1 << 12;
/// The most rows with a type; further chunks are counted as of unknown type.
const MAX_ROWS: usize = 1 << 18;
/// The number of states.
const STATES: usize = State::ALL.len();

impl<'t> Tally<'t> {
    /// Counts chunks of this process.
    pub fn new(target: &'t Target) -> Tally<'t> {
        Tally { types: Types::new(target), untyped: Vec::new(), typed: BTreeMap::new(), last: UNKNOWN }
    }

    /// The type of the chunk that was counted last.
    pub fn last_type(&self) -> TypeId {
        self.last
    }

    /// All counts, in order, with the names of the types by number.
    pub fn finish(self) -> (BTreeMap<Row, Amount>, Vec<TypeName>) {
        let mut rows = self.typed;
        for (place, classes) in self.untyped.iter().enumerate() {
            let Some(classes) = classes else { continue };
            let (arena, state) = ((place / STATES) as u32, State::ALL[place % STATES]);
            for (class, amount) in classes.iter().enumerate().filter(|(_, amount)| amount.count > 0) {
                let row = Row { arena, state, size: class_size(class), of_type: UNKNOWN };
                rows.entry(row).or_default().add(*amount);
            }
        }
        (rows, self.types.into_names())
    }
}

impl Sink for Tally<'_> {
    fn chunk(&mut self, chunk: &Chunk, content: &[u8]) {
        let class = class_of(chunk.size / chunk.count.max(1));
        let arena = chunk.arena.min(MAX_ARENAS);
        let mut of_type = if chunk.state.is_in_use() { self.types.of(content) } else { UNKNOWN };
        if of_type != UNKNOWN && self.typed.len() >= MAX_ROWS {
            of_type = UNKNOWN;
        }
        self.last = of_type;
        let amount = Amount { count: chunk.count, bytes: chunk.size };
        if of_type != UNKNOWN {
            let row = Row { arena, state: chunk.state, size: class_size(class), of_type };
            self.typed.entry(row).or_default().add(amount);
            return;
        }
        let place = arena as usize * STATES + chunk.state as usize;
        if self.untyped.len() <= place {
            self.untyped.resize(place + 1, None);
        }
        let classes = self.untyped[place].get_or_insert_with(|| Box::new([Amount::default(); CLASSES]));
        classes[class].add(amount);
    }
}
