// SPDX-License-Identifier: Apache-2.0
#include "base/spawner.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>

#include "base/wait.h"

namespace upci::inline UPCI_VARIANT::detail {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

// All that the child needs, made before the fork: after it, it may neither allocate nor lock.
struct Prepared {
  const char* path = nullptr;
  std::vector<char*> argv;
  std::vector<char*> environment;
  std::vector<std::pair<int, int>> fds;
  std::vector<int> high;  // room for the copies made in between
  int above = 3;          // a number above all that are wanted
  int report = -1;        // write end of the pipe that tells of a failure; closed by a successful exec
  pid_t parent = -1;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

[[noreturn]] void give_up(int report, int error) noexcept {
  // A pipe takes four bytes at once or not at all, and it is empty.
  while (::write(report, &error, sizeof(error)) < 0 && errno == EINTR) {}
  ::_exit(127);
}

// The child, between fork and exec: only async-signal-safe calls. It shares this process's memory until it execs.
[[noreturn]] void run_child(Prepared& plan) noexcept {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up(plan.report, errno);
  if (::getppid() != plan.parent) ::_exit(127);  // it ended before the line above
  ::setpgid(0, 0);
  // Away from all numbers that are wanted, and then each to its place: no copy can hit another's source.
  const int report = ::fcntl(plan.report, F_DUPFD_CLOEXEC, plan.above);
  if (report < 0) give_up(plan.report, errno);
  for (std::size_t i = 0; i < plan.fds.size(); ++i) {
    plan.high[i] = ::fcntl(plan.fds[i].first, F_DUPFD_CLOEXEC, plan.above);
    if (plan.high[i] < 0) give_up(report, errno);
  }
  // Also what a foreign library forgot to mark. (Fails before Linux 5.11; ours are marked anyway.)
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  for (std::size_t i = 0; i < plan.fds.size(); ++i) {
    if (::dup2(plan.high[i], plan.fds[i].second) < 0) give_up(report, errno);
  }
  // Signals as a program expects them: default, and none blocked.
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal <= SIGRTMAX; ++signal) ::sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(plan.path, plan.argv.data(), plan.environment.data());
  give_up(report, errno);
}

Result<Spawned> fork_and_exec(SpawnOrder& order) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("cannot create a pipe for a child process");
  UniqueFd told(ends[0]);
  UniqueFd report(ends[1]);
  Prepared plan;
  plan.path = order.path.c_str();
  plan.argv = pointers(order.argv);
  plan.environment = pointers(order.environment);
  plan.fds = order.fds;
  plan.high.resize(order.fds.size());
  for (const auto& [here, there] : order.fds) plan.above = std::max(plan.above, there + 1);
  plan.report = report.get();
  plan.parent = ::getpid();

  // vfork: a fork would copy the page tables and leave copy-on-write pages under memory that devices write to.
  const pid_t pid = ::vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
  if (pid == 0) run_child(plan);
  if (pid < 0) return fail_errno("cannot start '" + order.path + "'", "raise the limit on processes (ulimit -u)");
  report.reset();

  int error = 0;
  ssize_t got = 0;
  do { got = ::read(told.get(), &error, sizeof(error)); } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof(error))) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
    std::unexpected<Error> failed = fail_errno("cannot execute '" + order.path + "'", {}, error);
    if (error == ENOENT || error == EACCES || error == ENOEXEC) failed.error().code = Errc::kUnavailable;
    return failed;
  }
  // The child is not reaped before this, so its number cannot be another process's.
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    const int open_error = errno;
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
    return fail_errno("cannot watch the child process '" + order.path + "'", {}, open_error);
  }
  return Spawned{.pid = pid, .pidfd = std::move(pidfd)};
}

// One order on its way. Shared, since the asker may give up first.
struct Job {
  SpawnOrder order;
  Result<Spawned> result = fail(Errc::kState, "not spawned yet");  // the spawner's until `done`
  platform::Atomic<bool> given_up{false};
  Completion done;
};

// Lives for ever, as its thread does.
class Spawner {
 public:
  static Result<Spawner*> get() {
    static Spawner* const instance = new Spawner;
    const std::lock_guard lock(instance->mutex_);
    if (!instance->started_) {
      UPCI_TRY_ASSIGN(platform::Thread thread,
                      platform::Thread::create({.name = "upci/spawner"}, [] { instance->loop(); }));
      thread.detach();
      instance->started_ = true;
    }
    return instance;
  }

  void push(std::shared_ptr<Job> job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    wake();
  }

  void reap(UniqueFd pidfd) {
    const std::lock_guard lock(mutex_);
    zombies_.push_back(std::move(pidfd));
    wake();
  }

 private:
  void wake() noexcept {
    word_.fetch_add(1, std::memory_order_release);
    platform::wake_word(&word_, 1);
  }

  [[noreturn]] void loop() {
    // No handler of the program runs here, and so none in a child that still shares its memory.
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    for (;;) {
      const std::uint32_t seen = word_.load(std::memory_order_acquire);
      while (std::shared_ptr<Job> job = pop()) carry_out(*job);
      const bool zombies_left = reap_zombies();
      // A child that will not die cannot be waited for here: look again now and then.
      const Deadline again = zombies_left ? Deadline::after(std::chrono::seconds(1)) : Deadline::never();
      platform::wait_word(word_, seen, again.when());
    }
  }

  std::shared_ptr<Job> pop() {
    const std::lock_guard lock(mutex_);
    if (jobs_.empty()) return nullptr;
    std::shared_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
  }

  void carry_out(Job& job) {
    job.result = fork_and_exec(job.order);
    job.order.owned.clear();
    // Both sides exchange: exactly one of them sees the other's value.
    const bool wanted = !job.given_up.exchange(true, std::memory_order_acq_rel);
    if (!wanted && job.result) {
      ::syscall(SYS_pidfd_send_signal, job.result->pidfd.get(), SIGKILL, nullptr, 0U);
      reap(std::move(job.result->pidfd));
    }
    job.done.complete();
  }

  bool reap_zombies() {
    const std::lock_guard lock(mutex_);
    std::erase_if(zombies_, [](const UniqueFd& pidfd) {
      siginfo_t info{};
      const int rc = ::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
      return (rc == 0 && info.si_pid != 0) || (rc != 0 && errno == ECHILD);
    });
    return !zombies_.empty();
  }

  platform::Mutex mutex_;  // guards jobs_, zombies_, started_
  std::deque<std::shared_ptr<Job>> jobs_;
  std::vector<UniqueFd> zombies_;
  bool started_ = false;
  platform::Atomic<std::uint32_t> word_{0};  // raised after each change, so that none is slept over
};

}  // namespace

Result<Spawned> spawn_by_thread(SpawnOrder order) {
  UPCI_TRY_ASSIGN(Spawner * spawner, Spawner::get());
  auto job = std::make_shared<Job>();
  job->order = std::move(order);
  const std::string path = job->order.path;
  spawner->push(job);
  if (!job->done.wait(Deadline::after(kPatience)) && !job->given_up.exchange(true, std::memory_order_acq_rel)) {
    return fail(Errc::kTimeout, "the system did not start '" + path + "' within 10 s");
  }
  job->done.wait();  // carried out already; only the last step may be missing
  return std::move(job->result);
}

void reap_later(UniqueFd pidfd) noexcept {
  if (Result<Spawner*> spawner = Spawner::get(); spawner) (*spawner)->reap(std::move(pidfd));
}

}  // namespace upci::inline UPCI_VARIANT::detail
