// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's off-CPU sampler that runs in the kernel: how long threads of a target wait, and
// with which stack. `switched` is called when a CPU switches threads: it notes when a target's thread
// begins to wait, and when the thread gets a CPU again, it decides whether the wait is recorded: always if
// it lasted the `interval` or longer, else with the probability of its length over the interval. A
// recorded wait counts for at least the interval, so that sums are right on average. `returned` is called
// when a system call ends: if its wait is to be recorded, it copies the stack, which is still the same as
// when the wait began. `sweep` is called for each thread: before the profile (sleeping threads begin to
// wait), at the end of each profile (how long sleeping threads have waited so far), and at the end (the
// same, and counting ends).
//
// A wait begins when a thread gives up its CPU; the time until it gets a CPU again is part of it. Not
// here: threads whose CPU was taken away. No program writes anything into a process.
// Built by scripts/bpf; read by offcpu.rs.

#include "gather.bpf.h"

// State of a thread that ends (TASK_DEAD, linux/sched.h).
#define DEAD 0x80
#define WAIT_FRAMES 63
#define WAIT_BYTES (WAIT_FRAMES * 8)

// A thread of a target that has waited.
struct wait {
	// When the wait began; 0: the thread does not wait.
	__u64 since;
	// The recorded waits of the current system call: nanoseconds and number; 0: nothing to record.
	__u64 period;
	__u64 count;
	__u32 pid;
	__u32 tid;
	__u64 kernel_bytes;
	char comm[COMM_BYTES];
	__u64 kernel[WAIT_FRAMES];
};

// Set by user space.
struct chance {
	__u64 interval_ns;
	// What `sweep` does with waits.
	__u64 sweeping;
};

// `sweeping`: begins the waits of sleeping threads; reports and ends waits; reports waits, which continue.
#define BEGIN 0
#define END 1
#define SPLIT 2

struct totals {
	__u64 waits;
	__u64 nanoseconds;
	// Waits of threads that found no room in `waits`.
	__u64 unseen;
};

// What `sweep` writes for a thread; `kernel_bytes` of kernel frames follow.
struct swept {
	__u32 pid;
	__u32 tid;
	__u64 turns;
	__u64 kernel_bytes;
	__u64 waited_ns;
	__u64 registers[REGISTER_WORDS];
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chance);
} chance SEC(".maps");

// By the address of the thread's task_struct.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct wait);
} waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

// Template of a new entry of `waits`; and one for `sweep`, which a switch may interrupt.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wait);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wait);
} swept_blank SEC(".maps");

// Whether the thread is in the kernel for a system call, not for a fault or an interrupt.
static __always_inline int in_system_call(void *registers)
{
#if defined(__TARGET_ARCH_x86)
	// orig_ax of struct pt_regs.
	__s64 number = -1;

	bpf_probe_read_kernel(&number, sizeof(number), registers + 15 * 8);
	return number != -1;
#else
	// syscallno of struct pt_regs, behind struct user_pt_regs and orig_x0.
	__s32 number = -1;

	bpf_probe_read_kernel(&number, sizeof(number), registers + 35 * 8);
	return number != -1;
#endif
}

// A thread gives up its CPU.
static __always_inline void suspend(struct task_struct *task, int preempted, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct identity who = {};
	unsigned int state;

	if (!wait && !identify(task, set, &who))
		return;
	state = state_of(task);
	if (state & DEAD) {
		if (wait)
			bpf_map_delete_elem(&waits, &key);
		return;
	}
	if (preempted || !state) {
		if (wait)
			wait->since = 0;
		return;
	}
	if (wait) {
		wait->since = bpf_ktime_get_ns();
		return;
	}
	wait = bpf_map_lookup_elem(&blank, &zero);
	if (!wait)
		return;
	wait->since = bpf_ktime_get_ns();
	wait->pid = who.pid;
	wait->tid = who.tid;
	bpf_get_current_comm(wait->comm, COMM_BYTES);
	if (bpf_map_update_elem(&waits, &key, wait, BPF_ANY)) {
		struct totals *total = bpf_map_lookup_elem(&totals, &zero);

		if (total)
			total->unseen++;
	}
}

// Begins the record of recorded waits: all but registers and stack.
static __always_inline struct record_buffer *begin_wait(struct wait *wait, const struct target *target)
{
	struct identity who = { .pid = wait->pid, .tid = wait->tid };
	struct record_buffer *buffer;

	if (target)
		who.target = *target;
	buffer = begin(&who);
	if (buffer) {
		buffer->head.values[VALUE_COUNT] = wait->count;
		buffer->head.values[VALUE_NANOSECONDS] = wait->period;
		__builtin_memcpy(buffer->head.comm, wait->comm, COMM_BYTES);
		buffer->kernel_bytes = wait->kernel_bytes;
		bpf_probe_read_kernel(buffer->kernel, WAIT_BYTES, wait->kernel);
	}
	wait->period = 0;
	wait->count = 0;
	return buffer;
}

