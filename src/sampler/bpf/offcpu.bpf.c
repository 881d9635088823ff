// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's off-CPU sampler that runs in the kernel: how long threads of a target wait, and
// with which stack. `switched` is called when a CPU goes from one thread to another: it notes when a
// target's thread began to wait, and decides when it goes on whether that wait is recorded: with the
// chance of its length over the `interval`, and always if it is longer; what is recorded stands for the
// interval at least, so that sums are right on average. `returned` is called when a system call ends: of
// one whose wait is to be recorded it copies the stack, which is the same as when the wait began.
// `sweep` is called for each thread before (those asleep begin to wait now), at the end of each profile (what
// those asleep have waited so far), and after (the same, and no more is counted).
//
// Waits are those of threads that gave their CPU up themselves; to wait for a CPU after that belongs to
// it. Not here: threads whose CPU was taken away. None writes anything into a process.
// Built by scripts/bpf with the machinery of cpu.bpf.c; read by offcpu.rs.

#include "cpu.bpf.c"

// Of the states of a thread: it ends (TASK_DEAD, linux/sched.h).
#define DEAD 0x80
// The first word of the kernel frames of a record is how many waits it stands for, in 1024ths.
#define WAIT_FRAMES 63
#define WAIT_BYTES (WAIT_FRAMES * 8)
#define ONE_WAIT 1024

// A thread of a target that has waited.
struct wait {
	// Since when; 0: it does not.
	__u64 since;
	// What the waits of the system call it is in stand for, and how many waits; 0: nothing to record.
	__u64 period;
	__u64 count;
	__u32 pid;
	__u32 tid;
	__u64 kernel_bytes;
	char comm[COMM_BYTES];
	__u64 kernel[WAIT_FRAMES];
};

// What user space asks for.
struct chance {
	__u64 interval_ns;
	// What `sweep` does with waits.
	__u64 sweeping;
};

// Begins those of threads that sleep; hands over what has been waited, and ends that; the same, and goes on.
#define BEGIN 0
#define END 1
#define SPLIT 2

struct totals {
	__u64 waits;
	__u64 nanoseconds;
	// Waits of threads for which there was no room in `waits`.
	__u64 unseen;
};

// What `sweep` writes of a thread; `kernel_bytes` of kernel frames follow.
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

// By the address of the kernel's structure of the thread.
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

// What a new entry of `waits` is made from; and one for `sweep`, which may be interrupted by a switch.
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

// Whether the thread is in the kernel for a system call (and not for a fault, or taken off its CPU).
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
static __always_inline void leave(struct task_struct *task, int preempted, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct scratch *scratch;
	unsigned int state;

	if (!wait) {
		scratch = bpf_map_lookup_elem(&scratches, &zero);
		if (!scratch || !identify(task, set, &scratch->head))
			return;
	}
	state = BPF_CORE_READ(task, __state);
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
	wait->pid = scratch->head.pid;
	wait->tid = scratch->head.tid;
	bpf_get_current_comm(wait->comm, COMM_BYTES);
	if (bpf_map_update_elem(&waits, &key, wait, BPF_ANY)) {
		struct totals *total = bpf_map_lookup_elem(&totals, &zero);

		if (total)
			total->unseen++;
	}
}

// Puts into `scratch` all of a record but registers and stack.
static __always_inline void begin_record(struct wait *wait, struct scratch *scratch)
{
	empty(scratch);
	scratch->head.period = wait->period;
	scratch->head.pid = wait->pid;
	scratch->head.tid = wait->tid;
	scratch->head.kernel_bytes = 8 + wait->kernel_bytes;
	__builtin_memcpy(scratch->head.comm, wait->comm, COMM_BYTES);
	scratch->kernel[0] = wait->count;
	bpf_probe_read_kernel(&scratch->kernel[1], WAIT_BYTES, wait->kernel);
	wait->period = 0;
	wait->count = 0;
}

// Records the wait of a thread that is not in a system call: without stack, which is another's memory.
static __always_inline void record_at_once(struct wait *wait, void *registers, const struct settings *set)
{
	__u32 zero = 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);

	if (!scratch || !count)
		return;
	begin_record(wait, scratch);
	if (!bpf_probe_read_kernel(scratch->head.registers, sizeof(scratch->head.registers), registers)
	    && scratch->head.registers[WORD_PC] && scratch->head.registers[WORD_SP]) {
		scratch->head.flags |= HAS_REGISTERS;
		scratch->head.stack_start = scratch->head.registers[WORD_SP];
	}
	count->seen++;
	if (write_record(scratch, BPF_RB_NO_WAKEUP, 1024, 0) != WRITTEN)
		count->lost++;
}

