// SPDX-License-Identifier: Apache-2.0
// A machine for tests of bind and unbind: its files and links, and the kernel's rules for drivers. A FakeSysfs is one process
// on it, whose calls can be made to fail, or that can die; the machine goes on.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vfio/bind/sysfs.h"

namespace upci::test {

inline const std::string kStateFolder = "/state";

class Machine {
 public:
  struct Function {
    std::string address;
    std::string id = "1af4:1041";
    std::string class_code = "0x020000";
    char header = 0;
    std::string parent = "/sys/devices/pci0000:40";
    int group = 12;
    int node = 0;
    std::string driver = "virtio-pci";
    std::string override_ = "";
  };
  void add(const Function& function);
  /// A driver that takes these functions ("1af4:1041") without being told to.
  void add_driver(const std::string& name, const std::set<std::string>& ids = {});
  void remove_driver(const std::string& name);
  void unplug(const std::string& address);

  std::string driver_of(const std::string& address) const;
  std::string override_of(const std::string& address) const;
  bool has_record(const std::string& address) const { return files.contains(kStateFolder + "/" + address + ".json"); }
  /// Everything but the folder of records.
  std::string state() const;

  // What the kernel does for a write; the errno, or 0.
  int write(const std::string& path, const std::string& text);

  std::string resolve(const std::string& path) const;
  bool is_there(const std::string& path) const;
  std::set<std::string> names_in(const std::string& folder) const;

  std::map<std::string, std::string> files;  // by path without links
  std::map<std::string, std::string> links;  // to an absolute path
  std::map<std::string, std::string> block_devices;
  std::map<std::string, std::set<std::string>> drivers;
  std::set<std::string> loadable = {};               // modules that modprobe finds
  std::set<std::string> refusing = {};               // "driver address": its probe fails there
  std::map<std::string, std::string> hangs_at = {};  // a write to this path makes this address hung, before it is done
  std::set<std::string> hung = {};                   // addresses whose lock the kernel holds for ever
  std::vector<std::string> written = {};             // "path = text" of each write of an attribute, in order
  bool locked = false;

 private:
  bool matches(const std::string& driver, const std::string& address) const;
  int attach(const std::string& driver, const std::string& address);
};

/// Two NICs in groups of their own, drivers virtio-pci and vfio-pci, a disk behind ahci, proc as on an idle machine.
Machine plain_machine();
inline const std::string kNic = "0000:41:00.0";
inline const std::string kNic2 = "0000:42:00.0";
inline const std::string kDisk = "0000:00:1f.2";

class FakeSysfs final : public vfio::bind::Sysfs {
 public:
  explicit FakeSysfs(Machine& machine) : machine_(machine) {}

  // Calls are counted from 1.
  int calls = 0;
  int fail_at = 0;     // this call fails
  int fail_with = 0;   // with this
  int die_after = -1;  // no later call does anything, or -1
  bool root = true;
  std::vector<std::string> log = {};  // what each call was

  bool is_root() override { return root; }
  Result<bool> exists(const std::string& path) override;
  Result<std::string> read(const std::string& path, std::size_t most) override;
  Result<std::string> read_link(const std::string& path) override;
  Result<std::string> real_path(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<std::string> block_number(const std::string& path) override;
  Result<std::string> read_attribute(const std::string& path, Deadline deadline) override;
  Result<void> write_attribute(const std::string& path, const std::string& text, Deadline deadline) override;
  Result<std::unique_ptr<Lock>> lock_folder(const std::string& folder, Deadline deadline) override;
  Result<void> write_file(const std::string& path, const std::string& text) override;
  Result<std::string> read_own_file(const std::string& path) override;
  Result<void> remove_file(const std::string& path) override;
  Result<void> load_module(const std::string& name, Deadline deadline) override;

 private:
  Result<void> begin(const std::string& what);
  Result<void> not_hung(const std::string& path, const std::string& text) const;
  bool dead() const { return die_after >= 0 && calls > die_after; }
  Machine& machine_;
};

}  // namespace upci::test
