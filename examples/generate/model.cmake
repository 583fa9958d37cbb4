# The model of the demo without a main: `generate` and the comparison of routing strategies run it. Included by both, since
# either is built without the other.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/../instantiated.cmake)

add_library(demo_model OBJECT EXCLUDE_FROM_ALL
            ${CMAKE_CURRENT_LIST_DIR}/attention.cpp ${CMAKE_CURRENT_LIST_DIR}/checkpoint.cpp
            ${CMAKE_CURRENT_LIST_DIR}/config.cpp ${CMAKE_CURRENT_LIST_DIR}/gguf_model.cpp
            ${CMAKE_CURRENT_LIST_DIR}/model.cpp ${CMAKE_CURRENT_LIST_DIR}/write_gguf.cpp)
target_link_libraries(demo_model PUBLIC moe_instantiated)
target_compile_definitions(demo_model PUBLIC MOE_MODEL_DIR="${PROJECT_SOURCE_DIR}/examples/models/tiny-mixtral")
target_compile_options(demo_model PRIVATE -fexceptions)  # whoever runs it catches, also in a build without exceptions
# g++ 12 sees uninitialised values inside its own AVX-512 intrinsics, which Eigen uses (its bug 105593)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(demo_model PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
