#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "../arms/arm.hpp"
#include "../threads.hpp"
#include "parameters.hpp"

namespace bench::backward {

/// Some values of what a backward pass computes, by name: "dx", "d_weights", and of the gradients "gate", "up", "down",
/// "router" and those of the shared expert.
using Sample = std::map<std::string, std::vector<double>>;

/// The call that is looked at.
struct Call {
    const Batch& batch;
    std::size_t variant;
    moe::MatrixView<const float> dy;
};

/// From what an arm computed: dx and d_weights of the last token, and of the gradients three units each of some
/// experts, first and last ones among them, at a few inputs and outputs.
[[nodiscard]] Sample computed_sample(const Shape& shape, const Call& call, const Parameters& gradients,
                                     moe::MatrixView<const float> dx, std::span<const float> d_weights);

/// The same by plain loops in double over the same weights, with the experts and weights of the plan. Shares no code
/// with any arm. The gradient of the router alone relies on `d_weights` of all tokens, of which those of the last are
/// checked.
[[nodiscard]] Sample expected_sample(const Threads& threads, const Shape& shape, const Call& call,
                                     const Parameters& weights, std::span<const float> d_weights);

/// The largest of the normalised mean squared errors, and whose it is. NaN is larger than all. Of all names in
/// `expected`.
struct SampleError {
    std::string name;
    double nmse = 0;
};
[[nodiscard]] SampleError largest_error(const Sample& computed, const Sample& expected);

}  // namespace bench::backward
