# Included by the examples and the benchmarks, since either is built without the other.
include_guard(GLOBAL)

add_library(moe_instantiated STATIC EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/instantiated.cpp)
target_link_libraries(moe_instantiated PUBLIC moe_development)
target_compile_options(moe_instantiated PRIVATE -fexceptions)  # as who is linked with it, also in a build without exceptions
