// SPDX-License-Identifier: Apache-2.0
#include "vfio/bind/function.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <chrono>

#include "vfio/bind/errors.h"

namespace upci::inline UPCI_VARIANT::vfio::bind {
namespace {

using namespace std::chrono_literals;

// A driver's probe or removal takes milliseconds, seldom a second or two.
constexpr auto kPatience = 10s;

template <class Number>
std::optional<Number> number(std::string_view text, int base) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<std::uint32_t> read_hex(Sysfs& sysfs, const std::string& path) {
  UPCI_TRY_ASSIGN(const std::string text, in_environment(sysfs.read(path)));
  const auto value = number<std::uint32_t>(trimmed(text), 16);
  if (!value) return fail(Errc::kSystem, fmt::format("{} holds '{}', which is no number", path, trimmed(text)));
  return *value;
}

Result<void> write(Sysfs& sysfs, const std::string& path, const std::string& text) {
  return in_environment(sysfs.write_attribute(path, text, Deadline::after(kPatience)));
}

}  // namespace

std::string device_path(const pci::Address& address) {
  return fmt::format("/sys/bus/pci/devices/{}", address.to_string());
}

std::string driver_path(std::string_view driver) { return fmt::format("/sys/bus/pci/drivers/{}", driver); }

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlank(" \t\r\n\0", 5);
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kBlank) - begin + 1));
}

Result<std::string> link_name(Sysfs& sysfs, const std::string& path) {
  auto target = in_environment(sysfs.read_link(path));
  if (target) return target->substr(target->rfind('/') + 1);
  if (target.error().sys_errno == ENOENT) return std::string();
  return std::unexpected(std::move(target).error());
}

Result<std::string> driver_of(Sysfs& sysfs, const pci::Address& address) {
  return link_name(sysfs, device_path(address) + "/driver");
}

Result<std::optional<Function>> look_at(Sysfs& sysfs, const pci::Address& address) {
  const std::string path = device_path(address);
  UPCI_TRY_ASSIGN(const bool there, in_environment(sysfs.exists(path)));
  if (!there) return std::nullopt;
  Function function{.address = address};
  UPCI_TRY_ASSIGN(const std::uint32_t vendor, read_hex(sysfs, path + "/vendor"));
  UPCI_TRY_ASSIGN(const std::uint32_t device, read_hex(sysfs, path + "/device"));
  UPCI_TRY_ASSIGN(function.class_code, read_hex(sysfs, path + "/class"));
  function.vendor = static_cast<std::uint16_t>(vendor);
  function.device = static_cast<std::uint16_t>(device);
  UPCI_TRY_ASSIGN(function.driver, driver_of(sysfs, address));
  UPCI_TRY_ASSIGN(const std::string group, link_name(sysfs, path + "/iommu_group"));
  function.group = number<int>(group, 10).value_or(-1);
  // Only told to the reader, so no reason to fail.
  const auto node = sysfs.read(path + "/numa_node");
  function.node = node ? number<int>(trimmed(*node), 10).value_or(-1) : -1;
  return function;
}

Result<unsigned> header_type(Sysfs& sysfs, const pci::Address& address) {
  constexpr std::size_t kHeaderType = 0x0e;
  const std::string path = device_path(address) + "/config";
  UPCI_TRY_ASSIGN(const std::string config, in_environment(sysfs.read(path, kHeaderType + 1)));
  if (config.size() <= kHeaderType) return fail(Errc::kSystem, fmt::format("{} ends before the header type", path));
  return static_cast<unsigned char>(config[kHeaderType]) & 0x7fU;
}

Result<std::string> read_override(Sysfs& sysfs, const pci::Address& address) {
  const std::string path = device_path(address) + "/driver_override";
  UPCI_TRY_ASSIGN(const std::string text, in_environment(sysfs.read_attribute(path, Deadline::after(kPatience))));
  const std::string driver = trimmed(text);
  return driver == "(null)" ? std::string() : driver;  // what the kernel prints for none
}

Result<void> write_override(Sysfs& sysfs, const pci::Address& address, std::string_view driver) {
  return write(sysfs, device_path(address) + "/driver_override", driver.empty() ? "\n" : std::string(driver));
}

Result<void> unbind_from(Sysfs& sysfs, const pci::Address& address, const std::string& driver) {
  auto written = write(sysfs, driver_path(driver) + "/unbind", address.to_string());
  if (written || written.error().sys_errno != ENODEV) return written;
  const auto bound = driver_of(sysfs, address);
  if (bound && *bound != driver) return {};
  return written;
}

Result<void> bind_to(Sysfs& sysfs, const pci::Address& address, const std::string& driver) {
  return write(sysfs, driver_path(driver) + "/bind", address.to_string());
}

Result<void> probe_drivers(Sysfs& sysfs, const pci::Address& address) {
  return write(sysfs, "/sys/bus/pci/drivers_probe", address.to_string());
}

}  // namespace upci::inline UPCI_VARIANT::vfio::bind