// Records the wait of a thread that is not in a system call: without its stack, which is not readable from
// the thread that runs now.
static __always_inline void record_at_once(struct wait *wait, struct task_struct *task, const struct settings *set)
{
	struct record_buffer *buffer = begin_wait(wait, 0);

	if (!buffer)
		return;
	append_kernel_frames(buffer);
	if (copy_registers(buffer->head.registers, task)) {
		buffer->head.flags |= HAS_REGISTERS;
		append_stack(buffer, USER_STACK, buffer->head.registers[WORD_SP], 0, 0, 0);
	}
	submit(set, buffer, 0);
	buffer->busy = 0;
}

// A thread gets a CPU.
static __always_inline void resume(struct task_struct *task, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct chance *request;
	struct totals *total;
	__u64 waited, period;
	long bytes = 0;

	if (!wait || !wait->since)
		return;
	request = bpf_map_lookup_elem(&chance, &zero);
	total = bpf_map_lookup_elem(&totals, &zero);
	if (!request || !total)
		return;
	waited = bpf_ktime_get_ns() - wait->since;
	wait->since = 0;
	total->waits++;
	total->nanoseconds += waited;
	period = waited;
	if (waited < request->interval_ns) {
		if (((__u64)bpf_get_prandom_u32() * request->interval_ns) >> 32 >= waited)
			return;
		period = request->interval_ns;
	}
	wait->period += period;
	wait->count += waited ? period * ONE / waited : ONE;
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, wait->kernel, WAIT_BYTES, 0);
	wait->kernel_bytes = bytes > 0 && bytes <= WAIT_BYTES ? bytes : 0;
	if (!in_system_call(registers_of(task)))
		record_at_once(wait, task, set);
}

// sched_switch(preempted, from, to).
SEC("tp_btf/sched_switch")
int switched(__u64 *context)
{
	int preempted = (int)context[0];
	struct task_struct *from = (struct task_struct *)context[1];
	struct task_struct *to = (struct task_struct *)context[2];
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set)
		return 0;
	suspend(from, preempted, set);
	resume(to, set);
	return 0;
}

// sys_exit(registers, result): in the thread whose system call ends.
SEC("raw_tracepoint/sys_exit")
int returned(void *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 key = (__u64)task;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct record_buffer *buffer;

	if (!wait || !wait->period)
		return 0;
	buffer = begin_wait(wait, bpf_map_lookup_elem(&targets, &wait->pid));
	if (!buffer)
		return 0;
	bpf_get_current_comm(buffer->head.comm, COMM_BYTES);
	take_saved_registers(&buffer->head);
	hand_on(context, task, buffer);
	return 0;
}

SEC("raw_tracepoint/finish")
int finish(void *context)
{
	return complete();
}

// Begins the wait of a thread that was asleep already.
static __always_inline void seed(struct task_struct *task, __u32 pid, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&swept_blank, &zero);
	unsigned int state = state_of(task);

	// A first thread that has ended while others run keeps its entry; it does not wait.
	if (!wait || !state || state & DEAD)
		return;
	wait->since = bpf_ktime_get_ns();
	wait->pid = pid;
	wait->tid = number_of(task, set->namespace_inode);
	bpf_map_update_elem(&waits, &key, wait, BPF_NOEXIST);
}

SEC("iter/task")
int sweep(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct swept swept = {};
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct chance *request = bpf_map_lookup_elem(&chance, &zero);
	struct wait *kernel = bpf_map_lookup_elem(&swept_blank, &zero);
	struct wait *wait;
	__u64 since, now;
	long bytes = 0;

	if (!task || !set || !request || !kernel)
		return 0;
	swept.pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
	if (!swept.pid || !bpf_map_lookup_elem(&targets, &swept.pid))
		return 0;
	wait = bpf_map_lookup_elem(&waits, &key);
	if (request->sweeping == BEGIN) {
		if (!wait)
			seed(task, swept.pid, set);
		return 0;
	}
	since = wait ? wait->since : 0;
	if (!since || !wait)
		return 0;
	now = bpf_ktime_get_ns();
	// What is reported here is not recorded again. A thread that has just been woken waits no more.
	wait->since = request->sweeping == SPLIT && state_of(task) ? now : 0;
	swept.tid = wait->tid;
	swept.waited_ns = now - since;
	swept.turns = BPF_CORE_READ(task, sched_info.pcount);
	copy_registers(swept.registers, task);
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, kernel->kernel, WAIT_BYTES, 0);
	if (bytes > 0 && bytes <= WAIT_BYTES)
		swept.kernel_bytes = bytes;
	bpf_seq_write(context->meta->seq, &swept, sizeof(swept));
	if (bytes > 0) {
		__u32 size = bytes;

		USE_CHECKED_COPY(size);
		if (size <= WAIT_BYTES)
			bpf_seq_write(context->meta->seq, kernel->kernel, size);
	}
	return 0;
}
