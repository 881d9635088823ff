// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's trace that runs in the kernel: a short record each time that a thread of a target
// gets a CPU (`trace_switched`), leaves it and why, is woken and by whom (`trace_waking`), or is made
// (`trace_made`). Nothing is copied from a process and nothing written into one.
//
// Who wakes is who runs on the CPU at that moment: what an interrupt wakes is charged to whom it
// interrupted. Built by scripts/bpf; `struct moment` is read in trace.rs.

#include "kernel.bpf.h"

// Of the states of a thread: it ends (TASK_DEAD, linux/sched.h).
#define DEAD 0x80

#define RUNS 1
#define LEAVES 2
#define WOKEN 3
#define MADE 4

#define COMM_BYTES 16

struct moment {
	__u64 time_ns;
	__u32 pid;
	__u32 tid;
	__u32 cpu;
	// Who wakes or makes it.
	__u32 by_tid;
	__u16 kind;
	// Preempted.
	__u16 preempted;
	// Of who leaves: 0 wants to run on.
	__u32 state;
	// The system call it leaves in; -1: none.
	__s64 system_call;
	// The name of who leaves, of who wakes.
	char comm[COMM_BYTES];
};

struct trace_settings {
	__u32 namespace_inode;
	__u32 first_namespace;
	__u64 wake_bytes;
};

struct who {
	__u32 pid;
	__u32 tid;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct trace_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

// Threads of targets, by the address of the kernel's structure.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct who);
} known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} ring SEC(".maps");

static __always_inline void one_lost(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		(*count)++;
}

// A record of a thread, to be filled and handed over.
static __always_inline struct moment *begin(const struct who *who, __u16 kind)
{
	struct moment *moment = bpf_ringbuf_reserve(&ring, sizeof(*moment), 0);

	if (!moment) {
		one_lost();
		return 0;
	}
	moment->time_ns = bpf_ktime_get_ns();
	moment->pid = who->pid;
	moment->tid = who->tid;
	moment->cpu = bpf_get_smp_processor_id();
	moment->by_tid = 0;
	moment->kind = kind;
	moment->preempted = 0;
	moment->state = 0;
	moment->system_call = -1;
	__builtin_memset(moment->comm, 0, COMM_BYTES);
	return moment;
}

static __always_inline void hand_over(struct moment *moment, const struct trace_settings *set)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	bpf_ringbuf_submit(moment, waiting >= set->wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

// Whether this is a target's thread, which is noted then.
static __always_inline int find(struct task_struct *task, int runs, const struct trace_settings *set, struct who *who)
{
	__u64 key = (__u64)task;
	struct who *before = bpf_map_lookup_elem(&known, &key);

	if (before) {
		*who = *before;
		return 1;
	}
	if (runs && set->first_namespace) {
		__u64 both = bpf_get_current_pid_tgid();

		who->pid = both >> 32;
		who->tid = (__u32)both;
	} else {
		who->pid = number_of(BPF_CORE_READ(task, group_leader), set->namespace_inode);
		who->tid = 0;
	}
	if (!who->pid || !bpf_map_lookup_elem(&targets, &who->pid))
		return 0;
	if (!who->tid)
		who->tid = number_of(task, set->namespace_inode);
	if (bpf_map_update_elem(&known, &key, who, BPF_ANY))
		one_lost();
	return 1;
}

static __always_inline __s64 system_call_of(struct task_struct *task)
{
	void *registers = (void *)bpf_task_pt_regs(task);
#if defined(__TARGET_ARCH_x86)
	// orig_ax of struct pt_regs.
	__s64 number = -1;

	bpf_probe_read_kernel(&number, sizeof(number), registers + 15 * 8);
#else
	// syscallno of struct pt_regs, behind struct user_pt_regs and orig_x0.
	__s32 number = -1;

	bpf_probe_read_kernel(&number, sizeof(number), registers + 35 * 8);
#endif
	return number;
}

// sched_switch(preempted, from, to).
SEC("tp_btf/sched_switch")
int trace_switched(__u64 *context)
{
	int preempted = (int)context[0];
	struct task_struct *from = (struct task_struct *)context[1];
	struct task_struct *to = (struct task_struct *)context[2];
	__u64 to_key = (__u64)to, from_key = (__u64)from;
	__u32 zero = 0;
	struct trace_settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct who who = {}, *next;
	struct moment *moment;

	if (!set)
		return 0;
	if (find(from, 1, set, &who)) {
		moment = begin(&who, LEAVES);
		if (moment) {
			moment->state = preempted ? 0 : BPF_CORE_READ(from, __state);
			moment->preempted = preempted;
			moment->system_call = system_call_of(from);
			bpf_get_current_comm(moment->comm, COMM_BYTES);
			hand_over(moment, set);
		}
		if (!preempted && BPF_CORE_READ(from, __state) & DEAD)
			bpf_map_delete_elem(&known, &from_key);
	}
	next = bpf_map_lookup_elem(&known, &to_key);
	if (next) {
		moment = begin(next, RUNS);
		if (moment)
			hand_over(moment, set);
	}
	return 0;
}

static __always_inline int woken(struct task_struct *task, __u16 kind)
{
	__u32 zero = 0;
	struct trace_settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct who who = {};
	struct moment *moment;

	if (!set || !find(task, 0, set, &who))
		return 0;
	moment = begin(&who, kind);
	if (!moment)
		return 0;
	if (set->first_namespace)
		moment->by_tid = (__u32)bpf_get_current_pid_tgid();
	else
		moment->by_tid = number_of((struct task_struct *)bpf_get_current_task(), set->namespace_inode);
	bpf_get_current_comm(moment->comm, COMM_BYTES);
	hand_over(moment, set);
	return 0;
}

// sched_waking(task): in the thread that wakes it.
SEC("tp_btf/sched_waking")
int trace_waking(__u64 *context)
{
	return woken((struct task_struct *)context[0], WOKEN);
}

// sched_wakeup_new(task): in the thread that has made it.
SEC("tp_btf/sched_wakeup_new")
int trace_made(__u64 *context)
{
	return woken((struct task_struct *)context[0], MADE);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
