//! What identifies a frame of Java, and what it stands for: compiled code at an offset, a method at
//! a bytecode, or a stub.
//!
//! Not here: how frames are found.

use std::sync::Arc;

use super::{
    code_cache::{Blob, BlobKind},
    methods::Method,
    process::Jvm,
};
use crate::{runtime::FrameData, symbolize::SourceFrame, unwind::FrameKey};

/// The kind of a frame, in the lowest bits of a key's first word: what it points to is aligned.
const KIND_MASK: u64 = 7;
const COMPILED: u64 = 1;
const INTERPRETED: u64 = 2;
const STUB: u64 = 3;

/// What stands for the older frames of a virtual thread, which HotSpot keeps in the heap.
const IN_HEAP: &str = "[virtual thread: older frames are in the heap]";

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A compiled method.
    Compiled {
        /// The address of the compiled method.
        blob: u64,
        /// The offset in its code.
        offset: u64,
    },
    /// A method that is interpreted.
    Interpreted {
        /// Its address.
        method: u64,
        /// The index of the bytecode; -1: not known.
        index: i32,
    },
    /// Code of the virtual machine itself.
    Stub {
        /// The address of the piece of code.
        blob: u64,
        /// Where the routine in it begins; 0: not known.
        routine: u64,
    },
}

impl Key {
    /// The key as the unwinder carries it.
    pub fn encode(self) -> FrameKey {
        FrameKey(match self {
            Key::Compiled { blob, offset } => [blob & !KIND_MASK | COMPILED, offset],
            Key::Interpreted { method, index } => [method & !KIND_MASK | INTERPRETED, index as u32 as u64],
            Key::Stub { blob, routine } => [blob & !KIND_MASK | STUB, routine],
        })
    }

    /// The inverse of [`Key::encode`]; `None`: it is no key of Java.
    pub fn decode(key: FrameKey) -> Option<Key> {
        let FrameKey([first, second]) = key;
        let address = first & !KIND_MASK;
        match first & KIND_MASK {
            COMPILED => Some(Key::Compiled { blob: address, offset: second }),
            INTERPRETED => Some(Key::Interpreted { method: address, index: second as u32 as i32 }),
            STUB => Some(Key::Stub { blob: address, routine: second }),
            _ => None,
        }
    }
}

/// The functions of a frame: method, index of its bytecode.
#[derive(Debug)]
struct MethodsFrame(Vec<(Arc<Method>, i32)>);

impl FrameData for MethodsFrame {
    fn lines(&self) -> Vec<SourceFrame> {
        let last = self.0.len().saturating_sub(1);
        self.0.iter().enumerate().map(|(at, (method, index))| method.frame(*index, at < last)).collect()
    }
}

/// A frame of the virtual machine's own code.
#[derive(Debug)]
struct StubFrame(String);

impl FrameData for StubFrame {
    fn lines(&self) -> Vec<SourceFrame> {
        vec![SourceFrame {
            function: self.0.clone(),
            system_name: self.0.clone(),
            file: None,
            line: 0,
            column: 0,
            start_line: 0,
            inlined: false,
        }]
    }
}

impl Jvm {
    /// What a key stands for; `None`: it is gone.
    pub fn load(&self, key: Key) -> Option<Arc<dyn FrameData>> {
        match key {
            Key::Compiled { blob, offset } => {
                let blob = self.blob(blob).filter(|blob| blob.kind == BlobKind::Compiled)?;
                Some(Arc::new(MethodsFrame(self.compiled_methods(&blob, offset)?)))
            }
            Key::Interpreted { method, index } => {
                Some(Arc::new(MethodsFrame(vec![(self.method(method)?, index)])))
            }
            Key::Stub { blob, routine } => {
                let blob = self.blob(blob)?;
                if blob.kind == BlobKind::Continuation {
                    return Some(Arc::new(StubFrame(IN_HEAP.to_owned())));
                }
                let named = self.routine(routine, &blob).filter(|_| routine != 0);
                let name =
                    named.map_or_else(|| blob.name.clone(), |(_, name)| format!("StubRoutines::{name}"));
                Some(Arc::new(StubFrame(name)))
            }
        }
    }

    /// The methods at an offset of compiled code, the innermost inlined one first.
    fn compiled_methods(&self, blob: &Blob, offset: u64) -> Option<Vec<(Arc<Method>, i32)>> {
        let scopes = self.debug_info(blob).map(|info| info.scopes_at(offset, self.layout.excluded));
        let mut found = Vec::new();
        for (method, index) in scopes.unwrap_or_default() {
            // A method that cannot be read would leave its caller alone: that is all that is sure.
            let Some(method) = self.method(method) else { break };
            found.push((method, index));
        }
        if found.is_empty() {
            found.push((self.method(blob.method)?, -1));
        }
        Some(found)
    }

    /// A number that changes when a key stands for something else.
    pub fn generation(&self, key: Key) -> Option<u64> {
        match key {
            Key::Compiled { blob, .. } | Key::Stub { blob, .. } => self.blob_generation(blob),
            Key::Interpreted { method, .. } => self.method_generation(method),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_without_loss() {
        let keys = [
            Key::Compiled { blob: 0x7f00_0000_1080, offset: 0x44 },
            Key::Interpreted { method: 0x7f00_0000_1088, index: -1 },
            Key::Interpreted { method: 0x7f00_0000_1088, index: 65_535 },
            Key::Stub { blob: 0x7f00_0000_1080, routine: 0x7f00_0000_1103 },
        ];
        for key in keys {
            assert_eq!(Key::decode(key.encode()), Some(key));
        }
        assert_eq!(Key::decode(FrameKey([0x1000, 0])), None);
    }
}
