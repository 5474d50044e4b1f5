// SPDX-License-Identifier: GPL-2.0
/* The operations: a table from a script's words to the kernel's functions. A body's steps are the same operations. */
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>

#include "oracle.h"

struct call {
	const char *actor;
	struct oracle_work *self; /* the work whose body calls, or NULL */
	struct oracle_work *w;
	struct oracle_queue *q;
	struct oracle_gate *g;
	long n[2]; /* numbers, in their order */
};

static struct workqueue_struct *wq(struct call *c)
{
	return c->q->wq;
}

static struct work_struct *work(struct call *c)
{
	return &c->w->item.work;
}

static unsigned long ticks(long ms)
{
	return msecs_to_jiffies(ms);
}

static long queue(struct call *c) { return queue_work(wq(c), work(c)); }
static long queue_on(struct call *c) { return queue_work_on(c->n[0], wq(c), work(c)); }
static long queue_delayed(struct call *c) { return queue_delayed_work(wq(c), &c->w->item, ticks(c->n[0])); }
static long queue_delayed_on(struct call *c)
{
	return queue_delayed_work_on(c->n[0], wq(c), &c->w->item, ticks(c->n[1]));
}
static long mod_delayed(struct call *c) { return mod_delayed_work(wq(c), &c->w->item, ticks(c->n[0])); }
static long mod_delayed_on(struct call *c)
{
	return mod_delayed_work_on(c->n[0], wq(c), &c->w->item, ticks(c->n[1]));
}
static long cancel(struct call *c) { return cancel_work(work(c)); }
static long cancel_sync(struct call *c) { return cancel_work_sync(work(c)); }
static long cancel_delayed(struct call *c) { return cancel_delayed_work(&c->w->item); }
static long cancel_delayed_sync(struct call *c) { return cancel_delayed_work_sync(&c->w->item); }
static long flush(struct call *c) { return flush_work(work(c)); }
static long flush_delayed(struct call *c) { return flush_delayed_work(&c->w->item); }
static long disable(struct call *c) { return disable_work(work(c)); }
static long disable_sync(struct call *c) { return disable_work_sync(work(c)); }
static long disable_delayed(struct call *c) { return disable_delayed_work(&c->w->item); }
static long disable_delayed_sync(struct call *c) { return disable_delayed_work_sync(&c->w->item); }
static long enable(struct call *c) { return enable_work(work(c)); }
static long enable_delayed(struct call *c) { return enable_delayed_work(&c->w->item); }
static long pending(struct call *c) { return work_pending(work(c)); }
static long busy(struct call *c) { return work_busy(work(c)); }
static long congested(struct call *c) { return workqueue_congested(c->n[0], wq(c)); }
static long flush_queue(struct call *c) { flush_workqueue(wq(c)); return 0; }
static long drain(struct call *c) { drain_workqueue(wq(c)); return 0; }
static long set_max_active(struct call *c) { workqueue_set_max_active(wq(c), c->n[0]); return 0; }
static long freeze(struct call *c) { oracle_freeze(true); return 0; }
static long thaw(struct call *c) { oracle_freeze(false); return 0; }

static long destroy(struct call *c)
{
	struct workqueue_struct *gone = wq(c);

	destroy_workqueue(gone);
	c->q->wq = NULL;
	return 0;
}

/* In a body: queues the work itself again, at its first N runs. */
static long requeue(struct call *c)
{
	return c->self->runs <= c->n[0] ? queue_work(wq(c), &c->self->item.work) : -1;
}

static bool passes(struct oracle_gate *gate, unsigned int since)
{
	return READ_ONCE(gate->open) || READ_ONCE(gate->pulses) != since || oracle_stopping();
}

static long gate(struct call *c)
{
	unsigned int since = READ_ONCE(c->g->pulses);

	wait_event(c->g->waiters, passes(c->g, since));
	return 0;
}

/* Keeps its CPU, but for those who ask the scheduler for it. */
static long spin(struct call *c)
{
	unsigned int since = READ_ONCE(c->g->pulses);

	while (!passes(c->g, since)) {
		cpu_relax();
		cond_resched();
	}
	return 0;
}

