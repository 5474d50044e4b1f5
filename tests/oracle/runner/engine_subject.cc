// SPDX-License-Identifier: Apache-2.0
// What a session names: its queues, works and gates; how it ends. Its operations: engine_ops.cc.
#include "tests/oracle/runner/engine_subject.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "tests/oracle/runner/script.h"

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

constexpr auto kFlags = std::to_array<std::pair<std::string_view, WqFlags>>({
    {"percpu", kWqPercpu},
    {"unbound", kWqUnbound},
    {"highpri", kWqHighpri},
    {"freezable", kWqFreezable},
    {"mem_reclaim", kWqMemReclaim},
    {"cpu_intensive", kWqCpuIntensive},
    {"power_efficient", kWqPowerEfficient},
    {"bh", kWqBh},
});

}  // namespace

void Gate::wait() {
  Completion passed;
  {
    std::lock_guard guard(mutex_);
    if (open_.load()) return;
    waiters_.push_back(&passed);
  }
  passed.wait();
}

void Gate::spin() {
  unsigned since = 0;
  {
    std::lock_guard guard(mutex_);
    since = pulses_.load();
    if (!open_.load()) spinning_.insert(platform::this_thread::id());
  }
  while (!open_.load() && pulses_.load() == since) platform::relax();
}

void Gate::let_through(bool open) {
  std::lock_guard guard(mutex_);
  if (open) open_.store(true);
  pulses_.fetch_add(1);
  for (Completion* waiter : waiters_) waiter->complete();
  waiters_.clear();
  spinning_.clear();  // on their way out; not at rest until they sleep
}

void Gate::add_spinning(std::set<platform::ThreadId>& threads) {
  std::lock_guard guard(mutex_);
  threads.insert(spinning_.begin(), spinning_.end());
}

void Gate::close() {
  std::lock_guard guard(mutex_);
  open_.store(false);
}

void OracleWork::body(Work& /*work*/) {
  runs.fetch_add(1);
  subject.log("start " + name + " " + std::to_string(subject.engine().current_worker_cpu()));
  for (const std::string& step : steps) {
    if (subject.stopping()) break;
    if (auto done = subject.execute(name, this, step); !done)
      subject.log("error " + name + " " + done.error().message());
  }
  subject.log("end " + name);
}

EngineSubject::~EngineSubject() {
  quit();
  queues_.clear();
  engine_.reset();
}

Result<void> EngineSubject::command(const std::string& text) {
  const std::vector<std::string> words = words_of(text);
  if (words.size() < 2) return fail(Errc::kInvalid, "'" + text + "' is no command");
  if (words[0] == "wq") return new_queue(words);
  if (words[0] == "work" || words[0] == "dwork") return new_work(text, words[0] == "dwork");
  return execute(words[0], nullptr, text.substr(words[0].size() + 1));
}

std::string EngineSubject::read_log() {
  std::lock_guard guard(log_mutex_);
  return std::exchange(log_, {});
}

std::set<platform::ThreadId> EngineSubject::spinning() {
  std::set<platform::ThreadId> threads;
  std::lock_guard guard(mutex_);
  for (auto& [name, gate] : gates_) gate->add_spinning(threads);
  return threads;
}

void EngineSubject::log(const std::string& line) {
  std::lock_guard guard(log_mutex_);
  log_ += line + "\n";
}

void EngineSubject::quit() {
  stopping_.store(true);
  std::vector<OracleWork*> works;
  {
    std::lock_guard guard(mutex_);
    for (auto& [name, gate] : gates_) gate->let_through(true);
    for (auto& [name, work] : works_) works.push_back(work.get());
  }
  engine_->thaw_workqueues();
  for (OracleWork* work : works) {
    if (work->delayed) {
      engine_->cancel_delayed_work_sync(work->timed);
    } else {
      engine_->cancel_work_sync(work->plain);
    }
  }
}

// wq NAME MAX_ACTIVE FLAG...
Result<void> EngineSubject::new_queue(const std::vector<std::string>& words) {
  if (words.size() < 3) return fail(Errc::kInvalid, "wq: a name and a limit are needed");
  WqFlags flags = 0;
  bool ordered = false;
  for (std::size_t i = 3; i < words.size(); i++) {
    const auto flag =
        std::ranges::find(kFlags, std::string_view(words[i]), &std::pair<std::string_view, WqFlags>::first);
    ordered |= words[i] == "ordered";
    if (flag != kFlags.end()) flags |= flag->second;
  }
  const int max_active = std::atoi(words[2].c_str());
  auto made = ordered ? engine_->alloc_ordered_workqueue("oracle-" + words[1], flags)
                      : engine_->alloc_workqueue("oracle-" + words[1], flags, max_active);
  if (!made) return std::unexpected(std::move(made).error());
  std::lock_guard guard(mutex_);
  queues_.insert_or_assign(words[1], std::move(*made));
  return {};
}

// [d]work NAME STEP; STEP...
Result<void> EngineSubject::new_work(std::string_view text, bool delayed) {
  const std::size_t name_at = text.find(' ') + 1;
  const std::size_t body_at = std::min(text.find(' ', name_at), text.size());
  auto work = std::make_unique<OracleWork>(*this, std::string(text.substr(name_at, body_at - name_at)), delayed);
  std::istringstream steps{std::string(text.substr(body_at))};
  for (std::string step; std::getline(steps, step, ';');) {
    const std::size_t begin = step.find_first_not_of(' ');
    if (begin != std::string::npos) work->steps.push_back(step.substr(begin));
  }
  std::lock_guard guard(mutex_);
  works_.insert_or_assign(work->name, std::move(work));
  return {};
}

Gate& EngineSubject::gate(const std::string& name) {
  std::lock_guard guard(mutex_);
  auto& gate = gates_[name];
  if (gate == nullptr) {
    gate = std::make_unique<Gate>();
    if (stopping_.load()) gate->let_through(true);  // it comes after all others were opened
  }
  return *gate;
}

Result<std::unique_ptr<Subject>> make_engine_subject() {
  // The guest's machine, so that what depends on nodes is the same anywhere.
  UPCI_TRY_ASSIGN(Topology topology, Topology::synthetic("numa:2 core:2"));
  // Reports are not compared: what the kernel warns of, it says once in its life. An item that spins would be set aside by
  // the clock, which is a rule of its own and not of these scripts.
  UPCI_TRY_ASSIGN(std::unique_ptr<Engine> engine, Engine::create({.topology = std::move(topology),
                                                                  .hog_threshold = std::chrono::hours(1),
                                                                  .report = [](const Report&) {}}));
  return std::make_unique<EngineSubject>(std::move(engine));
}

}  // namespace upci::inline UPCI_VARIANT::oracle