// A thread gets a CPU.
static __always_inline void go_on(struct task_struct *task, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct chance *ask;
	struct totals *total;
	__u64 waited, period;
	void *registers;
	long bytes = 0;

	if (!wait || !wait->since)
		return;
	ask = bpf_map_lookup_elem(&chance, &zero);
	total = bpf_map_lookup_elem(&totals, &zero);
	if (!ask || !total)
		return;
	waited = bpf_ktime_get_ns() - wait->since;
	wait->since = 0;
	total->waits++;
	total->nanoseconds += waited;
	period = waited;
	if (waited < ask->interval_ns) {
		if (((__u64)bpf_get_prandom_u32() * ask->interval_ns) >> 32 >= waited)
			return;
		period = ask->interval_ns;
	}
	wait->period += period;
	wait->count += waited ? period * ONE_WAIT / waited : ONE_WAIT;
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, wait->kernel, WAIT_BYTES, 0);
	wait->kernel_bytes = bytes > 0 && bytes <= WAIT_BYTES ? bytes : 0;
	registers = (void *)bpf_task_pt_regs(task);
	if (!in_system_call(registers))
		record_at_once(wait, registers, set);
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
	leave(from, preempted, set);
	go_on(to, set);
	return 0;
}

// sys_exit(registers, result): in the thread whose system call ends.
SEC("raw_tracepoint/sys_exit")
int returned(void *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&waits, &key);
	struct settings *set;
	struct scratch *scratch;

	if (!wait || !wait->period)
		return 0;
	set = bpf_map_lookup_elem(&settings, &zero);
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!set || !scratch)
		return 0;
	begin_record(wait, scratch);
	bpf_get_current_comm(scratch->head.comm, COMM_BYTES);
	take_registers(0, &scratch->head);
	finish(task, set, scratch);
	return 0;
}

// Begins the wait of a thread that has slept since before anybody looked.
static __always_inline void seed(struct task_struct *task, __u32 pid, const struct settings *set)
{
	__u64 key = (__u64)task;
	__u32 zero = 0;
	struct wait *wait = bpf_map_lookup_elem(&swept_blank, &zero);

	if (!wait || !BPF_CORE_READ(task, __state))
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
	struct chance *ask = bpf_map_lookup_elem(&chance, &zero);
	struct wait *kernel = bpf_map_lookup_elem(&swept_blank, &zero);
	struct wait *wait;
	__u64 since, now;
	long bytes = 0;

	if (!task || !set || !ask || !kernel)
		return 0;
	swept.pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
	if (!swept.pid || !bpf_map_lookup_elem(&targets, &swept.pid))
		return 0;
	wait = bpf_map_lookup_elem(&waits, &key);
	if (ask->sweeping == BEGIN) {
		if (!wait)
			seed(task, swept.pid, set);
		return 0;
	}
	since = wait ? wait->since : 0;
	if (!since || !wait)
		return 0;
	now = bpf_ktime_get_ns();
	// What has been handed over is not recorded a second time. One that has just gone on waits no more.
	wait->since = ask->sweeping == SPLIT && BPF_CORE_READ(task, __state) ? now : 0;
	swept.tid = wait->tid;
	swept.waited_ns = now - since;
	swept.turns = BPF_CORE_READ(task, sched_info.pcount);
	bpf_probe_read_kernel(swept.registers, sizeof(swept.registers), (void *)bpf_task_pt_regs(task));
	if (set->kernel_stacks)
		bytes = bpf_get_task_stack(task, kernel->kernel, WAIT_BYTES, 0);
	if (bytes > 0 && bytes <= WAIT_BYTES)
		swept.kernel_bytes = bytes;
	bpf_seq_write(context->meta->seq, &swept, sizeof(swept));
	if (bytes > 0 && bytes <= WAIT_BYTES)
		bpf_seq_write(context->meta->seq, kernel->kernel, bytes);
	return 0;
}
