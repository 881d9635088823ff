// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's CPU sampler that runs in the kernel. `sample` is called by a timer event on
// each CPU: it drops whatever is not a target process and copies a target's registers and the real
// extent of its stack into one ring. `thread_created` does so when a target makes a thread.
// `follow_fork` makes a target's children targets before they run. None writes anything into a process.
//
// Not here: which processes, how large, how often: user space says so in `settings` and `targets`.
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
// Room that a kernel stack takes in a record.
#define KERNEL_ROOM 1024
// Further from the stack pointer than this nobody's stack ends: the value that suggests so means
// something else.
#define PLAUSIBLE_STACK_BYTES (64UL << 20)
#define LARGEST_STACK_BYTES (512 * 1024)
// So much is copied of the stack of the task that a thread works for on a stack of its own.
#define TASK_STACK_BYTES (32 * 1024)
// More than a runtime's record of a thread has.
#define THREAD_RECORD_BYTES 4096
#define MOST_BYTES_WITH_HOLES (256 * 1024)
// Memory is there or not by the page. Where pages are larger, this is finer than need be.
#define PAGE_BYTES 4096UL

// record.flags
#define HAS_REGISTERS 1
// Where the stack ends is known, not guessed from what is readable.
#define EXTENT_KNOWN 2
// More of the stack lies above the copy.
#define EXTENT_CUT 4
// Pages that were not there are zeros in the copy: never touched, as a rule, or else swapped out.
#define HAS_HOLES 8
// The copy is of the stack for signal handlers; what they interrupted stands on another.
#define ON_SIGNAL_STACK 16
// The task's registers are those with which it left its stack.
#define HAS_TASK_REGISTERS 32
// The thread works for a task.
#define HAS_TASK 64

struct record_head {
	__u64 time_ns;
	__u64 period;
	__u64 stack_start;
	__u32 pid;
	__u32 tid;
	__u32 flags;
	__u32 stack_bytes;
	__u32 kernel_bytes;
	// Room for the stack, after which the task's begins.
	__u32 stack_room;
	char comm[COMM_BYTES];
	// The task that the thread works for: its labels; if it does so on another stack, the task's saved
	// registers and what is copied of its stack.
	__u64 task_labels;
	__u64 task_pc;
	__u64 task_sp;
	__u64 task_fp;
	__u64 task_stack_start;
	__u64 task_stack_bytes;
	__u64 registers[REGISTER_WORDS];
};

// What user space asks for; written once, before the events are switched on.
struct settings {
	// Inode number of the PID namespace whose numbers rprof speaks.
	__u32 namespace_inode;
	// That is the first PID namespace, so that the kernel's own numbers are the right ones.
	__u32 first_namespace;
	__u32 max_stack_bytes;
	__u32 kernel_stacks;
	// Wake the reader when this many bytes wait for it.
	__u64 wake_bytes;
};

struct extent {
	__u64 start;
	__u64 end;
};

