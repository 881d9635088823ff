//! Describes a running sampler of the perf tiers.

use super::{
    attach::Attached,
    plan::{Plan, Shape},
};
use crate::{
    sampler::{Description, SamplerOptions},
    sys::perf::EventKind,
};

impl Plan {
    pub(super) fn describe(&self, options: &SamplerOptions, attached: &Attached) -> Description {
        Description {
            name: self.shape.way().name(),
            event: self.event_name(),
            summary: self.summary(attached),
            kernel: self.has_kernel_frames(options),
            buffer_bytes: attached.rings.capacity_bytes(),
            event_count: attached.events.len(),
        }
    }

    fn event_name(&self) -> &'static str {
        match self.kind {
            EventKind::Tracepoint { .. } => "task_newtask",
            EventKind::Cycles => "cycles",
            EventKind::PageFaults => "page-faults",
            EventKind::CpuClock | EventKind::Dummy => "cpu-clock",
        }
    }

    fn summary(&self, attached: &Attached) -> String {
        let (event, cpus) = (self.event_name(), self.cpus.len());
        let mut summary = match &self.shape {
            Shape::Cpus => format!(
                "one {event} event on each of {cpus} CPUs, samples of other processes dropped unread: \
                 no cost at the target's context switches"
            ),
            Shape::Cgroup { folder, .. } => format!(
                "one {event} event on each of {cpus} CPUs, limited to the target's cgroup {}",
                folder.display()
            ),
            Shape::Threads => format!(
                "one {event} event for each of {} threads on each of {cpus} CPUs, inherited by new \
                 threads: needs no rights beyond the process itself",
                attached.thread_count
            ),
        };
        if self.exclude_kernel {
            summary.push_str("; without the kernel, because rights are missing");
        }
        summary
    }
}
