// SPDX-License-Identifier: Apache-2.0
#include "workqueue/control_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <utility>

#include "base/blocking.h"
#include "base/deadline.h"
#include "base/log.h"
#include "workqueue/control.h"
#include "workqueue/engine_state.h"

namespace upci::inline UPCI_VARIANT {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostConnections = 16;  // a further one takes the place of the oldest
constexpr std::size_t kLongestLine = 65536;
constexpr int kMostEngines = 64;
constexpr auto kSendTimeout = 3s;  // of a whole answer: whoever does not read it loses the connection

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(Errc::kUnavailable, fmt::format("{}: too long for a socket", path));
  }
  path.copy(address.sun_path, path.size());
  return address;
}
const sockaddr* generic(const sockaddr_un& address) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&address));
}

UniqueFd make_socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

/// A directory that nobody else can put anything into.
bool usable(const std::string& directory) {
  struct stat status = {};
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return false;
  if (::lstat(directory.c_str(), &status) != 0) return false;
  return S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 0022) == 0;
}

/// Whether somebody listens there: else the socket was left behind by a process that died.
bool answers(const sockaddr_un& address) {
  const UniqueFd probe = make_socket();
  return probe && ::connect(probe.get(), generic(address), sizeof address) == 0;
}

/// Binds and listens in the first place that is free; `path` says where.
Result<UniqueFd> listen_in(const std::string& directory, std::string& path) {
  for (int n = 0; n < kMostEngines; n++) {
    path = fmt::format("{}/{}.{}.sock", directory, ::getpid(), n);
    UPCI_TRY_ASSIGN(const sockaddr_un address, address_of(path));
    for (int attempt = 0; attempt < 2; attempt++) {
      UniqueFd listener = make_socket();
      if (!listener) return fail_errno("making the control socket");
      (void)::fchmod(listener.get(), 0600);  // before it has a name: nobody finds it with other permissions
      if (::bind(listener.get(), generic(address), sizeof address) == 0) {
        if (::chmod(path.c_str(), 0600) == 0 && ::listen(listener.get(), 16) == 0 &&
            ::fcntl(listener.get(), F_SETFL, O_NONBLOCK) == 0) {
          return listener;
        }
        auto failed = fail_errno(fmt::format("listening at {}", path));
        ::unlink(path.c_str());
        return failed;
      }
      if (errno != EADDRINUSE) return fail_errno(fmt::format("binding {}", path));
      if (answers(address)) break;  // another engine of this process
      ::unlink(path.c_str());
    }
  }
  return fail(Errc::kUnavailable, fmt::format("{} engines of this process serve a socket already", kMostEngines));
}

class Server;

