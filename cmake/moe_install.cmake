# `cmake --install` puts the headers and a CMake package in place, for find_package(moe).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(moe_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/moe)
install(DIRECTORY include/moe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS moe EXPORT moeTargets)
install(EXPORT moeTargets NAMESPACE moe:: DESTINATION ${moe_package_dir})

# What was downloaded for this build, no later one can count on: it is installed beside the library, out of the way of
# an xsimd that may be in the same place one day.
set(moe_carries_xsimd OFF)
set(moe_xsimd_dir ${CMAKE_INSTALL_INCLUDEDIR}/moe-xsimd)
if(moe_downloaded_xsimd)
    set(moe_carries_xsimd ON)
    install(DIRECTORY ${moe_downloaded_xsimd}/include/xsimd DESTINATION ${moe_xsimd_dir})
    install(FILES ${moe_downloaded_xsimd}/LICENSE DESTINATION ${moe_xsimd_dir} OPTIONAL)
endif()

configure_package_config_file(cmake/moeConfig.cmake.in ${PROJECT_BINARY_DIR}/moeConfig.cmake
                              INSTALL_DESTINATION ${moe_package_dir} PATH_VARS moe_xsimd_dir)
configure_file(cmake/moeConfigVersion.cmake.in ${PROJECT_BINARY_DIR}/moeConfigVersion.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/moeConfig.cmake ${PROJECT_BINARY_DIR}/moeConfigVersion.cmake
              cmake/moe_dispatched.cmake cmake/moe_hint.cmake cmake/moe_optional_targets.cmake cmake/moe_xsimd.cmake
        DESTINATION ${moe_package_dir})
