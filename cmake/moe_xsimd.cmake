# moe::xsimd out of an xsimd that is there: its include directories only. The target of some packages also links the
# unrelated library xtl, a header-only one that the linker cannot find. Used by the build and by the installed package.
set(moe_oldest_xsimd 8.1)

# moe_use_xsimd(<problem> [GLOBAL]): makes moe::xsimd of the target xsimd, unless there is one. <problem> becomes a
# sentence where that is older than the library can use, else empty. The header is asked, since a version that
# find_package was given means "of the same major version" to the package of xsimd, and a target has none.
function(moe_use_xsimd problem)
    set(${problem} "" PARENT_SCOPE)
    if(TARGET moe::xsimd)
        return()
    endif()
    get_target_property(directories xsimd INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
        set(directories "")  # found without being asked for
    endif()
    foreach(directory IN LISTS directories)
        string(REGEX REPLACE "^\\$<BUILD_INTERFACE:(.*)>$" "\\1" directory "${directory}")
        set(header ${directory}/xsimd/config/xsimd_config.hpp)
        if(EXISTS ${header})
            set(version "")
            foreach(part MAJOR MINOR PATCH)
                file(STRINGS ${header} line REGEX "define XSIMD_VERSION_${part} ")
                string(REGEX REPLACE ".*XSIMD_VERSION_${part} +([0-9]+).*" "\\1" number "${line}")
                list(APPEND version "${number}")
            endforeach()
            list(JOIN version "." version)
            if(version VERSION_LESS moe_oldest_xsimd)
                set(${problem} "moe needs xsimd ${moe_oldest_xsimd} or newer, and that in ${directory} is ${version}"
                    PARENT_SCOPE)
                return()
            endif()
            break()
        endif()
    endforeach()
    add_library(moe::xsimd INTERFACE IMPORTED ${ARGN})
    set_target_properties(moe::xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
endfunction()
