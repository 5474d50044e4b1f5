// SPDX-License-Identifier: GPL-2.0
/* The log: one buffer, one lock, so that the order of its lines is an order in which things were. */
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "oracle.h"

#define LOG_BYTES (1 << 20)

static DEFINE_SPINLOCK(lock);
static char *text; /* lock; its first `used` bytes do not change until the next session */
static size_t used; /* lock */

void oracle_log(const char *format, ...)
{
	unsigned long flags;
	va_list arguments;

	spin_lock_irqsave(&lock, flags);
	va_start(arguments, format);
	/* A full log shows itself: the runner misses the end of an operation. */
	used += vscnprintf(text + used, LOG_BYTES - used, format, arguments);
	va_end(arguments);
	spin_unlock_irqrestore(&lock, flags);
}

void oracle_log_reset(void)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	used = 0;
	spin_unlock_irqrestore(&lock, flags);
}

ssize_t oracle_log_read(char __user *to, size_t size, loff_t *offset)
{
	unsigned long flags;
	size_t end;

	spin_lock_irqsave(&lock, flags);
	end = used;
	spin_unlock_irqrestore(&lock, flags);
	if (*offset < 0 || *offset >= end)
		return 0;
	size = min_t(size_t, size, end - *offset);
	if (copy_to_user(to, text + *offset, size))
		return -EFAULT;
	*offset += size;
	return size;
}

int oracle_log_init(void)
{
	text = vzalloc(LOG_BYTES);
	return text ? 0 : -ENOMEM;
}

void oracle_log_exit(void)
{
	vfree(text);
}
