#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "../../experts/packed_blocks.hpp"
#include "expert_stacks.hpp"

namespace moe::inline MOE_ABI::detail {

/// Matrices of a GGUF file as blocks, to be packed number for number; `lists` holds what the stacks refer to.
struct BlockTake {
    using Weights = BlockWeights;

    std::vector<std::vector<float>>* copies;
    std::deque<std::vector<const std::byte*>>* lists;

    [[nodiscard]] BlockStack matrices(const Projection& projection, const ExpertSizes& sizes, std::size_t outputs,
                                      std::size_t inputs, bool /*input_major*/) const {
        confirm_projection(projection, sizes, outputs, inputs);
        const StoredTensor& front = *projection.tensors.front();
        ensure(front.type != nullptr && front.type->decode != nullptr, ErrorCode::unknown_type, "checkpoint: tensor ",
               in_quotes(front.name), " holds ", front.type_name, ", an encoding that is not read here");
        if (projection.tensors.size() == 1) {
            return {*front.type, sizes.n_experts, outputs, inputs, front.bytes};
        }
        std::vector<const std::byte*>& experts = lists->emplace_back();
        for (const StoredTensor* const tensor : projection.tensors) {
            experts.push_back(tensor->bytes.data());
        }
        return {*front.type, experts, outputs, inputs};
    }
    [[nodiscard]] WeightStack<float> biases(const Projection& projection, const ExpertSizes& sizes,
                                            std::size_t outputs) const {
        return EncodedTake{nullptr, copies}.biases(projection, sizes, outputs);
    }
};

/// MXFP4 of a safetensors folder as the blocks that ggml has of it: the same codes in ggml's order behind their power
/// of two, in `memory`. Of a tensor with gate and up in turns first all of gate, then all of up.
struct Mxfp4Take {
    using Weights = BlockWeights;

    const StoredTensors* files;
    const Projection* in_turns;  ///< null: none
    std::vector<std::vector<float>>* copies;
    std::deque<std::vector<std::byte>>* memory;

    [[nodiscard]] BlockStack matrices(const Projection& projection, const ExpertSizes& sizes, std::size_t outputs,
                                      std::size_t inputs, bool /*input_major*/) const {
        constexpr std::size_t values = blocks::MXFP4::block_values;
        constexpr std::size_t bytes = blocks::MXFP4::block_bytes;
        (void)EncodedTensors(*files, projection, sizes.n_experts, outputs, inputs).stack();  // sizes and scales
        const StoredTensor& codes = *projection.tensors.front();
        const std::span<const std::byte> scales = EncodedTensors::beside(*files, codes).front()->bytes;
        const std::size_t row_blocks = inputs / values;
        std::vector<std::byte>& all = memory->emplace_back(sizes.n_experts * outputs * row_blocks * bytes);
        std::byte* target = all.data();
        for (std::size_t row = 0; row < sizes.n_experts * outputs; ++row) {
            const std::size_t from = &projection == in_turns ? row_in_turns(row, outputs) : row;
            for (std::size_t b = from * row_blocks; b < (from + 1) * row_blocks; ++b, target += bytes) {
                put_block(codes.bytes.subspan(b * values / 2, values / 2), scales[b], target);
            }
        }
        return {*moe::find_block_type(blocks::MXFP4::ggml_type), sizes.n_experts, outputs, inputs,
                std::span<const std::byte>(all)};
    }
    [[nodiscard]] WeightStack<float> biases(const Projection& projection, const ExpertSizes& sizes,
                                            std::size_t outputs) const {
        return EncodedTake{nullptr, copies}.biases(projection, sizes, outputs);
    }

    /// Whether all matrices are such tensors.
    [[nodiscard]] static bool takes(const StoredExperts& experts) {
        const auto fits = [](const Projection& projection) {
            return projection.empty() || projection.tensors.front()->name.ends_with("_blocks");
        };
        return !experts.down.empty() && fits(experts.gate) && fits(experts.up) && fits(experts.gate_up) &&
               fits(experts.down);
    }

private:
    /// Where row `row` of (expert, gate rows, up rows) stands among (expert, gate row, up row, gate row, ...).
    [[nodiscard]] static std::size_t row_in_turns(std::size_t row, std::size_t outputs) noexcept {
        const std::size_t half = outputs / 2;
        const std::size_t output = row % outputs;
        return row - output + output % half * 2 + output / half;
    }

    /// Inputs 2 j and 2 j + 1 share a byte here, j and j + 16 there.
    static void put_block(std::span<const std::byte> codes, std::byte scale, std::byte* target) noexcept {
        const auto code = [&](std::size_t i) { return (codes[i / 2] >> (4 * (i % 2))) & std::byte{0x0F}; };
        *target = scale;
        for (std::size_t j = 0; j < codes.size(); ++j) {
            target[1 + j] = code(j) | code(j + codes.size()) << 4;
        }
    }
};

}  // namespace moe::inline MOE_ABI::detail
