# What `cmake --install` installs: the library, its headers, the program, and what find_package(llsa) and pkg-config need. No
# installed file names a folder of the build, so the prefix can be moved.
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/llsa)

install(TARGETS llsa_library EXPORT llsaTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
                                                LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${PROJECT_SOURCE_DIR}/llsa.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/llsa)
foreach(layer core kernels autograd nn)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${layer} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/llsa FILES_MATCHING PATTERN "*.h"
          REGEX "/kernels/(cpu|cuda)(/|$)" EXCLUDE REGEX "/core/cuda/check\\.h$" EXCLUDE)
endforeach()
foreach(page README.md CHANGELOG.md LICENSE)
  install(FILES ${PROJECT_SOURCE_DIR}/${page} DESTINATION ${CMAKE_INSTALL_DOCDIR})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(LLSA_BUILD_PROGRAM)
  install(TARGETS llsa RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(BUILD_SHARED_LIBS)  # the program finds the library relative to itself
    file(RELATIVE_PATH lib_from_bin /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
    set_target_properties(llsa PROPERTIES INSTALL_RPATH "$ORIGIN/${lib_from_bin}")
  endif()
  if(LLSA_NVCC)  # cuBLASLt and cuDNN are shared libraries outside of the system's folders
    set_target_properties(llsa PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  endif()
endif()

install(EXPORT llsaTargets NAMESPACE llsa:: DESTINATION ${config_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/llsaConfig.cmake.in ${PROJECT_BINARY_DIR}/llsaConfig.cmake
                              INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/llsaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/llsaConfig.cmake ${PROJECT_BINARY_DIR}/llsaConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/LlsaDependencies.cmake
        DESTINATION ${config_dir})

# pkg-config finds the prefix relative to the installed file.
file(RELATIVE_PATH LLSA_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" LLSA_PREFIX_FROM_PC ${LLSA_PREFIX_FROM_PC})
set(LLSA_PC_WEBP)
if(TARGET llsa::webp)
  set(LLSA_PC_WEBP " -lwebpdemux -lwebp")
endif()
set(LLSA_PC_CUDA)
if(LLSA_NVCC)
  set(LLSA_PC_CUDA " ${LLSA_CUBLASLT_LIBRARY} ${LLSA_CUDART_LIBRARY} -ldl -lrt")
endif()
foreach(library ${LLSA_CUDNN_LIBRARIES})
  string(PREPEND LLSA_PC_CUDA " ${library}")
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/llsa.pc.in ${PROJECT_BINARY_DIR}/llsa.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/llsa.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
