/**
 * @file nvtx_observer.c
 * @brief What a profiler puts behind NVTX: a library named by NVTX_INJECTION64_PATH, here one that writes every range
 * of a domain to a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct domain {
  char name[64];
} domain;

static FILE *record(void) {
  static FILE *file;
  if (!file) {
    const char *path = getenv("SOFTNTK_NVTX_LOG");
    file = path ? fopen(path, "w") : NULL;
    if (!file) {
      fprintf(stderr, "SOFTNTK_NVTX_LOG must name a file that can be written\n");
      exit(1);
    }
    setvbuf(file, NULL, _IOLBF, 0);
  }
  return file;
}

static nvtxDomainHandle_t create(const char *name) {
  domain *made = calloc(1, sizeof *made);
  if (made) snprintf(made->name, sizeof made->name, "%s", name);
  return (nvtxDomainHandle_t)made;
}

static void destroy(nvtxDomainHandle_t handle) { free((void *)handle); }

static int push(nvtxDomainHandle_t handle, const nvtxEventAttributes_t *attributes) {
  fprintf(record(), "push %s %s\n", handle ? ((const domain *)handle)->name : "-", attributes->message.ascii);
  return 0;
}

static int pop(nvtxDomainHandle_t handle) {
  fprintf(record(), "pop %s\n", handle ? ((const domain *)handle)->name : "-");
  return 0;
}

/* What NVTX calls once, at its first use in a module. */
__attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
  NvtxFunctionTable table = NULL;
  unsigned size = 0;
  if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  if (size <= NVTX_CBID_CORE2_DomainDestroy || size <= NVTX_CBID_CORE2_DomainRangePop) return 0;
  nvtxDomainCreateA_impl_fntype on_create = create;
  nvtxDomainDestroy_impl_fntype on_destroy = destroy;
  nvtxDomainRangePushEx_impl_fntype on_push = push;
  nvtxDomainRangePop_impl_fntype on_pop = pop;
  memcpy(table[NVTX_CBID_CORE2_DomainCreateA], &on_create, sizeof on_create);
  memcpy(table[NVTX_CBID_CORE2_DomainDestroy], &on_destroy, sizeof on_destroy);
  memcpy(table[NVTX_CBID_CORE2_DomainRangePushEx], &on_push, sizeof on_push);
  memcpy(table[NVTX_CBID_CORE2_DomainRangePop], &on_pop, sizeof on_pop);
  return 1;
}
