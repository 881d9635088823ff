// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// What all programs that take samples share: whether a thread is a target's, and gathering a record of it:
// its registers and its stack, as far as that really reaches. No program writes anything into a process.
//
// A sample goes through up to three programs. The first one begins it (`begin`) and hands it on
// (`hand_on`): to the walker of the process's language, if user space has set one, which adds a section and
// hands it on in turn; at last to `finish`.
//
// Not here: which processes, how much and how often: user space sets `settings` and `targets`.

#include "kernel.bpf.h"
#include "record.bpf.h"

// No stack ends further from the stack pointer than this: a value that says so is not the end.
#define PLAUSIBLE_STACK_BYTES (64UL << 20)
// More bytes than a runtime's record of a thread has.
#define THREAD_RECORD_BYTES 4096
#define MOST_BYTES_WITH_HOLES (256 * 1024)

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
	// The value that a perf event's period is.
	enum value_kind period_kind;
	// Copy no stack where a walker has found frames.
	__u32 language_alone;
};

// A target process.
struct target {
	// The place in `walkers` of its language's walker; 0: none.
	__u32 walker;
	// The number of the walker's settings for it.
	__u32 settings;
};

struct extent {
	__u64 start;
	__u64 end;
};

// Offsets in the records of a language runtime whose tasks have stacks of their own. A zero thread pointer
// offset: the address of the running task's record is in the register at this place in `registers`.
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
	__u32 task_register;
};

struct counters {
	__u64 seen;
	__u64 lost;
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
	__type(value, struct target);
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
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} ring SEC(".maps");

static __always_inline void count_lost(void)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);

	if (count) {
		count->seen++;
		count->lost++;
	}
}

static __always_inline int readable(__u64 address)
{
	__u8 byte;

	return bpf_probe_read_user(&byte, 1, (void *)address) == 0;
}

