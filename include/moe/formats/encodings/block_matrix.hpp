#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "../block_type.hpp"
#include "encoding.hpp"

namespace moe::inline MOE_ABI::encodings {

/// A tensor of a GGUF file as a matrix: rows of blocks, one row behind the other.
class BlockMatrix {
public:
    /// Throws Error(unknown_type) if this library cannot decode the type, Error(shape) naming both unless a row is a
    /// whole number of blocks and `blocks` has the bytes of `outputs` rows.
    BlockMatrix(const BlockType& type, std::span<const std::byte> blocks, std::size_t outputs, std::size_t inputs)
        : type_(&type), blocks_(blocks), outputs_(outputs), inputs_(inputs) {
        ensure(type.decode != nullptr, ErrorCode::unknown_type, "BlockMatrix: ", type.name,
               " is a type this library cannot decode");
        ensure(type.block_values <= max_block, ErrorCode::range, "BlockMatrix: blocks of ", type.block_values,
               " values, at most ", max_block, " are expected");
        ensure(outputs > 0 && inputs > 0 && inputs % type.block_values == 0, ErrorCode::shape, "BlockMatrix: ", outputs,
               " x ", inputs, " of ", type.name, ": a row is one or more blocks of ", type.block_values);
        row_bytes_ = checked_multiply(inputs / type.block_values, type.block_bytes);
        ensure(blocks.size() == checked_multiply(outputs, row_bytes_), ErrorCode::shape, "BlockMatrix: ", blocks.size(),
               " bytes are not ", outputs, " x ", inputs, " of ", type.name, ", which are ", outputs, " rows of ",
               row_bytes_);
    }

    [[nodiscard]] std::string_view encoding() const noexcept { return type_->name; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    /// The bits of the type's decoder. Blocks that begin or end outside of [first, first + n) are decoded whole, into a
    /// buffer.
    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::size_t size = type_->block_values;
        const std::byte* block = blocks_.data() + output * row_bytes_ + first / size * type_->block_bytes;
        std::size_t skipped = first % size;
        while (n > 0) {
            std::size_t count = n / size * size;
            std::size_t n_blocks = n / size;
            if (skipped > 0 || count == 0) {
                std::array<float, max_block> whole;
                type_->decode(block, whole.data(), 1);
                count = (std::min)(size - skipped, n);
                n_blocks = 1;
                std::copy_n(whole.data() + skipped, count, values);
                skipped = 0;
            } else {
                type_->decode(block, values, n_blocks);
            }
            block += n_blocks * type_->block_bytes;
            values += count;
            n -= count;
        }
    }

    /// All outputs where they lie, for products that need no floats in memory.
    [[nodiscard]] BlockRows rows() const noexcept { return {type_, blocks_.data(), row_bytes_}; }

    [[nodiscard]] bool overlaps(const ByteView& memory) const { return moe::overlaps(memory, bytes_of(blocks_)); }

private:
    static constexpr std::size_t max_block = 256;

    const BlockType* type_;
    std::span<const std::byte> blocks_;
    std::size_t outputs_;
    std::size_t inputs_;
    std::size_t row_bytes_ = 0;
};

static_assert(WeightEncoding<BlockMatrix>);

/// A tensor of one matrix an expert, one behind the other. Throws what BlockMatrix does, Error(shape) unless `blocks`
/// can be cut into so many.
[[nodiscard]] inline std::vector<BlockMatrix> block_matrices(const BlockType& type, std::span<const std::byte> blocks,
                                                             std::size_t n_experts, std::size_t outputs,
                                                             std::size_t inputs) {
    ensure(n_experts > 0 && blocks.size() % n_experts == 0, ErrorCode::shape, "block_matrices: ", blocks.size(),
           " bytes are not those of ", n_experts, " experts");
    const std::size_t bytes = blocks.size() / n_experts;
    std::vector<BlockMatrix> experts;
    experts.reserve((std::min)(n_experts, blocks.size() + 1));
    for (std::size_t e = 0; e < n_experts; ++e) {
        experts.emplace_back(type, blocks.subspan(e * bytes, bytes), outputs, inputs);
    }
    return experts;
}

}  // namespace moe::inline MOE_ABI::encodings
