//! Whose memory a process's resident memory is, and what is in the heaps of its runtimes and in the
//! pools of its program.
//!
//! Not here: how each is read (`process::account`, `runtime`, `heap`), the chunks of native heaps.

use crate::{
    budget::Budget,
    heap::{Pools, Target, read_contexts},
    process::{
        ProcessError,
        account::Account,
        cgroup_memory::{self, CgroupMemory},
    },
    runtime::{Instance, MemoryFigure, RuntimeObjects},
};

/// The memory of a process and the limit of its control group.
#[derive(Debug)]
pub struct MemoryReading {
    /// The process.
    pub pid: u32,
    /// Its parts.
    pub account: Account,
    /// What its runtimes count themselves.
    pub figures: Vec<MemoryFigure>,
    /// The control group with the lowest limit; `None`: none is visible.
    pub group: Option<CgroupMemory>,
    /// The objects of its runtimes, if they were counted.
    pub objects: Vec<RuntimeObjects>,
    /// The pools of its program, if they were read and it has some.
    pub pools: Option<Pools>,
}

impl MemoryReading {
    /// Reads the memory of a process with these runtimes. Errors: the process is gone.
    pub fn read(pid: u32, instances: &[Box<dyn Instance>]) -> Result<MemoryReading, ProcessError> {
        let runtimes: Vec<_> = instances.iter().map(|instance| instance.memory()).collect();
        let owned: Vec<_> = runtimes.iter().flat_map(|memory| memory.ranges.clone()).collect();
        let rest = runtimes.iter().find_map(|memory| memory.rest);
        let account = Account::read(pid, &owned, rest)?;
        let figures = runtimes.into_iter().flat_map(|memory| memory.figures).collect();
        let group = cgroup_memory::read(pid);
        Ok(MemoryReading { pid, account, figures, group, objects: Vec::new(), pools: None })
    }

    /// Adds the objects of the runtimes and the pools of the program, which takes longer.
    pub fn with_heaps(mut self, instances: &[Box<dyn Instance>]) -> MemoryReading {
        self.objects = instances.iter().filter_map(|instance| instance.objects()).collect();
        let target = Target::open(self.pid, &Budget::session()).ok();
        self.pools = target.and_then(|target| read_contexts(&target));
        self
    }
}
