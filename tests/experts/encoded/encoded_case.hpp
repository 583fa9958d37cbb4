#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "moe/experts/encoded_bank.hpp"
#include "moe/formats/encodings/block_matrix.hpp"
#include "support/layer_cases.hpp"

/// Banks of experts in block formats, and what they are when decoded.
namespace moe_test {

/// Random codes with scales whose weights are near 1, so that layers stay finite.
inline std::vector<std::byte> random_encoded_blocks(Draw& draw, const moe::BlockType& type, std::size_t n_blocks) {
    // where the blocks have their binary16 scales and minima
    static const std::map<std::string_view, std::vector<std::size_t>> scales{
        {"F32", {}},      {"F16", {0}},    {"BF16", {}},       {"Q4_0", {0}},   {"Q4_1", {0, 2}}, {"Q5_0", {0}},
        {"Q5_1", {0, 2}}, {"Q8_0", {0}},   {"Q2_K", {80, 82}}, {"Q3_K", {108}}, {"Q4_K", {0, 2}}, {"Q5_K", {0, 2}},
        {"Q6_K", {208}},  {"IQ4_NL", {0}}, {"IQ4_XS", {0}},    {"MXFP4", {}},   {"NVFP4", {}}};
    std::vector<std::byte> blocks(n_blocks * type.block_bytes);
    for (std::byte& byte : blocks) {
        byte = static_cast<std::byte>(draw.size(0, 255));
    }
    const auto put = [&](std::size_t at, const auto& value) { std::memcpy(&blocks[at], &value, sizeof value); };
    for (std::size_t b = 0; b < n_blocks; ++b) {
        const std::size_t at = b * type.block_bytes;
        for (const std::size_t offset : scales.at(type.name)) {
            put(at + offset, moe::to_float16(draw.value() / 16));
        }
        if (type.name == "F32") {
            put(at, draw.value());
        } else if (type.name == "BF16") {
            put(at, moe::to_bfloat16(draw.value()));
        } else if (type.name == "MXFP4") {
            put(at, static_cast<std::uint8_t>(draw.size(120, 125)));
        } else if (type.name == "NVFP4") {
            for (std::size_t i = 0; i < 4; ++i) {
                put(at + i, static_cast<std::uint8_t>(draw.size(1, 0x40)));
            }
        }
    }
    return blocks;
}

/// One matrix an expert in a block type, flush with the end of its memory, and its values.
struct BlockStack {
    std::vector<std::byte> memory;  ///< one byte, then the blocks: at an odd address
    std::vector<float> values;
    moe::EncodedStack stack;

    BlockStack() = default;
    BlockStack(Draw& draw, const moe::BlockType& type, std::size_t n_experts, std::size_t outputs, std::size_t inputs) {
        const std::size_t n_blocks = n_experts * outputs * inputs / type.block_values;
        memory = random_encoded_blocks(draw, type, n_blocks);
        values.resize(n_experts * outputs * inputs);
        moe::decode_blocks(type, memory, values);
        memory.insert(memory.begin(), std::byte{0xA5});
        stack = moe::EncodedStack(
            moe::encodings::block_matrices(type, std::span(memory).subspan(1), n_experts, outputs, inputs));
    }
    BlockStack(BlockStack&&) = default;
    BlockStack& operator=(BlockStack&&) = default;
};

/// The types whose rows are the inputs of the gate, up and down projections.
struct BlockTypes {
    std::string_view gate;
    std::string_view up;
    std::string_view down;
};

/// A bank over blocks and one over the floats they are.
struct EncodedCase {
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    moe::AnyForm form;
    BlockStack gate, up, down;
    std::vector<float> gate_bias, up_bias, down_bias;

    EncodedCase(Draw& draw, const BlockTypes& types, const moe::AnyForm& the_form, std::size_t experts,
                std::size_t model, std::size_t ff, bool biases)
        : n_experts(experts), d_model(model), d_ff(ff), form(the_form) {
        const auto blocks = [&](std::string_view type, std::size_t outputs, std::size_t inputs) {
            return BlockStack(draw, *moe::find_block_type(type), experts, outputs, inputs);
        };
        if (form.gated()) {
            gate = blocks(types.gate, ff, model);
        }
        up = blocks(types.up, ff, model);
        down = blocks(types.down, model, ff);
        if (biases) {
            gate_bias = random_elements<float>(draw, form.gated() ? experts * ff : 0, 0.5);
            up_bias = random_elements<float>(draw, experts * ff, 0.5);
            down_bias = random_elements<float>(draw, experts * model, 0.5);
        }
    }

    [[nodiscard]] moe::EncodedWeights encoded() const {
        return {gate.stack,
                up.stack,
                down.stack,
                stack(gate_bias, d_ff, 1),
                stack(up_bias, d_ff, 1),
                stack(down_bias, d_model, 1)};
    }
    [[nodiscard]] moe::ExpertWeights<float> decoded() const {
        return {stack(gate.values, d_ff, d_model), stack(up.values, d_ff, d_model), stack(down.values, d_model, d_ff),
                stack(gate_bias, d_ff, 1),         stack(up_bias, d_ff, 1),         stack(down_bias, d_model, 1)};
    }
    [[nodiscard]] moe::EncodedBank<moe::AnyForm> bank() const { return {form, encoded()}; }
    [[nodiscard]] moe::ExpertBank<float, moe::AnyForm> floats() const { return {form, decoded()}; }

private:
    [[nodiscard]] moe::WeightStack<float> stack(const std::vector<float>& data, std::size_t rows,
                                                std::size_t cols) const {
        return data.empty() ? moe::WeightStack<float>() : moe::stacked(data.data(), n_experts, rows, cols);
    }
};

}  // namespace moe_test
