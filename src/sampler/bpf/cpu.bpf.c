// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's CPU sampler that runs in the kernel. A perf event on each CPU calls `sample`: it
// ignores all but the target processes, and copies a target's registers and its stack, as far as that
// really reaches, into one ring. `thread_created` does so when a target creates a thread. `follow_fork`
// makes a target's children targets before they run. No program writes anything into a process.
//
// Not here: which processes, how much and how often: user space sets `settings` and `targets`.
// Built by scripts/bpf; the layout of `struct record` is read in record.rs.

#include "kernel.bpf.h"

// struct bpf_perf_event_data (linux/bpf_perf_event.h) with the registers as words.
struct event_context {
	__u64 registers[REGISTER_WORDS];
	__u64 sample_period;
	__u64 addr;
};

#define COMM_BYTES 16
#define KERNEL_FRAMES 127
#define KERNEL_BYTES (KERNEL_FRAMES * 8)
// Bytes that a kernel stack takes in a record.
#define KERNEL_ROOM 1024
// No stack ends further from the stack pointer than this: a value that says so is not the end.
#define PLAUSIBLE_STACK_BYTES (64UL << 20)
#define LARGEST_STACK_BYTES (512 * 1024)
// At most this much is copied of a task's own stack, where the thread works for it on another stack.
#define TASK_STACK_BYTES (32 * 1024)
// More bytes than a runtime's record of a thread has.
#define THREAD_RECORD_BYTES 4096
#define MOST_BYTES_WITH_HOLES (256 * 1024)
// Memory is present or absent page by page. Where pages are larger, this is finer than necessary.
#define PAGE_BYTES 4096UL

// record.flags
#define HAS_REGISTERS 1
// The end of the stack is known, not guessed from what is readable.
#define EXTENT_KNOWN 2
// More of the stack lies above the copy.
#define EXTENT_CUT 4
// Absent pages are zeros in the copy: pages never touched, as a rule, or swapped out.
#define HAS_HOLES 8
// The copy is of the stack for signal handlers; what they interrupted is on another stack.
#define ON_SIGNAL_STACK 16
// The record has the registers that the task had when it left its stack.
#define HAS_TASK_REGISTERS 32
// The thread works for a task.
#define HAS_TASK 64
// What follows the stack is not the task's stack, but the one that a signal handler interrupted.
#define HAS_INTERRUPTED_STACK 128

struct record_head {
	__u64 time_ns;
	__u64 period;
	__u64 stack_start;
	__u32 pid;
	__u32 tid;
	__u32 flags;
	__u32 stack_bytes;
	__u32 kernel_bytes;
	// Bytes reserved for the stack; the task's stack follows them, or the one that a signal handler
	// interrupted.
	__u32 stack_room;
	char comm[COMM_BYTES];
	// The task that the thread works for: its labels; if the thread works on another stack, the task's
	// saved registers and what is copied of the task's stack.
	__u64 task_labels;
	__u64 task_pc;
	__u64 task_sp;
	__u64 task_fp;
	__u64 task_stack_start;
	__u64 task_stack_bytes;
	__u64 registers[REGISTER_WORDS];
};

// Set by user space once, before the events are enabled.
struct settings {
	// Inode number of the PID namespace whose process numbers rprof uses.
	__u32 namespace_inode;
	// That is the first PID namespace: the kernel's own numbers are the right ones.
	__u32 first_namespace;
	__u32 max_stack_bytes;
	__u32 kernel_stacks;
	// Wake the reader when this many bytes wait in the ring.
	__u64 wake_bytes;
};

struct extent {
	__u64 start;
	__u64 end;
};

// Offsets in the records of a language runtime whose tasks have stacks of their own. A zero thread pointer
// offset: the address of the running task's record is in a register (WORD_TASK).
struct task_layout {
	__s64 thread_pointer_offset;
	// In a task's record: its thread's record, the bounds of its stack, its saved registers, its labels.
	__u32 thread;
	__u32 stack_start;
	__u32 stack_end;
	__u32 sp;
	__u32 pc;
	__u32 fp;
	__u32 labels;
	// In a thread's record: the task that it works for, and the one that represents its own stack.
	__u32 task;
	__u32 own_task;
	__u32 reserved;
};

struct counters {
	__u64 seen;
	__u64 lost;
};

