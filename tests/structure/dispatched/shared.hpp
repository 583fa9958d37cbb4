#pragma once

/// What the levels of level.cpp and helper.cpp share with main.cpp.

#include <stdexcept>
#include <string>

#include <moe/dispatched.hpp>

/// The instruction set that this copy of an inline function was compiled for. Everything that includes it has a copy;
/// of copies in one program the linker would keep one.
__attribute__((noinline)) inline std::string compiled_for() {
#if defined(__AMX_TILE__)
    return "amx";
#elif defined(__AVX512F__)
    return "avx512";
#elif defined(__AVX2__)
    return "avx2";
#else
    return "sse2";
#endif
}

/// Defined in main.cpp: what each constructor of a static object in a level says of itself, in the order they run.
extern std::string constructed;

struct Mistake : std::runtime_error {
    using std::runtime_error::runtime_error;
};

namespace probe {

/// "inline function of level.cpp, inline function of helper.cpp, calls so far"; a Mistake when told to.
MOE_DISPATCHED(report, std::string(bool fail));

/// A second function of the same sources.
MOE_DISPATCHED(count, int());

}  // namespace probe
