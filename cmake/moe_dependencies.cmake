# What is installed is taken; what is not is downloaded at a version pinned by its SHA-256, unless MOE_FETCH is OFF.
include(FetchContent)
include(${CMAKE_CURRENT_LIST_DIR}/moe_xsimd.cmake)

function(moe_fetch name debian_package url sha256)
    if(NOT MOE_FETCH)
        message(FATAL_ERROR "moe needs ${name}, which is not installed: apt-get install ${debian_package}, "
                            "or set MOE_FETCH=ON to download it")
    endif()
    message(STATUS "moe: ${name} is not installed (apt-get install ${debian_package}); downloading ${url}")
    FetchContent_Declare(${name} URL ${url} URL_HASH SHA256=${sha256} ${ARGN})
    FetchContent_MakeAvailable(${name})
    set(${name}_SOURCE_DIR ${${name}_SOURCE_DIR} PARENT_SCOPE)
endfunction()

# moe::xsimd, needed by the library itself. Ends the configuration where there is one that is too old, rather than
# download another: two of them on one include path would be worse.
function(moe_provide_xsimd)
    if(TARGET moe::xsimd)
        return()
    endif()
    if(NOT TARGET xsimd)
        find_package(xsimd QUIET)
    endif()
    if(TARGET xsimd)
        moe_use_xsimd(problem GLOBAL)
        if(problem)
            message(FATAL_ERROR "${problem}: install a newer one, or set CMAKE_DISABLE_FIND_PACKAGE_xsimd=ON to have "
                                "one downloaded")
        endif()
        return()
    endif()
    # SOURCE_SUBDIR names a folder without CMakeLists.txt: the headers are all that is wanted.
    moe_fetch(xsimd libxsimd-dev https://github.com/xtensor-stack/xsimd/archive/refs/tags/12.1.1.tar.gz
              73f94a051278ef3da4533b691d31244d12074d5d71107473a9fd8d7be15f0110 SOURCE_SUBDIR include)
    add_library(moe::xsimd INTERFACE IMPORTED GLOBAL)
    set_target_properties(moe::xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${xsimd_SOURCE_DIR}/include)
    set(moe_downloaded_xsimd ${xsimd_SOURCE_DIR} PARENT_SCOPE)  # for the install
endfunction()

# Catch2::Catch2, needed by the tests (version 2.13 or 3)
function(moe_provide_catch)
    find_package(Catch2 QUIET)
    if(NOT TARGET Catch2::Catch2)
        set(system "")
        if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.25)
            set(system SYSTEM)
        endif()
        moe_fetch(Catch2 catch2 https://github.com/catchorg/Catch2/archive/refs/tags/v3.4.0.tar.gz
                  122928b814b75717316c71af69bd2b43387643ba076a6ec16e7882bfb2dfacbb ${system})
    endif()
endfunction()
