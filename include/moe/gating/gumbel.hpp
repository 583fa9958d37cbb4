#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/random.hpp"

namespace moe::inline MOE_ABI {

/// (l_e + Gumbel) / temperature of one token, whose greatest is a sample of softmax(l), and whose k greatest are k of
/// them without replacement (Kool, van Hoof, Welling 2019, "Stochastic beams and where to find them", 1903.06059). The
/// noise of e is that of its counter `first` + e in `stream`. Computed in double, rounded once; -infinity and NaN stay.
/// `logits` and `noisy` of one size, or the same.
template <class T>
void add_gumbel(std::span<const T> logits, std::uint64_t stream, std::uint64_t first, double temperature,
                std::span<T> noisy) {
    for (std::size_t e = 0; e < noisy.size(); ++e) {
        noisy[e] = static_cast<T>((static_cast<double>(logits[e]) + random_gumbel(stream, first + e)) / temperature);
    }
}

}  // namespace moe::inline MOE_ABI
