#pragma once

#include "moe.hpp"

/// The door for programs of many translation units: all of moe.hpp, with the kernels and passes declared as compiled
/// elsewhere, so that no file which includes this one compiles them again. One file of the program, and
/// only one for each set of instruction flags (and one with, one without exceptions), includes
/// instantiate/definitions.hpp, which compiles them:
///
///     // moe.cpp, all of it
///     #include <moe/instantiate/definitions.hpp>
///
/// Whatever is not listed in instantiate/list.hpp is compiled where it is used, as without this header.

#define MOE_INSTANTIATE extern template
#include "instantiate/list.hpp"
#undef MOE_INSTANTIATE
