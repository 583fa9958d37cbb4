#pragma once

/// What the compiler flags of this translation unit say, turned into the few macros the library needs.
///
/// Everything lives in `namespace moe::inline MOE_ABI`. The name of that inline namespace lists the instruction sets
/// the file is compiled for, so that two files of one program with different flags never share an inline function:
/// the linker keeps one copy of each symbol, and the wrong one would run an instruction the machine may not have.

#if !defined(__cplusplus) || __cplusplus < 202002L
// After an #error the compiler would go on, into all that it does not know yet; at a file that is not there it stops.
#include <moe needs C++20: compile with -std=c++20 or newer>
#endif

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) ||                               \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "moe needs floating point as it is: no -ffast-math, no -Ofast, which lose NaN and reorder sums"
#endif

#if defined(__AVX512F__)
#define MOE_ISA_LEVEL avx512f
#elif defined(__AVX2__)
#define MOE_ISA_LEVEL avx2
#elif defined(__AVX__)
#define MOE_ISA_LEVEL avx
#elif defined(__SSE4_2__)
#define MOE_ISA_LEVEL sse42
#elif defined(__SSE4_1__)
#define MOE_ISA_LEVEL sse41
#elif defined(__SSSE3__)
#define MOE_ISA_LEVEL ssse3
#elif defined(__SSE2__)
#define MOE_ISA_LEVEL sse2
#elif defined(__ARM_FEATURE_SVE)
#define MOE_ISA_LEVEL sve
#elif defined(__ARM_NEON)
#define MOE_ISA_LEVEL neon
#else
#define MOE_ISA_LEVEL generic
#endif

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512CD__)
#define MOE_ISA_AVX512_CORE c
#else
#define MOE_ISA_AVX512_CORE
#endif

#if defined(__AVX512VNNI__)
#define MOE_ISA_DOT n
#elif defined(__AVXVNNI__)
#define MOE_ISA_DOT a
#elif defined(__ARM_FEATURE_DOTPROD)
#define MOE_ISA_DOT d
#else
#define MOE_ISA_DOT
#endif

#if defined(__AVX512VBMI__)
#define MOE_ISA_VBMI v
#else
#define MOE_ISA_VBMI
#endif

#if defined(__AVX512BF16__)
#define MOE_ISA_BF16 b
#else
#define MOE_ISA_BF16
#endif

#if defined(__AVX512FP16__)
#define MOE_ISA_FP16 h
#else
#define MOE_ISA_FP16
#endif

#if defined(__AMX_BF16__)
#define MOE_ISA_AMX x
#else
#define MOE_ISA_AMX
#endif

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MOE_ISA_FMA f
#else
#define MOE_ISA_FMA
#endif

#if defined(__F16C__)
#define MOE_ISA_F16C s
#else
#define MOE_ISA_F16C
#endif

#if defined(__BMI2__)
#define MOE_ISA_BMI2 m
#else
#define MOE_ISA_BMI2
#endif

/// 1 where errors are thrown, 0 where `-fno-exceptions` turns each into a call of `moe_error_handler`.
#if defined(__cpp_exceptions)
#define MOE_EXCEPTIONS 1
#define MOE_ABI_EXCEPTIONS
#else
#define MOE_EXCEPTIONS 0
#define MOE_ABI_EXCEPTIONS _nothrow
#endif

#define MOE_PASTE_(level, core, dot, vbmi, bf16, fp16, amx, fma, f16c, bmi2, exceptions)                               \
    v0_##level##_##core##dot##vbmi##bf16##fp16##amx##fma##f16c##bmi2##exceptions
#define MOE_PASTE(level, core, dot, vbmi, bf16, fp16, amx, fma, f16c, bmi2, exceptions)                                \
    MOE_PASTE_(level, core, dot, vbmi, bf16, fp16, amx, fma, f16c, bmi2, exceptions)

/// Name of the inline namespace, e.g. `v0_avx2_fsm`: version, level, one letter for each extension beside
/// it (letters, because the name is part of every symbol).
#define MOE_ABI                                                                                                        \
    MOE_PASTE(MOE_ISA_LEVEL, MOE_ISA_AVX512_CORE, MOE_ISA_DOT, MOE_ISA_VBMI, MOE_ISA_BF16, MOE_ISA_FP16, MOE_ISA_AMX,  \
              MOE_ISA_FMA, MOE_ISA_F16C, MOE_ISA_BMI2, MOE_ABI_EXCEPTIONS)

#define MOE_STRINGIFY_(text) #text
#define MOE_STRINGIFY(text) MOE_STRINGIFY_(text)

#if defined(__GNUC__)
#define MOE_ALWAYS_INLINE inline __attribute__((always_inline))
#define MOE_INLINE_CALL __attribute__((always_inline))  ///< behind the parameters of a lambda
#define MOE_NOINLINE __attribute__((noinline))
#define MOE_RESTRICT __restrict__
#else
#define MOE_ALWAYS_INLINE inline
#define MOE_INLINE_CALL
#define MOE_NOINLINE
#define MOE_RESTRICT
#endif

/// Before a loop of a small constant number of turns that must be unrolled for its arrays to live in registers.
#define MOE_UNROLL _Pragma("GCC unroll 16")

namespace moe::inline MOE_ABI {

/// The instruction sets this translation unit was compiled for, as the name of its inline namespace.
[[nodiscard]] constexpr const char* isa_name() noexcept { return MOE_STRINGIFY(MOE_ABI); }

}  // namespace moe::inline MOE_ABI
