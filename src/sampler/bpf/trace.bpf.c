// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// The part of rprof's trace that runs in the kernel: a short record each time that a thread of a target
// gets or leaves a CPU (`trace_switched`), is woken by another (`trace_waking`), or is created
// (`trace_made`). Nothing is copied from a process and nothing is written into one.
//
// The waker is the thread that runs on the CPU: a wake-up by an interrupt is attributed to the thread that
// it interrupted. Built by scripts/bpf; `struct event` is read in trace.rs.

#include "kernel.bpf.h"

// State of a thread that ends (TASK_DEAD, linux/sched.h).
#define DEAD 0x80

#define RUNS 1
#define LEAVES 2
#define WOKEN 3
#define MADE 4

#define COMM_BYTES 16

struct event {
	__u64 time_ns;
	__u32 pid;
	__u32 tid;
	__u32 cpu;
	// The thread that wakes or creates it.
	__u32 by_tid;
	__u16 kind;
	// Preempted.
	__u16 preempted;
	// State of the thread that leaves its CPU; 0: it is ready to run.
	__u32 state;
	// The system call in which it leaves its CPU; -1: none.
	__s64 system_call;
	// Name of the thread that leaves its CPU, or that wakes or creates another.
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

// Threads of targets, by the address of their task_struct.
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

// Reserves a record about a thread, to be filled and submitted.
static __always_inline struct event *begin(const struct who *who, __u16 kind)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		one_lost();
		return 0;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->pid = who->pid;
	event->tid = who->tid;
	event->cpu = bpf_get_smp_processor_id();
	event->by_tid = 0;
	event->kind = kind;
	event->preempted = 0;
	event->state = 0;
	event->system_call = -1;
	__builtin_memset(event->comm, 0, COMM_BYTES);
	return event;
}

static __always_inline void hand_over(struct event *event, const struct trace_settings *set)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	bpf_ringbuf_submit(event, waiting >= set->wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

// Whether this is a target's thread, which is then added to `known`.
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
	void *registers = registers_of(task);
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
	struct event *event;

	if (!set)
		return 0;
	if (find(from, 1, set, &who)) {
		event = begin(&who, LEAVES);
		if (event) {
			event->state = preempted ? 0 : state_of(from);
			event->preempted = preempted;
			event->system_call = system_call_of(from);
			bpf_get_current_comm(event->comm, COMM_BYTES);
			hand_over(event, set);
		}
		if (!preempted && state_of(from) & DEAD)
			bpf_map_delete_elem(&known, &from_key);
	}
	next = bpf_map_lookup_elem(&known, &to_key);
	if (next) {
		event = begin(next, RUNS);
		if (event)
			hand_over(event, set);
	}
	return 0;
}

static __always_inline int woken(struct task_struct *task, __u16 kind)
{
	__u32 zero = 0;
	struct trace_settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct who who = {};
	struct event *event;

	if (!set || !find(task, 0, set, &who))
		return 0;
	event = begin(&who, kind);
	if (!event)
		return 0;
	if (set->first_namespace)
		event->by_tid = (__u32)bpf_get_current_pid_tgid();
	else
		event->by_tid = number_of((struct task_struct *)bpf_get_current_task(), set->namespace_inode);
	bpf_get_current_comm(event->comm, COMM_BYTES);
	hand_over(event, set);
	return 0;
}

// sched_waking(task): called in the thread that wakes it.
SEC("tp_btf/sched_waking")
int trace_waking(__u64 *context)
{
	return woken((struct task_struct *)context[0], WOKEN);
}

// sched_wakeup_new(task): called in the thread that has created it.
SEC("tp_btf/sched_wakeup_new")
int trace_made(__u64 *context)
{
	return woken((struct task_struct *)context[0], MADE);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
