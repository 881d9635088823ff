//! Bits of `sample_type`, and of other fields, in `perf_event.h`.

pub const IP: u64 = 1;
pub const TID: u64 = 1 << 1;
pub const TIME: u64 = 1 << 2;
pub const ADDR: u64 = 1 << 3;
pub const READ: u64 = 1 << 4;
pub const CALLCHAIN: u64 = 1 << 5;
pub const ID: u64 = 1 << 6;
pub const CPU: u64 = 1 << 7;
pub const PERIOD: u64 = 1 << 8;
pub const STREAM_ID: u64 = 1 << 9;
pub const RAW: u64 = 1 << 10;
pub const BRANCH_STACK: u64 = 1 << 11;
pub const REGS_USER: u64 = 1 << 12;
pub const STACK_USER: u64 = 1 << 13;
pub const BRANCH_HW_INDEX: u64 = 1 << 17;
pub const IDENTIFIER: u64 = 1 << 16;
pub const ATTR_FREQ: u64 = 1 << 10;
pub const ATTR_SAMPLE_ID_ALL: u64 = 1 << 18;
pub const PROT_EXEC: u32 = 4;
pub const MISC_DATA_OR_EXEC: u16 = 1 << 13;
pub const MISC_MMAP_BUILD_ID: u16 = 1 << 14;
pub const MISC_BUILD_ID_SIZE: u16 = 1 << 15;
pub const MISC_KERNEL: u16 = 1;
/// Call-chain entries from this value on are context markers for the entries that follow.
pub const FIRST_CONTEXT: u64 = -4095i64 as u64;
pub const CONTEXT_KERNEL: u64 = -128i64 as u64;
