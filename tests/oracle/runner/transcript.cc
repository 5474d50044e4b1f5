// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/runner/transcript.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

/// The lines of a log, in the order that is shown: of those that nothing ties to an earlier one, the smallest first.
template <class Item>
std::vector<std::string> linear(std::vector<Item> items) {
  std::vector<std::string> lines;
  while (!items.empty()) {
    std::size_t best = items.size();
    for (std::size_t i = 0; i < items.size(); i++) {
      const bool tied =
          std::ranges::any_of(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(i), [&](const Item& earlier) {
            return std::ranges::find_first_of(earlier.chains, items[i].chains) != earlier.chains.end();
          });
      if (!tied && (best == items.size() || items[i].text < items[best].text)) best = i;
    }
    lines.push_back("  " + items[best].text);
    items.erase(items.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return lines;
}

std::string shown(const Op& op, long value) {
  if (op.kind->gives == Gives::kNothing) return "";
  if (op.kind->gives == Gives::kBool) return " = " + std::to_string(value);
  // WORK_BUSY_PENDING and WORK_BUSY_RUNNING
  static constexpr std::array<const char*, 4> kBusy = {" = idle", " = pending", " = running", " = pending running"};
  return kBusy[static_cast<std::size_t>(value) % kBusy.size()];
}

bool word_is_one_of(const Op& op, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, op.kind->word) != words.end();
}

}  // namespace

Transcript::Transcript(const Script& script) : script_(script) {
  for (const Line& line : script.lines) {
    if (line.kind != Line::Kind::kOp) continue;
    ops_.emplace(line.op.command, line.op);
    if (line.op.kind->word == "set_max_active" && !line.op.text.ends_with(" 1")) raised_.insert(line.op.queue);
  }
  for (const WorkSpec& work : script.works) {
    state_.works.emplace(work.name, Work{});
    for (const Op& op : work.body) ops_.emplace(op.command, op);
  }
}

bool Transcript::blocked(int thread) const { return state_.calls.contains(std::to_string(thread)); }

std::vector<std::string> Transcript::render(const Line& line, std::string_view log, bool skipped) const {
  if (line.kind == Line::Kind::kDefinition) return {line.text};
  State state = state_;
  std::vector<Item> items;
  const std::string actor = line.kind == Line::Kind::kOp && !skipped ? std::to_string(line.thread) : "";
  std::string value;
  std::istringstream events{std::string(log)};
  for (std::string event; std::getline(events, event);) step(state, event, items, actor, value);
  std::string head = "> " + line.text;
  if (skipped) head += " ... skipped: the thread is blocked";
  if (!actor.empty()) head += state.calls.contains(actor) ? " ..." : value;
  std::vector<std::string> lines = linear(std::move(items));
  lines.insert(lines.begin(), std::move(head));
  return lines;
}

void Transcript::accept(std::string_view log) {
  std::vector<Item> items;
  std::string value;
  std::istringstream events{std::string(log)};
  for (std::string event; std::getline(events, event);) step(state_, event, items, "", value);
}

void Transcript::step(State& state, std::string_view event, std::vector<Item>& items, const std::string& inline_actor,
                      std::string& inline_value) const {
  const std::vector<std::string> words = words_of(event);
  if (words.size() < 2) return;
  const std::string& actor = words[1];
  if (words[0] == "start" && words.size() == 3) {
    start(state, actor, words[2], items);
  } else if (words[0] == "end") {
    Work& work = state.works[actor];
    work.running = false;
    items.push_back({actor + " ends", chains_of(actor, work)});
  } else if (words[0] == "call") {
    state.calls[actor] = {std::string(event.substr(6 + actor.size())), state.works};
  } else if (words[0] == "return" && words.size() == 3) {
    finish(state, actor, words[2], items, inline_actor, inline_value);
  } else {
    items.push_back({"not understood: " + std::string(event), {}});
  }
}