// Sets `found_bytes` to how much of `want_bytes` can be read, up to the first absent page.
static __always_inline void readable_bytes(struct record_buffer *buffer, __u64 sp)
{
	buffer->found_bytes = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= LARGEST_STACK_BYTES / PAGE_BYTES; i++) {
		__u64 bytes = buffer->found_bytes;

		if (bytes >= buffer->want_bytes || !readable(sp + bytes))
			break;
		buffer->found_bytes = bytes + PAGE_BYTES - ((sp + bytes) & (PAGE_BYTES - 1));
	}
	if (buffer->found_bytes > buffer->want_bytes)
		buffer->found_bytes = buffer->want_bytes;
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
static __always_inline void find_task(const struct task_layout *layout, struct record_buffer *buffer)
{
	struct record_head *head = &buffer->head;
	__u64 sp = head->registers[WORD_SP], pointer = head->thread_pointer;
	__u64 current, thread, record, start, end, own_end, saved, place = layout->task_register;

	USE_CHECKED_COPY(place);
	if (place >= REGISTER_WORDS)
		return;
	USE_CHECKED_COPY(place);
	current = layout->thread_pointer_offset ? word_at(pointer + layout->thread_pointer_offset)
						: head->registers[place];
	thread = word_at(current + layout->thread);
	record = word_at(thread + layout->task);
	// If the thread pointer points into the runtime's record, no C library keeps its data there.
	if (pointer - thread < THREAD_RECORD_BYTES) {
		own_end = word_at(current + layout->stack_end);
		if (word_at(current + layout->stack_start) < sp && sp < own_end)
			buffer->known_end = own_end;
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
		buffer->known_end = end;
		return;
	}
	saved = word_at(record + layout->sp);
	// (On a signal stack the task was interrupted, and has saved nothing.)
	if (current == word_at(thread + layout->own_task) && start < saved && saved < end) {
		head->flags |= HAS_TASK_REGISTERS;
		head->task_sp = saved;
		head->task_pc = word_at(record + layout->pc);
		head->task_fp = word_at(record + layout->fp);
		buffer->task_stack_start = saved;
		buffer->task_bytes = end - saved < TASK_STACK_BYTES ? end - saved : TASK_STACK_BYTES;
	} else {
		buffer->task_bytes = end - start < TASK_STACK_BYTES ? end - start : TASK_STACK_BYTES;
		buffer->task_stack_start = end - buffer->task_bytes;
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
		end = head->thread_pointer;
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

// Appends a section of which `bytes` at most `most` follow the header. Returns its header, whose content the
// caller has to write; 0: there is no room, which the sum of the largest sections rules out.
static __always_inline struct section *append(struct record_buffer *buffer, enum section_kind kind,
					      __u64 address, __u64 bytes, const __u64 most)
{
	__u64 used = buffer->used;
	struct section *section;

	USE_CHECKED_COPY(used);
	if (used > SECTION_ROOM - sizeof(*section) - most)
		return 0;
	section = (struct section *)(buffer->sections + used);
	section->kind = kind;
	section->flags = 0;
	section->detail = 0;
	section->bytes = bytes;
	section->address = address;
	return section;
}

// Makes an appended section, with its content of `bytes`, part of the record.
static __always_inline void keep(struct record_buffer *buffer, __u64 bytes)
{
	buffer->used = buffer->used + sizeof(struct section) + ((bytes + 7) & ~7UL);
}

// Appends `bytes` of a stack from `start` on. 0: part of it cannot be read, and nothing is appended: a read
// fails as a whole if one page is absent.
static __always_inline int append_stack(struct record_buffer *buffer, enum section_kind kind, __u64 start,
					__u64 bytes, const __u64 most, __u32 flags)
{
	struct section *section = append(buffer, kind, start, bytes, most);

	if (!section)
		return 0;
	section->flags = flags;
	USE_CHECKED_COPY(bytes);
	if (bytes > most)
		return 0;
	USE_CHECKED_COPY(bytes);
	// Even a read of no bytes fails once an ending thread has given up its memory.
	if (bytes && bpf_probe_read_user(section + 1, bytes, (void *)start))
		return 0;
	keep(buffer, bytes);
	return 1;
}

// Appends the stack page by page, without absent pages: a function with a large array that it has hardly
// used leaves a hole in the middle of its thread's stack. 0: no page of it can be read.
static __always_inline int append_pages(struct record_buffer *buffer, __u64 sp)
{
	__u64 start = sp & ~(PAGE_BYTES - 1);
	struct section *section;
	void *content;

	buffer->any_page = 0;
	buffer->found_bytes = buffer->want_bytes + (sp - start);
	// User space reads the rest of deeper stacks with holes.
	if (buffer->found_bytes > MOST_BYTES_WITH_HOLES)
		return 0;
	section = append(buffer, USER_STACK, start, buffer->found_bytes, MOST_BYTES_WITH_HOLES);
	if (!section)
		return 0;
	section->flags = STACK_HOLES;
	content = section + 1;
#pragma clang loop unroll(disable)
	for (__u32 offset = 0; offset < MOST_BYTES_WITH_HOLES; offset += PAGE_BYTES) {
		if (offset >= buffer->found_bytes)
			break;
		// A failed read leaves zeros.
		if (!bpf_probe_read_user(content + offset, PAGE_BYTES, (void *)(start + offset)))
			buffer->any_page = 1;
	}
	if (!buffer->any_page)
		return 0;
	keep(buffer, buffer->found_bytes);
	return 1;
}

// How much of the stack to copy; sets what is known about its end.
static __always_inline __u64 wanted_bytes(struct task_struct *task, const struct settings *set,
					  struct record_buffer *buffer, int *cut)
{
	struct record_head *head = &buffer->head;
	__u64 sp = head->registers[WORD_SP], most = set->max_stack_bytes;
	__u64 end = buffer->known_end ?: stack_end(task, head, sp);

	if (!end)
		return most;
	head->flags |= EXTENT_KNOWN;
	if (end - sp <= most)
		return end - sp;
	*cut = 1;
	return most;
}

// How far below the stack pointer functions may keep values without moving it. The first stack that is copied
// has it: assembly stores there where its frame ends.
#if defined(__TARGET_ARCH_x86)
#define RED_ZONE 128
#else
#define RED_ZONE 0
#endif

// Appends the thread's stack, or as much of it as can be read.
static __always_inline void append_user_stack(struct task_struct *task, const struct settings *set,
					      struct record_buffer *buffer)
{
	struct record_head *head = &buffer->head;
	__u64 sp = head->registers[WORD_SP];
	int cut = 0;

	buffer->want_bytes = wanted_bytes(task, set, buffer, &cut);
	if (head->flags & EXTENT_KNOWN) {
		// A copy that is cut at the limit has no more bytes than the limit.
		if (RED_ZONE && append_stack(buffer, USER_STACK, sp - RED_ZONE,
					     buffer->want_bytes + (cut ? 0 : RED_ZONE), LARGEST_STACK_BYTES, cut))
			return;
		if (append_stack(buffer, USER_STACK, sp, buffer->want_bytes, LARGEST_STACK_BYTES, cut))
			return;
		if (!cut && append_pages(buffer, sp))
			return;
	}
	readable_bytes(buffer, sp);
	if (head->flags & EXTENT_KNOWN || buffer->found_bytes >= buffer->want_bytes)
		cut = 1;
	if (!append_stack(buffer, USER_STACK, sp, buffer->found_bytes, LARGEST_STACK_BYTES, cut))
		append_stack(buffer, USER_STACK, sp, 0, 0, cut);
}

// Appends what the thread was on before a signal handler ran on a stack of its own. Returns whether there is
// more of it than is copied.
static __always_inline int append_interrupted_stack(struct task_struct *task, struct record_buffer *buffer)
{
	__u64 sp = interrupted_sp(task), end = sp ? own_stack_end(task, &buffer->head, sp) : 0, bytes = end - sp;

	if (!end)
		return 1;
	if (bytes > TASK_STACK_BYTES) {
		append_stack(buffer, INTERRUPTED_STACK, sp, TASK_STACK_BYTES, TASK_STACK_BYTES, STACK_CUT);
		return 1;
	}
	return !append_stack(buffer, INTERRUPTED_STACK, sp, bytes, TASK_STACK_BYTES, 0);
}

static __always_inline void append_kernel_frames(struct record_buffer *buffer)
{
	__u64 bytes = buffer->kernel_bytes;
	struct section *section = append(buffer, KERNEL_FRAMES, 0, bytes, KERNEL_BYTES);

	USE_CHECKED_COPY(bytes);
	if (!section || !bytes || bytes > KERNEL_BYTES)
		return;
	USE_CHECKED_COPY(bytes);
	bpf_probe_read_kernel(section + 1, bytes, buffer->kernel);
	keep(buffer, bytes);
}

// Writes the record; with `at_once`, the reader is woken to read more of the stack before that changes.
static __always_inline void submit(const struct settings *set, struct record_buffer *buffer, int at_once)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA), bytes = buffer->used;
	__u64 wake = waiting >= set->wake_bytes || at_once ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;

	buffer->head.section_bytes = bytes;
	USE_CHECKED_COPY(bytes);
	if (!count || bytes > SECTION_ROOM)
		return;
	USE_CHECKED_COPY(bytes);
	count->seen++;
	if (bpf_ringbuf_output(&ring, &buffer->head, sizeof(buffer->head) + bytes, wake))
		count->lost++;
}

