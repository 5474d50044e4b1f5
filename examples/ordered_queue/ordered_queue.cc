// SPDX-License-Identifier: Apache-2.0
// An ordered workqueue runs its items one at a time, in the order of their queueing, on whatever CPU: a lock and a line in
// one. Beside it, the same items on an ordinary queue.
//
//   build/bin/ordered_queue
#include <array>
#include <cstdio>
#include <string>

#include "base/wait.h"
#include "workqueue/engine.h"

using namespace upci;

// What the items share. The ordered queue is all the protection that it needs.
struct Log {
  std::string text;
  platform::Atomic<int> running{0};
  platform::Atomic<int> most{0};
};

struct Entry {
  void write(Work&) {
    const int now = log->running.fetch_add(1) + 1;
    if (now > log->most.load()) log->most.store(now);
    sleep_for(std::chrono::milliseconds(1));  // others could start meanwhile, if the queue let them
    if (keeps_text) log->text += " " + std::to_string(number);
    log->running.fetch_sub(1);
  }
  Log* log = nullptr;
  int number = 0;
  bool keeps_text = false;
  Work work{this, &Entry::write};
};

static bool run(Engine& engine, Workqueue& wq, Log& log) {
  std::array<Entry, 10> entries;
  const auto& cpus = engine.topology().cpus();
  bool all = true;
  for (std::size_t i = 0; i < entries.size(); i++) {
    entries[i].log = &log;
    entries[i].number = static_cast<int>(i);
    entries[i].keeps_text = wq.is_ordered();
    // From all over the machine: the order is that of these calls nevertheless.
    all = engine.queue_work_on(cpus[i % cpus.size()].id, wq, entries[i].work) && all;
  }
  engine.flush_workqueue(wq);  // the entries are on the stack
  return all;
}

int main() {
  auto engine = Engine::create();
  if (!engine) return 1;
  auto ordered = (*engine)->alloc_ordered_workqueue("log");
  auto ordinary = (*engine)->alloc_workqueue("ordinary", kWqUnbound);
  if (!ordered || !ordinary) return 1;
  Log in_order;
  Log at_once;
  if (!run(**engine, **ordered, in_order) || !run(**engine, **ordinary, at_once)) return 1;
  std::printf("ordinary queue: up to %d at once\n", at_once.most.load());
  std::printf("ordered queue: up to %d at once, in order:%s\n", in_order.most.load(), in_order.text.c_str());
  return in_order.most.load() == 1 ? 0 : 1;
}
