// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/runner/script.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <sstream>

namespace upci::inline UPCI_VARIANT::oracle {

namespace {

constexpr auto kOps = std::to_array<OpKind>({
    {"queue", "wq", Gives::kBool},
    {"queue_on", "nwq", Gives::kBool},
    {"queue_delayed", "dqt", Gives::kBool},
    {"queue_delayed_on", "ndqt", Gives::kBool},
    {"mod_delayed", "dqt", Gives::kBool},
    {"mod_delayed_on", "ndqt", Gives::kBool},
    {"cancel", "w", Gives::kBool},
    {"cancel_sync", "w", Gives::kBool},
    {"cancel_delayed", "d", Gives::kBool},
    {"cancel_delayed_sync", "d", Gives::kBool},
    {"flush_work", "w", Gives::kBool},
    {"flush_delayed", "d", Gives::kBool},
    {"flush_workqueue", "q"},
    {"drain", "q"},
    {"destroy", "q"},
    {"disable", "w", Gives::kBool},
    {"disable_sync", "w", Gives::kBool},
    {"disable_delayed", "d", Gives::kBool},
    {"disable_delayed_sync", "d", Gives::kBool},
    {"enable", "w", Gives::kBool},
    {"enable_delayed", "d", Gives::kBool},
    {"pending", "w", Gives::kBool},
    {"busy", "w", Gives::kBusy},
    {"congested", "qn", Gives::kBool},
    {"set_max_active", "qn"},
    {"freeze", ""},
    {"thaw", ""},
    {"requeue", "qn", Gives::kBool, true},
    {"gate", "g", Gives::kNothing, true},
    {"spin", "g", Gives::kNothing, true},
    {"pulse", "g"},
    {"open", "g"},
    {"close", "g"},
});

constexpr std::array<std::string_view, 9> kFlags = {
    "percpu", "unbound", "ordered", "highpri", "freezable", "mem_reclaim", "cpu_intensive", "power_efficient", "bh"};

std::optional<int> number(std::string_view word) {
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// Reads one script. Names are checked where they are used, so bodies may name what comes later.
class Parser {
 public:
  explicit Parser(int soon_ms) { script_.soon_ms = soon_ms; }

  Result<Script> parse(std::string_view text) {
    std::istringstream lines{std::string(text)};
    std::string line;
    for (int count = 1; std::getline(lines, line); count++) {
      if (auto done = read(line); !done)
        return fail(Errc::kInvalid, "line " + std::to_string(count) + ": " + done.error().what);
    }
    for (const Line& each : script_.lines) UPCI_TRY(check(each.op));
    for (const WorkSpec& work : script_.works) {
      for (const Op& step : work.body) UPCI_TRY(check(step));
    }
    return std::move(script_);
  }

 private:
  Result<void> read(std::string_view text) {
    // In a transcript a line begins with "> ", its result comes after " = " or " ...", and events are indented.
    const bool event = text.starts_with("  ");
    if (text.starts_with("> ")) text.remove_prefix(2);
    if (event || text.starts_with("#")) return {};
    if (const auto end = std::min(text.find(" = "), text.find(" ...")); end != std::string_view::npos)
      text = text.substr(0, end);
    std::vector<std::string> words = words_of(text);
    if (words.empty()) return {};
    Line line;
    line.text = joined(words);
    if (words[0] == "wq") {
      UPCI_TRY(read_queue(words, line));
    } else if (words[0] == "work" || words[0] == "dwork") {
      UPCI_TRY(read_work(line));
    } else if (words.size() == 1 && words[0] == "elapse") {
      line.kind = Line::Kind::kElapse;
    } else {
      UPCI_TRY(read_operation(words, line));
    }
    script_.lines.push_back(std::move(line));
    return {};
  }

  Result<void> read_queue(const std::vector<std::string>& words, Line& line) {
    if (words.size() < 2) return fail(Errc::kInvalid, "a wq needs a name");
    QueueSpec queue{.name = words[1]};
    std::string flags;
    for (std::size_t i = 2; i < words.size(); i++) {
      const std::string_view word = words[i];
      if (word.starts_with("max=")) {
        const auto limit = number(word.substr(4));
        if (!limit) return fail(Errc::kInvalid, "'" + words[i] + "' has no number");
        queue.max_active = *limit;
        continue;
      }
      if (std::ranges::find(kFlags, word) == kFlags.end())
        return fail(Errc::kInvalid, "there is no flag '" + words[i] + "'");
      queue.ordered |= word == "ordered";
      queue.unbound |= word == "unbound" || word == "ordered";
      queue.highpri |= word == "highpri";
      flags += " " + words[i];
    }
    line.command = "wq " + queue.name + " " + std::to_string(queue.max_active) + flags;
    script_.queues.push_back(std::move(queue));
    return {};
  }

  // NAME or NAME: STEP; STEP
  Result<void> read_work(Line& line) {
    const std::string_view text = line.text;
    const std::string_view rest = text.substr(text.find(' ') + 1);
    const std::size_t colon = rest.find(':');
    WorkSpec work{.name = std::string(rest.substr(0, colon)), .delayed = text.starts_with("dwork")};
    if (work.name.find(' ') != std::string::npos) return fail(Errc::kInvalid, "a work's steps come after a colon");
    line.command = std::string(work.delayed ? "dwork " : "work ") + work.name + " ";
    if (colon != std::string_view::npos) {
      std::istringstream steps{std::string(rest.substr(colon + 1))};
      for (std::string step; std::getline(steps, step, ';');) {
        UPCI_TRY_ASSIGN(Op op, operation(words_of(step)));
        line.command += (work.body.empty() ? "" : "; ") + op.command;
        work.body.push_back(std::move(op));
      }
    }
    script_.works.push_back(std::move(work));
    return {};
  }

  // THREAD: OP ARGUMENT...
  Result<void> read_operation(const std::vector<std::string>& words, Line& line) {
    const std::string_view first = words[0];
    const auto thread = first.ends_with(":") ? number(first.substr(0, first.size() - 1)) : std::nullopt;
    if (!thread || *thread < 1 || *thread > kMaxThreads) {
      return fail(Errc::kInvalid,
                  "it begins with no thread number from 1 to " + std::to_string(kMaxThreads) + " and a colon");
    }
    line.kind = Line::Kind::kOp;
    line.thread = *thread;
    script_.threads = std::max(script_.threads, *thread);
    UPCI_TRY_ASSIGN(line.op, operation({words.begin() + 1, words.end()}));
    if (line.op.kind->body_only) return fail(Errc::kInvalid, "only a body can do '" + words[1] + "'");
    return {};
  }

  std::optional<int> time_of(std::string_view word) const {
    if (word == "soon") return script_.soon_ms;
    if (word == "long") return kLongMs;
    return number(word);
  }

  Result<Op> operation(const std::vector<std::string>& words) const {
    if (words.empty()) return fail(Errc::kInvalid, "an operation is missing");
    Op op{.kind = find_op(words[0]), .text = joined(words), .command = words[0]};
    if (op.kind == nullptr) return fail(Errc::kInvalid, "there is no operation '" + words[0] + "'");
    const std::string_view takes = op.kind->takes;
    if (words.size() != takes.size() + 1) {
      return fail(Errc::kInvalid, "'" + words[0] + "' takes " + std::to_string(takes.size()) + " words");
    }
    for (std::size_t i = 0; i < takes.size(); i++) {
      const std::string& word = words[i + 1];
      std::string given = word;
      if (takes[i] == 'w' || takes[i] == 'd') op.work = word;
      if (takes[i] == 'q') op.queue = word;
      if (takes[i] == 'n' && !number(word)) return fail(Errc::kInvalid, "'" + word + "' is no number");
      if (takes[i] == 't') {
        const auto ms = time_of(word);
        if (!ms) return fail(Errc::kInvalid, "'" + word + "' is no time: a number of milliseconds, soon or long");
        op.delay_ms = *ms;
        given = std::to_string(*ms);
      }
      op.command += " " + given;
    }
    return op;
  }

  Result<void> check(const Op& op) const {
    if (op.kind == nullptr) return {};
    const WorkSpec* work = script_.work(op.work);
    if (!op.work.empty() && work == nullptr)
      return fail(Errc::kInvalid, "'" + op.text + "': there is no work " + op.work);
    if (op.kind->takes.find('d') != std::string_view::npos && !work->delayed) {
      return fail(Errc::kInvalid, "'" + op.text + "': " + op.work + " is no dwork");
    }
    if (!op.queue.empty() && script_.queue(op.queue) == nullptr) {
      return fail(Errc::kInvalid, "'" + op.text + "': there is no wq " + op.queue);
    }
    return {};
  }

  Script script_;
};

}  // namespace

const OpKind* find_op(std::string_view word) noexcept {
  const auto found = std::ranges::find(kOps, word, &OpKind::word);
  return found == kOps.end() ? nullptr : &*found;
}

const QueueSpec* Script::queue(std::string_view name) const noexcept {
  const auto found = std::ranges::find(queues, name, &QueueSpec::name);
  return found == queues.end() ? nullptr : &*found;
}

const WorkSpec* Script::work(std::string_view name) const noexcept {
  const auto found = std::ranges::find(works, name, &WorkSpec::name);
  return found == works.end() ? nullptr : &*found;
}

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

Result<Script> parse_script(std::string_view text, int soon_ms) { return Parser(soon_ms).parse(text); }

}  // namespace upci::inline UPCI_VARIANT::oracle
