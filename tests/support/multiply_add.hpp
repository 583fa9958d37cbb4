#pragma once

#include <cmath>

namespace moe_test {

/// What one step of a documented order of summation is: fused where the machine has it, else a product and a sum.
template <class T>
T multiply_add(T a, T b, T c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return std::fma(a, b, c);
#else
    const T product = a * b;
    return product + c;
#endif
}

}  // namespace moe_test
