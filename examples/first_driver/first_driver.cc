// SPDX-License-Identifier: Apache-2.0
// doc: whole
// The driver of docs/writing-a-driver.md in a program: QEMU's `edu` device computes a factorial, and keeps it for us.
//
//   build/bin/first_driver 10        prints 10! = 3628800
#include <charconv>
#include <cstdio>
#include <string_view>

#include "device/context.h"
#include "device/report_text.h"
#include "drivers/edu/edu.h"
#include "emulation/qemu/qemu.h"

using namespace upci;
using namespace std::chrono_literals;

static Result<std::uint32_t> run(std::uint32_t n) {
  UPCI_TRY_ASSIGN(Topology topology, Topology::detect());
  UPCI_TRY_ASSIGN(auto context, device::Context::create({.engine = {.topology = std::move(topology)}}));
  context->add_driver(pci::make_driver<edu::Edu>("edu"));

  emulation::Cables cables;
  UPCI_TRY_ASSIGN(auto backend, emulation::qemu::open({.uri = "qemu:edu", .model = "edu", .words = {}}, cables));
  UPCI_TRY_ASSIGN(auto device, pci::Device::create(std::move(backend)));
  UPCI_TRY(context->add_device(device));

  const device::Report report = context->probe(device, 2s);
  std::fputs(device::to_text(report).c_str(), stderr);
  if (!report.ok()) return fail(Errc::kState, "edu is not bound");
  auto* edu = device::find<edu::Edu>(*context->bound(*device));

  UPCI_TRY_ASSIGN(std::uint32_t answer, edu->factorial(n, Deadline::after(1s)));
  UPCI_TRY(edu->store(std::as_bytes(std::span(&answer, 1)), 0, Deadline::after(1s)));
  std::uint32_t kept = 0;
  UPCI_TRY(edu->load(std::as_writable_bytes(std::span(&kept, 1)), 0, Deadline::after(1s)));
  if (kept != answer) return fail(Errc::kDevice, "edu has not kept what it was given");
  return kept;
}

int main(int argc, char** argv) {
  const std::string_view text = argc > 1 ? argv[1] : "10";
  std::uint32_t n = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), n).ptr != text.data() + text.size()) {
    std::fputs("usage: first_driver N, with N from 0 to 12\n", stderr);
    return 2;
  }
  const auto answer = run(n);
  if (!answer) {
    std::fprintf(stderr, "%s\n%s\n", answer.error().message().c_str(), answer.error().advice.c_str());
    return 1;
  }
  std::printf("%u! = %u\n", n, *answer);
  return 0;
}
// doc: end
