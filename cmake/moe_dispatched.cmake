# moe_add_dispatched(<target> SOURCES <source>... [LEVELS <level>...])
#
# Compiles the sources once for each level of instruction sets and adds all of them to the target, which chooses one
# when it runs (moe/dispatched.hpp; examples/dispatched is a whole program):
#
#   sse2    x86-64 as it began, what compilers take without flags
#   avx2    x86-64-v3: AVX2, FMA, F16C, BMI
#   avx512  x86-64-v4 and VNNI (a processor with AVX-512 and no VNNI takes avx2)
#   amx     avx512 and bfloat16, in vectors and on the matrix unit
#
# All of them unless LEVELS names some; a level whose flags the compiler does not offer is left out, with a line that
# says so. On other processors, and where no linker can keep levels apart (see below), the sources are compiled once,
# with the flags of the target, as any other.
#
# Called after the target has been made, in the same directory, and after CXX_STANDARD and its like have been set. What
# the target links to, its definitions, include directories and options are those of each level, except that the level
# takes the place of -march. Link-time optimisation is off for the levels, since it would mix them.
#
# Why more is done than to compile with other flags. Inline functions and templates, those of the standard library
# included, are compiled into every object that uses them, and the linker keeps one copy of each for the program:
# perhaps that with AVX-512, for all. And a static object with a constructor runs code of its level before anything was
# chosen (<iostream> has one). So the objects of a level are linked into one, in which every name except those that
# MOE_DISPATCHED declares becomes local, and constructors are kept for when the level is chosen.
#
# What follows for the sources: each level has its own copy of what is inline, so a variable of a header is another
# variable in each level, and in the rest of the program; functions marked as destructors of the program
# (__attribute__((destructor))) would run for all levels.

