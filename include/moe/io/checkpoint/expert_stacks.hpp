#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../experts/encoded_bank.hpp"
#include "../../formats/encodings/block_matrix.hpp"
#include "../../model/moe_config.hpp"
#include "encoded_tensors.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// Sizes of some experts, routed or shared.
struct ExpertSizes {
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    bool gated;
};

[[nodiscard]] inline std::string shape_text(std::span<const std::size_t> shape) {
    std::string text;
    for (const std::size_t extent : shape) {
        text.append(text.empty() ? "" : " x ").append(std::to_string(extent));
    }
    return text.empty() ? std::string("a scalar") : text;
}

/// Holds each tensor of a projection against (rows, columns) and the others: Error(shape) naming the tensor and both
/// shapes, Error(layout) for tensors of two types. Biases have one column, which their shape need not have.
inline void confirm_projection(const Projection& projection, const ExpertSizes& sizes, std::size_t rows,
                               std::size_t columns) {
    const StoredTensor& front = *projection.tensors.front();
    for (const StoredTensor* const tensor : projection.tensors) {
        std::vector<std::size_t> wanted{rows};
        if (columns != 1 || tensor->shape.size() > 1) {
            wanted.push_back(columns);
        }
        const bool separate = projection.tensors.size() > 1 || tensor->shape.size() < wanted.size() + 1;
        if (projection.flat) {
            wanted.front() = checked_multiply(sizes.n_experts, rows);
        } else if (columns == 1 && projection.tensors.size() == 1 && sizes.n_experts > 1) {
            wanted = {sizes.n_experts, rows};
        } else if (!separate || (projection.tensors.size() == 1 && sizes.n_experts > 1)) {
            wanted.insert(wanted.begin(), sizes.n_experts);
        }
        bool fits = wanted.size() == tensor->shape.size();
        for (std::size_t i = 0; fits && i < wanted.size(); ++i) {
            fits = wanted[i] == tensor->shape[i];
        }
        ensure(fits, ErrorCode::shape, "checkpoint: tensor ", in_quotes(tensor->name), " is ",
               shape_text(tensor->shape), ", but the configuration says ", shape_text(wanted));
        ensure(tensor->type_name == front.type_name, ErrorCode::layout, "checkpoint: tensor ", in_quotes(tensor->name),
               " holds ", tensor->type_name, ", but ", in_quotes(front.name), " ", front.type_name);
    }
}

/// Where the matrices lie, as numbers of type W. Pointers may have any alignment.
template <WeightElement W>
[[nodiscard]] WeightStack<W> float_stack(const Projection& projection, std::size_t n_experts, std::size_t rows,
                                         std::size_t columns) {
    if (projection.tensors.size() == 1) {
        return stacked(reinterpret_cast<const W*>(projection.tensors.front()->bytes.data()), n_experts, rows, columns);
    }
    std::vector<const W*> experts;
    for (const StoredTensor* const tensor : projection.tensors) {
        experts.push_back(reinterpret_cast<const W*>(tensor->bytes.data()));
    }
    return separate(experts, rows, columns);
}

/// Whether all tensors hold elements of one of the types of WeightStack.
template <WeightElement W>
[[nodiscard]] bool holds(const Projection& projection) {
    constexpr std::string_view name = std::is_same_v<W, float> ? "F32" : std::is_same_v<W, bfloat16> ? "BF16" : "F16";
    for (const StoredTensor* const tensor : projection.tensors) {
        if (tensor->type == nullptr || tensor->type->name != name) {
            return false;
        }
    }
    return true;
}
template <WeightElement W>
[[nodiscard]] bool holds(const StoredExperts& experts) {
    return holds<W>(experts.gate) && holds<W>(experts.up) && holds<W>(experts.gate_up) && holds<W>(experts.down) &&
           holds<W>(experts.gate_bias) && holds<W>(experts.up_bias) && holds<W>(experts.gate_up_bias) &&
           holds<W>(experts.down_bias);
}