/// One client. Its item is the only one to touch it, but for the server once that is disabled.
class Connection {
 public:
  Connection(Server& server, Engine& engine, EngineState& state, UniqueFd fd)
      : server_(server), context_{.engine = engine, .state = state}, fd_(std::move(fd)) {}
  ~Connection() {
    if (context_.traces) (void)context_.engine.stop_trace();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Result<void> start(int cpu);
  /// Afterwards nothing of it runs. Not from its own item.
  void stop() {
    context_.engine.remove_event_source(source_);
    context_.engine.disable_work_sync(work_);
  }
  bool is_dead() const { return dead_.load(std::memory_order_acquire); }

 private:
  void run(Work&);
  bool receive();
  void answer(const std::string& line);
  bool send(std::string_view text);
  void die();

  Server& server_;
  ControlContext context_;
  UniqueFd fd_;
  std::string input_;
  platform::Atomic<bool> dead_{false};
  Work work_{this, &Connection::run};
  EventSource source_{[](void* self) { static_cast<Connection*>(self)->on_readable(); }, this};
  void on_readable();
};

/// Its one item takes in new connections and buries dead ones, so that the list is that item's own.
class Server final : public ControlServer {
 public:
  Server(Engine& engine, EngineState& state) : engine_(engine), state_(state) {}
  ~Server() override {
    engine_.remove_event_source(source_);
    engine_.disable_work_sync(work_);
    for (auto& connection : connections_) connection->stop();
    connections_.clear();
    // A child that was forked and is not us must not take our name away.
    if (!path_.empty() && ::getpid() == pid_) ::unlink(path_.c_str());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Result<void> start();
  const std::string& path() const noexcept override { return path_; }
  Workqueue& queue() { return *queue_; }
  int cpu() const { return engine_.topology().housekeeping_cpus().front(); }
  /// Any context.
  void look() { engine_.queue_work(*queue_, work_); }

 private:
  void run(Work&);
  void accept_all();
  bool is_welcome(int fd) const;

  Engine& engine_;
  EngineState& state_;
  const pid_t pid_ = ::getpid();
  std::string path_;
  UniqueFd listener_;
  WorkqueuePtr queue_;
  std::list<std::unique_ptr<Connection>> connections_;  // the item's; the oldest first
  Work work_{this, &Server::run};
  EventSource source_{[](void* self) { static_cast<Server*>(self)->look(); }, this};
};

Result<void> Server::start() {
  Result<UniqueFd> listener = fail(Errc::kUnavailable, "no directory for the control socket can be used",
                                   "set XDG_RUNTIME_DIR to a directory of your own");
  for (const std::string& directory : control_directories()) {
    if (!usable(directory)) continue;
    listener = listen_in(directory, path_);
    if (listener) break;
  }
  if (!listener) {
    path_.clear();
    return std::unexpected(std::move(listener).error());
  }
  listener_ = std::move(*listener);
  UPCI_TRY_ASSIGN(queue_, engine_.alloc_workqueue("upci_control", kWqUnbound));
  return engine_.add_event_source(source_, listener_.get(), cpu());
}

void Server::run(Work&) {
  for (auto at = connections_.begin(); at != connections_.end();) {
    if (!(*at)->is_dead()) {
      ++at;
      continue;
    }
    (*at)->stop();
    at = connections_.erase(at);
  }
  accept_all();
}

bool Server::is_welcome(int fd) const {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

void Server::accept_all() {
  // As many as could wait at once; should there be more, the item comes again.
  for (std::size_t i = 0; i < kMostConnections; i++) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) return;
    if (!is_welcome(fd.get())) {
      log::warn("control socket: a connection by another user was refused");
      continue;
    }
    if (connections_.size() == kMostConnections) {
      connections_.front()->stop();
      connections_.pop_front();
    }
    auto connection = std::make_unique<Connection>(*this, engine_, state_, std::move(fd));
    if (connection->start(cpu())) connections_.push_back(std::move(connection));
  }
  look();
}

Result<void> Connection::start(int cpu) {
  timeval timeout = {.tv_sec = 1, .tv_usec = 0};
  (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  UPCI_TRY(context_.engine.add_event_source(source_, fd_.get(), cpu));
  on_readable();  // what came before it was watched
  return {};
}

void Connection::on_readable() { context_.engine.queue_work(server_.queue(), work_); }

void Connection::die() {
  dead_.store(true, std::memory_order_release);
  server_.look();
}

/// Takes what is there. False at the end of the stream.
bool Connection::receive() {
  std::array<char, 4096> buffer;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control;
  iovec part = {.iov_base = buffer.data(), .iov_len = buffer.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; i++) {
      int passed = -1;
      std::memcpy(&passed, CMSG_DATA(header) + i * sizeof(int), sizeof passed);
      context_.passed.reset(passed);  // closes the one before: one is enough
    }
  }
  input_.append(buffer.data(), static_cast<std::size_t>(n));
  if (n == static_cast<ssize_t>(buffer.size())) on_readable();  // there may be more
  return n > 0;
}

void Connection::run(Work&) {
  if (is_dead()) return;
  const bool open = receive();
  for (std::size_t end = input_.find('\n'); end != std::string::npos && !is_dead(); end = input_.find('\n')) {
    const std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    answer(line);
  }
  if (!open || input_.size() > kLongestLine) die();
}

void Connection::answer(const std::string& line) {
  const auto result = answer_control(context_, line);
  std::string text;
  if (result) {
    text = fmt::format("ok {}\n{}", result->size(), *result);
  } else {
    const Error& error = result.error();
    std::string body = error.message() + "\n" + error.advice;
    text = fmt::format("error {} {}\n{}", static_cast<int>(error.code), body.size(), body);
  }
  if (!send(text)) die();
}

bool Connection::send(std::string_view text) {
  const BlockingScope blocking;
  const Deadline deadline = Deadline::after(kSendTimeout);
  while (!text.empty()) {
    const ssize_t n = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || deadline.expired()) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::start(Engine& engine, EngineState& state) {
  auto server = std::make_unique<Server>(engine, state);
  UPCI_TRY(server->start());
  return server;
}

}  // namespace upci::inline UPCI_VARIANT
