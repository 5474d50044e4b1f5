/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel as the oracle: what the module's files share. tests/oracle/README.md describes the commands and the log.
 *
 * One session at a time. Names appear by commands and stay until the session ends, so a pointer that was looked up holds.
 */
#pragma once

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define ORACLE_NAME 24  /* bytes of a name, with its end */
#define ORACLE_STEPS 8  /* steps of a body */
#define ORACLE_LINE 160 /* bytes of a command or a step */

struct oracle_queue {
  struct list_head link;
  char name[ORACLE_NAME];
  struct workqueue_struct* wq; /* NULL once destroyed */
};

struct oracle_gate {
  struct list_head link;
  char name[ORACLE_NAME];
  wait_queue_head_t waiters;
  unsigned int pulses; /* a pulse lets through who waits now */
  bool open;
};

struct oracle_work {
  struct list_head link;
  char name[ORACLE_NAME];
  bool delayed;
  int runs; /* written by the body only; runs of one work do not overlap, or the log shows it */
  int steps;
  char step[ORACLE_STEPS][ORACLE_LINE];
  struct delayed_work item; /* a plain work uses its inner one only */
};

/* log.c: lines with an order that holds across CPUs */
__printf(1, 2) void oracle_log(const char* format, ...);
void oracle_log_reset(void);
ssize_t oracle_log_read(char __user* to, size_t size, loff_t* offset);
int oracle_log_init(void);
void oracle_log_exit(void);

/* names.c */
int oracle_new_queue(char* text);
int oracle_new_work(char* text, bool delayed);
struct oracle_queue* oracle_find_queue(const char* name);
struct oracle_work* oracle_find_work(const char* name);
struct oracle_gate* oracle_find_gate(const char* name); /* made where it is not there */
void oracle_quit(void);
void oracle_forget(void);
bool oracle_stopping(void);
int oracle_find_freezer(void);
void oracle_freeze(bool freeze);

/* ops.c */
int oracle_execute(const char* actor, struct oracle_work* self, const char* command);
void oracle_body(struct work_struct* work);