// Copies the thread's user-space registers into the head: those it entered the kernel with. A thread that
// has none (a kernel worker in the process) has zeros.
static __always_inline void take_saved_registers(struct record_head *head)
{
	if (copy_registers(head->registers, current_task()))
		head->flags |= HAS_REGISTERS;
}

// A thread of a target.
struct identity {
	__u32 pid;
	__u32 tid;
	struct target target;
};

// 0: the thread that runs is not a target's.
static __always_inline int identify(struct task_struct *task, const struct settings *set, struct identity *who)
{
	struct target *target;

	if (set->first_namespace) {
		__u64 both = bpf_get_current_pid_tgid();

		who->pid = both >> 32;
		who->tid = (__u32)both;
	} else {
		who->pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
	}
	if (!who->pid)
		return 0;
	target = bpf_map_lookup_elem(&targets, &who->pid);
	if (!target)
		return 0;
	if (!set->first_namespace)
		who->tid = number_of(task, set->namespace_inode);
	who->target = *target;
	return 1;
}

// Begins a record in the buffer of this CPU. 0: there is none, or another program is at work in it; the
// sample is counted as lost.
static __always_inline struct record_buffer *begin(const struct identity *who)
{
	struct record_buffer *buffer = record_buffer();

	if (!buffer || buffer->busy) {
		count_lost();
		return 0;
	}
	buffer->busy = 1;
	buffer->used = 0;
	buffer->task_bytes = 0;
	buffer->known_end = 0;
	buffer->kernel_bytes = 0;
	buffer->walker = who->target.walker;
	buffer->walker_settings = who->target.settings;
	buffer->walker_runs = 0;
	buffer->has_language_frames = 0;
	buffer->head.time_ns = bpf_ktime_get_ns();
	buffer->head.values[VALUE_COUNT] = ONE;
	buffer->head.values[VALUE_NANOSECONDS] = 0;
	buffer->head.values[VALUE_BYTES] = 0;
	buffer->head.values[VALUE_OBJECTS] = 0;
	buffer->head.pid = who->pid;
	buffer->head.tid = who->tid;
	buffer->head.flags = 0;
	buffer->head.task_labels = 0;
	buffer->head.lock = 0;
	return buffer;
}

