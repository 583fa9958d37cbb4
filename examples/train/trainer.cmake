# The training of the demo's model without a main: programs and tests link it beside demo_model, whose files it reads.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/../generate/model.cmake)

add_library(demo_trainer STATIC EXCLUDE_FROM_ALL
            ${CMAKE_CURRENT_LIST_DIR}/adapter_files.cpp ${CMAKE_CURRENT_LIST_DIR}/attention.cpp
            ${CMAKE_CURRENT_LIST_DIR}/checkpoint.cpp ${CMAKE_CURRENT_LIST_DIR}/cross_entropy.cpp
            ${CMAKE_CURRENT_LIST_DIR}/data.cpp ${CMAKE_CURRENT_LIST_DIR}/folder.cpp
            ${CMAKE_CURRENT_LIST_DIR}/linear.cpp ${CMAKE_CURRENT_LIST_DIR}/lora.cpp
            ${CMAKE_CURRENT_LIST_DIR}/model.cpp ${CMAKE_CURRENT_LIST_DIR}/norm.cpp ${CMAKE_CURRENT_LIST_DIR}/pass.cpp
            ${CMAKE_CURRENT_LIST_DIR}/published.cpp ${CMAKE_CURRENT_LIST_DIR}/run.cpp
            ${CMAKE_CURRENT_LIST_DIR}/trainer.cpp)
target_link_libraries(demo_trainer PUBLIC moe_instantiated)
target_compile_options(demo_trainer PRIVATE -fexceptions)  # whoever runs it catches, also in a build without exceptions
# g++ 12 sees uninitialised values inside its own AVX-512 intrinsics, which Eigen uses (its bug 105593), and overlapping
# copies inside its own std::string (105329)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(demo_trainer PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized -Wno-restrict)
endif()
