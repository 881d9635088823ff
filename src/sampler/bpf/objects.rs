//! The compiled programs that rprof embeds (scripts/bpf builds them), for the CPU that it was built
//! for.
//!
//! Each object but `names` exists twice: for Linux 5.15 and later, and for 5.10 to 5.14, which lack
//! the helper that finds a thread's user-space registers (`bpf_task_pt_regs`). Not here: loading
//! them.

use super::kernel_types::Types;

/// The helper that separates the two variants.
const HELPER: &[u8] = b"bpf_task_pt_regs";
/// The kernel's BTF describes each helper as a function and as this type of a function pointer.
const HELPER_TYPE: &[u8] = b"btf_bpf_task_pt_regs";

/// The two variants of an object, as ELF files.
pub struct Objects {
    current: &'static [u8],
    before_5_15: &'static [u8],
}

macro_rules! object {
    ($name:literal) => {
        aya::include_bytes_aligned!(concat!($name, ".", crate::arch::native_name!(), ".bpf.o"))
    };
}

/// CPU samples, page faults, thread creation, following forks.
pub static CPU: Objects = Objects { current: object!("cpu"), before_5_15: object!("cpu.5_10") };
/// Waits of threads.
pub static OFF_CPU: Objects = Objects { current: object!("offcpu"), before_5_15: object!("offcpu.5_10") };
/// Which thread runs, waits and wakes when.
pub static TRACE: Objects = Objects { current: object!("trace"), before_5_15: object!("trace.5_10") };
/// The iterator over the threads of a process.
pub static THREADS: Objects = Objects { current: object!("threads"), before_5_15: object!("threads.5_10") };
/// Names of kernel addresses (Linux 5.13).
pub static NAMES: &[u8] = object!("names");

impl Objects {
    /// The variant for the kernel that has these types.
    pub fn for_kernel(&self, types: &Types<'_>) -> &'static [u8] {
        match types.function(HELPER).is_some() || types.typedef(HELPER_TYPE).is_some() {
            true => self.current,
            false => self.before_5_15,
        }
    }

    /// Both variants.
    #[cfg(test)]
    pub fn both(&self) -> [&'static [u8]; 2] {
        [self.current, self.before_5_15]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::KernelBtf;

    #[test]
    fn the_variant_follows_whether_the_kernel_has_the_helper() {
        let btf = KernelBtf::open().expect("kernel BTF");
        let types = Types::parse(btf.bytes()).expect("parses");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        // Distributions bring the helper to older kernels, none takes it away.
        if version >= (5, 15) {
            for objects in [&CPU, &OFF_CPU, &TRACE, &THREADS] {
                assert_eq!(objects.for_kernel(&types).as_ptr(), objects.current.as_ptr());
            }
        }
    }

    #[test]
    fn every_object_is_for_the_bpf_machine_and_carries_its_types() {
        let both = [&CPU, &OFF_CPU, &TRACE, &THREADS].map(Objects::both);
        for object in both.as_flattened().iter().chain([&NAMES]) {
            let parsed = aya_obj::Object::parse(object).expect("parses");
            assert!(!parsed.programs.is_empty() && parsed.btf.is_some());
        }
    }
}
