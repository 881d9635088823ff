// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's thread dump that runs in the kernel: called once for each thread of a process when
// user space reads the iterator, it writes down the thread's user-space registers, all of them, its name and
// how often it has started to run; its kernel stack too, if wanted. Nothing is stopped and nothing woken.
//
// The registers of a thread that is not on a CPU are those it left user space with. Its stack is read by
// user space, which then checks whether the thread has run since. Not here: stacks of running threads.
// Built by scripts/bpf; the layout of `struct record` is read in threads.rs.

#define WITH_CPU_TIME
#include "kernel.bpf.h"

// The arguments of a program of this kind (include/linux/bpf.h).
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#define KERNEL_FRAMES 127
// TASK_COMM_LEN.
#define COMM_BYTES 16

// More of task_struct than other programs read.
struct task_struct___with_name {
	char comm[COMM_BYTES];
} KERNEL_TYPE;

// What is written for a thread; `kernel_bytes` of kernel frames follow.
struct record {
	__u32 tid;
	// 1: it is on a CPU.
	__u32 running;
	__u64 turns;
	__u64 kernel_bytes;
	// CPU time, nanoseconds; what a running thread has used since the last tick may be missing.
	__u64 cpu_ns;
	__u64 thread_pointer;
	char comm[COMM_BYTES];
	__u64 registers[REGISTER_WORDS];
};

// Set by user space.
struct wanted {
	// Inode number of the PID namespace whose process numbers rprof uses.
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

// Whether a thread is on a CPU; others are ready to run, sleep, or are stopped. (Kernels for one CPU have no
// such member before Linux 6.17: those that are ready count as running there.)
static __always_inline __u32 is_running(struct task_struct *task)
{
	if (bpf_core_field_exists(task->on_cpu))
		return BPF_CORE_READ(task, on_cpu) != 0;
	return state_of(task) == 0;
}

SEC("iter/task")
int read_thread(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct task_struct___with_name *named = (void *)task;
	struct record record = {};
	struct kernel_stack *kernel;
	struct wanted *request;
	__u32 zero = 0;
	long bytes;

	request = bpf_map_lookup_elem(&wanted, &zero);
	kernel = bpf_map_lookup_elem(&kernel_stacks, &zero);
	if (!task || !request || !kernel)
		return 0;
	// Kernels before 6.1 visit every thread of the machine.
	if (number_of(BPF_CORE_READ(task, group_leader), request->namespace_inode) != request->pid)
		return 0;
	record.tid = number_of(task, request->namespace_inode);
	record.running = is_running(task);
	record.cpu_ns = BPF_CORE_READ(task, se.sum_exec_runtime);
#if defined(__TARGET_ARCH_x86)
	record.thread_pointer = BPF_CORE_READ(task, thread.fsbase);
#else
	record.thread_pointer = BPF_CORE_READ(task, thread.uw.tp_value);
#endif
	bpf_core_read(record.comm, sizeof(record.comm), &named->comm);
	record.turns = BPF_CORE_READ(task, sched_info.pcount);
	if (!copy_registers(record.registers, task))
		return 0;
	bytes = request->kernel_stacks ? bpf_get_task_stack(task, kernel, sizeof(*kernel), 0) : 0;
	if (bytes < 0 || bytes > sizeof(*kernel))
		bytes = 0;
	record.kernel_bytes = bytes;
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	USE_CHECKED_COPY(bytes);
	if (bytes > 0 && bytes <= sizeof(*kernel)) {
		__u32 size = bytes;

		USE_CHECKED_COPY(size);
		if (size <= sizeof(*kernel))
			bpf_seq_write(context->meta->seq, kernel, size);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