struct scratch {
	struct record_head head;
	// These numbers are kept in memory, not in registers: the verifier then knows nothing about what is
	// read back, and checks what follows once, not once for each path that leads there.
	volatile __u64 found_bytes;
	volatile __u64 want_bytes;
	volatile __u64 any_page;
	volatile __u64 task_bytes;
	// Where the stack ends, if the runtime's records say so.
	__u64 known_end;
	__u64 kernel[KERNEL_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

// The target processes, by their number in rprof's namespace.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

// Bounds of the stacks of some threads, by thread number.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct extent);
} stacks SEC(".maps");

// By process number.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct task_layout);
} task_layouts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} ring SEC(".maps");

static __always_inline int readable(__u64 address)
{
	__u8 byte;

	return bpf_probe_read_user(&byte, 1, (void *)address) == 0;
}

// Sets `found_bytes` to how much of `want_bytes` can be read, up to the first absent page.
static __always_inline void readable_bytes(struct scratch *scratch)
{
	__u64 sp = scratch->head.stack_start;

	scratch->found_bytes = 0;
	for (int i = 0; i <= LARGEST_STACK_BYTES / PAGE_BYTES; i++) {
		__u64 bytes = scratch->found_bytes;

		if (bytes >= scratch->want_bytes || !readable(sp + bytes))
			break;
		scratch->found_bytes = bytes + PAGE_BYTES - ((sp + bytes) & (PAGE_BYTES - 1));
	}
	if (scratch->found_bytes > scratch->want_bytes)
		scratch->found_bytes = scratch->want_bytes;
}

static __always_inline int plausible_end(__u64 sp, __u64 end)
{
	return sp < end && end - sp < PLAUSIBLE_STACK_BYTES;
}

// The end of the stack for signal handlers (sigaltstack(2)), if the thread is on it; else 0.
static __always_inline __u64 signal_stack_end(struct task_struct *task, __u64 sp)
{
	__u64 start = BPF_CORE_READ(task, sas_ss_sp);
	__u64 end = start + BPF_CORE_READ(task, sas_ss_size);

	return start < sp && sp < end ? end : 0;
}

// The kernel's frame for a signal handler (struct rt_sigframe) is at the top of the stack for signal
// handlers, below the floating-point registers, whose size differs by CPU and thread. In the frame is
// stack_t uc_stack with the bounds of that stack, by which the frame is found; and in bytes from that, the
// interrupted stack pointer. Everything here follows from get_sigframe() in the kernel's
// arch/*/kernel/signal.c: the alignment, and the least and the most bytes between uc_stack and the top.
#if defined(__TARGET_ARCH_x86)
// Floating-point registers end at a multiple of 64 bytes; uc_stack is 432 bytes below them. With AMX they
// take 11 KiB.
#define SIGNAL_FRAME_ALIGN 64
#define SIGNAL_FRAME_LEAST 432
#define SIGNAL_FRAME_STEPS 200
#define SIGNAL_FRAME_SP 144
#else
// The frame has 4 KiB for floating-point registers; longer vectors go above it.
#define SIGNAL_FRAME_ALIGN 16
#define SIGNAL_FRAME_LEAST (16 + 4688 - 144)
#define SIGNAL_FRAME_STEPS 512
#define SIGNAL_FRAME_SP 416
#endif

struct stack_bounds {
	__u64 start;
	__u64 flags;
	__u64 bytes;
};

// The stack pointer that was interrupted when the thread left its own stack for the one for signal handlers;
// 0 if that is not found. Handlers that interrupt handlers have their frames below.
static __always_inline __u64 interrupted_sp(struct task_struct *task)
{
	__u64 start = BPF_CORE_READ(task, sas_ss_sp), bytes = BPF_CORE_READ(task, sas_ss_size);
	__u64 at = ((start + bytes) & ~(SIGNAL_FRAME_ALIGN - 1UL)) - SIGNAL_FRAME_LEAST;
	struct stack_bounds saved;
	__u64 sp = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SIGNAL_FRAME_STEPS; i++, at -= SIGNAL_FRAME_ALIGN) {
		if (at < start || bpf_probe_read_user(&saved, sizeof(saved), (void *)at))
			break;
		if (saved.start != start || saved.bytes != bytes)
			continue;
		bpf_probe_read_user(&sp, sizeof(sp), (void *)(at + SIGNAL_FRAME_SP));
		break;
	}
	return sp;
}