// Where a language's runtime, whose tasks have stacks of their own, keeps what of its task: offsets in its
// records. A zero thread pointer offset: the running task's record is in a register (WORD_TASK).
struct task_layout {
	__s64 thread_pointer_offset;
	// In a task's record: its thread's record; first and last address of its stack; what it was left with.
	__u32 thread;
	__u32 stack_start;
	__u32 stack_end;
	__u32 sp;
	__u32 pc;
	__u32 fp;
	__u32 labels;
	// In a thread's record: the task that it works for, and the one that stands for its own stack.
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
	// Numbers that live in memory, not in a register: what is read back from here is any number to the
	// verifier, so that it looks at what follows once and not once for each way that led there.
	volatile __u64 found_bytes;
	volatile __u64 want_bytes;
	volatile __u64 any_page;
	volatile __u64 task_bytes;
	// Where the stack ends, if the runtime says so.
	__u64 known_end;
	__u64 kernel[KERNEL_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

// Process numbers, as rprof's namespace has them.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

// Where the stacks of some threads lie, by thread number.
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

// Puts into `found_bytes` how much of `want_bytes` can be read, up to the first page that is not there.
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

// Where the stack for signal handlers ends (sigaltstack(2)), if the thread is on it.
static __always_inline __u64 signal_stack_end(struct task_struct *task, __u64 sp)
{
	__u64 start = BPF_CORE_READ(task, sas_ss_sp);
	__u64 end = start + BPF_CORE_READ(task, sas_ss_size);

	return start < sp && sp < end ? end : 0;
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

// Finds the task that the thread works for. If the thread runs on that task's stack, it is known where the
// stack ends; if on another, what of the task's is to be copied.
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
	// A thread whose pointer leads into its runtime's record does not have a C library's data there.
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
	// (On a stack for signals the task was interrupted, and has left nothing.)
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

// Where the stack of this thread ends, or 0. The kernel knows where it put the first thread's; C
// libraries keep a thread's own data, which the thread register points to, at the top of its stack.
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
	if (head->tid == head->pid)
		end = BPF_CORE_READ(task, mm, start_stack);
	else
		end = thread_pointer(task);
	return plausible_end(sp, end) ? end : 0;
}

static __always_inline int in_user_mode(struct event_context *context)
{
#if defined(__TARGET_ARCH_x86)
	return (context->registers[WORD_CS] & 3) == 3;
#else
	return (context->registers[WORD_PSTATE] & 0xf) == 0;
#endif
}

// Puts the thread's user-space registers into the head: those it entered the kernel with, or those at
// the `event` that caught it in user mode. A thread that has none (a worker of the kernel inside the
// process) shows zeros.
static __always_inline void take_registers(struct event_context *event, struct record_head *head)
{
	if (event) {
		// Each word apart: the verifier wants constant offsets into the context.
#pragma unroll
		for (int i = 0; i < REGISTER_WORDS; i++)
			head->registers[i] = event->registers[i];
	} else {
		void *registers = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());

		if (bpf_probe_read_kernel(head->registers, sizeof(head->registers), registers))
			return;
	}
	if (head->registers[WORD_PC] && head->registers[WORD_SP])
		head->flags |= HAS_REGISTERS;
}

// Settles how much of the stack to copy, and what is known of where it ends.
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
	// There is no room in the ring.
	NO_ROOM,
	// Some of the stack cannot be read: reading is all or nothing and fails on a page that is not there.
	UNREADABLE,
};

// Writes what comes before the stack: the head, and kernel frames if there are any. Where the stack goes.
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
	// Even reading nothing fails once an ending thread has given up its memory.
	if (want > room || (want && bpf_probe_read_user(payload, want, (void *)scratch->head.stack_start))) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return UNREADABLE;
	}
	record->stack_bytes = want;
	record->stack_room = room;
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

// Takes the smallest record that holds the stack with a task's; few sizes, since most of both are small.
static __always_inline enum outcome write_with_task(struct scratch *scratch, __u64 wake, __u64 want)
{
	if (want <= 4 * 1024 && scratch->task_bytes <= 4 * 1024)
		return write_both(scratch, wake, 4 * 1024, want, 4 * 1024);
	if (want <= 32 * 1024)
		return write_both(scratch, wake, 32 * 1024, want, TASK_STACK_BYTES);
	return write_both(scratch, wake, LARGEST_STACK_BYTES, want, TASK_STACK_BYTES);
}

// Takes the smallest record that holds the sample. Sizes must be constants for the kernel.
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

// Writes a record whose stack is copied page by page, the pages that are not there left out: a function
// with a large array that it has hardly used leaves a hole in the midst of its thread's stack.
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
		// What cannot be read becomes zeros.
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

// One size only: the verifier looks at each page's turn, and loading should not take long. Deeper stacks
// with holes are read on by user space.
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
	// The stack that a signal interrupted is read before it runs on.
	__u64 wake = waiting >= set->wake_bytes || head->flags & ON_SIGNAL_STACK ? BPF_RB_FORCE_WAKEUP
										  : BPF_RB_NO_WAKEUP;
	enum outcome outcome = UNREADABLE;

	// Without stack there is nothing to guess, and nothing to fail.
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

// Fills in who is running. 0: not a target.
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

// Empties a record of all but whose it is.
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

// Begins a record of the thread that runs, if it is a target's: head, registers. 0: it is not.
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

// Copies the stack that the registers point to, and hands the record over.
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

// Of the flags of clone(2): the new one is a thread of the same process.
#define CLONE_THREAD 0x00010000

// task_newtask(new, clone_flags): called in the thread that makes another, before that can run.
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
