// SPDX-License-Identifier: Apache-2.0
// The operations: a table from a script's words to the engine's functions.
#include <array>
#include <chrono>
#include <cstdlib>

#include "tests/oracle/runner/engine_subject.h"
#include "tests/oracle/runner/script.h"

namespace upci::inline UPCI_VARIANT::oracle {

/// One call: what its words name.
struct EngineCall {
  static Result<EngineCall> prepare(EngineSubject& subject, OracleWork* self, const std::vector<std::string>& words,
                                    std::string_view takes);

  Work& work() const { return w->work(); }
  DelayedWork& timed() const { return w->timed; }
  std::chrono::milliseconds delay() const { return std::chrono::milliseconds(n.back()); }
  int number(std::size_t place = 0) const { return n[place]; }

  Engine& engine;
  WorkqueuePtr* slot = nullptr;  // the queue's
  Workqueue* q = nullptr;
  OracleWork* self = nullptr;
  OracleWork* w = nullptr;
  Gate* g = nullptr;
  std::vector<int> n = {};  // numbers and times, in their order
};

namespace {

using C = const EngineCall&;

struct Operation {
  std::string_view word;
  long (*function)(C c);
};

template <class F>
long done(F function) {
  function();
  return 0;
}

/// The queue is found by its name until it is gone: its last items may still queue on it.
void destroy(WorkqueuePtr& slot) {
  slot.get_deleter()(slot.get());
  (void)slot.release();
}

constexpr auto kOperations = std::to_array<Operation>({
    {"queue", [](C c) -> long { return c.engine.queue_work(*c.q, c.work()); }},
    {"queue_on", [](C c) -> long { return c.engine.queue_work_on(c.number(), *c.q, c.work()); }},
    {"queue_delayed", [](C c) -> long { return c.engine.queue_delayed_work(*c.q, c.timed(), c.delay()); }},
    {"queue_delayed_on",
     [](C c) -> long { return c.engine.queue_delayed_work_on(c.number(), *c.q, c.timed(), c.delay()); }},
    {"mod_delayed", [](C c) -> long { return c.engine.mod_delayed_work(*c.q, c.timed(), c.delay()); }},
    {"mod_delayed_on",
     [](C c) -> long { return c.engine.mod_delayed_work_on(c.number(), *c.q, c.timed(), c.delay()); }},
    {"cancel", [](C c) -> long { return c.engine.cancel_work(c.work()); }},
    {"cancel_sync", [](C c) -> long { return c.engine.cancel_work_sync(c.work()); }},
    {"cancel_delayed", [](C c) -> long { return c.engine.cancel_delayed_work(c.timed()); }},
    {"cancel_delayed_sync", [](C c) -> long { return c.engine.cancel_delayed_work_sync(c.timed()); }},
    {"flush_work", [](C c) -> long { return c.engine.flush_work(c.work()); }},
    {"flush_delayed", [](C c) -> long { return c.engine.flush_delayed_work(c.timed()); }},
    {"flush_workqueue", [](C c) { return done([&] { c.engine.flush_workqueue(*c.q); }); }},
    {"drain", [](C c) { return done([&] { c.engine.drain_workqueue(*c.q); }); }},
    {"destroy", [](C c) { return done([&] { destroy(*c.slot); }); }},
    {"disable", [](C c) -> long { return c.engine.disable_work(c.work()); }},
    {"disable_sync", [](C c) -> long { return c.engine.disable_work_sync(c.work()); }},
    {"disable_delayed", [](C c) -> long { return c.engine.disable_delayed_work(c.timed()); }},
    {"disable_delayed_sync", [](C c) -> long { return c.engine.disable_delayed_work_sync(c.timed()); }},
    {"enable", [](C c) -> long { return c.engine.enable_work(c.work()); }},
    {"enable_delayed", [](C c) -> long { return c.engine.enable_delayed_work(c.timed()); }},
    {"pending", [](C c) -> long { return c.work().is_pending(); }},
    {"busy", [](C c) { return static_cast<long>(c.engine.work_busy(c.work())); }},
    {"congested", [](C c) -> long { return c.engine.workqueue_congested(c.number(), *c.q); }},
    {"set_max_active", [](C c) { return done([&] { (void)c.engine.set_max_active(*c.q, c.number()); }); }},
    {"freeze", [](C c) { return done([&] { c.engine.freeze_workqueues(); }); }},
    {"thaw", [](C c) { return done([&] { c.engine.thaw_workqueues(); }); }},
    // At the work's first N runs only.
    {"requeue",
     [](C c) -> long { return c.self->runs <= c.number() ? c.engine.queue_work(*c.q, c.self->work()) : -1L; }},
    {"gate", [](C c) { return done([&] { c.g->wait(); }); }},
    {"spin", [](C c) { return done([&] { c.g->spin(); }); }},
    {"pulse", [](C c) { return done([&] { c.g->let_through(false); }); }},
    {"open", [](C c) { return done([&] { c.g->let_through(true); }); }},
    {"close", [](C c) { return done([&] { c.g->close(); }); }},
});

}  // namespace

Result<EngineCall> EngineCall::prepare(EngineSubject& subject, OracleWork* self, const std::vector<std::string>& words,
                                       std::string_view takes) {
  EngineCall call{.engine = subject.engine(), .self = self};
  if (words.size() != takes.size() + 1) return fail(Errc::kInvalid, "'" + words[0] + "' has too few or too many words");
  for (std::size_t i = 0; i < takes.size(); i++) {
    const std::string& word = words[i + 1];
    if (takes[i] == 'g') {
      call.g = &subject.gate(word);
    } else if (takes[i] == 'n' || takes[i] == 't') {
      call.n.push_back(std::atoi(word.c_str()));
    } else {
      std::lock_guard guard(subject.mutex_);
      if (takes[i] == 'q') {
        const auto found = subject.queues_.find(word);
        if (found == subject.queues_.end() || !found->second) return fail(Errc::kInvalid, "there is no queue " + word);
        call.slot = &found->second;
        call.q = found->second.get();
      } else {
        const auto found = subject.works_.find(word);
        if (found == subject.works_.end()) return fail(Errc::kInvalid, "there is no work " + word);
        call.w = found->second.get();
      }
    }
  }
  return call;
}

Result<void> EngineSubject::execute(const std::string& actor, OracleWork* self, const std::string& text) {
  const std::vector<std::string> words = words_of(text);
  const OpKind* kind = find_op(words[0]);
  for (const Operation& operation : kOperations) {
    if (kind == nullptr || operation.word != words[0]) continue;
    UPCI_TRY_ASSIGN(const EngineCall call, EngineCall::prepare(*this, self, words, kind->takes));
    log("call " + actor + " " + text);
    const long value = operation.function(call);
    log("return " + actor + " " + std::to_string(value));
    return {};
  }
  return fail(Errc::kInvalid, "there is no operation '" + words[0] + "'");
}

}  // namespace upci::inline UPCI_VARIANT::oracle
