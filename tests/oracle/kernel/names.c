// SPDX-License-Identifier: GPL-2.0
/* What a script has named: its queues, works and gates; how they come, and how a session ends. */
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "oracle.h"

static DEFINE_SPINLOCK(lock); /* the lists; entries only come while a session lasts; bodies may be in a bottom half */
static LIST_HEAD(queues);
static LIST_HEAD(works);
static LIST_HEAD(gates);
static bool stopping;
static bool frozen;

/* Not exported to modules; a probe on the symbol knows the address. NULL where that is not possible. */
static void (*freeze_begin)(void);
static void (*thaw)(void);

#define FIND(type, list, wanted)                                     \
	({                                                           \
		struct type *entry, *found = NULL;                   \
		unsigned long flags;                                 \
		spin_lock_irqsave(&lock, flags);                     \
		list_for_each_entry(entry, &(list), link) {          \
			if (!strcmp(entry->name, (wanted)))          \
				found = entry;                       \
		}                                                    \
		spin_unlock_irqrestore(&lock, flags);                \
		found;                                               \
	})

static void add(struct list_head *link, struct list_head *list)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	list_add_tail(link, list);
	spin_unlock_irqrestore(&lock, flags);
}

struct oracle_queue *oracle_find_queue(const char *name)
{
	return FIND(oracle_queue, queues, name);
}

struct oracle_work *oracle_find_work(const char *name)
{
	return FIND(oracle_work, works, name);
}

struct oracle_gate *oracle_find_gate(const char *name)
{
	struct oracle_gate *gate = FIND(oracle_gate, gates, name);
	struct oracle_gate *made, *entry;
	unsigned long flags;

	if (gate)
		return gate;
	made = kzalloc(sizeof(*made), GFP_KERNEL);
	if (!made)
		return NULL;
	strscpy(made->name, name, sizeof(made->name));
	init_waitqueue_head(&made->waiters);
	/* Two may come here at once: the first one stays. */
	spin_lock_irqsave(&lock, flags);
	list_for_each_entry(entry, &gates, link) {
		if (!strcmp(entry->name, name))
			gate = entry;
	}
	if (!gate) {
		list_add_tail(&made->link, &gates);
		gate = made;
		made = NULL;
	}
	spin_unlock_irqrestore(&lock, flags);
	kfree(made);
	return gate;
}

static unsigned int flag_of(const char *word)
{
	static const struct {
		const char *word;
		unsigned int flag;
	} flags[] = {
		{ "unbound", WQ_UNBOUND },         { "highpri", WQ_HIGHPRI },
		{ "freezable", WQ_FREEZABLE },     { "mem_reclaim", WQ_MEM_RECLAIM },
		{ "cpu_intensive", WQ_CPU_INTENSIVE }, { "power_efficient", WQ_POWER_EFFICIENT },
		{ "bh", WQ_BH },
	};

	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		if (!strcmp(word, flags[i].word))
			return flags[i].flag;
	}
	return 0;
}

/* NAME MAX_ACTIVE FLAG...; percpu is the absence of unbound here. */
int oracle_new_queue(char *text)
{
	const char *name = strsep(&text, " "), *limit = strsep(&text, " "), *word;
	struct oracle_queue *queue;
	unsigned int flags = 0;
	bool ordered = false;
	int max_active;

	if (!limit || kstrtoint(limit, 10, &max_active) || oracle_find_queue(name))
		return -EINVAL;
	while ((word = strsep(&text, " "))) {
		unsigned int flag = flag_of(word);

		if (!strcmp(word, "ordered"))
			ordered = true;
		else if (!flag && strcmp(word, "percpu"))
			return -EINVAL;
		flags |= flag;
	}
	queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	if (!queue)
		return -ENOMEM;
	strscpy(queue->name, name, sizeof(queue->name));
	queue->wq = ordered ? alloc_ordered_workqueue("oracle-%s", flags, name) :
			      alloc_workqueue("oracle-%s", flags, max_active, name);
	if (!queue->wq) {
		kfree(queue);
		return -EINVAL;
	}
	add(&queue->link, &queues);
	return 0;
}

/* NAME STEP; STEP; ... */
int oracle_new_work(char *text, bool delayed)
{
	const char *name = strsep(&text, " ");
	struct oracle_work *work;
	char *step;

	if (!name || oracle_find_work(name))
		return -EINVAL;
	work = kzalloc(sizeof(*work), GFP_KERNEL);
	if (!work)
		return -ENOMEM;
	strscpy(work->name, name, sizeof(work->name));
	work->delayed = delayed;
	while ((step = strsep(&text, ";"))) {
		step = strim(step);
		if (!*step)
			continue;
		if (work->steps == ORACLE_STEPS || strscpy(work->step[work->steps++], step, ORACLE_LINE) < 0) {
			kfree(work);
			return -EINVAL;
		}
	}
	if (delayed)
		INIT_DELAYED_WORK(&work->item, oracle_body);
	else
		INIT_WORK(&work->item.work, oracle_body);
	add(&work->link, &works);
	return 0;
}

bool oracle_stopping(void)
{
	return READ_ONCE(stopping);
}

static void *address_of(const char *symbol)
{
	struct kprobe probe = { .symbol_name = symbol };
	void *address;

	if (register_kprobe(&probe))
		return NULL;
	address = probe.addr;
	unregister_kprobe(&probe);
	return address;
}

int oracle_find_freezer(void)
{
	freeze_begin = address_of("freeze_workqueues_begin");
	thaw = address_of("thaw_workqueues");
	return freeze_begin && thaw ? 0 : -ENOENT;
}

void oracle_freeze(bool freeze)
{
	if (!freeze_begin || !thaw || freeze == frozen)
		return;
	frozen = freeze;
	if (freeze)
		freeze_begin();
	else
		thaw();
}

/*
 * Queued on a draining queue from outside: the kernel drops such a work and leaves it pending, on no list, for ever. To cancel
 * it would be to spin for ever.
 */
static bool dropped(struct oracle_work *work)
{
	unsigned long data = atomic_long_read(&work->item.work.data);

	return (data & WORK_STRUCT_PENDING) && !(data & WORK_STRUCT_PWQ) &&
	       !(work->delayed && timer_pending(&work->item.timer));
}

/* Lets everything come to its end, so that nobody waits any more. */
void oracle_quit(void)
{
	struct oracle_gate *gate;
	struct oracle_work *work;

	WRITE_ONCE(stopping, true);
	list_for_each_entry(gate, &gates, link) {
		WRITE_ONCE(gate->open, true);
		wake_up_all(&gate->waiters);
	}
	oracle_freeze(false);
	msleep(2); /* whoever is between setting PENDING and queueing has got there */
	list_for_each_entry(work, &works, link) {
		if (dropped(work))
			continue;
		if (work->delayed)
			cancel_delayed_work_sync(&work->item);
		else
			cancel_work_sync(&work->item.work);
	}
}

void oracle_forget(void)
{
	struct oracle_queue *queue, *next_queue;
	struct oracle_work *work, *next_work;
	struct oracle_gate *gate, *next_gate;

	list_for_each_entry_safe(queue, next_queue, &queues, link) {
		if (queue->wq)
			destroy_workqueue(queue->wq);
		list_del(&queue->link);
		kfree(queue);
	}
	list_for_each_entry_safe(work, next_work, &works, link) {
		list_del(&work->link);
		kfree(work);
	}
	list_for_each_entry_safe(gate, next_gate, &gates, link) {
		list_del(&gate->link);
		kfree(gate);
	}
	WRITE_ONCE(stopping, false);
}
