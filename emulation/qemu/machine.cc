// SPDX-License-Identifier: Apache-2.0
#include "emulation/qemu/machine.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>
#include <vector>

namespace upci::inline UPCI_VARIANT::emulation::qemu {
namespace {

// The numbers that QEMU knows its descriptors by.
constexpr int kRamFd = 3;
constexpr int kRomFd = 4;
constexpr int kQtestFd = 5;
constexpr int kDoorbellFd = 6;
// A device under test is a network card or a disk, so that both may have the numbers from here on.
constexpr int kDiskFd = Netdev::kFirstFd;

constexpr platform::Nanoseconds kEndLimit = std::chrono::seconds(2);
constexpr std::size_t kLongestMessage = 400;

/// The guest's firmware: 64 KiB in which the processor finds `cli; hlt; jmp back to hlt` where it starts, 16 bytes
/// below the end. The machine has to run (a stopped one transmits no frame), but nothing has to run in it.
Result<UniqueFd> make_rom() {
  constexpr std::size_t kSize = 64 * 1024;
  constexpr std::array<std::uint8_t, 4> kCode = {0xfa, 0xf4, 0xeb, 0xfd};
  UniqueFd rom(::memfd_create("upci-rom", MFD_CLOEXEC));
  if (!rom || ::ftruncate(rom.get(), kSize) != 0 ||
      ::pwrite(rom.get(), kCode.data(), kCode.size(), kSize - 16) != static_cast<ssize_t>(kCode.size())) {
    return fail_errno("cannot make the guest's ROM");
  }
  return rom;
}

/// What follows -device for the device under test.
std::string device_argument(const Plug& plug, const Options& options) {
  std::string text = fmt::format("{},id=dut0,bus=rp0,addr=0", plug.model->name);
  if (!plug.netdev.arguments.empty()) text += ",netdev=wire0";
  if (plug.model->is_block())
    text += ",drive=" + (options.disk_node.empty() ? std::string("disk0") : options.disk_node);
  if (!plug.properties.empty()) text += "," + plug.properties;
  return text;
}

std::vector<std::string> arguments(const Plug& plug, const Options& options, std::size_t ram) {
  std::vector<std::string> args = {
      "-machine",
      "q35,accel=tcg,memory-backend=ram0,kernel-irqchip=off",
      "-m",
      fmt::format("{}M", ram >> 20),
      "-object",
      fmt::format("memory-backend-file,id=ram0,size={},mem-path=/proc/self/fd/{},share=on", ram, kRamFd),
      "-bios",
      fmt::format("/proc/self/fd/{}", kRomFd),
      "-display",
      "none",
      "-nodefaults",
      "-no-user-config",
      "-chardev",
      fmt::format("socket,id=qtest-socket,fd={}", kQtestFd),
      "-object",
      "qtest,id=qtest0,chardev=qtest-socket,log=none",
      "-chardev",
      fmt::format("socket,id=doorbell-socket,fd={}", kDoorbellFd),
      "-device",
      fmt::format("ivshmem-doorbell,bus=pcie.0,addr=2,chardev=doorbell-socket,ioeventfd=off,vectors={}",
                  Doorbell::kVectors),
      "-device",
      "pcie-root-port,id=rp0,bus=pcie.0,addr=1,chassis=1"};
  args.insert(args.end(), plug.netdev.arguments.begin(), plug.netdev.arguments.end());
  args.insert(args.end(), options.arguments.begin(), options.arguments.end());
  if (plug.disk >= 0) {
    // Opened anew by QEMU, so that the file's own mode counts and its position is nobody's.
    args.insert(args.end(), {"-blockdev", fmt::format("driver=raw,node-name=disk0,discard=unmap,read-only={},"
                                                      "file.driver=file,file.filename=/proc/self/fd/{}",
                                                      plug.disk_read_only ? "on" : "off", kDiskFd)});
  }
  args.insert(args.end(), {"-device", device_argument(plug, options)});
  return args;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::launch(const Plug& plug, const Options& options) {
  const Deadline deadline = Deadline::after(options.start_limit);
  UPCI_TRY_ASSIGN(std::shared_ptr<GuestRam> ram, GuestRam::create(options.ram));
  UPCI_TRY_ASSIGN(const UniqueFd rom, make_rom());
  UPCI_TRY_ASSIGN(Doorbell doorbell, Doorbell::create());
  UPCI_TRY_ASSIGN(OutputCapture output, OutputCapture::create());
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("cannot make a socket pair");
  UniqueFd qtest(ends[0]);
  UniqueFd qtest_there(ends[1]);

  std::vector<ChildProcess::InheritedFd> fds = {{.fd = ram->fd(), .as = kRamFd},
                                                {.fd = rom.get(), .as = kRomFd},
                                                {.fd = qtest_there.get(), .as = kQtestFd},
                                                {.fd = doorbell.device_fd(), .as = kDoorbellFd}};
  int number = Netdev::kFirstFd;
  for (const int fd : plug.netdev.fds) fds.push_back({.fd = fd, .as = number++});
  if (plug.disk >= 0) fds.push_back({.fd = plug.disk, .as = kDiskFd});
  UPCI_TRY_ASSIGN(ChildProcess child,
                  start_program(options.program, arguments(plug, options, ram->size()), output, std::move(fds)));
  // QEMU's end must be open in QEMU only: so that its end is seen here.
  qtest_there.reset();
  doorbell.handed_over();
  std::unique_ptr<Machine> machine(new Machine(std::move(child), std::move(output), std::move(ram), std::move(doorbell),
                                               std::move(qtest), options.access_limit));
  UPCI_TRY(machine->await_start(plug, options, deadline));
  return machine;
}

Machine::~Machine() { kill(); }  // the child's destructor waits for the end and reaps

Result<void> Machine::await_start(const Plug& plug, const Options& options, Deadline deadline) {
  if (qtest_.await_ready(deadline)) return {};
  if (!ended(deadline.expired() ? platform::Nanoseconds::zero() : kEndLimit)) {
    return fail(Errc::kTimeout,
                fmt::format("QEMU has not started within {} ms",
                            std::chrono::duration_cast<std::chrono::milliseconds>(deadline.length()).count()),
                "is the machine overloaded?");
  }
  return explain_end(plug, options);
}

std::unexpected<Error> Machine::explain_end(const Plug& plug, const Options& options) const {
  const std::string output = output_.text();
  // QEMU names the option that it does not like: "qemu-system-x86_64: -device edu,dma_mask=x: Property 'edu.dma_mask'
  // ...".
  const std::string ours = "-device " + device_argument(plug, options) + ": ";
  if (const std::size_t at = output.find(ours); at != std::string::npos) {
    const std::string_view rest = std::string_view(output).substr(at + ours.size());
    return fail(
        Errc::kInvalid, fmt::format("QEMU refuses the device: {}", rest.substr(0, rest.find('\n'))),
        fmt::format("'qemu-system-x86_64 -device {},help' lists the properties and their values", plug.model->name));
  }
  std::string said = output.substr(0, kLongestMessage);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  std::ranges::replace(said, '\n', ' ');
  return fail(Errc::kUnavailable,
              said.empty() ? std::string("QEMU ended at its start without a word")
                           : fmt::format("QEMU ended at its start: {}", said),
              "upci needs QEMU 7.2 or later with the q35 machine");
}

void Machine::kill() noexcept {
  // The signal first: when an access returns because of the severed socket, QEMU is as good as ended.
  ::syscall(SYS_pidfd_send_signal, child_.pidfd(), SIGKILL, nullptr, 0U);
  qtest_.sever();
}

bool Machine::ended(platform::Nanoseconds limit) const noexcept {
  const Deadline deadline = Deadline::after(limit);
  for (;;) {
    pollfd entry{.fd = child_.pidfd(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(deadline.remaining().count() / 1'000'000));
    if (ready > 0) return (entry.revents & POLLIN) != 0;
    if (deadline.expired()) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace upci::inline UPCI_VARIANT::emulation::qemu