static __always_inline __u64 thread_pointer(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread.fsbase);
#else
	return BPF_CORE_READ(task, thread.uw.tp_value);
#endif
}

// A word of the process's memory, 0 if it cannot be read.
static __always_inline __u64 word_at(__u64 address)
{
	__u64 word = 0;

	return bpf_probe_read_user(&word, sizeof(word), (void *)address) ? 0 : word;
}

// Finds the task that the thread works for: if the thread runs on the task's stack, where that ends; if on
// another stack, which part of the task's stack to copy.
static __always_inline void find_task(struct task_struct *task, const struct task_layout *layout,
				      struct scratch *scratch)
{
	struct record_head *head = &scratch->head;
	__u64 sp = head->registers[WORD_SP], pointer = thread_pointer(task);
	__u64 current, thread, record, start, end, own_end, saved;

	current = layout->thread_pointer_offset ? word_at(pointer + layout->thread_pointer_offset)
						: head->registers[WORD_TASK];
	thread = word_at(current + layout->thread);
	record = word_at(thread + layout->task);
	// If the thread pointer points into the runtime's record, no C library keeps its data there.
	if (pointer - thread < THREAD_RECORD_BYTES) {
		own_end = word_at(current + layout->stack_end);
		if (word_at(current + layout->stack_start) < sp && sp < own_end)
			scratch->known_end = own_end;
	}
	if (!record)
		return;
	start = word_at(record + layout->stack_start);
	end = word_at(record + layout->stack_end);
	if (!plausible_end(start, end))
		return;
	head->flags |= HAS_TASK;
	head->task_labels = word_at(record + layout->labels);
	if (start < sp && sp <= end) {
		scratch->known_end = end;
		return;
	}
	saved = word_at(record + layout->sp);
	// (On a signal stack the task was interrupted, and has saved nothing.)
	if (current == word_at(thread + layout->own_task) && start < saved && saved < end) {
		head->flags |= HAS_TASK_REGISTERS;
		head->task_sp = saved;
		head->task_pc = word_at(record + layout->pc);
		head->task_fp = word_at(record + layout->fp);
		head->task_stack_start = saved;
		scratch->task_bytes = end - saved < TASK_STACK_BYTES ? end - saved : TASK_STACK_BYTES;
	} else {
		scratch->task_bytes = end - start < TASK_STACK_BYTES ? end - start : TASK_STACK_BYTES;
		head->task_stack_start = end - scratch->task_bytes;
	}
}

// Where the stack that the thread began on ends, or 0. The kernel knows where it put the first thread's
// stack; C libraries keep a thread's data, which the thread register points to, at the top of its stack.
static __always_inline __u64 own_stack_end(struct task_struct *task, struct record_head *head, __u64 sp)
{
	__u64 end;

	if (head->tid == head->pid)
		end = BPF_CORE_READ(task, mm, start_stack);
	else
		end = thread_pointer(task);
	return plausible_end(sp, end) ? end : 0;
}

// Where the stack that the thread is on ends, or 0.
static __always_inline __u64 stack_end(struct task_struct *task, struct record_head *head, __u64 sp)
{
	struct extent *hint = bpf_map_lookup_elem(&stacks, &head->tid);
	__u64 end;

	if (hint && hint->start <= sp && sp < hint->end)
		return hint->end;
	end = signal_stack_end(task, sp);
	if (end) {
		head->flags |= ON_SIGNAL_STACK;
		return end;
	}
	return own_stack_end(task, head, sp);
}

// Finds what to copy of the stack that a signal handler interrupted.
static __always_inline void find_interrupted_stack(struct task_struct *task, struct scratch *scratch)
{
	struct record_head *head = &scratch->head;
	__u64 sp = interrupted_sp(task), end = sp ? own_stack_end(task, head, sp) : 0;

	if (!end)
		return;
	head->flags |= HAS_INTERRUPTED_STACK;
	head->task_stack_start = sp;
	scratch->task_bytes = end - sp < TASK_STACK_BYTES ? end - sp : TASK_STACK_BYTES;
}

