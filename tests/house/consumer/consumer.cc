// SPDX-License-Identifier: Apache-2.0
// Somebody else's program on an installed upci: queues a work and waits for it, as the kernel's users do.
#include <workqueue/engine.h>
#include <workqueue/work.h>

#include <cstdio>

namespace {

class Counter {
 public:
  explicit Counter(upci::Engine& engine) : engine_(engine) {}
  int run_once() {
    engine_.schedule_work(work_);
    engine_.flush_work(work_);
    return runs_;
  }

 private:
  void count(upci::Work&) { ++runs_; }
  upci::Engine& engine_;
  int runs_ = 0;
  upci::Work work_{this, &Counter::count};
};

}  // namespace

int main() {
  auto engine = upci::Engine::create();
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message().c_str());
    return 1;
  }
  const int runs = Counter(**engine).run_once();
  std::printf("the work ran %d time(s)\n", runs);
  return runs == 1 ? 0 : 1;
}
