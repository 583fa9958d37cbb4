# `cmake --install` puts the headers and a CMake package in place, for find_package(moe).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(moe_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/moe)
install(DIRECTORY include/moe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS moe EXPORT moeTargets)
install(EXPORT moeTargets NAMESPACE moe:: DESTINATION ${moe_package_dir})

configure_package_config_file(cmake/moeConfig.cmake.in ${PROJECT_BINARY_DIR}/moeConfig.cmake
                              INSTALL_DESTINATION ${moe_package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moeConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/moeConfig.cmake ${PROJECT_BINARY_DIR}/moeConfigVersion.cmake
              cmake/moe_xsimd.cmake cmake/moe_optional_targets.cmake
        DESTINATION ${moe_package_dir})
