// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The record of a sample, as the programs write it and record.rs reads it: a head of constant size, then
// sections, each with a header of its own. A program gathers a record in the buffer of its CPU and writes it
// to the ring once, with the bytes that it has.
//
// The constants are enumerations that the structures use: record.rs compares both with the object's BTF.
// Include kernel.bpf.h first.

#define COMM_BYTES 16

// What a sample is worth, by kind.
enum value_kind {
	// Samples or, where short ones are sampled at random, occurrences: in parts (ONE).
	VALUE_COUNT,
	VALUE_NANOSECONDS,
	VALUE_BYTES,
	VALUE_OBJECTS,
	// A power of two.
	VALUE_KINDS,
};

// One occurrence.
#define ONE 1024

enum record_flag {
	HAS_REGISTERS = 1,
	// The end of the stack is known, not guessed from what is readable.
	EXTENT_KNOWN = 2,
	// The copy is of the stack for signal handlers; what they interrupted is on another stack.
	ON_SIGNAL_STACK = 4,
	// The record has the registers that the task had when it left its stack.
	HAS_TASK_REGISTERS = 8,
	// The thread works for a task.
	HAS_TASK = 16,
};

enum section_kind {
	// Return addresses, leaf first.
	KERNEL_FRAMES = 1,
	// The stack that the stack pointer points to.
	USER_STACK = 2,
	// The stack of the task that the thread works for while it runs on another one.
	TASK_STACK = 3,
	// What the walker of a language found; `detail` is the walker's place in `walkers`.
	LANGUAGE_FRAMES = 4,
	// The stack that a signal handler on a stack of its own interrupted.
	INTERRUPTED_STACK = 5,
};

enum section_flag {
	// More of the stack lies above the copy.
	STACK_CUT = 1,
	// Absent pages are zeros in the copy: pages never touched, as a rule, or swapped out.
	STACK_HOLES = 2,
};

// `bytes` of content follow, and zero bytes up to the next multiple of 8.
struct section {
	enum section_kind kind;
	enum section_flag flags;
	__u32 detail;
	__u32 bytes;
	// Of a stack: the address of the first byte.
	__u64 address;
};

struct record_head {
	__u64 time_ns;
	__u64 values[VALUE_KINDS];
	__u32 pid;
	__u32 tid;
	enum record_flag flags;
	// Bytes of all sections, with their headers.
	__u32 section_bytes;
	char comm[COMM_BYTES];
	// The base of the thread's local storage.
	__u64 thread_pointer;
	// The task that the thread works for: its labels; if the thread works on another stack, the task's
	// saved registers.
	__u64 task_labels;
	__u64 task_pc;
	__u64 task_sp;
	__u64 task_fp;
	// The address of the lock that the thread waited for or released; 0: none.
	__u64 lock;
	__u64 registers[REGISTER_WORDS];
};

#define KERNEL_FRAME_COUNT 127
#define KERNEL_BYTES (KERNEL_FRAME_COUNT * 8)
#define LARGEST_STACK_BYTES (512 * 1024)
// At most this much is copied of a task's own stack, where the thread works for it on another stack; and of
// a stack that a signal handler interrupted.
#define TASK_STACK_BYTES (32 * 1024)
// At most this much is written by a language's walker.
#define LANGUAGE_BYTES (32 * 1024)
// Memory is present or absent page by page. Where pages are larger, this is finer than necessary.
#define PAGE_BYTES 4096UL
// The most that all sections take. (A stack with holes begins at the start of a page.)
#define SECTION_ROOM (LARGEST_STACK_BYTES + PAGE_BYTES + 2 * TASK_STACK_BYTES + LANGUAGE_BYTES + KERNEL_BYTES + \
		      5 * sizeof(struct section))

// Where the program that runs on a CPU gathers a record. What is not part of the record is kept here, not in
// registers: the verifier then knows nothing about what is read back, and checks what follows once, not once
// for each path that leads there.
struct record_buffer {
	// A program is at work here: on kernels that let tracepoints be preempted, another one may run.
	volatile __u64 busy;
	// Bytes of sections so far.
	volatile __u64 used;
	volatile __u64 found_bytes;
	volatile __u64 want_bytes;
	volatile __u64 any_page;
	volatile __u64 task_bytes;
	// Where the stack ends, if the runtime's records say so.
	__u64 known_end;
	__u64 task_stack_start;
	// The process's walker (its place in `walkers`, or 0) and the number of its settings.
	__u32 walker;
	__u32 walker_settings;
	// How often the walker has handed the sample on to itself.
	volatile __u64 walker_runs;
	// The walker has found frames.
	volatile __u64 has_language_frames;
	__u64 kernel_bytes;
	__u64 kernel[KERNEL_FRAME_COUNT];
	struct record_head head;
	union {
		// (What user space reads is part of the object's types, with which it is compared.)
		struct section first;
		__u8 sections[SECTION_ROOM];
	};
};

// One buffer for each CPU; an element of a map of the kind for CPUs holds 32 KiB at most. User space sets
// the number of buffers.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record_buffer);
} records SEC(".maps");

#define MOST_WALKERS 16

// The programs that continue a sample: at 0 the one that completes the record, then the walkers of
// languages. All are of the kind of the program that began the sample.
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, MOST_WALKERS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} walkers SEC(".maps");

// The state that a language's runtime keeps for a thread, by thread number, as user space found it.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} thread_states SEC(".maps");

static __always_inline struct record_buffer *record_buffer(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&records, &cpu);
}
