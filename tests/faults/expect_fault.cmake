# Runs COMMAND (words separated by |) with the module in folder MODULE; it must fail, and its output must match MESSAGE.
# SPDX-License-Identifier: MIT
string(REPLACE "|" ";" command "${COMMAND}")
set(ENV{LD_LIBRARY_PATH} "${MODULE}:$ENV{LD_LIBRARY_PATH}")
execute_process(COMMAND ${command} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "a planted fault was not found:\n${output}")
endif()
if(result EQUAL 77 OR NOT output MATCHES "${MESSAGE}")
  message(FATAL_ERROR "ended with ${result}, and \"${MESSAGE}\" is not in:\n${output}")
endif()
string(REGEX MATCH "[^\n]*(${MESSAGE})[^\n]*" line "${output}")
message("found: ${line}")
