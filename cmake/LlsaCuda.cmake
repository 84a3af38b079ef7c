# The CUDA kernels: every kernels/cuda/**/*.cu is compiled
#   - by the host compiler for the emulator of tests/emu, into the object library `llsa_emu`, if there are headers of a toolkit;
#   - by nvcc for the device, if nvcc is found (LLSA_CUDA=AUTO|ON|OFF; CUDA_ARCHS overrides the architectures). AUTO leaves it
#     out of builds with sanitizers or coverage, which cannot see what a device does.
#
# The backend uses cuDNN if it is found (LLSA_CUDNN=AUTO|ON|OFF): for convolution, and for attention if the headers of
# cudnn-frontend are found, too (CUDNN_FRONTEND_DIR, as a CMake or an environment variable, or a system folder).
#
# Sets
#   LLSA_CUDNN_CONVOLUTION, LLSA_CUDNN_ATTENTION   whether the backend for the device uses cuDNN for it
#   LLSA_CUDNN_LIBRARIES                           the libraries that it needs for that
#   LLSA_CUDA_INCLUDE_DIR                          empty without headers
#   LLSA_NVCC                                      empty if nothing is compiled by nvcc
#   llsa_emulated_sources(VARIABLE file.cu...)     C++ sources that include them, for the emulator
#   llsa_nvcc_objects(VARIABLE file.cu...)         object files for the device
#   llsa_add_cuda_backend()                        adds the backend to the library
set(LLSA_CUDA AUTO CACHE STRING "Compile the CUDA backend for the device: AUTO (if there is a toolkit), ON, OFF")
set(CUDA_ARCHS "" CACHE STRING
    "GPU architectures, as in \"80 90a\" or native (default: native where a GPU is seen, else sm_80, sm_90a and PTX for compute_90)")
set_property(CACHE LLSA_CUDA PROPERTY STRINGS AUTO ON OFF)

# ---- the toolkit -----------------------------------------------------------------------------------------------------