static __always_inline int in_user_mode(struct event_context *context)
{
#if defined(__TARGET_ARCH_x86)
	return (context->registers[WORD_CS] & 3) == 3;
#else
	return (context->registers[WORD_PSTATE] & 0xf) == 0;
#endif
}

// Copies the thread's user-space registers into the head: those it entered the kernel with, or those of
// the `event` that interrupted it in user mode. A thread that has none (a kernel worker in the process)
// has zeros.
static __always_inline void take_registers(struct event_context *event, struct record_head *head)
{
	if (event) {
		// Word by word: the verifier demands constant offsets into the context.
#pragma unroll
		for (int i = 0; i < REGISTER_WORDS; i++)
			head->registers[i] = event->registers[i];
	} else {
		if (copy_registers(head->registers, current_task()))
			head->flags |= HAS_REGISTERS;
		return;
	}
	if (head->registers[WORD_PC] && head->registers[WORD_SP])
		head->flags |= HAS_REGISTERS;
}

// How much of the stack to copy; sets what is known about its end.
static __always_inline __u64 wanted_bytes(struct task_struct *task, const struct settings *set,
					  struct scratch *scratch)
{
	struct record_head *head = &scratch->head;
	__u64 sp = head->registers[WORD_SP];
	__u64 most = set->max_stack_bytes;
	__u64 end, bytes;

	if (!(head->flags & HAS_REGISTERS))
		return 0;
	head->stack_start = sp;
	end = scratch->known_end ?: stack_end(task, head, sp);
	if (!end)
		return most;
	head->flags |= EXTENT_KNOWN;
	bytes = end - sp;
	if (bytes > most) {
		head->flags |= EXTENT_CUT;
		return most;
	}
	return bytes;
}

enum outcome {
	WRITTEN,
	// The ring is full.
	NO_ROOM,
	// Part of the stack cannot be read: a read fails as a whole if one page is absent.
	UNREADABLE,
};

// Writes what precedes the stack: the head and the kernel frames, if any. Returns where the stack goes.
static __always_inline void *write_head(struct scratch *scratch, struct record_head *record)
{
	void *payload = record + 1;

	bpf_probe_read_kernel(record, sizeof(*record), &scratch->head);
	if (!scratch->head.kernel_bytes)
		return payload;
	bpf_probe_read_kernel(payload, KERNEL_BYTES, scratch->kernel);
	return payload + KERNEL_ROOM;
}

// Writes a record with `room` bytes for the stack and `task_room` for the task's.
static __always_inline enum outcome write_both(struct scratch *scratch, __u64 wake, const __u32 room, __u64 want,
					       const __u32 task_room)
{
	struct record_head *record =
		bpf_ringbuf_reserve(&ring, sizeof(*record) + KERNEL_ROOM + room + task_room, 0);
	__u64 task_bytes = scratch->task_bytes;
	void *payload;

	if (!record)
		return NO_ROOM;
	payload = write_head(scratch, record);
	USE_CHECKED_COPY(want);
	// Even a read of no bytes fails once an ending thread has given up its memory.
	if (want > room || (want && bpf_probe_read_user(payload, want, (void *)scratch->head.stack_start))) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return UNREADABLE;
	}
	record->stack_bytes = want;
	record->stack_room = room;
	USE_CHECKED_COPY(task_bytes);
	if (task_room && task_bytes <= task_room &&
	    !bpf_probe_read_user(payload + room, task_bytes, (void *)scratch->head.task_stack_start))
		record->task_stack_bytes = task_bytes;
	bpf_ringbuf_submit(record, wake);
	return WRITTEN;
}

static __always_inline enum outcome write_record(struct scratch *scratch, __u64 wake, const __u32 room, __u64 want)
{
	return write_both(scratch, wake, room, want, 0);
}

// Writes the smallest record that holds the stack and the task's; few sizes, since most stacks are small.
static __always_inline enum outcome write_with_task(struct scratch *scratch, __u64 wake, __u64 want)
{
	if (want <= 4 * 1024 && scratch->task_bytes <= 4 * 1024)
		return write_both(scratch, wake, 4 * 1024, want, 4 * 1024);
	if (want <= 32 * 1024)
		return write_both(scratch, wake, 32 * 1024, want, TASK_STACK_BYTES);
	return write_both(scratch, wake, LARGEST_STACK_BYTES, want, TASK_STACK_BYTES);
}

