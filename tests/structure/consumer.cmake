# cmake -D MODE=subdirectory|package -D SOURCE_DIR= [-D BINARY_DIR=] -D WORK_DIR= -D COMPILER= -D GENERATOR=
#       -D OPTIONAL= -D VERSION= [-D QUICK=ON] -P consumer.cmake
# Builds and runs the project in consumer/, and sees that the library leaks nothing into it. Without a BINARY_DIR to
# install from, this CMake configures the library as well. QUICK: only the least program.
include(${CMAKE_CURRENT_LIST_DIR}/consumer_run.cmake)

file(REMOVE_RECURSE ${WORK_DIR})
if(MODE STREQUAL "package")
    if(NOT BINARY_DIR)
        set(BINARY_DIR ${WORK_DIR}/library)
        run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${BINARY_DIR} -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${COMPILER}
            -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_BENCHMARKS=OFF)
    endif()
    run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
    set(where -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D MOE_VERSION_WANTED=${VERSION})
else()
    set(where -D MOE_SOURCE_DIR=${SOURCE_DIR})
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${WORK_DIR}/build -G ${GENERATOR} ${where}
    -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)
foreach(target ${OPTIONAL})
    if(NOT output MATCHES "consumer: ${target}")
        message(FATAL_ERROR "the consumer has no target ${target}\n${output}")
    endif()
endforeach()
if(QUICK)
    run(${CMAKE_COMMAND} --build ${WORK_DIR}/build --target consumer)
    run(${WORK_DIR}/build/consumer)
    return()
endif()
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
run(${WORK_DIR}/build/consumer_of_all)
run(${WORK_DIR}/build/consumer_of_several_files)

# What moe/instantiate.hpp declares is compiled where it says, and nowhere else. W: a definition, U: asked of other files.
find_program(nm nm)
if(nm AND MODE STREQUAL "subdirectory")
    set(objects ${WORK_DIR}/build/CMakeFiles/consumer_of_several_files.dir)
    run(${nm} -C ${objects}/several_files.cpp.o)
    if(NOT output MATCHES " U [^\n]*BasicForwardPass<float>::run" OR NOT output MATCHES " U [^\n]*make_layer<float"
       OR output MATCHES " W [^\n]*(multiply_packed|Phase<float>::work|make_layer|pack_as)")
        message(FATAL_ERROR "a file that includes moe/instantiate.hpp compiles kernels, passes or layers")
    endif()
    run(${nm} -C ${objects}/training.cpp.o)
    if(NOT output MATCHES " U [^\n]*BackwardPass<float>::run" OR output MATCHES " W [^\n]*(add_outer|Phase<float>::run)")
        message(FATAL_ERROR "a file that includes moe/instantiate_train.hpp compiles the backward pass")
    endif()
    run(${nm} -C ${objects}/moe.cpp.o)
    if(NOT output MATCHES " W [^\n]*BasicForwardPass<float>::run" OR NOT output MATCHES " W [^\n]*multiply_packed<float>"
       OR NOT output MATCHES " W [^\n]*BackwardPass<float>::run")
        message(FATAL_ERROR "moe/instantiate/train_definitions.hpp does not compile what instantiate_train.hpp declares")
    endif()
endif()

# No flag of the library's own development reaches the program that links moe::moe alone.
file(READ ${WORK_DIR}/build/compile_commands.json commands)
string(REGEX MATCHALL "\"command\": \"[^\n]*consumer\\.dir[^\n]*" command "${commands}")
if(NOT command OR command MATCHES " -(march|m[a-z]|W|f|O)")
    message(FATAL_ERROR "flags leak into a consumer: ${command}")
endif()

# Nor do tests, benchmarks, examples or a rule to install.
if(MODE STREQUAL "subdirectory")
    run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK_DIR}/build -N)
    if(NOT output MATCHES "Total Tests: 0")
        message(FATAL_ERROR "tests of the library appear in a consumer\n${output}")
    endif()
    file(GLOB_RECURSE built ${WORK_DIR}/build/moe/*.o)
    if(built)
        message(FATAL_ERROR "the library compiles files in a consumer: ${built}")
    endif()
    run(${CMAKE_COMMAND} --install ${WORK_DIR}/build --prefix ${WORK_DIR}/nothing)
    if(EXISTS ${WORK_DIR}/nothing/include)
        message(FATAL_ERROR "the library installs itself with a consumer")
    endif()
endif()
