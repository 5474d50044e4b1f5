// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/wq_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "workqueue/control.h"

namespace upci::tool {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kLargestAnswer = std::size_t{1} << 30;
constexpr int kAnswerSeconds = 5;

/// The whole text as a number that is not negative.
bool read_number(std::string_view text, int& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0 && !text.empty();
}

std::vector<std::string> directories() {
  std::vector<std::string> all = control_directories();
  if (::geteuid() != 0) return all;
  // Root looks into everybody's.
  std::error_code error;
  for (const auto& user : fs::directory_iterator("/run/user", error)) all.push_back(user.path() / "upci");
  for (const auto& entry : fs::directory_iterator("/tmp", error)) {
    if (entry.path().filename().string().starts_with("upci-")) all.push_back(entry.path());
  }
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::string program_of(int pid) {
  std::ifstream file(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(file, name);
  return name;
}

/// Connects, and makes sure that it is the process that the name says, so that nobody can pass for another.
Result<UniqueFd> open(const WqTarget& target) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("making a socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (target.path.size() >= sizeof address.sun_path) return fail(Errc::kUnavailable, target.path + ": too long");
  target.path.copy(address.sun_path, target.path.size());
  const timeval timeout = {.tv_sec = kAnswerSeconds, .tv_usec = 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  const auto* generic = static_cast<const sockaddr*>(static_cast<const void*>(&address));
  if (::connect(fd.get(), generic, sizeof address) != 0) {
    auto failed = fail_errno(fmt::format("connecting to process {}", target.name()));
    failed.error().code = Errc::kUnavailable;
    failed.error().advice = "it must run, by the same user, and serve a control socket (Engine::serve_control)";
    return failed;
  }
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid != target.pid) {
    return fail(Errc::kUnavailable, fmt::format("{} is not served by process {}", target.path, target.pid));
  }
  return fd;
}

}  // namespace

std::string WqTarget::name() const { return engine == 0 ? std::to_string(pid) : fmt::format("{}.{}", pid, engine); }

Result<WqTarget> parse_wq_target(const std::string& text) {
  const std::size_t dot = text.find('.');
  WqTarget target;
  if (!read_number(text.substr(0, dot), target.pid) || target.pid == 0 ||
      (dot != std::string::npos && !read_number(text.substr(dot + 1), target.engine))) {
    return fail(Errc::kInvalid, fmt::format("'{}' is no process", text),
                "give its id, as 1234, or 1234.1 for its second engine");
  }
  return target;
}

std::vector<WqTarget> find_wq_targets() {
  std::vector<WqTarget> found;
  for (const std::string& directory : directories()) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      const std::string name = entry.path().filename();
      const std::size_t dot = name.find('.');
      if (dot == std::string::npos || !name.ends_with(".sock")) continue;
      WqTarget target{.path = entry.path()};
      if (!read_number(name.substr(0, dot), target.pid) ||
          !read_number(name.substr(dot + 1, name.size() - dot - 6), target.engine)) {
        continue;
      }
      if (!open(target)) continue;  // left behind, or not for us
      target.program = program_of(target.pid);
      found.push_back(std::move(target));
    }
  }
  std::ranges::sort(found, {}, [](const WqTarget& target) { return std::pair(target.pid, target.engine); });
  return found;
}

Result<WqClient> WqClient::connect(const WqTarget& target) {
  WqTarget place = target;
  if (!place.path.empty()) {
    UPCI_TRY_ASSIGN(UniqueFd fd, open(place));
    return WqClient(std::move(fd));
  }
  Error last = fail(Errc::kUnavailable, fmt::format("process {} serves no control socket", place.name()),
                    "'upci wq dump' without a PID lists those that do; only the same user and root may look")
                   .error();
  for (const std::string& directory : directories()) {
    place.path = fmt::format("{}/{}.{}.sock", directory, place.pid, place.engine);
    struct stat status = {};
    if (::lstat(place.path.c_str(), &status) != 0) continue;
    if (auto fd = open(place))
      return WqClient(std::move(*fd));
    else
      last = std::move(fd).error();
  }
  return std::unexpected(std::move(last));
}

void WqClient::set_patience(int seconds) noexcept {
  const timeval timeout = {.tv_sec = seconds, .tv_usec = 0};
  (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

Result<std::string> WqClient::take(std::size_t length) {
  std::array<char, 65536> buffer;
  while (input_.size() < length) {
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      return fail(Errc::kTimeout, "the process does not answer", "it may be stopped or have no CPU time");
    }
    if (n < 0) return fail_errno("reading the answer");
    if (n == 0) return fail(Errc::kSystem, "the process has ended, or closed the connection");
    input_.append(buffer.data(), static_cast<std::size_t>(n));
  }
  std::string taken = input_.substr(0, length);
  input_.erase(0, length);
  return taken;
}

Result<std::string> WqClient::take_line() {
  for (std::size_t end = input_.find('\n'); end == std::string::npos; end = input_.find('\n')) {
    if (input_.size() > 256) return fail(Errc::kSystem, "the process answers in a way that is not known");
    const std::size_t before = input_.size();
    UPCI_TRY_ASSIGN(std::string all, take(before + 1));
    input_.insert(0, all);
  }
  UPCI_TRY_ASSIGN(std::string line, take(input_.find('\n') + 1));
  line.pop_back();
  return line;
}

Result<std::string> WqClient::ask(const std::vector<std::string>& fields, int pass_fd) {
  std::string line;
  for (const std::string& field : fields) {
    if (field.find_first_of("\t\n") != std::string::npos) {
      return fail(Errc::kInvalid, "a name with a tab or a line's end cannot be sent",
                  "name the workqueue by its number, as #N");
    }
    line += (line.empty() ? "" : "\t") + field;
  }
  line += '\n';
  iovec part = {.iov_base = line.data(), .iov_len = line.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (pass_fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pass_fd, sizeof pass_fd);
  }
  if (::sendmsg(fd_.get(), &message, MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    return fail_errno("sending the request to the process", "it may have ended");
  }
  UPCI_TRY_ASSIGN(const std::string status, take_line());
  const bool ok = status.starts_with("ok ");
  const std::size_t last = status.rfind(' ');
  int code = 0;
  int length = -1;
  if (last == std::string::npos || !read_number(status.substr(last + 1), length) ||
      static_cast<std::size_t>(length) > kLargestAnswer ||
      (!ok && (!status.starts_with("error ") || last < 6 || !read_number(status.substr(6, last - 6), code)))) {
    return fail(Errc::kSystem, "the process answers in a way that is not known");
  }
  UPCI_TRY_ASSIGN(std::string body, take(static_cast<std::size_t>(length)));
  if (ok) return body;
  const std::size_t end = body.find('\n');
  const std::string advice = end == std::string::npos ? "" : body.substr(end + 1);
  // What the text alone shows to be wrong was found out before: this is about the state of the process.
  const bool unavailable = code == static_cast<int>(Errc::kUnavailable);
  return fail(unavailable ? Errc::kUnavailable : Errc::kState, body.substr(0, end), advice);
}

Result<Json> WqClient::ask_json(const std::vector<std::string>& fields) {
  UPCI_TRY_ASSIGN(const std::string text, ask(fields));
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return fail(Errc::kSystem, "the process's answer is no JSON");
  return json;
}

}  // namespace upci::tool
