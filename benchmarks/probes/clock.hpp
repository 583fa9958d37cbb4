#pragma once

#include <chrono>

namespace bench {

/// Seconds that `work` takes.
template <class Work>
[[nodiscard]] double seconds_of(Work&& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Makes the compiler believe that `value` is read, and may have changed.
template <class T>
inline void keep(T& value) {
    asm volatile("" : "+m"(value) : : "memory");
}

}  // namespace bench
