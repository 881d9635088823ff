// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's thread dump that runs in the kernel: called once for each thread of a process when
// user space reads the iterator, it writes down the thread's user-space registers, all of them, and how
// often it has begun to run; its kernel stack too, if wanted. Nothing is stopped and nothing waked.
//
// The registers of a thread that sleeps are those it left user space with. Its stack is read by user
// space, which then looks whether the thread has run since. Not here: anything about threads that run.
// Built by scripts/bpf; the layout of `struct record` is read in threads.rs.

#include "kernel.bpf.h"

// What the kernel hands to a program of this kind (include/linux/bpf.h).
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#define KERNEL_FRAMES 127

// What is written of a thread; `kernel_bytes` of kernel frames follow.
struct record {
	__u32 tid;
	__u32 state;
	__u64 turns;
	__u64 kernel_bytes;
	__u64 registers[REGISTER_WORDS];
};

// What user space asks for.
struct wanted {
	// Inode number of the PID namespace whose numbers rprof speaks.
	__u32 namespace_inode;
	__u32 pid;
	__u64 kernel_stacks;
};

struct kernel_stack {
	__u64 frames[KERNEL_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kernel_stack);
} kernel_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wanted);
} wanted SEC(".maps");

SEC("iter/task")
int look(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct record record = {};
	struct kernel_stack *kernel;
	struct wanted *ask;
	__u32 zero = 0;
	long bytes;

	ask = bpf_map_lookup_elem(&wanted, &zero);
	kernel = bpf_map_lookup_elem(&kernel_stacks, &zero);
	if (!task || !ask || !kernel)
		return 0;
	// Kernels before 6.1 show every thread of the machine.
	if (number_of(BPF_CORE_READ(task, group_leader), ask->namespace_inode) != ask->pid)
		return 0;
	record.tid = number_of(task, ask->namespace_inode);
	record.state = BPF_CORE_READ(task, __state);
	record.turns = BPF_CORE_READ(task, sched_info.pcount);
	if (bpf_probe_read_kernel(record.registers, sizeof(record.registers), (void *)bpf_task_pt_regs(task)))
		return 0;
	bytes = ask->kernel_stacks ? bpf_get_task_stack(task, kernel, sizeof(*kernel), 0) : 0;
	if (bytes > 0 && bytes <= sizeof(*kernel))
		record.kernel_bytes = bytes;
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	if (bytes > 0 && bytes <= sizeof(*kernel))
		bpf_seq_write(context->meta->seq, kernel, bytes);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
