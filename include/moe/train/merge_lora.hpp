#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../experts/lora_adapters.hpp"
#include "../experts/product_tasks.hpp"
#include "../kernels/add_scaled.hpp"
#include "parts/mutable_stack.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// The nearest W to `value`, at any alignment.
template <WeightElement W>
void store_rounded(ComputeType<W> value, W* target) noexcept {
    W rounded;
    if constexpr (std::is_same_v<W, bfloat16>) {
        rounded = to_bfloat16(value);
    } else if constexpr (std::is_same_v<W, float16>) {
        rounded = to_float16(value);
    } else {
        rounded = value;
    }
    std::memcpy(static_cast<void*>(target), &rounded, sizeof rounded);
}

}  // namespace detail

/// W += scale B A in the user's memory, of every expert, in any storage order: afterwards the experts are those with
/// the adapter, which is to be left out. 16-bit weights are rounded once, to the nearest. An adapter that is empty
/// changes nothing. Throws Error(shape) naming both shapes, before anything is written. Allocates nothing. Complexity:
/// the weights are read and written once, with n_experts * outputs * inputs * rank products.
template <WeightElement W, Executor E = SerialExecutor>
void merge_lora(const LoraPair<ComputeType<W>>& pair, double scale, const MutableStack<W>& weights,
                const E& executor = {}) {
    using T = ComputeType<W>;
    if (pair.a.empty() && pair.b.empty()) {
        return;
    }
    detail::check_pair("the weights to be merged", pair, weights.n_experts(), weights.outputs(), weights.inputs());
    const std::size_t outputs = weights.outputs();
    const std::size_t products = weights.n_experts() * outputs * weights.inputs() * pair.rank();
    const auto merge_row = [&](std::size_t task, std::size_t) {
        constexpr std::size_t part = 256;
        const std::size_t e = task / outputs;
        const std::size_t o = task % outputs;
        const auto matrix = weights.matrix(e);
        const WeightBlock<T> b = pair.b.block(e, o, 1);
        for (std::size_t first = 0; first < weights.inputs(); first += part) {
            const std::size_t count = (std::min)(part, weights.inputs() - first);
            alignas(buffer_alignment) std::array<T, part> sums{};
            std::array<T, part> row;
            for (std::size_t j = 0; j < pair.rank(); ++j) {
                const WeightBlock<T> a = pair.a.block(e, j, 1);
                for (std::size_t i = 0; i < count; ++i) {
                    row[i] = load_element(a.data + (first + i) * a.input_stride);
                }
                add_scaled(load_element(b.data + j * b.input_stride), row.data(), count, sums.data());
            }
            for (std::size_t i = 0; i < count; ++i) {
                W* const at = matrix.data + o * matrix.output_stride + (first + i) * matrix.input_stride;
                detail::store_rounded(load_element(at) + static_cast<T>(scale) * sums[i], at);
            }
        }
    };
    detail::run_tasks("merge_lora", ExecutorRef(executor), weights.n_experts() * outputs, products, merge_row);
}

}  // namespace moe::inline MOE_ABI