find_program(LLSA_NVCC_PROGRAM nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
set(toolkit)
if(LLSA_NVCC_PROGRAM)
  file(REAL_PATH ${LLSA_NVCC_PROGRAM} toolkit)
  cmake_path(GET toolkit PARENT_PATH toolkit)
  cmake_path(GET toolkit PARENT_PATH toolkit)
endif()
find_path(LLSA_CUDA_INCLUDE_DIR cublasLt.h HINTS ${toolkit}/include $ENV{CUDA_HOME}/include /usr/local/cuda/include)
mark_as_advanced(LLSA_NVCC_PROGRAM LLSA_CUDA_INCLUDE_DIR)

# The reason why the toolkit cannot compile the backend; empty if it can.
set(obstacle)
if(NOT LLSA_NVCC_PROGRAM)
  set(obstacle "no nvcc was found on PATH, in CUDA_HOME or in /usr/local/cuda")
else()
  execute_process(COMMAND ${LLSA_NVCC_PROGRAM} --version OUTPUT_VARIABLE nvcc_version)
  string(REGEX REPLACE ".*release ([0-9.]+).*" "\\1" nvcc_version "${nvcc_version}")
  set(folders HINTS ${LLSA_CUDA_INCLUDE_DIR}/../lib64 ${LLSA_CUDA_INCLUDE_DIR}/../lib)
  find_library(LLSA_CUDART_LIBRARY cudart_static ${folders})
  find_library(LLSA_CUBLASLT_LIBRARY cublasLt ${folders})
  mark_as_advanced(LLSA_CUDART_LIBRARY LLSA_CUBLASLT_LIBRARY)
  if(nvcc_version VERSION_LESS 12)
    set(obstacle "${LLSA_NVCC_PROGRAM} is of CUDA ${nvcc_version}; C++20 needs 12.0 or later")
  elseif(NOT LLSA_CUDA_INCLUDE_DIR OR NOT LLSA_CUDART_LIBRARY OR NOT LLSA_CUBLASLT_LIBRARY)
    set(obstacle "the toolkit of ${LLSA_NVCC_PROGRAM} has no cublasLt.h, libcudart_static or libcublasLt")
  endif()
endif()

set(LLSA_NVCC)
if(LLSA_CUDA STREQUAL "ON" AND obstacle)
  message(FATAL_ERROR "LLSA_CUDA=ON, but ${obstacle}")
elseif(LLSA_CUDA STREQUAL "ON" OR (LLSA_CUDA STREQUAL "AUTO" AND NOT obstacle AND NOT LLSA_SANITIZE AND NOT LLSA_COVERAGE))
  set(LLSA_NVCC ${LLSA_NVCC_PROGRAM})
endif()

# ---- cuDNN -----------------------------------------------------------------------------------------------------------

set(LLSA_CUDNN AUTO CACHE STRING "Convolution and attention by cuDNN: AUTO (where it is found), ON, OFF")
set(CUDNN_FRONTEND_DIR "" CACHE PATH "Folder of cudnn_frontend.h, without which there is no attention by cuDNN")
set_property(CACHE LLSA_CUDNN PROPERTY STRINGS AUTO ON OFF)
find_path(LLSA_CUDNN_INCLUDE_DIR cudnn.h HINTS ${LLSA_CUDA_INCLUDE_DIR})
find_library(LLSA_CUDNN_LIBRARY cudnn HINTS ${LLSA_CUDA_INCLUDE_DIR}/../lib64 ${LLSA_CUDA_INCLUDE_DIR}/../lib)
find_library(LLSA_NVRTC_LIBRARY nvrtc HINTS ${LLSA_CUDA_INCLUDE_DIR}/../lib64 ${LLSA_CUDA_INCLUDE_DIR}/../lib)
find_path(LLSA_CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${CUDNN_FRONTEND_DIR} $ENV{CUDNN_FRONTEND_DIR}
          PATH_SUFFIXES include)
mark_as_advanced(LLSA_CUDNN_INCLUDE_DIR LLSA_CUDNN_LIBRARY LLSA_NVRTC_LIBRARY LLSA_CUDNN_FRONTEND_INCLUDE_DIR)

# llsa_version_in(VARIABLE header regex): "major.minor" from the two #defines whose names the regex matches, in this order.
function(llsa_version_in variable header regex)
  set(numbers)
  if(EXISTS ${header})
    file(STRINGS ${header} lines REGEX "^#define ${regex} ")
    string(REGEX MATCHALL "[0-9]+" numbers "${lines}")
  endif()
  list(JOIN numbers "." version)
  set(${variable} "${version}" PARENT_SCOPE)
endfunction()
llsa_version_in(cudnn "${LLSA_CUDNN_INCLUDE_DIR}/cudnn_version.h" "CUDNN_(MAJOR|MINOR)")
llsa_version_in(frontend "${LLSA_CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h" "CUDNN_FRONTEND_(MAJOR|MINOR)_VERSION")

set(LLSA_CUDNN_HEADERS OFF)
if(NOT LLSA_CUDNN STREQUAL "OFF" AND "${cudnn}" VERSION_GREATER_EQUAL 9)
  set(LLSA_CUDNN_HEADERS ON)
endif()
set(LLSA_CUDNN_CONVOLUTION OFF)
set(LLSA_CUDNN_ATTENTION OFF)
set(LLSA_CUDNN_LIBRARIES)
if(LLSA_NVCC AND LLSA_CUDNN_HEADERS AND LLSA_CUDNN_LIBRARY)
  set(LLSA_CUDNN_CONVOLUTION ON)
  set(LLSA_CUDNN_LIBRARIES ${LLSA_CUDNN_LIBRARY})
  if("${frontend}" VERSION_GREATER_EQUAL 1.13 AND LLSA_NVRTC_LIBRARY)
    set(LLSA_CUDNN_ATTENTION ON)
    list(APPEND LLSA_CUDNN_LIBRARIES ${LLSA_NVRTC_LIBRARY})  # called by the inline functions of cudnn-frontend
    message(STATUS "cuDNN ${cudnn}: convolution and, with cudnn-frontend ${frontend}, attention")
  else()
    message(STATUS "cuDNN ${cudnn}: convolution; no attention without NVRTC and cudnn-frontend >= 1.13 (CUDNN_FRONTEND_DIR)")
  endif()
elseif(LLSA_NVCC AND LLSA_CUDNN STREQUAL "ON")
  message(FATAL_ERROR "LLSA_CUDNN=ON, but no cuDNN 9 or later was found beside the CUDA toolkit or in the system's folders")
elseif(LLSA_NVCC)
  message(STATUS "cuDNN: none (LLSA_CUDNN=${LLSA_CUDNN}); convolution and attention by our own kernels")
endif()

# llsa_choose_cudnn(VARIABLE convolution attention): removes from a list of sources either the files that use cuDNN or those that
# replace them without it.
function(llsa_choose_cudnn variable convolution attention)
  set(dropped)
  if(NOT convolution)
    list(APPEND dropped cudnn)
  endif()
  foreach(part conv attention)
    if((part STREQUAL "conv" AND convolution) OR (part STREQUAL "attention" AND attention))
      list(APPEND dropped cudnn_${part}_absent)
    else()
      list(APPEND dropped cudnn_${part})
    endif()
  endforeach()
  list(JOIN dropped "|" dropped)
  list(FILTER ${variable} EXCLUDE REGEX "/kernels/cuda/(${dropped})\\.cpp$")
  set(${variable} ${${variable}} PARENT_SCOPE)
endfunction()

# ---- for the emulator ------------------------------------------------------------------------------------------------

function(llsa_emulated_sources variable)
  set(sources)
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file NORMALIZE)
    cmake_path(RELATIVE_PATH file BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE name)
    set(source ${PROJECT_BINARY_DIR}/emulated/${name}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include \"@name@\"\n" @ONLY)
    list(APPEND sources ${source})
  endforeach()
  set(${variable} ${sources} PARENT_SCOPE)
