//! A file with the virtual machine, as a runtime that attaches to processes.

use std::sync::Arc;

use super::{
    instance::JavaInstance,
    language::{Java, JavaFile},
    process::{Jvm, JvmError},
    structs::Exports,
};
use crate::{
    addr::ElfAddr,
    arch::x86_64,
    runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError},
};

impl LoadedRuntime for JavaFile {
    fn language(&self) -> &'static dyn Language {
        &Java
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        if self.machine != x86_64::ELF_MACHINE {
            return refused(&JvmError::OtherCpu);
        }
        let address = |(name, at): &(&'static str, ElfAddr)| (*name, at.0.wrapping_add(bias));
        let exports: Exports = self.exports.iter().map(address).collect();
        match Jvm::attach(Arc::clone(&process.memory), &exports) {
            Ok(jvm) => Attach::Ready(Box::new(JavaInstance::new(jvm, process.clone(), self.path.clone()))),
            Err(JvmError::NotInitialized) => Attach::NotYet,
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &JvmError) -> Attach {
    let advice =
        matches!(error, JvmError::NoTables).then_some("run rprof as root or as the same user as the process");
    Attach::No(Refusal::Error(RuntimeError::Unreadable { what: error.to_string(), advice }))
}
