#pragma once

#include "../config.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace moe::inline MOE_ABI {

/// The floating-point environment that the library computes in, for as long as this lives: rounding to nearest, no
/// flushing of denormals, no traps. Then the thread's own comes back, flags included. So the bits of a result do not
/// depend on what a thread was set to, and the threads of a call need not agree. 20 cycles or so on x86 and Arm.
class FloatEnvironment {
public:
    FloatEnvironment() noexcept {
#if defined(__SSE2__)
        before_ = _mm_getcsr();
        _mm_setcsr(0x1F80);  // as a program starts: all exceptions masked, nothing else
#elif defined(__aarch64__)
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(static_cast<unsigned long>(0)) : "memory");
#else
        std::feholdexcept(&before_);
        std::fesetround(FE_TONEAREST);
#endif
        keep_order();
    }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;
    ~FloatEnvironment() {
        keep_order();
#if defined(__SSE2__)
        _mm_setcsr(before_);
#elif defined(__aarch64__)
        asm volatile("msr fpcr, %0" : : "r"(before_) : "memory");
#else
        std::fesetenv(&before_);
#endif
    }

private:
    /// Compilers know of no environment: what reads or writes memory shall not pass here.
    static void keep_order() noexcept {
#if defined(__GNUC__)
        asm volatile("" ::: "memory");
#endif
    }

#if defined(__SSE2__)
    unsigned before_;
#elif defined(__aarch64__)
    unsigned long before_;
#else
    std::fenv_t before_;
#endif
};

}  // namespace moe::inline MOE_ABI