# A macro, since variables would be seen only where this file is included.
macro(moe_level_facts_)
    set(flags_of_sse2 -march=x86-64)
    set(flags_of_avx2 -march=x86-64-v3)
    set(flags_of_avx512 -march=x86-64-v4 -mavx512vnni)
    set(flags_of_amx ${flags_of_avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
    # what they must make the compiler define, and what nothing may
    set(has_sse2 "defined(__SSE2__)")
    set(has_avx2 "defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)")
    set(has_avx512 "defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)")
    set(has_amx "${has_avx512} && defined(__AVX512BF16__) && defined(__AMX_TILE__) && defined(__AMX_BF16__)")
    set(beyond_sse2 "defined(__SSE3__) || defined(__AVX__)")
    set(beyond_avx2 "defined(__AVX512F__)")
    set(beyond_avx512 "defined(__AVX512BF16__) || defined(__AMX_TILE__)")
    set(beyond_amx 0)
    # constructors of static objects, in order of their priorities, between two symbols that moe/dispatched.hpp knows
    set(linker_script [[
SECTIONS
{
  .moe_initialisers : ALIGN(8)
  {
    moe_initialisers_begin = .;
    KEEP(*(SORT_BY_INIT_PRIORITY(.init_array.*)))
    KEEP(*(.init_array))
    moe_initialisers_end = .;
  }
}
]])
endmacro()

# Why this build cannot have levels; empty if it can. Sets linker_of_levels to what links the objects of one into one.
function(moe_levels_problem_ result)
    set(${result} "" PARENT_SCOPE)
    if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" OR NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
        set(${result} "levels are for x86-64" PARENT_SCOPE)
    elseif(NOT CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF" OR NOT CMAKE_OBJCOPY)
        set(${result} "levels need ELF objects and objcopy" PARENT_SCOPE)
    else()
        # CMake prefers that of LLVM for clang, which has had this only since LLVM 19
        foreach(linker ${CMAKE_LINKER} ld.bfd ld)
            execute_process(COMMAND ${linker} --help OUTPUT_VARIABLE help ERROR_QUIET)
            if(help MATCHES "force-group-allocation")
                set(linker_of_levels ${linker} PARENT_SCOPE)
                return()
            endif()
        endforeach()
        set(${result} "levels need a linker with --force-group-allocation, as binutils have" PARENT_SCOPE)
    endif()
endfunction()

function(moe_has_level_ result level)
    include(CheckCXXSourceCompiles)
    moe_level_facts_()
    list(JOIN flags_of_${level} " " CMAKE_REQUIRED_FLAGS)
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_source_compiles("
#if !(${has_${level}})
#error flags without effect
#endif
int main() { return 0; }" MOE_COMPILES_FOR_LEVEL_${level})
    set(${result} ${MOE_COMPILES_FOR_LEVEL_${level}} PARENT_SCOPE)
endfunction()

# The sources for one level, as an object that goes to the target
function(moe_add_level_ target level sources)
    moe_level_facts_()
    set(has "${has_${level}}")
    set(beyond "${beyond_${level}}")
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/moe_dispatched/${target})
    set(wrappers "")
    set(index 0)
    foreach(source IN LISTS sources)
        get_filename_component(name ${source} NAME_WE)
        set(wrapper ${folder}/${level}/${index}_${name}.cpp)
        math(EXPR index "${index} + 1")
        file(CONFIGURE OUTPUT ${wrapper} @ONLY CONTENT [[
// Made by moe_add_dispatched.
#if !(@has@) || @beyond@
#error "moe_add_dispatched: other flags of the project change the instruction sets of the level @level@"
#endif
#define MOE_DISPATCHED_LEVEL @level@
#include "@source@"
]])
        list(APPEND wrappers ${wrapper})
    endforeach()
    # those of a file come after those of everything a target links to
    set_source_files_properties(${wrappers} PROPERTIES COMPILE_OPTIONS "${flags_of_${level}}"
                                                       OBJECT_DEPENDS "${sources}")

    set(objects ${target}_moe_${level})
    add_library(${objects} OBJECT EXCLUDE_FROM_ALL ${wrappers})
    target_link_libraries(${objects} PRIVATE $<TARGET_PROPERTY:${target},LINK_LIBRARIES> moe::moe)
    target_include_directories(${objects} PRIVATE $<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>)
    target_compile_definitions(${objects} PRIVATE $<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>)
    target_compile_options(${objects} PRIVATE $<TARGET_PROPERTY:${target},COMPILE_OPTIONS> -fno-lto
                           $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)  # symbols that no tool makes local
    foreach(property CXX_STANDARD CXX_EXTENSIONS CXX_VISIBILITY_PRESET VISIBILITY_INLINES_HIDDEN
                     POSITION_INDEPENDENT_CODE)
        get_target_property(value ${target} ${property})
        if(NOT value MATCHES "NOTFOUND$")
            set_target_properties(${objects} PROPERTIES ${property} "${value}")
        endif()
    endforeach()
    get_target_property(type ${target} TYPE)
    if(type MATCHES "^(SHARED|MODULE)_LIBRARY$")
        set_target_properties(${objects} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    endif()
    set_target_properties(${objects} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)

    set(configuration "")
    get_property(several GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
    if(several)
        set(configuration $<CONFIG>_)
    endif()
    set(joined ${folder}/${configuration}${level}_joined.o)
    set(alone ${folder}/${configuration}${level}.o)
    string(LENGTH moe_level_${level} length)  # as names of namespaces are mangled
    add_custom_command(
        OUTPUT ${alone}
        COMMAND ${linker_of_levels} -r --force-group-allocation -T ${folder}/level.ld -o ${joined}
                $<TARGET_OBJECTS:${objects}>
        COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=*${length}moe_level_${level}*" ${joined} ${alone}
        BYPRODUCTS ${joined}
        DEPENDS $<TARGET_OBJECTS:${objects}> ${folder}/level.ld
        COMMENT "Keeping level ${level} of ${target} apart" COMMAND_EXPAND_LISTS VERBATIM)
    target_sources(${target} PRIVATE ${alone})
    set_source_files_properties(${alone} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
endfunction()

function(moe_add_dispatched target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LEVELS")
    if(NOT TARGET ${target} OR NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "moe_add_dispatched(<target> SOURCES <source>... [LEVELS <level>...]), for a target that "
                            "has been made")
    endif()
    get_target_property(directory ${target} SOURCE_DIR)
    if(NOT directory STREQUAL CMAKE_CURRENT_SOURCE_DIR)
        message(FATAL_ERROR "moe_add_dispatched: call it in the directory that makes ${target}: ${directory}")
    endif()
    get_target_property(type ${target} TYPE)
    if(NOT type MATCHES "^(EXECUTABLE|(STATIC|SHARED|MODULE)_LIBRARY)$")
        message(FATAL_ERROR "moe_add_dispatched: ${target} is neither a program nor a library that is linked")
    endif()
    get_property(others GLOBAL PROPERTY MOE_DISPATCHED_TARGETS)
    if(target IN_LIST others)
        message(FATAL_ERROR "moe_add_dispatched: ${target} has its dispatched sources already; name all in one call")
    endif()
    set_property(GLOBAL APPEND PROPERTY MOE_DISPATCHED_TARGETS ${target})

    set(known sse2 avx2 avx512 amx)
    foreach(level IN LISTS arg_LEVELS)
        if(NOT level IN_LIST known)
            list(JOIN known ", " known)
            message(FATAL_ERROR "moe_add_dispatched: there is no level ${level}; there are ${known}")
        endif()
    endforeach()
    if(NOT arg_LEVELS)
        set(arg_LEVELS ${known})
    endif()

    moe_levels_problem_(problem)
    if(problem)
        message(STATUS "moe: ${target} is compiled for one instruction set: ${problem}")
        target_sources(${target} PRIVATE ${arg_SOURCES})
        return()
    endif()
    moe_level_facts_()
    set(sources "")
    foreach(source IN LISTS arg_SOURCES)
        get_filename_component(source ${source} ABSOLUTE)
        list(APPEND sources ${source})
    endforeach()
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/moe_dispatched/${target}/level.ld
         CONTENT "${linker_script}" @ONLY)
    set(added "")
    foreach(level IN LISTS known)
        if(level IN_LIST arg_LEVELS)
            moe_has_level_(there ${level})
            if(there)
                moe_add_level_(${target} ${level} "${sources}")
                string(TOUPPER ${level} name)
                target_compile_definitions(${target} PUBLIC MOE_DISPATCHED_${name})
                list(APPEND added ${level})
            else()
                list(JOIN flags_of_${level} " " flags)
                message(STATUS "moe: ${target} is without the level ${level}: the compiler does not offer ${flags}")
            endif()
        endif()
    endforeach()
    if(NOT added)
        message(FATAL_ERROR "moe_add_dispatched: the compiler offers the flags of no level of ${target}")
    endif()
endfunction()
