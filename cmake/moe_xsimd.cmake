# Makes moe::xsimd out of the installed xsimd: its include directories only. The target of some packages also links the
# unrelated library xtl, a header-only one that the linker cannot find.
macro(moe_import_xsimd)
    if(NOT TARGET moe::xsimd)
        get_target_property(moe_xsimd_include_ xsimd INTERFACE_INCLUDE_DIRECTORIES)
        add_library(moe::xsimd INTERFACE IMPORTED ${ARGN})
        set_target_properties(moe::xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${moe_xsimd_include_}")
        unset(moe_xsimd_include_)
    endif()
endmacro()
