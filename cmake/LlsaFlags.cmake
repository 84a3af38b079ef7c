# The compiler flags of our own files, as one interface target `llsa_flags`. Users of the library get none of them.
#
# Two target properties change them: LLSA_ANY_PROCESSOR (no -march) and LLSA_OPTIMIZE (the -O level; -O3 by default).
# Sets LLSA_CPU_FEATURES, the instruction-set extensions that the compiler may use under the chosen -march ("avx2 fma ...").
include(CheckCXXCompilerFlag)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "")  # the -O level comes from llsa_flags

# Warnings are errors with compilers under which the code is known to have none. Newer compilers have new warnings.
set(known_compiler OFF)
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13) OR
   (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15))
  set(known_compiler ON)
endif()
if(NOT PROJECT_IS_TOP_LEVEL)
  set(known_compiler OFF)
endif()
option(LLSA_WERROR "Treat warnings as errors" ${known_compiler})

# g++ 12 warns of overlapping copies inside of std::string that do not overlap (GCC bug 105651).
set(LLSA_WARNINGS -Wall -Wextra -Wpedantic)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND LLSA_WARNINGS -Wno-restrict)
endif()

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  list(APPEND LLSA_WARNINGS -Wno-pass-failed)  # `omp simd` over calls of libm (f64) stays scalar, as intended
  list(APPEND LLSA_WARNINGS -Wno-deprecated-declarations)  # std::stable_sort of libstdc++ 12 calls a deprecated function
endif()

# ---- processor -------------------------------------------------------------------------------------------------------

# On x86 and aarch64 core/cpu_check.cpp compares LLSA_CPU_FEATURES with the processor that the program runs on. Without
# LLSA_NATIVE, aarch64 means the baseline ARMv8-A, which includes NEON.

set(LLSA_ARCH_FLAGS)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  if(LLSA_NATIVE)
    check_cxx_compiler_flag(-march=native LLSA_HAS_MARCH_NATIVE)
    if(LLSA_HAS_MARCH_NATIVE)
      set(LLSA_ARCH_FLAGS -march=native)
    endif()
  else()
    set(LLSA_ARCH_FLAGS -march=x86-64-v3)
  endif()
elseif(LLSA_NATIVE)
  check_cxx_compiler_flag(-mcpu=native LLSA_HAS_MCPU_NATIVE)
  if(LLSA_HAS_MCPU_NATIVE)
    set(LLSA_ARCH_FLAGS -mcpu=native)
  endif()
endif()

execute_process(COMMAND ${CMAKE_CXX_COMPILER} ${LLSA_ARCH_FLAGS} -dM -E -x c++ /dev/null
                OUTPUT_VARIABLE macros ERROR_QUIET)
set(known __POPCNT__ __SSE4_2__ __AVX__ __AVX2__ __BMI__ __BMI2__ __FMA__ __AVX512F__ __AVX512CD__ __AVX512VL__ __AVX512BW__
    __AVX512DQ__ __AVX512IFMA__ __AVX512VBMI__ __AVX512VBMI2__ __AVX512VNNI__ __AVX512BITALG__ __AVX512VPOPCNTDQ__)
foreach(feature ATOMICS QRDMX FP16_VECTOR_ARITHMETIC DOTPROD COMPLEX SHA3 RCPC SVE SVE2 BF16_VECTOR_ARITHMETIC MATMUL_INT8)
  list(APPEND known __ARM_FEATURE_${feature})
endforeach()
set(LLSA_CPU_FEATURES)
foreach(macro ${known})
  if(macros MATCHES "#define ${macro} ")
    string(REGEX REPLACE "^__(ARM_FEATURE_)?|__$" "" feature ${macro})
    string(TOLOWER ${feature} feature)
    list(APPEND LLSA_CPU_FEATURES ${feature})
  endif()
endforeach()
list(JOIN LLSA_CPU_FEATURES " " LLSA_CPU_FEATURES)

