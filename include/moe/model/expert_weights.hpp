#pragma once

#include <cstddef>
#include <utility>

#include "../experts/expert_bank.hpp"
#include "moe_config.hpp"

namespace moe::inline MOE_ABI {

/// Experts as somebody stores them, each tensor with the shape it has there: `stacked(data, n_experts, rows, columns)`
/// where it is one tensor, `separate(pointers, rows, columns)` where each expert has one of its own. The storage order
/// of a configuration says which of them there are. Shapes below are those of weights stored (output, input); where it
/// says input-major, rows and columns change places. Biases are stacks with one column.
template <WeightElement W>
struct StackedExperts {
    WeightStack<W> gate{};          ///< (n_experts, d_ff, d_model), where stored apart from up
    WeightStack<W> up{};            ///< the same
    WeightStack<W> gate_up{};       ///< (n_experts, 2 d_ff, d_model), where joined
    WeightStack<W> down{};          ///< (n_experts, d_model, d_ff)
    WeightStack<W> gate_bias{};     ///< (n_experts, d_ff, 1), where gate is stored apart
    WeightStack<W> up_bias{};       ///< the same
    WeightStack<W> gate_up_bias{};  ///< (n_experts, 2 d_ff, 1), ordered as gate_up is
    WeightStack<W> down_bias{};     ///< (n_experts, d_model, 1)
};

namespace detail {

/// What a configuration says of some experts, routed or shared.
struct ExpertsDescribed {
    const char* caller;  ///< who is named in errors
    const char* name;
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    bool gated;
    bool bias;
    StorageOrder storage;
};

/// `stack`, which is there exactly if `wanted`, read as (outputs, inputs). Throws Error naming what is missing, what
/// would be ignored, and both shapes where they differ.
template <WeightElement W>
[[nodiscard]] WeightStack<W> take_tensor(const ExpertsDescribed& experts, const char* what, const WeightStack<W>& stack,
                                         bool wanted, std::size_t outputs, std::size_t inputs, bool input_major) {
    ensure(!stack.empty() || !wanted, ErrorCode::missing, experts.caller, ": ", experts.name, " needs ", what,
           ", which is missing");
    ensure(stack.empty() || wanted, ErrorCode::missing, experts.caller, ": ", experts.name, " has no ", what,
           " as storage, form and biases say, but one was given");
    if (!wanted) {
        return {};
    }
    const std::size_t rows = input_major ? inputs : outputs;
    const std::size_t columns = input_major ? outputs : inputs;
    const bool fits = stack.n_experts() == experts.n_experts;
    ensure(fits && stack.outputs() == rows && stack.inputs() == columns, ErrorCode::shape, experts.caller, ": ", what,
           " is ", stack.n_experts(), " x ", stack.outputs(), " x ", stack.inputs(), ", but ", experts.name,
           " has it stored as ", experts.n_experts, " x ", rows, " x ", columns,
           fits && stack.outputs() == columns && stack.inputs() == rows
               ? "; rows and columns would fit exchanged: is it another storage order, in_published_file() perhaps?"
               : "");
    return input_major ? transpose(stack) : stack;
}

template <WeightElement W>
[[nodiscard]] ExpertWeights<W> take_tensors(const ExpertsDescribed& experts, const StackedExperts<W>& tensors) {
    const StorageOrder& storage = experts.storage;
    const bool joined = storage.gate_up != JoinedAs::separate;
    const bool bias = experts.bias;
    const std::size_t d_ff = experts.d_ff;
    const std::size_t both = checked_multiply(2, d_ff);
    const auto take = [&](const char* what, const WeightStack<W>& stack, bool wanted, std::size_t outputs,
                          std::size_t inputs, bool input_major = false) {
        return take_tensor(experts, what, stack, wanted, outputs, inputs, input_major);
    };
    const auto split = [&](const WeightStack<W>& stack) {
        return storage.gate_up == JoinedAs::interleaved ? interleaved(stack) : concatenated(stack);
    };
    const bool apart = !joined && experts.gated;
    ExpertWeights<W> weights;
    weights.gate = take("gate", tensors.gate, apart, d_ff, experts.d_model, storage.up_input_major);
    weights.up = take("up", tensors.up, !joined, d_ff, experts.d_model, storage.up_input_major);
    weights.down = take("down", tensors.down, true, experts.d_model, d_ff, storage.down_input_major);
    weights.gate_bias = take("gate_bias", tensors.gate_bias, bias && apart, d_ff, 1);
    weights.up_bias = take("up_bias", tensors.up_bias, bias && !joined, d_ff, 1);
    weights.down_bias = take("down_bias", tensors.down_bias, bias, experts.d_model, 1);
    const WeightStack<W> gate_up =
        take("gate_up", tensors.gate_up, joined, both, experts.d_model, storage.up_input_major);
    const WeightStack<W> gate_up_bias = take("gate_up_bias", tensors.gate_up_bias, bias && joined, both, 1);
    if (joined) {
        GateUp<W> halves = split(gate_up);
        weights.gate = std::move(halves.gate);
        weights.up = std::move(halves.up);
    }
    if (joined && bias) {
        GateUp<W> halves = split(gate_up_bias);
        weights.gate_bias = std::move(halves.gate);
        weights.up_bias = std::move(halves.up);
    }
    return weights;
}

}  // namespace detail

/// The matrices of the routed experts out of tensors stored as MoEConfig::storage says. Throws what
/// MoEConfig::validate throws, Error(missing) naming a tensor that is needed or would be ignored, Error(shape) naming
/// one that is stored in another shape, with both.
template <WeightElement W>
[[nodiscard]] ExpertWeights<W> expert_weights(const MoEConfig& config, const StackedExperts<W>& tensors) {
    config.validate();
    return detail::take_tensors({"expert_weights", config.name.c_str(), config.n_experts, config.d_model, config.d_ff,
                                 config.form.gated(), config.expert_bias, config.storage},
                                tensors);
}

/// The same for the shared expert, stored as MoEConfig::shared_storage says: stacks of one matrix. Throws
/// Error(missing) too where the configuration has no shared expert.
template <WeightElement W>
[[nodiscard]] ExpertWeights<W> shared_weights(const MoEConfig& config, const StackedExperts<W>& tensors) {
    config.validate();
    ensure(config.shared_d_ff > 0, ErrorCode::missing, "shared_weights: ", config.name.c_str(),
           " has no shared expert: its shared_d_ff is 0");
    return detail::take_tensors({"shared_weights", config.name.c_str(), 1, config.d_model, config.shared_d_ff,
                                 config.form_of_shared().gated(), config.shared_bias, config.shared_storage},
                                tensors);
}

}  // namespace moe::inline MOE_ABI
