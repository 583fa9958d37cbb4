# The reader of command lines, of `generate`, the benchmark and the comparison. Included where each is built; makes no
# target where CLI11 is not installed.
include_guard(GLOBAL)

find_path(MOE_CLI11_INCLUDE CLI/CLI.hpp)
mark_as_advanced(MOE_CLI11_INCLUDE)
if(MOE_CLI11_INCLUDE)
    add_library(command_line STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/command_line.cpp)
    target_link_libraries(command_line PUBLIC moe::moe PRIVATE moe_warnings)
    target_include_directories(command_line SYSTEM PRIVATE ${MOE_CLI11_INCLUDE})
    target_compile_options(command_line PRIVATE -fexceptions)  # CLI11 throws, also in a build without exceptions
else()
    message(STATUS "moe: CLI11 is not installed (apt-get install libcli11-dev); the demo and the benchmarks are not built")
endif()
