# cmake -D MODE=old|downloaded -D SOURCE_DIR= -D BINARY_DIR= -D WORK_DIR= -D COMPILER= -D GENERATOR= -D XSIMD=
#       -P consumer_xsimd.cmake
# old: an xsimd that the library cannot use is refused in one sentence, by the build, by the installed package, and by a
# compiler without CMake. downloaded: an install whose xsimd was downloaded is found again, on a machine without xsimd,
# and somewhere else than it was installed. XSIMD: where the headers of one are.
include(${CMAKE_CURRENT_LIST_DIR}/consumer_run.cmake)

file(REMOVE_RECURSE ${WORK_DIR})
set(library ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/library -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${COMPILER}
            -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_BENCHMARKS=OFF -D MOE_BUILD_EXAMPLES=OFF)
set(consumer ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer_find -B ${WORK_DIR}/build -G ${GENERATOR}
             -D CMAKE_CXX_COMPILER=${COMPILER} -D WANTED=REQUIRED -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)

if(MODE STREQUAL "old")
    # as one of that time: any version is good enough for its package, and it has no batch<float>
    set(old ${WORK_DIR}/old)
    file(WRITE ${old}/include/xsimd/config/xsimd_config.hpp
"#define XSIMD_VERSION_MAJOR 7
#define XSIMD_VERSION_MINOR 6
#define XSIMD_VERSION_PATCH 0
")
    file(WRITE ${old}/include/xsimd/xsimd.hpp "#include \"config/xsimd_config.hpp\"\n")
    file(WRITE ${old}/lib/cmake/xsimd/xsimdConfig.cmake
"add_library(xsimd INTERFACE IMPORTED)
set_target_properties(xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${old}/include)
")
    file(WRITE ${old}/lib/cmake/xsimd/xsimdConfigVersion.cmake
"set(PACKAGE_VERSION 7.6.0)
set(PACKAGE_VERSION_COMPATIBLE TRUE)
")
    set(sentence "moe needs xsimd 8.1 or newer, and that in ${old}/include is 7.6.0")
    run_to_fail(${library} -D CMAKE_PREFIX_PATH=${old})
    expect("${sentence}" "CMAKE_DISABLE_FIND_PACKAGE_xsimd=ON")

    run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
    run_to_fail(${consumer} -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D xsimd_DIR=${old}/lib/cmake/xsimd)
    expect("${sentence}")
    run(${consumer} -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D xsimd_DIR=${old}/lib/cmake/xsimd -D WANTED=QUIET)
    expect("consumer: without moe")

    set(compile ${COMPILER} -std=c++20 -fsyntax-only -I ${SOURCE_DIR}/include)
    set(main ${CMAKE_CURRENT_LIST_DIR}/consumer_find/main.cpp)
    run(${compile} -I ${XSIMD} ${main})
    run_to_fail(${compile} -I ${old}/include ${main})
    string(FIND "${output}" "error:" first)
    string(SUBSTRING "${output}" ${first} 200 output)
    expect("moe needs xsimd 8.1 or newer, and the one on the include path is older")
else()
    file(COPY ${XSIMD}/xsimd DESTINATION ${WORK_DIR}/download/include)
    file(WRITE ${WORK_DIR}/download/LICENSE "of xsimd\n")
    run(${library} -D CMAKE_DISABLE_FIND_PACKAGE_xsimd=ON -D FETCHCONTENT_SOURCE_DIR_XSIMD=${WORK_DIR}/download)
    run(${CMAKE_COMMAND} --install ${WORK_DIR}/library --prefix ${WORK_DIR}/prefix)
    file(REMOVE_RECURSE ${WORK_DIR}/library ${WORK_DIR}/download)
    file(RENAME ${WORK_DIR}/prefix ${WORK_DIR}/elsewhere)

    run(${consumer} -D CMAKE_PREFIX_PATH=${WORK_DIR}/elsewhere -D CMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)
    run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
    run(${WORK_DIR}/build/consumer)
    file(READ ${WORK_DIR}/build/compile_commands.json output)
    expect("${WORK_DIR}/elsewhere/include/moe-xsimd")  # the system may have another, which would do as well
    if(NOT EXISTS ${WORK_DIR}/elsewhere/include/moe-xsimd/LICENSE)
        message(FATAL_ERROR "xsimd is installed without its licence")
    endif()

    # an xsimd that was installed before the library is not copied
    run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/plain)
    file(READ ${BINARY_DIR}/CMakeCache.txt cache)
    if(EXISTS ${WORK_DIR}/plain/include/moe-xsimd AND NOT cache MATCHES "FETCHCONTENT_SOURCE_DIR_XSIMD")
        message(FATAL_ERROR "the install carries an xsimd that this machine has")
    endif()
endif()
