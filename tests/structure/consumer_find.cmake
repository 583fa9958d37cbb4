# cmake -D BINARY_DIR= -D WORK_DIR= -D COMPILER= -D GENERATOR= -D OPTIONAL= -D VERSION= -P consumer_find.cmake
# The components and versions that find_package knows, and what it says of those it does not.
include(${CMAKE_CURRENT_LIST_DIR}/consumer_run.cmake)

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${WORK_DIR}/prefix)
set(configure ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer_find -B ${WORK_DIR}/build -G ${GENERATOR}
              -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_PREFIX_PATH=${WORK_DIR}/prefix)

# ---- components ------------------------------------------------------------------------------------------------------

list(TRANSFORM OPTIONAL REPLACE "^moe::" "" OUTPUT_VARIABLE there)
list(JOIN there "," components)
if(there)
    run(${configure} "-DWANTED=REQUIRED,COMPONENTS,${components}")
    list(TRANSFORM there PREPEND "consumer: has " OUTPUT_VARIABLE all)
    expect("consumer: found" ${all})
endif()

run(${configure} "-DWANTED=REQUIRED,COMPONENTS,${components},OPTIONAL_COMPONENTS,mpi")
expect("consumer: found")
if(output MATCHES "consumer: has mpi")
    message(FATAL_ERROR "there is no mpi yet")
endif()

set(unknown "moe has no component mpi; there are eigen, openmp, io")
run(${configure} "-DWANTED=COMPONENTS,mpi")
expect("consumer: without moe" "${unknown}")
run_to_fail(${configure} "-DWANTED=REQUIRED,COMPONENTS,mpi")
expect("${unknown}")

set(package_of_eigen Eigen3)
set(package_of_openmp OpenMP)
set(package_of_io nlohmann_json)
set(remedy_for_eigen "apt-get install libeigen3-dev")
set(remedy_for_openmp "apt-get install libomp-dev")
set(remedy_for_io "apt-get install nlohmann-json3-dev")
foreach(component eigen openmp io)
    set(switch CMAKE_DISABLE_FIND_PACKAGE_${package_of_${component}})
    run(${configure} "-DWANTED=COMPONENTS,${component}" -D ${switch}=ON)
    expect("consumer: without moe" "the component ${component} of moe needs" "${remedy_for_${component}}")
    run_to_fail(${configure} "-DWANTED=REQUIRED,COMPONENTS,${component}" -D ${switch}=ON)
    expect("the component ${component} of moe needs" "${remedy_for_${component}}")
    run(${configure} "-DWANTED=OPTIONAL_COMPONENTS,${component}" -D ${switch}=ON)
    expect("consumer: found")
    run(${configure} "-DWANTED=" -D ${switch}=OFF)
endforeach()

# ---- versions --------------------------------------------------------------------------------------------------------

string(REGEX MATCH "^([0-9]+)\\.([0-9]+)" minor "${VERSION}")
math(EXPR next "${CMAKE_MATCH_2} + 1")
math(EXPR last "${CMAKE_MATCH_2} + 8")
set(next ${CMAKE_MATCH_1}.${next})
set(last ${CMAKE_MATCH_1}.${last})
foreach(version ${VERSION} ${VERSION},EXACT ${minor} ${minor}...${last} ${minor}...<${next} 0.0...${VERSION} 0.0...<99)
    run(${configure} "-DWANTED=${version},REQUIRED")
    expect("consumer: found")
endforeach()
foreach(version ${next} ${next}...${last} 0.0...<${VERSION} 99 0.0 ${minor}.99,EXACT)
    run_to_fail(${configure} "-DWANTED=${version},REQUIRED")
    expect("The following configuration files were considered but not accepted")
endforeach()