# On most processors with 512-bit vectors, compilers prefer 256-bit ones. The kernels here are faster with the full width.
if(LLSA_CPU_FEATURES MATCHES "avx512f")
  check_cxx_compiler_flag(-mprefer-vector-width=512 LLSA_HAS_VECTOR_WIDTH)
  if(LLSA_HAS_VECTOR_WIDTH)
    list(APPEND LLSA_ARCH_FLAGS -mprefer-vector-width=512)
  endif()
endif()

# ---- the target ------------------------------------------------------------------------------------------------------

define_property(TARGET PROPERTY LLSA_ANY_PROCESSOR BRIEF_DOCS "compile for any processor" FULL_DOCS "no -march")
define_property(TARGET PROPERTY LLSA_OPTIMIZE BRIEF_DOCS "optimisation level" FULL_DOCS "-O flag instead of -O3")

# The levels of tests, and of layers other than kernels, in whose own code little time is spent. Sanitizers double the time to
# compile, and -O0 halves it.
set(LLSA_OPTIMIZE_TESTS -O1)
set(LLSA_OPTIMIZE_LAYERS)
if(LLSA_SANITIZE)
  set(LLSA_OPTIMIZE_TESTS -O0)
  set(LLSA_OPTIMIZE_LAYERS -O0)
endif()
if(LLSA_SANITIZE OR LLSA_COVERAGE)
  set(optimize -O1)  # -O2 takes twice as long to compile with sanitizers, and finds no more
else()
  set(optimize -O3)
endif()

add_library(llsa_flags INTERFACE)
target_compile_options(llsa_flags INTERFACE
  ${LLSA_WARNINGS} $<$<BOOL:${LLSA_WERROR}>:-Werror>
  $<IF:$<CONFIG:Debug>,-O0,$<IF:$<BOOL:$<TARGET_PROPERTY:LLSA_OPTIMIZE>>,$<TARGET_PROPERTY:LLSA_OPTIMIZE>,${optimize}>>
  $<$<NOT:$<BOOL:$<TARGET_PROPERTY:LLSA_ANY_PROCESSOR>>>:${LLSA_ARCH_FLAGS}>
  -fopenmp-simd -fno-math-errno
  -fno-semantic-interposition)  # position-independent code may still inline its own functions
if(LLSA_SANITIZE)
  # With sanitizers, g++ warns that much of the standard library is uninitialised; clang++ does not know that warning. The
  # checks `null` and `object-size` are off: they take a sixth of the time to compile, and most of what they find
  # AddressSanitizer finds, too.
  target_compile_options(llsa_flags INTERFACE -fsanitize=${LLSA_SANITIZE} -fno-sanitize-recover=all
                                              -fno-omit-frame-pointer -g1 $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  if(LLSA_SANITIZE MATCHES "address")
    target_compile_options(llsa_flags INTERFACE -fno-sanitize=null,object-size)
  endif()
  link_libraries(-fsanitize=${LLSA_SANITIZE})
endif()
if(LLSA_COVERAGE AND NOT LLSA_COVERAGE STREQUAL "KERNELS")
  target_compile_options(llsa_flags INTERFACE --coverage)
  link_libraries(--coverage)
endif()

# ---- precompiled headers ---------------------------------------------------------------------------------------------

# Parsing the standard library takes a quarter of the time of a build. These headers are parsed once for each set of flags.
# Every file still includes what it needs, because clang-tidy reads it without them.
set(LLSA_STANDARD_HEADERS <algorithm> <array> <cmath> <cstdint> <cstring> <filesystem> <functional> <initializer_list> <limits> <map>
    <memory> <mutex> <numeric> <optional> <sstream> <string> <string_view> <utility> <vector>)

# llsa_precompile(target [header...]): precompiles the standard headers, and others, for a target.
function(llsa_precompile target)
  target_precompile_headers(${target} PRIVATE ${LLSA_STANDARD_HEADERS} ${ARGN})
endfunction()
