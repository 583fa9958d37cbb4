# cmake -D SOURCE_DIR= -D WORK_DIR= -D COMPILER= -D GENERATOR= -P optional_packages.cmake
# What is optional can only be there or not. Configures beside packages whose CMake files end the configuration, as that
# of oneDNN does where OpenCL is not installed.
file(REMOVE_RECURSE ${WORK_DIR})
foreach(package dnnl CLI11 OpenCL)
    foreach(name ${package}Config ${package}-config)
        file(WRITE ${WORK_DIR}/prefix/lib/cmake/${package}/${name}.cmake "message(FATAL_ERROR \"${package} is broken\")\n")
    endforeach()
endforeach()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G ${GENERATOR} -D MOE_BUILD_TESTS=OFF
                        -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix
                OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE status)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "a package nobody needs ended the configuration\n${out}")
endif()
