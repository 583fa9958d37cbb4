#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/borrowed.hpp"
#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../formats/block_type.hpp"

namespace moe::inline MOE_ABI {

/// One matrix an expert in a block format, as GGUF files have them: output after output a row of whole blocks, at any
/// alignment. A view.
class BlockStack {
public:
    BlockStack() = default;

    /// Expert after expert in one piece of memory of `n_experts * outputs` rows. Throws Error(unknown_type) for a type
    /// that cannot be decoded, Error(range) for a size of 0, Error(shape) where `inputs` is no multiple of a block or
    /// the memory has another size, Error(null_pointer), Error(overflow).
    BlockStack(const BlockType& type, std::size_t n_experts, std::size_t outputs, std::size_t inputs,
               Borrowed<const std::byte> data)
        : BlockStack(type, n_experts, outputs, inputs) {
        const std::size_t bytes = checked_multiply(n_experts, checked_multiply(outputs, row_bytes()));
        ensure(data.size() == bytes, ErrorCode::shape, "BlockStack: ", n_experts, " x ", outputs, " x ", inputs, " of ",
               type.name, " are ", bytes, " bytes, ", data.size(), " were given");
        data_ = data.data();
        expert_bytes_ = outputs * row_bytes();
    }

    /// The experts apart: a pointer to the first row of each. The list must outlive this.
    BlockStack(const BlockType& type, Borrowed<const std::byte* const> experts, std::size_t outputs, std::size_t inputs)
        : BlockStack(type, experts.size(), outputs, inputs) {
        for (std::size_t e = 0; e < experts.size(); ++e) {
            ensure(experts[e] != nullptr, ErrorCode::null_pointer, "BlockStack: the rows of expert ", e, " are null");
        }
        separate_ = experts.data();
    }

    /// Outputs [first, first + count) of every expert: a half of gate and up in one tensor. Throws Error(range).
    [[nodiscard]] BlockStack rows(std::size_t first, std::size_t count) const {
        ensure(count > 0 && first <= outputs_ && count <= outputs_ - first, ErrorCode::range, "BlockStack: rows ",
               first, " and ", count, " more are not among ", outputs_);
        BlockStack result = *this;
        result.first_ += first;
        result.outputs_ = count;
        return result;
    }

    [[nodiscard]] bool empty() const noexcept { return n_experts_ == 0; }
    [[nodiscard]] const BlockType& type() const noexcept { return type_; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t row_blocks() const noexcept { return inputs_ / type_.block_values; }
    [[nodiscard]] std::size_t row_bytes() const noexcept { return row_blocks() * type_.block_bytes; }
    [[nodiscard]] const std::byte* row(std::size_t e, std::size_t output) const noexcept {
        const std::byte* const expert = separate_ != nullptr ? separate_[e] : data_ + e * expert_bytes_;
        return expert + (first_ + output) * row_bytes();
    }

private:
    BlockStack(const BlockType& type, std::size_t n_experts, std::size_t outputs, std::size_t inputs)
        : type_(type), n_experts_(n_experts), outputs_(outputs), inputs_(inputs) {
        ensure(type.decode != nullptr, ErrorCode::unknown_type, "BlockStack: ", type.name,
               " is a type this library cannot decode");
        ensure(n_experts > 0 && outputs > 0 && inputs > 0, ErrorCode::range, "BlockStack: ", n_experts, " x ", outputs,
               " x ", inputs, " has a size of 0");
        ensure(inputs % type.block_values == 0, ErrorCode::shape, "BlockStack: ", inputs,
               " inputs are no whole blocks of ", type.name, ", which has ", type.block_values);
    }

    BlockType type_{};
    std::size_t n_experts_ = 0;
    std::size_t outputs_ = 0;
    std::size_t inputs_ = 0;
    const std::byte* data_ = nullptr;
    std::size_t expert_bytes_ = 0;
    const std::byte* const* separate_ = nullptr;
    std::size_t first_ = 0;  ///< output
};

/// The two input projections of a gated expert, each its own stack over the memory of both.
struct BlockGateUp {
    BlockStack gate;
    BlockStack up;
};

/// Gate and up in one matrix of 2 * d_ff outputs: first all of gate, then all of up. Throws Error(shape).
[[nodiscard]] inline BlockGateUp concatenated(const BlockStack& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "concatenated: ", stack.outputs(),
           " outputs cannot be a gate half and an up half");
    const std::size_t half = stack.outputs() / 2;
    return {stack.rows(0, half), stack.rows(half, half)};
}

}  // namespace moe::inline MOE_ABI
