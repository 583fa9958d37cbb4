#pragma once

#include <type_traits>
#include <vector>

#include "moe/experts/packed_format.hpp"

namespace moe_test {

/// The ways to compute that format F has on this machine.
template <moe::PackedFormat F>
std::vector<moe::Compute> computes() {
    if constexpr (moe::QuantizedFormat<F>) {
        return {moe::Compute::exact, moe::Compute::int8};
    } else {
        std::vector<moe::Compute> result{moe::Compute::exact};
        if (std::is_same_v<F, moe::bfloat16> && moe::arch::MatrixUnit::request()) {
            result.push_back(moe::Compute::bf16x3);
        }
        return result;
    }
}

}  // namespace moe_test
