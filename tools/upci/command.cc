// SPDX-License-Identifier: Apache-2.0
#include "tools/upci/command.h"

#include <fmt/format.h>

#include "base/log.h"
#include "tools/upci/output.h"
#include "tools/upci/schemes.h"

namespace upci::tool {
namespace {

constexpr std::size_t kWidth = 110;

/// "a, b, c" in lines that begin with `indent` spaces.
std::string list(const std::vector<std::string_view>& words, std::size_t indent) {
  std::string text;
  std::string line(indent, ' ');
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (line.size() + words[i].size() + 2 > kWidth) {
      text += line + "\n";
      line = std::string(indent, ' ');
    }
    line += fmt::format("{}{}", words[i], i + 1 < words.size() ? ", " : "");
  }
  return text + line + "\n";
}

}  // namespace

void add_common_options(CLI::App& command, CommonOptions& options) {
  command.add_flag("--json", options.json, "One JSON document on stdout, for programs");
  command.add_flag("-v,--verbose", options.verbose, "Say on stderr what is done; twice: everything");
}

void apply(const CommonOptions& options) {
  if (options.verbose > 0) log::set_level(options.verbose > 1 ? log::Level::kDebug : log::Level::kInfo);
}

std::string device_help() {
  return fmt::format(
      "Devices:\n"
      "  emu:virtio-net[,modern|legacy|transitional]   a model in this process; modern by default\n"
      "  qemu:MODEL[,PROPERTY=VALUE]...                QEMU's model, in a QEMU of its own; no root needed\n"
      "  0000:65:00.0, vfio:0000:65:00.0               a PCI function of this machine that is bound to vfio-pci ('upci "
      "bind')\n"
      "Words that can follow each model:\n"
      "  driver=legacy|modern    which interface of a transitional device is used\n"
      "  wire=loopback           what is sent comes back (the default); or\n"
      "  wire=cable:NAME         connects the two devices that name the same cable; or\n"
      "  wire=unix:PATH          a unix datagram socket that somebody else has bound; each datagram is a frame\n"
      "  wire=tap:NAME[:QUEUES]  qemu: a tap interface of this machine's network (made where there is none); or\n"
      "  wire=vhost-user:PATH[:QUEUES]  emu:, qemu: a vhost-user backend that listens at this socket, DPDK's for "
      "example\n"
      "  disk=PATH               qemu: block devices: a file with the contents (raw), read-only when nobody may write "
      "to it;\n"
      "                          without it a scratch disk of 64 MiB that is gone with the device\n"
      "  node=N                  the NUMA node that the device claims to be on\n"
      "  features=+NAME:-NAME    virtio features to insist on (+) or to decline (-)\n"
      "  fault=NAME              what goes wrong between any device and memory or CPU:\n{}"
      "                          or how an emu: device misbehaves:\n{}"
      "Words of emu:virtio-net:\n{}",
      list(platform_fault_names(), 26), list(fault_names(), 26), list(emu_words(), 2));
}

namespace {

/// "upci net test".
std::string full_name(const CLI::App& command) {
  std::string name = command.get_name();
  for (const CLI::App* parent = command.get_parent(); parent != nullptr; parent = parent->get_parent()) {
    name.insert(0, parent->get_name() + " ");
  }
  return name;
}

}  // namespace

std::string help_of(const CLI::App& command) {
  // Not command.help(): that explains the command which was called ("help" itself), not this one.
  return command.get_formatter()->make_help(&command, full_name(command), CLI::AppFormatMode::Normal);
}

ExitCode usage_error(const CLI::App& command, const Error& error) {
  print_error(error);
  print_error(fmt::format("'{} --help' shows how it is used", full_name(command)));
  return ExitCode::kUsage;
}

}  // namespace upci::tool
