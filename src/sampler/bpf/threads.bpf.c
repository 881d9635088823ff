// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's thread dump that runs in the kernel: called once for each thread of a process when
// user space reads the iterator, it writes down the thread's user-space registers, all of them, and how
// often it has begun to run. Nothing is stopped and nothing waked.
//
// The registers of a thread that sleeps are those it left user space with. Its stack is read by user
// space, which then looks whether the thread has run since. Not here: anything about threads that run.
// Built by scripts/bpf; the layout of `struct record` is read in threads.rs.

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))

// Of each kernel type only the members used here; their offsets are settled when loading.
struct ns_common {
	unsigned int inum;
} KERNEL_TYPE;

struct pid_namespace {
	struct ns_common ns;
} KERNEL_TYPE;

struct upid {
	int nr;
	struct pid_namespace *ns;
} KERNEL_TYPE;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} KERNEL_TYPE;

struct sched_info {
	unsigned long pcount;
} KERNEL_TYPE;

struct task_struct {
	unsigned int __state;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct sched_info sched_info;
} KERNEL_TYPE;

// What the kernel hands to a program of this kind (include/linux/bpf.h).
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

// As cpu.bpf.c has them: struct pt_regs, or what it begins with.
#if defined(__TARGET_ARCH_x86)
#define REGISTER_WORDS 21
#elif defined(__TARGET_ARCH_arm64)
#define REGISTER_WORDS 34
#else
#error "no registers known for this CPU"
#endif

// Namespaces nest at most this deep (MAX_PID_NS_LEVEL).
#define NAMESPACE_LEVELS 33

struct record {
	__u32 tid;
	__u32 state;
	__u64 turns;
	__u64 registers[REGISTER_WORDS];
};

// What user space asks for.
struct wanted {
	// Inode number of the PID namespace whose numbers rprof speaks.
	__u32 namespace_inode;
	__u32 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wanted);
} wanted SEC(".maps");

// The number of a process or thread in rprof's namespace; 0 if it is not visible there.
static __always_inline __u32 number_of(struct task_struct *task, __u32 namespace_inode)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	void *numbers = __builtin_preserve_access_index(&pid->numbers);

	if (!pid)
		return 0;
	for (__u32 i = 0; i < NAMESPACE_LEVELS; i++) {
		struct upid *number = numbers + i * sizeof(struct upid);

		if (i > level)
			return 0;
		if (BPF_CORE_READ(number, ns, ns.inum) == namespace_inode)
			return BPF_CORE_READ(number, nr);
	}
	return 0;
}

SEC("iter/task")
int look(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct record record = {};
	struct wanted *ask;
	__u32 zero = 0;

	ask = bpf_map_lookup_elem(&wanted, &zero);
	if (!task || !ask)
		return 0;
	// Kernels before 6.1 show every thread of the machine.
	if (number_of(BPF_CORE_READ(task, group_leader), ask->namespace_inode) != ask->pid)
		return 0;
	record.tid = number_of(task, ask->namespace_inode);
	record.state = BPF_CORE_READ(task, __state);
	record.turns = BPF_CORE_READ(task, sched_info.pcount);
	if (bpf_probe_read_kernel(record.registers, sizeof(record.registers), (void *)bpf_task_pt_regs(task)))
		return 0;
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