// Hands the sample of the current thread on to the walker, if the process has one, and to `finish`.
static __always_inline void hand_on(void *context, struct task_struct *task, struct record_buffer *buffer)
{
	buffer->head.thread_pointer = thread_pointer(task);
	if (buffer->walker && buffer->walker < MOST_WALKERS)
		bpf_tail_call(context, &walkers, buffer->walker);
	// There is no such walker any more.
	bpf_tail_call(context, &walkers, 0);
	buffer->busy = 0;
	count_lost();
}

// Completes and writes the record of the current thread.
static __always_inline int complete(void)
{
	__u32 zero = 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct record_buffer *buffer = record_buffer();
	struct task_layout *layout;
	int at_once = 0;

	if (!set || !buffer)
		return 0;
	append_kernel_frames(buffer);
	if (buffer->head.flags & HAS_REGISTERS && !(set->language_alone && buffer->has_language_frames)) {
		layout = bpf_map_lookup_elem(&task_layouts, &buffer->head.pid);
		if (layout)
			find_task(layout, buffer);
		append_user_stack(task, set, buffer);
		if (buffer->task_bytes)
			append_stack(buffer, TASK_STACK, buffer->task_stack_start, buffer->task_bytes,
				     TASK_STACK_BYTES, 0);
		else if (buffer->head.flags & ON_SIGNAL_STACK)
			at_once = append_interrupted_stack(task, buffer);
	}
	submit(set, buffer, at_once);
	buffer->busy = 0;
	return 0;
}

struct raw_arguments {
	__u64 args[2];
};

// sched_process_fork(parent, child): before the child can run. The child's memory is a copy of its parent's:
// the same walker fits.
SEC("raw_tracepoint/sched_process_fork")
int follow_fork(struct raw_arguments *context)
{
	struct task_struct *parent = (struct task_struct *)context->args[0];
	struct task_struct *child = (struct task_struct *)context->args[1];
	__u32 zero = 0, parent_number, child_number;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct target *target, copy;

	// A new thread has the leader of its process; a new process leads itself.
	if (!set || BPF_CORE_READ(child, group_leader) != child)
		return 0;
	parent_number = number_of(BPF_CORE_READ(parent, group_leader), set->namespace_inode);
	target = parent_number ? bpf_map_lookup_elem(&targets, &parent_number) : 0;
	if (!target)
		return 0;
	copy = *target;
	child_number = number_of(child, set->namespace_inode);
	if (child_number)
		bpf_map_update_elem(&targets, &child_number, &copy, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
