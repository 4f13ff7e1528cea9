/**
 * @file symbols.cpp
 * @brief Reading ELF symbol tables.
 *
 * A static variable of a function is named _ZZ<function>E<variable>; the macro __shared__ declares an array
 * emu_shared_<N> beside each, so a function that has such an array has no statics but shared ones.
 *
 * SPDX-License-Identifier: MIT
 */
#include "symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <utility>

#include "emu/types.h"
#include "report.h"

namespace emu {

static const char guard_name[] = "emu_shared_";

static std::string demangle(const std::string &name) {
  int status;
  char *readable = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? readable : name;
  free(readable);
  return result;
}

/* The identifier at `at` in a mangled name: <length><letters>; empty if there is none. */
static std::string identifier_at(const std::string &mangled, size_t at) {
  size_t length = 0;
  while (at < mangled.size() && isdigit((unsigned char)mangled[at]))
    length = 10 * length + (size_t)(mangled[at++] - '0');
  return length > 0 && at + length <= mangled.size() ? mangled.substr(at, length) : std::string();
}

struct DataSymbol {
  std::string name;
  char *address;
  size_t size;
};

/* Unused bytes between a shared variable and its neighbours are red zones too. */
static void add_gaps(Module &module, std::vector<std::pair<uintptr_t, uintptr_t>> objects) {
  std::sort(objects.begin(), objects.end());
  const size_t count = module.shared.size();
  for (size_t i = 0; i < count; ++i) {
    const SharedVariable variable = module.shared[i];
    const uintptr_t begin = reinterpret_cast<uintptr_t>(variable.address), end = begin + variable.size;
    uintptr_t before = begin - std::min<uintptr_t>(begin, EMU_SHARED_GUARD_BYTES), after = end + EMU_SHARED_GUARD_BYTES;
    for (const auto &object : objects) {
      if (object.first < begin) before = std::max(before, std::min(object.second, begin));
      if (object.first >= end) after = std::min(after, object.first);
    }
    if (before < begin) {
      module.shared.push_back({reinterpret_cast<char *>(before), begin - before, true, variable.owner, variable.name});
    }
    /* Of two neighbours only the later one takes the gap between them; at the end of the segment there may be no
     * memory. */
    const bool last = std::none_of(objects.begin(), objects.end(), [end](const auto &o) { return o.first >= end; });
    const bool shared_next =
        std::any_of(module.shared.begin(), module.shared.begin() + (ptrdiff_t)count,
                    [after](const SharedVariable &v) { return reinterpret_cast<uintptr_t>(v.address) == after; });
    if (after > end && !last && !shared_next) {
      module.shared.push_back({variable.address + variable.size, after - end, true, variable.owner, variable.name});
    }
  }
}

/* The statics of every function that has guards. */
static void find_shared_variables(Module &module, const std::vector<DataSymbol> &data,
                                  const std::vector<std::pair<uintptr_t, uintptr_t>> &objects) {
  std::map<std::string, int> owners; /* prefix, index */
  for (const DataSymbol &symbol : data) {
    const size_t at = symbol.name.rfind(guard_name);
    if (at == std::string::npos || symbol.name.compare(0, 3, "_ZZ") != 0) continue;
    size_t digits = at;
    while (digits > 0 && isdigit((unsigned char)symbol.name[digits - 1])) --digits;
    const std::string prefix = symbol.name.substr(0, digits);
    if (owners.emplace(prefix, (int)module.owners.size()).second) module.owners.push_back({prefix, 0, false});
  }
  for (const DataSymbol &symbol : data) {
    /* The longest prefix wins: a lambda's statics are not its function's. */
    int owner = -1;
    for (const auto &entry : owners) {
      const std::string &prefix = entry.first;
      if (symbol.name.size() > prefix.size() && symbol.name.compare(0, prefix.size(), prefix) == 0 &&
          isdigit((unsigned char)symbol.name[prefix.size()])) {
        if (owner < 0 || prefix.size() > module.owners[(size_t)owner].prefix.size()) owner = entry.second;
      }
    }
    if (owner < 0) continue;
    const std::string name = identifier_at(symbol.name, module.owners[(size_t)owner].prefix.size());
    if (name.empty()) continue;
    const bool guard = name.compare(0, strlen(guard_name), guard_name) == 0;
    module.shared.push_back({symbol.address, symbol.size, guard, owner, name});
    if (!guard) module.owners[(size_t)owner].size += symbol.size;
  }
  add_gaps(module, objects);
  std::sort(module.shared.begin(), module.shared.end(),
            [](const SharedVariable &a, const SharedVariable &b) { return a.address < b.address; });
}

static void read_symbols(Module &module) {
  std::ifstream file(module.path, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto at = [&](size_t offset, size_t size) -> const char * {
    return offset <= image.size() && size <= image.size() - offset ? image.data() + offset : nullptr;
  };
  const auto *header = reinterpret_cast<const ElfW(Ehdr) *>(at(0, sizeof(ElfW(Ehdr))));
  if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) fatal("%s is not an ELF file", module.path.c_str());
  const auto *sections =
      reinterpret_cast<const ElfW(Shdr) *>(at(header->e_shoff, (size_t)header->e_shnum * sizeof(ElfW(Shdr))));
  bool found = false;
  std::vector<DataSymbol> data;
  std::vector<std::pair<uintptr_t, uintptr_t>> objects;
  for (int i = 0; sections && i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= header->e_shnum) continue;
    const ElfW(Shdr) &names = sections[sections[i].sh_link];
    const auto *symbols = reinterpret_cast<const ElfW(Sym) *>(at(sections[i].sh_offset, sections[i].sh_size));
    const char *strings = at(names.sh_offset, names.sh_size);
    if (!symbols || !strings) break;
    found = true;
    for (size_t k = 0; k < sections[i].sh_size / sizeof(ElfW(Sym)); ++k) {
      const ElfW(Sym) &symbol = symbols[k];
      const int type = symbol.st_info & 0xf;
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names.sh_size) continue;
      const char *name = strings + symbol.st_name;
      if (type == STT_FUNC) {
        module.functions.push_back({module.base + symbol.st_value, (size_t)symbol.st_size, name});
      } else if (type == STT_OBJECT) {
        const uintptr_t address = module.base + symbol.st_value;
        objects.emplace_back(address, address + symbol.st_size);
        if (strncmp(name, "_ZZ", 3) == 0)
          data.push_back({name, reinterpret_cast<char *>(address), (size_t)symbol.st_size});
      }
    }
  }
  if (!found) {
    fatal("%s has no symbol table, so its shared variables cannot be found: do not strip what holds kernels",
          module.path.c_str());
  }
  std::sort(module.functions.begin(), module.functions.end(),
            [](const Module::Function &a, const Module::Function &b) { return a.address < b.address; });
  find_shared_variables(module, data, objects);
}

