// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/upci_oracle: a write is one command, and takes as long as the kernel's function that it calls; a read gives the log.
 * Several threads of the runner write at once, each blocking on its own.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "oracle.h"

static atomic_t in_use = ATOMIC_INIT(0);

static int oracle_open(struct inode *inode, struct file *file)
{
	if (atomic_cmpxchg(&in_use, 0, 1))
		return -EBUSY;
	oracle_log_reset();
	return 0;
}

/* Comes when no write is under way any more. */
static int oracle_release(struct inode *inode, struct file *file)
{
	oracle_quit();
	oracle_forget();
	atomic_set(&in_use, 0);
	return 0;
}

static ssize_t oracle_read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	return oracle_log_read(to, size, offset);
}

static ssize_t oracle_write(struct file *file, const char __user *from, size_t size, loff_t *offset)
{
	char text[ORACLE_LINE * 2], *rest = text, *first;
	int error = 0;

	if (size == 0 || size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	text[size] = 0;
	first = strsep(&rest, " ");
	if (!strcmp(first, "quit"))
		oracle_quit();
	else if (!rest)
		error = -EINVAL;
	else if (!strcmp(first, "wq"))
		error = oracle_new_queue(rest);
	else if (!strcmp(first, "work"))
		error = oracle_new_work(rest, false);
	else if (!strcmp(first, "dwork"))
		error = oracle_new_work(rest, true);
	else
		error = oracle_execute(first, NULL, rest);
	return error ? error : size;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = oracle_open,
	.release = oracle_release,
	.read = oracle_read,
	.write = oracle_write,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "upci_oracle",
	.fops = &operations,
};

static int __init oracle_init(void)
{
	int error = oracle_log_init();

	if (error)
		return error;
	if (oracle_find_freezer())
		pr_warn("upci_oracle: the freezer's functions cannot be found: freeze and thaw do nothing\n");
	error = misc_register(&device);
	if (error)
		oracle_log_exit();
	return error;
}

static void __exit oracle_exit(void)
{
	misc_deregister(&device);
	oracle_log_exit();
}

module_init(oracle_init);
module_exit(oracle_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Runs scripted workqueue operations and logs what they did");