static long let_through(struct call *c, bool open)
{
	WRITE_ONCE(c->g->pulses, c->g->pulses + 1);
	if (open)
		WRITE_ONCE(c->g->open, true);
	wake_up_all(&c->g->waiters);
	return 0;
}

static long pulse(struct call *c) { return let_through(c, false); }
static long open_gate(struct call *c) { return let_through(c, true); }
static long close_gate(struct call *c) { WRITE_ONCE(c->g->open, false); return 0; }

/* takes: w a work, d a delayed work, q a queue, g a gate, n a number. */
static const struct {
	const char *word;
	const char *takes;
	long (*function)(struct call *c);
} ops[] = {
	{ "queue", "wq", queue },
	{ "queue_on", "nwq", queue_on },
	{ "queue_delayed", "dqn", queue_delayed },
	{ "queue_delayed_on", "ndqn", queue_delayed_on },
	{ "mod_delayed", "dqn", mod_delayed },
	{ "mod_delayed_on", "ndqn", mod_delayed_on },
	{ "cancel", "w", cancel },
	{ "cancel_sync", "w", cancel_sync },
	{ "cancel_delayed", "d", cancel_delayed },
	{ "cancel_delayed_sync", "d", cancel_delayed_sync },
	{ "flush_work", "w", flush },
	{ "flush_delayed", "d", flush_delayed },
	{ "flush_workqueue", "q", flush_queue },
	{ "drain", "q", drain },
	{ "destroy", "q", destroy },
	{ "disable", "w", disable },
	{ "disable_sync", "w", disable_sync },
	{ "disable_delayed", "d", disable_delayed },
	{ "disable_delayed_sync", "d", disable_delayed_sync },
	{ "enable", "w", enable },
	{ "enable_delayed", "d", enable_delayed },
	{ "pending", "w", pending },
	{ "busy", "w", busy },
	{ "congested", "qn", congested },
	{ "set_max_active", "qn", set_max_active },
	{ "freeze", "", freeze },
	{ "thaw", "", thaw },
	{ "requeue", "qn", requeue },
	{ "gate", "g", gate },
	{ "spin", "g", spin },
	{ "pulse", "g", pulse },
	{ "open", "g", open_gate },
	{ "close", "g", close_gate },
};

static bool argument(struct call *c, char kind, const char *word, int *numbers)
{
	if (!word)
		return false;
	switch (kind) {
	case 'w':
	case 'd':
		c->w = oracle_find_work(word);
		return c->w && (kind == 'w' || c->w->delayed);
	case 'q':
		c->q = oracle_find_queue(word);
		return c->q && c->q->wq;
	case 'g':
		c->g = oracle_find_gate(word);
		return c->g;
	default:
		return *numbers < ARRAY_SIZE(c->n) && !kstrtol(word, 10, &c->n[(*numbers)++]);
	}
}

int oracle_execute(const char *actor, struct oracle_work *self, const char *command)
{
	char words[ORACLE_LINE], *rest = words;
	struct call c = { .actor = actor, .self = self };
	const char *word;
	long value;
	int numbers = 0;

	strscpy(words, command, sizeof(words));
	word = strsep(&rest, " ");
	for (int i = 0; i < ARRAY_SIZE(ops); i++) {
		if (strcmp(word, ops[i].word))
			continue;
		for (const char *kind = ops[i].takes; *kind; kind++) {
			if (!argument(&c, *kind, strsep(&rest, " "), &numbers))
				return -EINVAL;
		}
		if (rest || (ops[i].function == requeue && !self))
			return -EINVAL;
		oracle_log("call %s %s\n", actor, command);
		value = ops[i].function(&c);
		oracle_log("return %s %ld\n", actor, value);
		return 0;
	}
	return -EINVAL;
}

void oracle_body(struct work_struct *item)
{
	struct oracle_work *self = container_of(item, struct oracle_work, item.work);

	self->runs++;
	oracle_log("start %s %d\n", self->name, raw_smp_processor_id());
	for (int i = 0; i < self->steps && !oracle_stopping(); i++) {
		if (oracle_execute(self->name, self, self->step[i]))
			oracle_log("error %s %s\n", self->name, self->step[i]);
	}
	oracle_log("end %s\n", self->name);
}
