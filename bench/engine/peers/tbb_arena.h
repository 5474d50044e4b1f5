// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include <utility>
#include <vector>

namespace bench {

/// An arena that has one worker on each of the CPUs given, and no place for a thread from outside.
class TbbArena {
  class Observer : public tbb::task_scheduler_observer {
   public:
    Observer(tbb::task_arena& arena, std::vector<int> cpus)
        : tbb::task_scheduler_observer(arena), cpus_(std::move(cpus)) {
      observe(true);
    }
    ~Observer() override { observe(false); }
    Observer(const Observer&) = delete;
    Observer& operator=(const Observer&) = delete;
    void on_scheduler_entry(bool worker) override;

   private:
    std::vector<int> cpus_;
  };

  tbb::global_control limit_;  // before the arena: it counts when the workers are made

 public:
  explicit TbbArena(const std::vector<int>& cpus);
  tbb::task_arena arena;

 private:
  Observer observer_;
};

}  // namespace bench
