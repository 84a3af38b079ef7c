# Header-only packages that only our own .cpp files include, as one interface target `llsa_headers`; and MPI, which only the
# program is linked with: the library takes any Communicator.
add_library(llsa_headers INTERFACE)

# llsa_find_header(VARIABLE header package [folder])
function(llsa_find_header variable header package)
  find_path(${variable} ${header} PATH_SUFFIXES ${ARGN})
  mark_as_advanced(${variable})
  if(NOT ${variable})
    message(FATAL_ERROR "${header} was not found; hint: apt-get install ${package}")
  endif()
  target_include_directories(llsa_headers SYSTEM INTERFACE ${${variable}})
endfunction()

llsa_find_header(LLSA_STB_INCLUDE_DIR stb_image.h libstb-dev stb)
llsa_find_header(LLSA_JSON_INCLUDE_DIR nlohmann/json.hpp nlohmann-json3-dev)
if(LLSA_BUILD_PROGRAM OR LLSA_BUILD_TESTS)
  llsa_find_header(LLSA_CLI11_INCLUDE_DIR CLI/CLI.hpp libcli11-dev)
endif()
if(LLSA_BUILD_TESTS)
  llsa_find_header(LLSA_DOCTEST_INCLUDE_DIR doctest/doctest.h doctest-dev)
endif()
if(LLSA_MPI AND (LLSA_BUILD_PROGRAM OR LLSA_BUILD_TESTS))
  set(MPI_CXX_SKIP_MPICXX ON)  # the functions of C are enough
  find_package(MPI QUIET COMPONENTS CXX)
endif()
