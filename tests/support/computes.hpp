#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "moe/experts/packed_format.hpp"

namespace moe_test {

/// The ways to compute that format F has on this machine.
template <moe::PackedFormat F>
std::vector<moe::Compute> computes() {
    std::vector<moe::Compute> result{moe::Compute::exact};
    if (moe::QuantizedFormat<F>) {
        result.push_back(moe::Compute::int8);
    }
    if (std::is_same_v<F, moe::bfloat16> && moe::arch::MatrixUnit::request()) {
        result.push_back(moe::Compute::bf16x3);
    }
    if (moe::packs_bfloat16<F> && moe::resolve_compute<F>(moe::Compute::bf16) == moe::Compute::bf16 &&
        (!moe::arch::MatrixUnit::present || moe::arch::MatrixUnit::request())) {
        result.push_back(moe::Compute::bf16);
    }
    return result;
}

template <moe::PackedFormat F>
bool has_compute(moe::Compute compute) {
    const std::vector<moe::Compute> all = computes<F>();
    return std::find(all.begin(), all.end(), compute) != all.end();
}

}  // namespace moe_test
