// SPDX-License-Identifier: Apache-2.0
// The kernel's workqueue in a program that knows nothing of PCI: a work on each CPU, then a delayed one.
#include <base/wait.h>
#include <workqueue/engine.h>

#include <cstdio>
#include <deque>

struct Greeting {
  explicit Greeting(upci::Engine& of) : engine(of) {}
  void greet(upci::Work&) { std::printf("greetings from CPU %d\n", engine.current_worker_cpu()); }
  void leave(upci::Work&) { left.complete(); }
  upci::Engine& engine;
  upci::Completion left;
  upci::Work work{this, &Greeting::greet};
  upci::DelayedWork later{this, &Greeting::leave};
};

int main() {
  auto created = upci::Engine::create();
  if (!created) return std::fprintf(stderr, "%s\n", created.error().message().c_str()), 1;
  upci::Engine& engine = **created;
  std::deque<Greeting> greetings;
  for (const auto& cpu : engine.topology().cpus()) {
    engine.queue_work_on(cpu.id, engine.system_wq(), greetings.emplace_back(engine).work);
  }
  for (Greeting& one : greetings) engine.flush_work(one.work);
  engine.queue_delayed_work(engine.system_wq(), greetings.front().later, std::chrono::milliseconds(10));
  return greetings.front().left.wait(upci::Deadline::after(std::chrono::seconds(10))) ? 0 : 1;
}
