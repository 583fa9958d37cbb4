# Targets for what a program may add to moe::moe, each made only where its dependency is found. They are the components
# of the installed package, too.
#   moe::eigen   for moe/eigen.hpp and moe/eigen_train.hpp (Eigen)
#   moe::openmp  for the OpenMP executor (compiler flag and runtime)
#   moe::io      for moe/io.hpp (nlohmann-json)
# Used by the build and by the installed package.
set(moe_optional_names eigen openmp io)
set(moe_dependency_of_eigen Eigen3::Eigen)
set(moe_dependency_of_openmp OpenMP::OpenMP_CXX)
set(moe_dependency_of_io nlohmann_json::nlohmann_json)
set(moe_remedy_for_eigen "Eigen (apt-get install libeigen3-dev)")
set(moe_remedy_for_openmp "a compiler with OpenMP (g++, or clang++ after apt-get install libomp-dev)")
set(moe_remedy_for_io "nlohmann-json (apt-get install nlohmann-json3-dev)")

macro(moe_find_optional_packages)
    find_package(Eigen3 QUIET NO_MODULE)
    find_package(OpenMP QUIET COMPONENTS CXX)
    find_package(nlohmann_json QUIET)
endmacro()

# moe_component_problem(<problem> <component>): becomes a sentence where there will be no moe::<component>, else empty.
function(moe_component_problem problem component)
    set(${problem} "" PARENT_SCOPE)
    if(NOT component IN_LIST moe_optional_names)
        list(JOIN moe_optional_names ", " names)
        set(${problem} "moe has no component ${component}; there are ${names}" PARENT_SCOPE)
    elseif(NOT TARGET ${moe_dependency_of_${component}})
        set(${problem} "the component ${component} of moe needs ${moe_remedy_for_${component}}, which is not found"
            PARENT_SCOPE)
    endif()
endfunction()

# moe_add_optional_targets([GLOBAL])
function(moe_add_optional_targets)
    foreach(name IN LISTS moe_optional_names)
        if(TARGET ${moe_dependency_of_${name}} AND NOT TARGET moe::${name})
            add_library(moe::${name} INTERFACE IMPORTED ${ARGN})
            set_target_properties(moe::${name} PROPERTIES
                                  INTERFACE_LINK_LIBRARIES "moe::moe;${moe_dependency_of_${name}}")
        endif()
    endforeach()
endfunction()

# The same for a build: visible to a project that adds this one as a sub-directory, and so is what they link to.
# find_package has had a word for that since CMake 3.24.
macro(moe_provide_optional_targets)
    set(moe_already_there_ "")
    foreach(name_ IN LISTS moe_optional_names)
        if(TARGET ${moe_dependency_of_${name_}})
            list(APPEND moe_already_there_ ${name_})
        endif()
    endforeach()
    moe_find_optional_packages()
    foreach(name_ IN LISTS moe_optional_names)
        if(TARGET ${moe_dependency_of_${name_}} AND NOT name_ IN_LIST moe_already_there_)
            set_target_properties(${moe_dependency_of_${name_}} PROPERTIES IMPORTED_GLOBAL TRUE)
        endif()
    endforeach()
    moe_add_optional_targets(GLOBAL)
endmacro()