/// All tensors as elements of type W, where they lie.
template <WeightElement W>
struct FloatTake {
    using Weights = ExpertWeights<W>;

    [[nodiscard]] WeightStack<W> matrices(const Projection& projection, const ExpertSizes& sizes, std::size_t outputs,
                                          std::size_t inputs, bool input_major) const {
        const std::size_t rows = input_major ? inputs : outputs;
        const std::size_t columns = input_major ? outputs : inputs;
        confirm_projection(projection, sizes, rows, columns);
        const WeightStack<W> stack = float_stack<W>(projection, sizes.n_experts, rows, columns);
        return input_major ? transpose(stack) : stack;
    }
    [[nodiscard]] WeightStack<W> biases(const Projection& projection, const ExpertSizes& sizes,
                                        std::size_t outputs) const {
        confirm_projection(projection, sizes, outputs, 1);
        return float_stack<W>(projection, sizes.n_experts, outputs, 1);
    }
};

/// Matrices of any types where they lie; biases copied to floats.
struct EncodedTake {
    using Weights = EncodedWeights;

    const StoredTensors* files;
    std::vector<std::vector<float>>* copies;

    [[nodiscard]] EncodedStack matrices(const Projection& projection, const ExpertSizes& sizes, std::size_t outputs,
                                        std::size_t inputs, bool input_major) const {
        if (holds<float>(projection)) {
            return FloatTake<float>{}.matrices(projection, sizes, outputs, inputs, input_major);
        }
        if (holds<bfloat16>(projection)) {
            return FloatTake<bfloat16>{}.matrices(projection, sizes, outputs, inputs, input_major);
        }
        if (holds<float16>(projection)) {
            return FloatTake<float16>{}.matrices(projection, sizes, outputs, inputs, input_major);
        }
        const StoredTensor& front = *projection.tensors.front();
        ensure(!input_major, ErrorCode::layout, "checkpoint: tensor ", in_quotes(front.name), " of ", front.type_name,
               " is stored (input, output), which codes cannot be");
        if (!files->shards()) {
            for (const StoredTensor* const tensor : projection.tensors) {
                ensure(tensor->type_name == front.type_name &&
                           EncodedTensors::base_of(tensor->name).second == EncodedTensors::base_of(front.name).second,
                       ErrorCode::layout, "checkpoint: tensor ", in_quotes(tensor->name), " holds ", tensor->type_name,
                       ", but ", in_quotes(front.name), " ", front.type_name);
            }
            return EncodedTensors(*files, projection, sizes.n_experts, outputs, inputs).stack();
        }
        confirm_projection(projection, sizes, outputs, inputs);
        ensure(front.type != nullptr && front.type->decode != nullptr, ErrorCode::unknown_type, "checkpoint: tensor ",
               in_quotes(front.name), " holds ", front.type_name, ", an encoding that is not read here");
        if (projection.tensors.size() == 1) {
            return EncodedStack(encodings::block_matrices(*front.type, front.bytes, sizes.n_experts, outputs, inputs));
        }
        std::vector<encodings::BlockMatrix> experts;
        for (const StoredTensor* const tensor : projection.tensors) {
            experts.emplace_back(*tensor->type, tensor->bytes, outputs, inputs);
        }
        return EncodedStack(std::move(experts));
    }
    [[nodiscard]] WeightStack<float> biases(const Projection& projection, const ExpertSizes& sizes,
                                            std::size_t outputs) const {
        confirm_projection(projection, sizes, outputs, 1);
        std::vector<float>& values = copies->emplace_back();
        for (const StoredTensor* const tensor : projection.tensors) {
            const std::vector<float> part = tensor->to_floats();
            values.insert(values.end(), part.begin(), part.end());
        }
        return stacked(static_cast<const float*>(values.data()), sizes.n_experts, outputs, 1);
    }
};

