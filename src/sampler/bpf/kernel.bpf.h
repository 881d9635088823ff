// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
//
// Shared by rprof's BPF programs: the kernel types that they read, a thread's registers and state, and a
// thread's number in rprof's PID namespace.

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

// Makes the compiler check and use the same copy of a number. Otherwise it may check one copy and use
// another, and verifiers up to Linux 6.12 know only the bounds of the copy that was checked.
#define USE_CHECKED_COPY(x) asm volatile("" : "+r"(x))

#define KERNEL_TYPE __attribute__((preserve_access_index))

// Of each kernel type only the members used here; the loader sets their offsets.
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

// Only its size is used.
struct pt_regs {
	unsigned long sp;
} KERNEL_TYPE;

#if defined(__TARGET_ARCH_x86)

// struct pt_regs (asm/ptrace.h): r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs
// flags sp ss.
#define REGISTER_WORDS 21
#define WORD_PC 16
#define WORD_CS 17
#define WORD_SP 19

struct thread_struct {
	unsigned long fsbase;
} KERNEL_TYPE;

#elif defined(__TARGET_ARCH_arm64)

// struct user_pt_regs (asm/ptrace.h): x0 to x30, sp, pc, pstate; struct pt_regs begins with it.
#define REGISTER_WORDS 34
#define WORD_SP 31
#define WORD_PC 32
#define WORD_PSTATE 33

struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
} KERNEL_TYPE;

#else
#error "no registers known for this CPU"
#endif

#if defined(WITH_CPU_TIME)
struct sched_entity {
	__u64 sum_exec_runtime;
} KERNEL_TYPE;
#endif

struct task_struct {
#if defined(WITH_CPU_TIME)
	int on_cpu;
	struct sched_entity se;
#endif
	unsigned int __state;
	void *stack;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct sched_info sched_info;
	struct thread_struct thread;
	unsigned long sas_ss_sp;
	unsigned long sas_ss_size;
} KERNEL_TYPE;

// The name of `__state` before Linux 5.14.
struct task_struct___before_5_14 {
	long state;
} KERNEL_TYPE;

// The state of a thread (linux/sched.h); 0: it runs or is ready to run.
static __always_inline unsigned int state_of(struct task_struct *task)
{
	struct task_struct___before_5_14 *old = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ(old, state);
}

#if defined(BEFORE_5_15)

// THREAD_SIZE of the kernel with pages of 4 or 16 KiB.
#define KERNEL_STACK_BYTES 16384

static __always_inline int is_user_mode(const __u64 *registers)
{
#if defined(__TARGET_ARCH_x86)
	return (registers[WORD_CS] & 3) == 3;
#else
	return (registers[WORD_PSTATE] & 0xf) == 0;
#endif
}

// Where the kernel keeps the user-space registers of a thread: at the top of its kernel stack. (The helper
// bpf_task_pt_regs came with Linux 5.15.)
static __always_inline void *registers_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, stack) + KERNEL_STACK_BYTES - bpf_core_type_size(struct pt_regs);
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

#else

static __always_inline void *registers_of(struct task_struct *task)
{
	return (void *)bpf_task_pt_regs(task);
}

// The thread that runs, as a pointer that `registers_of` accepts.
static __always_inline struct task_struct *current_task(void)
{
	return bpf_get_current_task_btf();
}

#endif

// Copies the user-space registers of a thread. 0: it has none, as a thread of the kernel.
static __always_inline int copy_registers(__u64 *to, struct task_struct *task)
{
	if (bpf_probe_read_kernel(to, REGISTER_WORDS * sizeof(*to), registers_of(task)))
		return 0;
#if defined(BEFORE_5_15)
	// The place is computed, so what is there is checked.
	if (!is_user_mode(to)) {
		to[WORD_PC] = 0;
		return 0;
	}
#endif
	return to[WORD_PC] && to[WORD_SP];
}

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
