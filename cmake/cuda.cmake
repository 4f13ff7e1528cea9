# The cuda backend as a module: libsoftntk_cuda.so, by nvcc (SNTK_CUDA=ON) or by the host compiler against the emulator (EMULATE).

set(SOFTNTK_CUDA_SOURCES cuda/backend.cu cuda/features.cu cuda/forward.cu cuda/gradient.cu cuda/init.cu cuda/reduce.cu
    cuda/tensor.cu)
# The module brings its own copy of what it needs of the core, so that it can be opened by program and library alike.
set(SOFTNTK_CUDA_HOST_SOURCES host/core/cgroup.c host/core/core.c host/core/memory.c host/core/plan.c host/core/status.c)

set(SNTK_CUDA_KIND OFF)
if(SNTK_CUDA STREQUAL "EMULATE")
  set(SNTK_CUDA_KIND EMULATE)
elseif(NOT SNTK_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(SNTK_CUDA_KIND ON)
  elseif(SNTK_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SNTK_CUDA=ON, and no CUDA compiler was found; set CUDACXX or use SNTK_CUDA=OFF")
  endif()
endif()
message(STATUS "cuda backend: ${SNTK_CUDA_KIND}")

if(SNTK_CUDA_KIND STREQUAL "ON")
  # Before the language is enabled, so that CMake does not choose a default: every architecture the project supports that this
  # compiler knows, and PTX of the newest for those to come.
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(architectures "")
  foreach(architecture 75 80 86 89 90 100 120)
    if(known MATCHES "compute_${architecture}(\n|$)")
      list(APPEND architectures ${architecture}-real)
      set(newest ${architecture})
    endif()
  endforeach()
  set(SNTK_CUDA_ARCHITECTURES "${architectures};${newest}-virtual" CACHE STRING "Architectures of the cuda module")
  set(CMAKE_CUDA_ARCHITECTURES ${SNTK_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  find_package(CUDAToolkit 12.0 REQUIRED)
  add_library(softntk_cuda MODULE ${SOFTNTK_CUDA_SOURCES} ${SOFTNTK_CUDA_HOST_SOURCES})
  set_target_properties(softntk_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden
                        CUDA_ARCHITECTURES "${SNTK_CUDA_ARCHITECTURES}" CUDA_RUNTIME_LIBRARY Static)
  # -fmad=false: what is to be fused says fmaf; a compiler's choice would change results with its version. The host compiler's
  # contraction must not touch the normals' header.
  target_compile_options(softntk_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo -fmad=false -Xcompiler=-Wall,-ffp-contract=off>)
  # A spilled register is a defect of a kernel, like a warning: an error to us, not to who builds with another compiler.
  if(SNTK_WERROR)
    target_compile_options(softntk_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xptxas=-warn-spills,-Werror>)
  endif()
  target_link_libraries(softntk_cuda PRIVATE CUDA::cublas CUDA::cusolver)
elseif(SNTK_CUDA_KIND STREQUAL "EMULATE")
  # PLAIN for speed; ADDRESS and RACE find more and are slower (tests/emulator/README.md).
  set(SNTK_EMULATE_MODE PLAIN CACHE STRING "Checks of the emulated kernels: PLAIN, ADDRESS or RACE")
  set_property(CACHE SNTK_EMULATE_MODE PROPERTY STRINGS PLAIN ADDRESS RACE)
  if(SNTK_EMULATE_MODE STREQUAL "ADDRESS" AND NOT CMAKE_C_FLAGS MATCHES "-fsanitize=[a-z,]*address")
    message(FATAL_ERROR "SNTK_EMULATE_MODE=ADDRESS needs the whole program built with AddressSanitizer: use the preset emulate-asan")
  endif()
  enable_language(CXX)
  if(SNTK_BUILD_TESTS)
    enable_testing() # before the folder that registers the emulator's own tests
  endif()
  add_subdirectory(tests/emulator)
  set_source_files_properties(${SOFTNTK_CUDA_SOURCES} PROPERTIES LANGUAGE CXX)
  add_library(softntk_cuda MODULE ${SOFTNTK_CUDA_SOURCES} ${SOFTNTK_CUDA_HOST_SOURCES})
  set_target_properties(softntk_cuda PROPERTIES CXX_VISIBILITY_PRESET hidden)
  target_compile_options(softntk_cuda PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${SNTK_WERROR}>>:-Werror>)
  softntk_emulate(softntk_cuda ${SNTK_EMULATE_MODE})
endif()

if(TARGET softntk_cuda)
  add_dependencies(softntk_cuda softntk_git_commit)
  target_include_directories(softntk_cuda PRIVATE include host cuda ${GENERATED})
  target_compile_definitions(softntk_cuda PRIVATE $<$<COMPILE_LANGUAGE:C>:_DEFAULT_SOURCE;_POSIX_C_SOURCE=200809L>)
  target_link_libraries(softntk_cuda PRIVATE m)
endif()
if(SNTK_CUDA_KIND STREQUAL "ON")
  install(TARGETS softntk_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