// Writes the smallest record that holds the sample. The kernel demands constant sizes.
static __always_inline enum outcome write_sample(struct scratch *scratch, __u64 wake, __u64 want)
{
	if (scratch->task_bytes)
		return write_with_task(scratch, wake, want);
	if (want <= 1024)
		return write_record(scratch, wake, 1024, want);
	if (want <= 2 * 1024)
		return write_record(scratch, wake, 2 * 1024, want);
	if (want <= 4 * 1024)
		return write_record(scratch, wake, 4 * 1024, want);
	if (want <= 8 * 1024)
		return write_record(scratch, wake, 8 * 1024, want);
	if (want <= 16 * 1024)
		return write_record(scratch, wake, 16 * 1024, want);
	if (want <= 32 * 1024)
		return write_record(scratch, wake, 32 * 1024, want);
	if (want <= 64 * 1024)
		return write_record(scratch, wake, 64 * 1024, want);
	if (want <= 128 * 1024)
		return write_record(scratch, wake, 128 * 1024, want);
	if (want <= 256 * 1024)
		return write_record(scratch, wake, 256 * 1024, want);
	return write_record(scratch, wake, LARGEST_STACK_BYTES, want);
}

// Writes a record whose stack is copied page by page, without absent pages: a function with a large array
// that it has hardly used leaves a hole in the middle of its thread's stack.
static __always_inline enum outcome write_pages(struct scratch *scratch, __u64 wake, const __u32 room, __u64 want)
{
	struct record_head *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + KERNEL_ROOM + room, 0);
	__u64 start = scratch->head.stack_start & ~(PAGE_BYTES - 1);
	void *payload;

	if (!record)
		return NO_ROOM;
	payload = write_head(scratch, record);
#pragma clang loop unroll(disable)
	for (__u32 offset = 0; offset < room; offset += PAGE_BYTES) {
		if (offset >= want)
			break;
		// A failed read leaves zeros.
		if (!bpf_probe_read_user(payload + offset, PAGE_BYTES, (void *)(start + offset)))
			scratch->any_page = 1;
	}
	if (want > room || !scratch->any_page) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return UNREADABLE;
	}
	record->stack_start = start;
	record->stack_bytes = want;
	record->flags |= HAS_HOLES;
	bpf_ringbuf_submit(record, wake);
	return WRITTEN;
}

// One size only: the verifier follows the loop for every page, which makes loading slow. User space reads
// the rest of deeper stacks with holes.
static __always_inline enum outcome write_with_holes(struct scratch *scratch, __u64 wake)
{
	scratch->any_page = 0;
	scratch->found_bytes = scratch->want_bytes + (scratch->head.stack_start & (PAGE_BYTES - 1));
	if (scratch->found_bytes > MOST_BYTES_WITH_HOLES)
		return UNREADABLE;
	return write_pages(scratch, wake, MOST_BYTES_WITH_HOLES, scratch->found_bytes);
}

// Writes the sample with as much of the stack as can be read.
static __always_inline enum outcome write_readable(struct scratch *scratch, const struct settings *set)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	struct record_head *head = &scratch->head;
	// User space reads the rest of the stack that a signal interrupted, before that changes.
	int rest = head->flags & ON_SIGNAL_STACK && scratch->task_bytes % TASK_STACK_BYTES == 0;
	__u64 wake = waiting >= set->wake_bytes || rest ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	enum outcome outcome = UNREADABLE;

	// Without a stack there is nothing to guess and nothing that can fail.
	if (!(head->flags & HAS_REGISTERS) || head->flags & EXTENT_KNOWN)
		outcome = write_sample(scratch, wake, scratch->want_bytes);
	if (outcome == UNREADABLE && head->flags & EXTENT_KNOWN && !(head->flags & EXTENT_CUT))
		outcome = write_with_holes(scratch, wake);
	if (outcome != UNREADABLE)
		return outcome;
	readable_bytes(scratch);
	if (head->flags & EXTENT_KNOWN || scratch->found_bytes >= scratch->want_bytes)
		head->flags |= EXTENT_CUT;
	outcome = write_sample(scratch, wake, scratch->found_bytes);
	return outcome == UNREADABLE ? write_record(scratch, wake, 1024, 0) : outcome;
}

