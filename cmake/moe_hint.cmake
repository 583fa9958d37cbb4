# A line for projects that use the library and never say for which processor: x86-64 compilers then take SSE2, which is
# a fraction of the speed. Said once, at the end of the configuration, when the flags of all targets are known; never
# for a project that uses moe_add_dispatched. -D MOE_HINT=OFF says nothing.

# Appends what `directory` and those below it compile with, as far as targets and directories say it.
function(moe_hint_options_ result directory)
    get_property(options DIRECTORY ${directory} PROPERTY COMPILE_OPTIONS)
    get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
    foreach(target IN LISTS targets)
        foreach(property COMPILE_OPTIONS INTERFACE_COMPILE_OPTIONS COMPILE_FLAGS)
            get_target_property(value ${target} ${property})
            if(value)
                list(APPEND options ${value})
            endif()
        endforeach()
    endforeach()
    get_property(below DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
    foreach(directory IN LISTS below)
        moe_hint_options_(options ${directory})
    endforeach()
    list(APPEND ${result} ${options})
    set(${result} "${${result}}" PARENT_SCOPE)
endfunction()

function(moe_hint_now_)
    get_property(dispatched GLOBAL PROPERTY MOE_DISPATCHED_TARGETS)
    set(flags ${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_DEBUG} ${CMAKE_CXX_FLAGS_RELEASE} ${CMAKE_CXX_FLAGS_RELWITHDEBINFO}
              ${CMAKE_CXX_FLAGS_MINSIZEREL})
    moe_hint_options_(flags ${CMAKE_SOURCE_DIR})
    if(dispatched OR "${flags}" MATCHES "-m(arch|cpu|avx)")
        return()
    endif()
    # distributions for newer processors have compilers that ask for more
    include(CheckCXXSourceCompiles)
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_source_compiles("
#if defined(__AVX2__)
#error there is no need for a hint
#endif
int main() { return 0; }" MOE_COMPILES_FOR_SSE2)
    if(MOE_COMPILES_FOR_SSE2)
        message(STATUS "moe: no flag of this project names a processor, so it is compiled for SSE2, at a fraction of "
                       "the speed. -march=native is for this machine, -march=x86-64-v3 for AVX2, "
                       "moe_add_dispatched(...) for all; -D MOE_HINT=OFF hides this")
    endif()
endfunction()

function(moe_hint_at_flags)
    get_property(asked GLOBAL PROPERTY MOE_HINT_ASKED)
    if(asked OR (DEFINED MOE_HINT AND NOT MOE_HINT) OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$"
       OR NOT CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang|IntelLLVM)$")
        return()
    endif()
    set_property(GLOBAL PROPERTY MOE_HINT_ASKED ON)
    cmake_language(DEFER DIRECTORY ${CMAKE_SOURCE_DIR} CALL moe_hint_now_)
endfunction()
