# Targets for what a program may add to moe::moe, each made only where its dependency is found:
#   moe::eigen   for moe/eigen.hpp (Eigen)
#   moe::openmp  for the OpenMP executor (compiler flag and runtime)
#   moe::io      for moe/io.hpp (nlohmann-json)
# Used by the build and by the installed package. The argument GLOBAL makes them visible to a project that adds this one
# as a sub-directory.
function(moe_optional_target_ name dependency)
    if(TARGET ${dependency} AND NOT TARGET moe::${name})
        add_library(moe::${name} INTERFACE IMPORTED ${ARGN})
        set_target_properties(moe::${name} PROPERTIES INTERFACE_LINK_LIBRARIES "moe::moe;${dependency}")
    endif()
endfunction()

macro(moe_optional_targets)
    find_package(Eigen3 QUIET NO_MODULE ${ARGN})
    moe_optional_target_(eigen Eigen3::Eigen ${ARGN})
    find_package(OpenMP QUIET COMPONENTS CXX ${ARGN})
    moe_optional_target_(openmp OpenMP::OpenMP_CXX ${ARGN})
    find_package(nlohmann_json QUIET ${ARGN})
    moe_optional_target_(io nlohmann_json::nlohmann_json ${ARGN})
endmacro()