// Sets process and thread of the record. 0: not a target.
static __always_inline int identify(struct task_struct *task, const struct settings *set, struct record_head *head)
{
	if (set->first_namespace) {
		__u64 both = bpf_get_current_pid_tgid();

		head->pid = both >> 32;
		head->tid = (__u32)both;
	} else {
		head->pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
	}
	if (!head->pid || !bpf_map_lookup_elem(&targets, &head->pid))
		return 0;
	if (!set->first_namespace)
		head->tid = number_of(task, set->namespace_inode);
	return 1;
}

// Resets a record except process and thread.
static __always_inline void empty(struct scratch *scratch)
{
	scratch->head.time_ns = bpf_ktime_get_ns();
	scratch->head.period = 0;
	scratch->head.stack_start = 0;
	scratch->head.flags = 0;
	scratch->head.stack_bytes = 0;
	scratch->head.kernel_bytes = 0;
	scratch->head.task_labels = 0;
	scratch->head.task_stack_bytes = 0;
	scratch->task_bytes = 0;
	scratch->known_end = 0;
}

// Begins a record of the thread that runs. 0: it is not a target's.
static __always_inline struct scratch *begin(struct task_struct *task, const struct settings *set)
{
	__u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);

	if (!scratch || !identify(task, set, &scratch->head))
		return 0;
	empty(scratch);
	bpf_get_current_comm(scratch->head.comm, COMM_BYTES);
	return scratch;
}

// Copies the stack that the registers point to, and submits the record.
static __always_inline void finish(struct task_struct *task, const struct settings *set, struct scratch *scratch)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);
	struct task_layout *layout = bpf_map_lookup_elem(&task_layouts, &scratch->head.pid);

	if (!count)
		return;
	if (layout && scratch->head.flags & HAS_REGISTERS)
		find_task(task, layout, scratch);
	scratch->want_bytes = wanted_bytes(task, set, scratch);
	if (scratch->head.flags & ON_SIGNAL_STACK && !scratch->task_bytes)
		find_interrupted_stack(task, scratch);
	count->seen++;
	if (write_readable(scratch, set) != WRITTEN)
		count->lost++;
}

SEC("perf_event")
int sample(struct event_context *context)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct scratch *scratch;

	if (!set)
		return 0;
	scratch = begin(task, set);
	if (!scratch)
		return 0;
	scratch->head.period = context->sample_period;
	if (in_user_mode(context)) {
		take_registers(context, &scratch->head);
	} else {
		take_registers(0, &scratch->head);
		if (set->kernel_stacks) {
			long bytes = bpf_get_stack(context, scratch->kernel, KERNEL_BYTES, 0);

			if (bytes > 0 && bytes <= KERNEL_BYTES)
				scratch->head.kernel_bytes = bytes;
		}
	}
	finish(task, set, scratch);
	return 0;
}

struct raw_arguments {
	__u64 args[2];
};

// sched_process_fork(parent, child): before the child can run.
SEC("raw_tracepoint/sched_process_fork")
int follow_fork(struct raw_arguments *context)
{
	struct task_struct *parent = (struct task_struct *)context->args[0];
	struct task_struct *child = (struct task_struct *)context->args[1];
	__u32 zero = 0, one = 1, parent_number, child_number;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	// A new thread has the leader of its process; a new process leads itself.
	if (!set || BPF_CORE_READ(child, group_leader) != child)
		return 0;
	parent_number = number_of(BPF_CORE_READ(parent, group_leader), set->namespace_inode);
	if (!parent_number || !bpf_map_lookup_elem(&targets, &parent_number))
		return 0;
	child_number = number_of(child, set->namespace_inode);
	if (child_number)
		bpf_map_update_elem(&targets, &child_number, &one, BPF_ANY);
	return 0;
}

// Flag of clone(2): the new task is a thread of the same process.
#define CLONE_THREAD 0x00010000

// task_newtask(new, clone_flags): called in the thread that creates another, before that can run.
SEC("raw_tracepoint/task_newtask")
int thread_created(struct raw_arguments *context)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct scratch *scratch;

	if (!set || !(context->args[1] & CLONE_THREAD))
		return 0;
	scratch = begin(task, set);
	if (!scratch)
		return 0;
	take_registers(0, &scratch->head);
	finish(task, set, scratch);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