struct Search {
  uintptr_t address;
  Module found;
};

static int visit_module(struct dl_phdr_info *info, size_t, void *argument) {
  Search &search = *static_cast<Search *>(argument);
  uintptr_t begin = UINTPTR_MAX, end = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    const uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    begin = std::min(begin, start);
    end = std::max(end, start + info->dlpi_phdr[i].p_memsz);
  }
  if (search.address < begin || search.address >= end) return 0;
  search.found.base = info->dlpi_addr;
  search.found.begin = begin;
  search.found.end = end;
  search.found.path = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
  return 1;
}

Module *module_of(const void *address) {
  static std::vector<std::unique_ptr<Module>> modules;
  const uintptr_t value = reinterpret_cast<uintptr_t>(address);
  for (auto &module : modules) {
    if (value >= module->begin && value < module->end) return module.get();
  }
  Search search{value, {}};
  if (!dl_iterate_phdr(visit_module, &search)) return nullptr;
  modules.push_back(std::make_unique<Module>(std::move(search.found)));
  read_symbols(*modules.back());
  return modules.back().get();
}

const SharedVariable *shared_variable_at(const Module &module, const void *address) {
  const char *p = static_cast<const char *>(address);
  auto it = std::upper_bound(module.shared.begin(), module.shared.end(), p,
                             [](const char *q, const SharedVariable &v) { return q < v.address; });
  if (it == module.shared.begin()) return nullptr;
  --it;
  return p < it->address + it->size ? &*it : nullptr;
}

static const Module::Function *function_at(const Module &module, uintptr_t address) {
  auto it = std::upper_bound(module.functions.begin(), module.functions.end(), address,
                             [](uintptr_t a, const Module::Function &f) { return a < f.address; });
  if (it == module.functions.begin()) return nullptr;
  --it;
  return address < it->address + std::max<size_t>(it->size, 1) ? &*it : nullptr;
}

std::string function_name(const void *address) {
  const Module *module = module_of(address);
  const Module::Function *function = module ? function_at(*module, reinterpret_cast<uintptr_t>(address)) : nullptr;
  return function ? demangle(function->name) : text("%p", address);
}

std::string code_location(const void *address) {
  const Module *module = module_of(address);
  if (!module) return text("%p", address);
  std::string path = module->path;
  if (path == "/proc/self/exe") {
    char *resolved = realpath(path.c_str(), nullptr);
    if (resolved) path = resolved;
    free(resolved);
  }
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - module->base;
  const std::string command =
      text("addr2line -e '%s' -s -i 0x%llx 2>/dev/null", path.c_str(), (unsigned long long)offset);
  std::string lines;
  if (FILE *pipe = popen(command.c_str(), "r")) {
    char line[512];
    while (fgets(line, sizeof line, pipe)) {
      line[strcspn(line, " \n")] = 0;
      if (strchr(line, '?')) continue;
      if (!lines.empty()) lines += " called from ";
      lines += line;
    }
    pclose(pipe);
  }
  return function_name(address) + (lines.empty() ? text("+0x%llx", (unsigned long long)offset) : " at " + lines);
}

int shared_owner_of(const Module &module, const void *kernel) {
  const Module::Function *function = function_at(module, reinterpret_cast<uintptr_t>(kernel));
  if (!function) return -1;
  const std::string &name = function->name;
  const std::string encoding =
      name.compare(0, 2, "_Z") == 0 ? name.substr(2) : std::to_string(name.size()) + name; /* extern "C" */
  const std::string prefix = "_ZZ" + encoding + "E";
  for (size_t i = 0; i < module.owners.size(); ++i) {
    if (module.owners[i].prefix == prefix) return (int)i;
  }
  return -1;
}

}  // namespace emu