/// Gate and up of a joined stack, one behind the other or in turns, which blocks are not.
template <class Stack>
[[nodiscard]] auto halves_of(const Stack& joined, bool in_turns) {
    if constexpr (requires { interleaved(joined); }) {
        return in_turns ? interleaved(joined) : concatenated(joined);
    } else {
        return concatenated(joined);
    }
}

/// The weights of a bank out of the tensors of a checkpoint.
template <class Take>
[[nodiscard]] typename Take::Weights experts_of(const StoredExperts& stored, const ExpertSizes& sizes,
                                                const Take& take) {
    const auto [n, d_model, d_ff, gated] = sizes;
    const StorageOrder& order = stored.storage;
    const std::size_t both = checked_multiply(2, d_ff);
    const bool apart = order.gate_up == JoinedAs::interleaved;
    typename Take::Weights weights;
    if (!stored.gate_up.empty()) {
        const auto joined = take.matrices(stored.gate_up, sizes, both, d_model, order.up_input_major);
        auto halves = moe::detail::halves_of(joined, apart);
        weights.gate = std::move(halves.gate);
        weights.up = std::move(halves.up);
    } else {
        if (gated) {
            weights.gate = take.matrices(stored.gate, sizes, d_ff, d_model, order.up_input_major);
        }
        weights.up = take.matrices(stored.up, sizes, d_ff, d_model, order.up_input_major);
    }
    weights.down = take.matrices(stored.down, sizes, d_model, d_ff, order.down_input_major);
    if (!stored.gate_up_bias.empty()) {
        const auto joined = take.biases(stored.gate_up_bias, sizes, both);
        auto halves = apart ? interleaved(joined) : concatenated(joined);
        weights.gate_bias = std::move(halves.gate);
        weights.up_bias = std::move(halves.up);
    } else if (!stored.up_bias.empty()) {
        if (gated) {
            weights.gate_bias = take.biases(stored.gate_bias, sizes, d_ff);
        }
        weights.up_bias = take.biases(stored.up_bias, sizes, d_ff);
    }
    if (!stored.down_bias.empty()) {
        weights.down_bias = take.biases(stored.down_bias, sizes, d_model);
    }
    return weights;
}

/// How the tensors are stored, told by their shapes: what is known of the published file first, then of the memory of
/// transformers, which is what it saves, then any order that fits. Where none does, the first is what an error shows.
[[nodiscard]] inline StorageOrder storage_of(const StoredExperts& stored, const MoEConfig& config) {
    if (stored.gate_up.empty()) {
        return stored.up.flat ? config.published.experts : StorageOrder{};
    }
    const auto fits = [&](const Projection& projection, std::size_t outputs, std::size_t inputs, bool input_major) {
        const StoredTensor& tensor = *projection.tensors.front();
        return tensor.from_end(0) == (input_major ? outputs : inputs) &&
               tensor.from_end(1) == (input_major ? inputs : outputs);
    };
    std::vector<StorageOrder> orders;
    for (const StorageOrder& order : {config.published.experts, config.storage}) {
        if (order.gate_up != JoinedAs::separate) {
            orders.push_back(order);
        }
    }
    const JoinedAs joined = orders.empty() ? JoinedAs::concatenated : orders.front().gate_up;
    for (const bool up : {false, true}) {
        for (const bool down : {up, !up}) {
            orders.push_back({joined, up, down});
        }
    }
    if (stored.gate_up.tensors.front()->name.ends_with("_blocks")) {
        return {joined, false, false};  // codes run along the inputs
    }
    for (const StorageOrder& order : orders) {
        if (fits(stored.gate_up, 2 * config.d_ff, config.d_model, order.up_input_major) &&
            fits(stored.down, config.d_model, config.d_ff, order.down_input_major)) {
            return order;
        }
    }
    return orders.front();
}

}  // namespace moe::inline MOE_ABI::detail
