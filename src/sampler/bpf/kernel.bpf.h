// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// What rprof's programs in the kernel have in common: the kernel types that they read, how many words
// the registers of a thread are, and which number a thread has in rprof's namespace.

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

struct mm_struct {
	unsigned long start_stack;
} KERNEL_TYPE;

struct sched_info {
	unsigned long pcount;
} KERNEL_TYPE;

#if defined(__TARGET_ARCH_x86)

// struct pt_regs (asm/ptrace.h): r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs
// flags sp ss.
#define REGISTER_WORDS 21
#define WORD_PC 16
#define WORD_CS 17
#define WORD_SP 19
// Where Go keeps the goroutine that runs: r14.
#define WORD_TASK 1

struct thread_struct {
	unsigned long fsbase;
} KERNEL_TYPE;

#elif defined(__TARGET_ARCH_arm64)

// struct user_pt_regs (asm/ptrace.h): x0 to x30, sp, pc, pstate; struct pt_regs begins with it.
#define REGISTER_WORDS 34
#define WORD_SP 31
#define WORD_PC 32
#define WORD_PSTATE 33
// Where Go keeps the goroutine that runs: x28.
#define WORD_TASK 28

struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
} KERNEL_TYPE;

#else
#error "no registers known for this CPU"
#endif

struct task_struct {
	unsigned int __state;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct sched_info sched_info;
	struct thread_struct thread;
	unsigned long sas_ss_sp;
	unsigned long sas_ss_size;
} KERNEL_TYPE;

// Namespaces nest at most this deep (MAX_PID_NS_LEVEL).
#define NAMESPACE_LEVELS 33

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
