// SPDX-License-Identifier: Apache-2.0
#include <cxxabi.h>
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "base/stack.h"
#include "base/wait.h"

namespace upci::inline UPCI_VARIANT {
namespace {

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};
struct EndDwfl {
  void operator()(Dwfl* dwfl) const noexcept { dwfl_end(dwfl); }
};

std::string demangle(const char* name) {
  int status = 0;
  const std::unique_ptr<char, Free> text(abi::__cxa_demangle(name, nullptr, nullptr, &status));
  return status == 0 && text ? std::string(text.get()) : std::string(name);
}

// dwfl_standard_find_debuginfo() is not used: it may ask servers for separate debug information, and wait for them.
constexpr Dwfl_Callbacks kCallbacks = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_build_id_find_debuginfo,
    .section_address = nullptr,
    .debuginfo_path = nullptr,
};

std::string name_of(Dwarf_Die* function) {
  Dwarf_Attribute attribute;
  for (const unsigned int which : {unsigned{DW_AT_linkage_name}, unsigned{DW_AT_MIPS_linkage_name}}) {
    if (dwarf_attr_integrate(function, which, &attribute) == nullptr) continue;
    if (const char* name = dwarf_formstring(&attribute); name != nullptr) return demangle(name);
  }
  const char* name = dwarf_diename(function);
  return name != nullptr ? name : "";
}

// Where an inlined function was called.
void call_site(Dwarf_Die* unit, Dwarf_Die* inlined, StackFrame& frame) {
  Dwarf_Attribute attribute;
  Dwarf_Word number = 0;
  Dwarf_Files* files = nullptr;
  std::size_t count = 0;
  if (dwarf_attr(inlined, DW_AT_call_file, &attribute) != nullptr && dwarf_formudata(&attribute, &number) == 0 &&
      dwarf_getsrcfiles(unit, &files, &count) == 0 && number < count) {
    if (const char* file = dwarf_filesrc(files, number, nullptr, nullptr); file != nullptr) frame.file = file;
  }
  if (dwarf_attr(inlined, DW_AT_call_line, &attribute) != nullptr && dwarf_formudata(&attribute, &number) == 0) {
    frame.line = static_cast<int>(number);
  }
}

// The compilation unit that has the address. GCC writes an index of them (.debug_aranges), clang does not.
Dwarf_Die* unit_of(Dwfl_Module* module, Dwarf_Addr address, Dwarf_Addr& bias) {
  if (Dwarf_Die* unit = dwfl_module_addrdie(module, address, &bias); unit != nullptr) return unit;
  Dwarf_Die* unit = nullptr;
  while ((unit = dwfl_module_nextcu(module, unit, &bias)) != nullptr) {
    if (dwarf_haspc(unit, address - bias) == 1) return unit;
  }
  return nullptr;
}

// Appends the frames of one address: the functions that are inlined there, innermost first, then the function itself.
void name_address(Dwfl_Module* module, Dwarf_Addr address, std::uintptr_t pc, std::vector<StackFrame>& frames) {
  StackFrame frame{.address = pc};
  Dwarf_Addr bias = 0;
  Dwarf_Die* unit = unit_of(module, address, bias);
  if (Dwarf_Line* line = unit != nullptr ? dwarf_getsrc_die(unit, address - bias) : nullptr; line != nullptr) {
    if (const char* file = dwarf_linesrc(line, nullptr, nullptr); file != nullptr) frame.file = file;
    dwarf_lineno(line, &frame.line);
  }
  Dwarf_Die* found = nullptr;
  if (unit != nullptr && dwarf_getscopes(unit, address - bias, &found) > 0) {
    const std::unique_ptr<Dwarf_Die, Free> innermost(found);
    Dwarf_Die* nested = nullptr;
    const int count = dwarf_getscopes_die(innermost.get(), &nested);
    const std::unique_ptr<Dwarf_Die, Free> scopes(nested);
    for (int i = 0; i < count; ++i) {
      Dwarf_Die* scope = scopes.get() + i;
      if (dwarf_tag(scope) == DW_TAG_subprogram) break;
      if (dwarf_tag(scope) != DW_TAG_inlined_subroutine) continue;
      frame.function = name_of(scope);
      StackFrame caller{.address = pc};
      call_site(unit, scope, caller);
      frames.push_back(std::move(frame));
      frame = std::move(caller);
    }
  }
  if (const char* symbol = dwfl_module_addrname(module, address); symbol != nullptr) frame.function = demangle(symbol);
  frames.push_back(std::move(frame));
}

// What the dynamic linker knows: exported functions of this process.
StackFrame name_by_linker(std::uintptr_t pc) {
  StackFrame frame{.address = pc};
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(pc - 1), &info) == 0) return frame;
  if (info.dli_sname != nullptr) frame.function = demangle(info.dli_sname);
  if (info.dli_fname != nullptr) frame.file = info.dli_fname;
  return frame;
}

}  // namespace

std::vector<StackFrame> symbolize(const StackTrace& trace, int pid) {
  std::vector<StackFrame> frames;
  // libdw does not promise to be thread-safe. What a process has mapped changes, so nothing is kept between calls.
  static Mutex mutex;
  const std::lock_guard lock(mutex);
  const std::unique_ptr<Dwfl, EndDwfl> dwfl(dwfl_begin(&kCallbacks));
  const bool reported = dwfl && dwfl_linux_proc_report(dwfl.get(), pid != 0 ? pid : ::getpid()) == 0 &&
                        dwfl_report_end(dwfl.get(), nullptr, nullptr) == 0;
  for (const std::uintptr_t pc : trace.frames()) {
    const std::size_t before = frames.size();
    if (reported && pc != 0) {
      // A return address may belong to the next line or function already: look one byte before it.
      Dwfl_Module* module = dwfl_addrmodule(dwfl.get(), pc - 1);
      if (module != nullptr) name_address(module, pc - 1, pc, frames);
    }
    if (pid == 0 && pc != 0 && (frames.size() == before || frames.back().function.empty())) {
      StackFrame named = name_by_linker(pc);
      if (frames.size() == before) {
        frames.push_back(std::move(named));
      } else {
        frames.back().function = std::move(named.function);
      }
    }
    if (frames.size() == before) frames.push_back(StackFrame{.address = pc});
  }
  return frames;
}

}  // namespace upci::inline UPCI_VARIANT