endfunction()

# Flags for kernels, the emulator, and every file that includes a CUDA header in an emulated build.
add_library(llsa_emu_flags INTERFACE)
target_compile_definitions(llsa_emu_flags INTERFACE SIMT_EMU)
target_compile_options(llsa_emu_flags INTERFACE -fno-strict-aliasing)  # kernels read vectors of one type as another
target_include_directories(llsa_emu_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
if(LLSA_CUDA_INCLUDE_DIR)
  target_include_directories(llsa_emu_flags SYSTEM INTERFACE ${LLSA_CUDA_INCLUDE_DIR})
endif()
if(LLSA_SANITIZE MATCHES "address")
  target_compile_definitions(llsa_emu_flags INTERFACE LLSA_EMU_ASAN=1)
elseif(LLSA_SANITIZE MATCHES "thread")
  target_compile_definitions(llsa_emu_flags INTERFACE LLSA_EMU_TSAN=1)
endif()

# llsa_add_emulated_tests(): adds the object library llsa_emu and the program llsa_emu_tests.
function(llsa_add_emulated_tests)
  file(GLOB EMULATOR CONFIGURE_DEPENDS tests/emu/*.cpp)
  file(GLOB EMULATOR_TESTS CONFIGURE_DEPENDS tests/emu/*_test.cpp tests/kernels/cuda/*_test.cpp)
  file(GLOB_RECURSE KERNELS CONFIGURE_DEPENDS kernels/cuda/*.cu)
  file(GLOB HOST_CODE CONFIGURE_DEPENDS core/cuda/*.cpp kernels/cuda/*.cpp)
  file(GLOB TEST_KERNELS CONFIGURE_DEPENDS tests/emu/*.cu tests/kernels/cuda/*.cu)
  list(REMOVE_ITEM EMULATOR ${EMULATOR_TESTS})
  llsa_choose_tests(EMULATOR_TESTS)
  llsa_choose_cudnn(HOST_CODE ${LLSA_CUDNN_HEADERS} OFF)  # attention by cuDNN is not emulated
  if(NOT LLSA_CUDNN_HEADERS)
    list(FILTER EMULATOR EXCLUDE REGEX "/tests/emu/cudnn\\.cpp$")
    list(FILTER EMULATOR_TESTS EXCLUDE REGEX "/tests/emu/cudnn_test\\.cpp$")
  endif()
  llsa_emulated_sources(emulated ${KERNELS})
  llsa_emulated_sources(emulated_tests ${TEST_KERNELS})

  add_library(llsa_emu OBJECT EXCLUDE_FROM_ALL ${EMULATOR} ${HOST_CODE} ${emulated})
  if(NOT LLSA_SANITIZE AND NOT LLSA_COVERAGE)  # such builds have an -O level of their own
    set_target_properties(llsa_emu PROPERTIES LLSA_OPTIMIZE -O2)
  endif()
  target_link_libraries(llsa_emu PRIVATE llsa_flags llsa_emu_flags Threads::Threads)
  llsa_precompile(llsa_emu)
  if(LLSA_CUDNN_HEADERS)
    target_include_directories(llsa_emu SYSTEM PRIVATE ${LLSA_CUDNN_INCLUDE_DIR})
  endif()
  # Sanitizers judge only what kernels do. ThreadSanitizer watches no file of the emulator; the others watch those that access
  # memory on behalf of a kernel.
  set(unwatched ${EMULATOR})
  if(NOT LLSA_SANITIZE MATCHES "thread")
    list(FILTER unwatched INCLUDE REGEX "/(block|fiber|grid|lane_set|tensor_core|warp)\\.cpp$")
  endif()
  if(LLSA_SANITIZE)
    set_source_files_properties(${unwatched} PROPERTIES COMPILE_OPTIONS "-O2;-fno-sanitize=all" SKIP_PRECOMPILE_HEADERS ON)
  endif()

  # These objects are linked before the library, so they replace its own CUDA backend, real or absent.
  add_executable(llsa_emu_tests EXCLUDE_FROM_ALL ${EMULATOR_TESTS} ${emulated_tests} $<TARGET_OBJECTS:llsa_emu>
                                                 $<TARGET_OBJECTS:llsa_test_support>)
  set_target_properties(llsa_emu_tests PROPERTIES LLSA_OPTIMIZE ${LLSA_OPTIMIZE_TESTS})
  llsa_precompile(llsa_emu_tests <doctest/doctest.h>)
  target_compile_definitions(llsa_emu_tests PRIVATE LLSA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(llsa_emu_tests PRIVATE llsa_flags llsa_emu_flags llsa_headers llsa_library llsa::dnnl llsa::gomp)
  llsa_link_apps(llsa_emu_tests)  # because benchmarks run there, too
  if(LLSA_CUDNN_HEADERS)
    target_include_directories(llsa_emu_tests SYSTEM PRIVATE ${LLSA_CUDNN_INCLUDE_DIR})
  endif()
  if(LLSA_COVERAGE STREQUAL "KERNELS")
    target_compile_options(llsa_emu PRIVATE --coverage)
    target_link_options(llsa_emu_tests PRIVATE --coverage)
  endif()
endfunction()

# ---- for the device --------------------------------------------------------------------------------------------------

# native is resolved here, because nvcc takes sm_90 for a GPU of capability 9.0, and not sm_90a, which has its instructions.
separate_arguments(archs UNIX_COMMAND "${CUDA_ARCHS}")
if(LLSA_NVCC AND (NOT archs OR "native" IN_LIST archs))
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE capabilities ERROR_QUIET RESULT_VARIABLE failed)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
  if(NOT failed AND capabilities)
    list(REMOVE_ITEM archs native)
    string(REPLACE "." "" capabilities "${capabilities}")
    list(TRANSFORM capabilities REPLACE "^90$" "90a")
    list(APPEND archs ${capabilities})
    list(REMOVE_DUPLICATES archs)
  endif()
endif()
set(gencode)
foreach(arch ${archs})
  if(arch STREQUAL "native")
    list(APPEND gencode -arch=native)
  else()
    list(APPEND gencode -gencode arch=compute_${arch},code=sm_${arch})
  endif()
endforeach()
if(NOT gencode)
  set(gencode -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a
              -gencode arch=compute_90,code=compute_90)
endif()
set(LLSA_NVCC_FLAGS -std=c++20 -O3 --expt-relaxed-constexpr ${gencode} -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/tests
                    -ccbin ${CMAKE_CXX_COMPILER} -Xcompiler=-Wall,-Wextra,-fPIC)
if(LLSA_WERROR)
  list(APPEND LLSA_NVCC_FLAGS -Werror=all-warnings)
endif()

function(llsa_nvcc_objects variable)
  set(objects)
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file NORMALIZE)
    cmake_path(RELATIVE_PATH file BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE name)
    set(object ${PROJECT_BINARY_DIR}/nvcc/${name}.o)
    cmake_path(GET object PARENT_PATH folder)
    file(MAKE_DIRECTORY ${folder})
    # nvcc writes the name of the target as it is given. A relative name contains no blank, which would split it.
    add_custom_command(OUTPUT ${object}
                       COMMAND ${LLSA_NVCC} ${LLSA_NVCC_FLAGS} -MD -MF ${object}.d -MT nvcc/${name}.o -c ${file} -o ${object}
                       DEPENDS ${file} DEPFILE ${object}.d COMMENT "nvcc ${name}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(${variable} ${objects} PARENT_SCOPE)
endfunction()

# llsa_add_cuda_backend(): adds the CUDA backend to the library, instead of the one that only throws.
function(llsa_add_cuda_backend)
  file(GLOB_RECURSE KERNELS CONFIGURE_DEPENDS kernels/cuda/*.cu)
  file(GLOB HOST_CODE CONFIGURE_DEPENDS core/cuda/*.cpp kernels/cuda/*.cpp)
  llsa_choose_cudnn(HOST_CODE ${LLSA_CUDNN_CONVOLUTION} ${LLSA_CUDNN_ATTENTION})
  llsa_nvcc_objects(objects ${KERNELS})
  llsa_layer(cuda ${HOST_CODE})
  target_include_directories(llsa_cuda SYSTEM PRIVATE ${LLSA_CUDA_INCLUDE_DIR})
  if(LLSA_CUDNN_CONVOLUTION)
    target_include_directories(llsa_cuda SYSTEM PRIVATE ${LLSA_CUDNN_INCLUDE_DIR})
    target_link_libraries(llsa_library PUBLIC ${LLSA_CUDNN_LIBRARIES})
  endif()
  if(LLSA_CUDNN_ATTENTION)
    target_include_directories(llsa_cuda SYSTEM PRIVATE ${LLSA_CUDNN_FRONTEND_INCLUDE_DIR})
    # These are 40,000 lines of inline functions, none of which takes much time when it runs.
    set_source_files_properties(kernels/cuda/cudnn_attention.cpp PROPERTIES COMPILE_OPTIONS -O1)
  endif()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_sources(llsa_library PRIVATE ${objects})
  target_link_libraries(llsa_library PUBLIC ${LLSA_CUBLASLT_LIBRARY} ${LLSA_CUDART_LIBRARY} ${CMAKE_DL_LIBS} rt)
endfunction()

# llsa_add_device_tests(): adds the program llsa_gpu_tests, which runs the same tests on the device.
function(llsa_add_device_tests)
  file(GLOB TESTS CONFIGURE_DEPENDS tests/kernels/cuda/*_test.cpp)
  file(GLOB TEST_KERNELS CONFIGURE_DEPENDS tests/kernels/cuda/*.cu)
  llsa_nvcc_objects(objects ${TEST_KERNELS})
  add_executable(llsa_gpu_tests EXCLUDE_FROM_ALL ${TESTS} ${objects} $<TARGET_OBJECTS:llsa_test_support>)
  set_target_properties(llsa_gpu_tests PROPERTIES LLSA_OPTIMIZE -O1)
  llsa_precompile(llsa_gpu_tests <doctest/doctest.h>)
  target_compile_definitions(llsa_gpu_tests PRIVATE LLSA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_include_directories(llsa_gpu_tests PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(llsa_gpu_tests SYSTEM PRIVATE ${LLSA_CUDA_INCLUDE_DIR})
  target_link_libraries(llsa_gpu_tests PRIVATE llsa_flags llsa_headers llsa_library ${LLSA_CUDART_LIBRARY} Threads::Threads
                                               ${CMAKE_DL_LIBS} rt)
  llsa_link_apps(llsa_gpu_tests)
endfunction()