void Transcript::start(State& state, const std::string& name, const std::string& cpu, std::vector<Item>& items) const {
  Work& work = state.works[name];
  // The return of the call that queued it may be logged after the start.
  for (const auto& [actor, call] : state.calls) {
    const auto op = ops_.find(call.command);
    if (op == ops_.end() || op->second.queue.empty()) continue;
    const bool itself = op->second.kind->word == "requeue" && actor == name;
    if (!work.pending && (op->second.work == name || itself)) {
      work.queue = op->second.queue;
      work.cpu_known = op->second.delay_ms < 0;
    }
  }
  const QueueSpec* queue = script_.queue(work.queue);
  const bool per_cpu = queue != nullptr && !queue->unbound;
  std::string text = name + " starts";
  if (work.running) text += " while it runs";
  if (per_cpu && work.cpu_known) text += " on " + cpu;
  work.running = true;
  work.pending = false;
  work.starts++;
  std::vector<std::string> chains = chains_of(name, work);
  if (per_cpu) chains.push_back("cpu " + cpu + (queue->highpri ? " highpri" : ""));
  items.push_back({std::move(text), std::move(chains)});
}

void Transcript::finish(State& state, const std::string& actor, const std::string& value, std::vector<Item>& items,
                        const std::string& inline_actor, std::string& inline_value) const {
  const auto found = state.calls.find(actor);
  if (found == state.calls.end()) return;
  const Call call = std::move(found->second);
  state.calls.erase(found);
  const auto known = ops_.find(call.command);
  if (known == ops_.end()) return;
  const Op& op = known->second;
  const long number = std::strtol(value.c_str(), nullptr, 10);
  const std::string result = shown(op, number) + too_early(state, call, op, number);
  note_queueing(state, call, op, actor, number);
  if (actor == inline_actor) {
    inline_value = result;
  } else if (!op.kind->body_only || (op.kind->word == "requeue" && number >= 0)) {
    const bool of_work = state.works.contains(actor);
    items.push_back(
        {actor + ": " + op.text + result, of_work ? std::vector{"work " + actor} : std::vector<std::string>{}});
  }
}

std::vector<std::string> Transcript::chains_of(const std::string& name, const Work& work) const {
  std::vector<std::string> chains{"work " + name};
  const QueueSpec* queue = script_.queue(work.queue);
  if (queue != nullptr && (queue->ordered || (queue->max_active == 1 && !raised_.contains(queue->name)))) {
    chains.push_back("queue " + work.queue);
  }
  return chains;
}

/// What a wait missed: something ran, or was queued, when it was called, and still does now that it has returned.
std::string Transcript::too_early(const State& state, const Call& call, const Op& op, long value) {
  const bool of_work =
      word_is_one_of(op, {"cancel_sync", "cancel_delayed_sync", "disable_sync", "disable_delayed_sync"}) ||
      (word_is_one_of(op, {"flush_work", "flush_delayed"}) && value != 0);
  const bool of_queue = word_is_one_of(op, {"flush_workqueue", "drain", "destroy"});
  std::string missed;
  for (const auto& [name, before] : call.before) {
    if (!(of_work && name == op.work) && !(of_queue && before.queue == op.queue)) continue;
    const Work& now = state.works.find(name)->second;
    const bool runs_still = before.running && now.running && now.starts == before.starts;
    const bool waits_still =
        of_queue && before.pending && now.pending && now.changes == before.changes && now.starts == before.starts;
    if (runs_still || waits_still) missed += " before the end of " + name;
  }
  return missed;
}

void Transcript::note_queueing(State& state, const Call& call, const Op& op, const std::string& actor, long value) {
  const bool itself = op.kind->word == "requeue";
  const std::string& name = itself ? actor : op.work;
  const auto found = state.works.find(name);
  if (found == state.works.end() || value <= 0) return;
  Work& work = found->second;
  if (!op.queue.empty()) {
    const int starts = call.before.find(name)->second.starts;
    if (work.starts == starts) {  // otherwise it has started meanwhile
      work.changes++;
      work.queue = op.queue;
      work.cpu_known = op.delay_ms < 0;
      work.pending = op.delay_ms <= 0;
    }
  } else if (!word_is_one_of(op, {"flush_work", "flush_delayed", "pending", "busy", "enable", "enable_delayed"})) {
    work.pending = false;  // taken back
    work.changes++;
  }
}

}  // namespace upci::inline UPCI_VARIANT::oracle
