#pragma once

#include <chrono>
#include <vector>

namespace bench {

/// Seconds that `work` takes.
template <class Work>
[[nodiscard]] double seconds_of(Work&& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// body() for a moment, and at least once; its times are added to `times`.
template <class Body>
void time_slice(std::vector<double>& times, Body&& body) {
    constexpr double slice = 0.01;
    double spent = 0;
    do {
        times.push_back(seconds_of(body));
        spent += times.back();
    } while (spent < slice);
}

/// Makes the compiler believe that `value` is read, and may have changed.
template <class T>
inline void keep(T& value) {
    asm volatile("" : "+m"(value) : : "memory");
}

}  // namespace bench
