//! Any bytes as what rprof's BPF programs hand over, and as the kernel's own type information. The
//! target controls stacks and thread names in them.

use rprof::sampler::bpf::parse_any_record;

/// See the module.
pub fn run(bytes: &[u8]) {
    parse_any_record(bytes);
}
