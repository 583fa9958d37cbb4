#include "dot.hpp"

#include <moe/kernels/simd.hpp>

Dot MOE_LEVEL::dot(const float* a, const float* b, std::size_t n) {
    moe::Vector<float> sums(0.0F);
    std::size_t i = 0;
    for (; i + moe::lanes<float> <= n; i += moe::lanes<float>) {
        sums = moe::multiply_add(moe::load(a + i), moe::load(b + i), sums);
    }
    float lanes[moe::lanes<float>];
    moe::store(lanes, sums);
    Dot result{moe::isa_name(), 0.0F};
    for (const float lane : lanes) {
        result.value += lane;
    }
    for (; i < n; ++i) {
        result.value += a[i] * b[i];
    }
    return result;
}
