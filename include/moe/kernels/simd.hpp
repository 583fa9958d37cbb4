#pragma once

#include <cstddef>
#include <type_traits>

#include "../config.hpp"
#include "arch/intrinsics.hpp"

// as in arch/intrinsics.hpp
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <xsimd/config/xsimd_config.hpp>
#if XSIMD_VERSION_MAJOR < 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR < 1)
#error "moe needs xsimd 8.1 or newer, and the one on the include path is older"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace moe::inline MOE_ABI {

/// The one door to xsimd: a dozen names, so that an API change of xsimd is met in this file.

/// The widest vector of T (float or double) of the instruction set this file is compiled for.
template <class T>
using Vector = xsimd::batch<T>;

/// Elements in a Vector<T>.
template <class T>
inline constexpr std::size_t lanes = Vector<T>::size;

template <class V>
inline constexpr bool is_vector = false;
template <class T, class Arch>
inline constexpr bool is_vector<xsimd::batch<T, Arch>> = true;

/// Architectural vector registers: what bounds a register tile.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr std::size_t vector_registers = 32;
#else
inline constexpr std::size_t vector_registers = 16;
#endif

template <class T>
[[nodiscard]] MOE_ALWAYS_INLINE Vector<T> load(const T* source) noexcept {
    return Vector<T>::load_unaligned(source);
}

template <class T>
MOE_ALWAYS_INLINE void store(T* target, const Vector<T>& value) noexcept {
    value.store_unaligned(target);
}

/// a * b + c with one rounding where the hardware has it. xsimd 8.1 multiplies and adds on AVX-512, hence the
/// intrinsic.
template <class T>
[[nodiscard]] MOE_ALWAYS_INLINE Vector<T> multiply_add(const Vector<T>& a, const Vector<T>& b,
                                                       const Vector<T>& c) noexcept {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>) {
        return _mm512_fmadd_ps(a, b, c);
    } else {
        return _mm512_fmadd_pd(a, b, c);
    }
#else
    return xsimd::fma(a, b, c);
#endif
}

}  // namespace moe::inline MOE_ABI
