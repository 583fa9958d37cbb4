# cmake -D MODE=subdirectory|package|one_level -D SOURCE_DIR= -D BINARY_DIR= -D WORK_DIR= -D COMPILER= -D GENERATOR=
#       -P consumer_dispatched.cmake
# moe_add_dispatched in a project that uses the library. subdirectory: in a shared library; package: in an archive, with
# the function from the installed package. one_level: where levels cannot be kept apart the sources are compiled once,
# and the same program works.
include(${CMAKE_CURRENT_LIST_DIR}/consumer_run.cmake)

file(REMOVE_RECURSE ${WORK_DIR})
set(where -D MOE_SOURCE_DIR=${SOURCE_DIR} -D LIBRARY_TYPE=SHARED)
if(MODE STREQUAL "package")
    run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
    set(where -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix -D LIBRARY_TYPE=STATIC)
elseif(MODE STREQUAL "one_level")
    list(APPEND where -D CMAKE_OBJCOPY=)
endif()
set(configure ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer_dispatched -B ${WORK_DIR}/build -G ${GENERATOR}
              ${where} -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_CXX_FLAGS=)
set(build ${CMAKE_COMMAND} --build ${WORK_DIR}/build)

if(MODE STREQUAL "one_level")
    run(${configure} -D LEVELS=sse2,avx2)
    expect("dot is compiled for one instruction set: levels")
    run(${build})
    run(${WORK_DIR}/build/consumer)
    expect("level: generic")
    run_to_fail(${WORK_DIR}/build/consumer sse2)
    expect("dot: it is not compiled for the level sse2, only for generic")
    return()
endif()

# a program for the processor of this machine gives its levels what they are called after, no less and no more
run(${configure} -D LEVELS=sse2,avx2 -D OPTIONS=-march=native -D CMAKE_INTERPROCEDURAL_OPTIMIZATION=ON)
run(${build})
run(${WORK_DIR}/build/consumer)
expect("level: ")
run(${WORK_DIR}/build/consumer sse2)
expect("level: sse2, instruction set: v0_sse2_,")
run_to_fail(${WORK_DIR}/build/consumer amx)
expect("dot: it is not compiled for the level amx, only for sse2, avx2")

# what it cannot undo, and what it does not know, it says
run(${configure} -D OPTIONS=-mavx)
run_to_fail(${build})
expect("moe_add_dispatched: other flags of the project change the instruction sets of the level sse2")
run_to_fail(${configure} -D LEVELS=sse2,sse9)
expect("moe_add_dispatched: there is no level sse9; there are sse2, avx2, avx512, amx")
