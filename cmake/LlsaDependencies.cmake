# The libraries that llsa is linked with. This file is installed beside llsaConfig.cmake, so users of the package find the same
# libraries as the build.
#
#   llsa::dnnl   oneDNN. Header and library are looked up directly, because oneDNN's own CMake package demands a GPU runtime
#                that nothing here uses.
#   llsa::gomp   libgomp, which runs the threads of oneDNN. It is linked by path. With -fopenmp, clang would link a second
#                runtime.
#   llsa::webp   libwebp, for images of this format; optional.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

find_path(LLSA_DNNL_INCLUDE_DIR dnnl.h)
find_library(LLSA_DNNL_LIBRARY dnnl)
find_library(LLSA_GOMP_LIBRARY NAMES libgomp.so.1)
mark_as_advanced(LLSA_DNNL_INCLUDE_DIR LLSA_DNNL_LIBRARY LLSA_GOMP_LIBRARY)
if(NOT LLSA_DNNL_INCLUDE_DIR OR NOT LLSA_DNNL_LIBRARY)
  message(FATAL_ERROR "oneDNN was not found; hint: apt-get install libdnnl-dev")
endif()
if(NOT LLSA_GOMP_LIBRARY)
  message(FATAL_ERROR "libgomp.so.1 was not found; hint: apt-get install libgomp1")
endif()

if(NOT TARGET llsa::dnnl)
  add_library(llsa::dnnl UNKNOWN IMPORTED)
  set_target_properties(llsa::dnnl PROPERTIES IMPORTED_LOCATION ${LLSA_DNNL_LIBRARY}
                                              INTERFACE_INCLUDE_DIRECTORIES ${LLSA_DNNL_INCLUDE_DIR})
  add_library(llsa::gomp UNKNOWN IMPORTED)
  set_target_properties(llsa::gomp PROPERTIES IMPORTED_LOCATION ${LLSA_GOMP_LIBRARY})
endif()

if((NOT DEFINED LLSA_WEBP OR LLSA_WEBP) AND NOT TARGET llsa::webp)
  find_path(LLSA_WEBP_INCLUDE_DIR webp/demux.h)
  find_library(LLSA_WEBPDEMUX_LIBRARY webpdemux)
  find_library(LLSA_WEBP_LIBRARY webp)
  mark_as_advanced(LLSA_WEBP_INCLUDE_DIR LLSA_WEBPDEMUX_LIBRARY LLSA_WEBP_LIBRARY)
  if(LLSA_WEBP_INCLUDE_DIR AND LLSA_WEBPDEMUX_LIBRARY AND LLSA_WEBP_LIBRARY)
    add_library(llsa::webp INTERFACE IMPORTED)
    set_target_properties(llsa::webp PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${LLSA_WEBP_INCLUDE_DIR}
                                                INTERFACE_LINK_LIBRARIES "${LLSA_WEBPDEMUX_LIBRARY};${LLSA_WEBP_LIBRARY}")
  endif()
endif()
