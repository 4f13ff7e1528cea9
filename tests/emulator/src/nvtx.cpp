/**
 * @file nvtx.cpp
 * @brief NVTX ranges and marks, kept in a list for tests.
 *
 * SPDX-License-Identifier: MIT
 */
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "call.h"
#include "emu/control.h"
#include "nvtx3/nvToolsExt.h"
#include "report.h"

struct nvtxDomainRegistration_st {
  std::string name;
  int depth = 0;
  bool alive = true;
};

namespace emu {

static std::map<const void *, std::unique_ptr<nvtxDomainRegistration_st>> domains;
static nvtxDomainRegistration_st default_domain;
static std::set<std::string> texts; /* keeps what the records point to */
static std::deque<emu_nvtx_record> records;

void nvtx_reset() {
  records.clear();
  texts.clear();
  domains.clear();
  default_domain.depth = 0;
}

static nvtxDomainRegistration_st &domain_of(nvtxDomainHandle_t handle, const char *call) {
  if (!handle) return default_domain;
  const auto it = domains.find(handle);
  if (it == domains.end()) fatal("%s: %p is not a domain", call, static_cast<void *>(handle));
  if (!it->second->alive) fatal("%s: a domain that was destroyed is used", call);
  return *it->second;
}

static void record(emu_nvtx_kind kind, const nvtxDomainRegistration_st &domain, const std::string &text) {
  const char *name = texts.insert(domain.name).first->c_str();
  records.push_back({kind, name, texts.insert(text).first->c_str(), domain.depth});
}

static std::string text_of(const nvtxEventAttributes_t *attributes, const char *call) {
  if (!attributes || attributes->version != NVTX_VERSION || attributes->size != NVTX_EVENT_ATTRIB_STRUCT_SIZE) {
    fatal("%s: the attributes' version must be NVTX_VERSION and their size NVTX_EVENT_ATTRIB_STRUCT_SIZE", call);
  }
  if (attributes->messageType != NVTX_MESSAGE_TYPE_ASCII || !attributes->message.ascii) return "";
  return attributes->message.ascii;
}

static int push(nvtxDomainHandle_t handle, const std::string &text, const char *call) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  nvtxDomainRegistration_st &domain = domain_of(handle, call);
  record(EMU_NVTX_PUSH, domain, text);
  return domain.depth++;
}

static int pop(nvtxDomainHandle_t handle, const char *call) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  nvtxDomainRegistration_st &domain = domain_of(handle, call);
  if (domain.depth == 0) fatal("%s: no range is open in domain \"%s\"", call, domain.name.c_str());
  --domain.depth;
  record(EMU_NVTX_POP, domain, "");
  return domain.depth;
}

}  // namespace emu

using namespace emu;

nvtxDomainHandle_t nvtxDomainCreateA(const char *name) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  auto domain = std::make_unique<nvtxDomainRegistration_st>();
  domain->name = name;
  const nvtxDomainHandle_t handle = domain.get();
  domains[handle] = std::move(domain);
  return handle;
}

void nvtxDomainDestroy(nvtxDomainHandle_t domain) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  if (domain) domain_of(domain, "nvtxDomainDestroy").alive = false;
}

int nvtxDomainRangePushEx(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *attributes) {
  return push(domain, text_of(attributes, "nvtxDomainRangePushEx"), "nvtxDomainRangePushEx");
}
int nvtxDomainRangePop(nvtxDomainHandle_t domain) { return pop(domain, "nvtxDomainRangePop"); }

void nvtxDomainMarkEx(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *attributes) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  record(EMU_NVTX_MARK, domain_of(domain, "nvtxDomainMarkEx"), text_of(attributes, "nvtxDomainMarkEx"));
}

int nvtxRangePushA(const char *text) { return push(nullptr, text, "nvtxRangePushA"); }
int nvtxRangePop(void) { return pop(nullptr, "nvtxRangePop"); }
void nvtxMarkA(const char *text) {
  const std::lock_guard<std::recursive_mutex> lock(call_mutex());
  record(EMU_NVTX_MARK, default_domain, text);
}

int64_t emu_nvtx_count(void) { return (int64_t)records.size(); }
const emu_nvtx_record *emu_nvtx_at(int64_t i) {
  return i >= 0 && i < (int64_t)records.size() ? &records[(size_t)i] : nullptr;
}
