# Flags of this repository's own tests, benchmarks and examples. They never reach a project that uses the library.
include(CheckCXXCompilerFlag)

set(CMAKE_CXX_EXTENSIONS OFF)

set(moe_warning_flags -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror)
add_library(moe_warnings INTERFACE)
target_compile_options(moe_warnings INTERFACE ${moe_warning_flags})
# g++ with sanitizers sees uninitialised members where there are none, even inside <regex> and <functional>
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    target_compile_options(moe_warnings INTERFACE -Wno-maybe-uninitialized)
endif()
# clang 19 complains of what -march=native means on some processors
check_cxx_compiler_flag(-Winvalid-feature-combination MOE_HAS_INVALID_FEATURE_COMBINATION)
if(MOE_HAS_INVALID_FEATURE_COMBINATION)
    target_compile_options(moe_warnings INTERFACE -Wno-invalid-feature-combination)
endif()

add_library(moe_development INTERFACE)
target_link_libraries(moe_development INTERFACE moe::moe moe_warnings)
if(MOE_NATIVE)
    check_cxx_compiler_flag(-march=native MOE_HAS_MARCH_NATIVE)
    if(MOE_HAS_MARCH_NATIVE)
        target_compile_options(moe_development INTERFACE -march=native)
    endif()
endif()
foreach(optional openmp io eigen)
    if(TARGET moe::${optional})
        target_link_libraries(moe_development INTERFACE moe::${optional})
    endif()
endforeach()
find_package(Threads REQUIRED)
target_link_libraries(moe_development INTERFACE Threads::Threads)
