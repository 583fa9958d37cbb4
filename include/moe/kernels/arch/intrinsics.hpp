#pragma once

/// The intrinsics of x86. g++ 12 takes the deliberately undefined operands of its own AVX-512 intrinsics for
/// uninitialised variables (GCC bug 105593) and says so wherever one is inlined, unless the header itself is read
/// without the warning.

#if defined(__AVX2__) || defined(__AVX512F__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
