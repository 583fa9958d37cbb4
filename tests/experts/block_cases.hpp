#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "moe/experts/packed_blocks.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"

namespace moe_test {

/// Where a block has its binary16 numbers.
inline std::vector<std::size_t> halves_of(std::string_view name) {
    if (name == "Q8_0" || name == "Q4_0" || name == "Q5_0" || name == "IQ4_NL" || name == "IQ4_XS") {
        return {0};
    }
    if (name == "Q4_1" || name == "Q5_1" || name == "Q4_K" || name == "Q5_K") {
        return {0, 2};
    }
    return name == "Q6_K"   ? std::vector<std::size_t>{208}
           : name == "Q3_K" ? std::vector<std::size_t>{108}
           : name == "Q2_K" ? std::vector<std::size_t>{80, 82}
                            : std::vector<std::size_t>{};
}

/// All types that have panels of their own, and three of floats.
inline const std::vector<std::string>& block_names() {
    static const std::vector<std::string> names{"Q8_0",  "Q4_0",  "Q5_0", "Q4_1", "Q5_1",   "Q4_K",
                                                "Q5_K",  "Q6_K",  "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS",
                                                "MXFP4", "NVFP4", "F16",  "BF16", "F32"};
    return names;
}

inline const moe::BlockType& block_type(std::string_view name) {
    const moe::BlockType* const type = moe::find_block_type(name);
    REQUIRE(type != nullptr);
    return *type;
}

/// Blocks of any codes and group scales, whose weights are of magnitude 1 or less: positive and negative scales.
inline std::vector<std::byte> random_blocks(Draw& draw, const moe::BlockType& type, std::size_t n_blocks) {
    std::vector<std::byte> blocks(n_blocks * type.block_bytes);
    if (type.block_values == 1) {
        for (std::size_t b = 0; b < n_blocks; ++b) {
            const float value = draw.value();
            if (type.name == "F32") {
                std::memcpy(&blocks[b * 4], &value, 4);
            } else if (type.name == "F16") {
                const auto half = moe::to_float16(value);
                std::memcpy(&blocks[b * 2], &half, 2);
            } else {
                const auto half = moe::to_bfloat16(value);
                std::memcpy(&blocks[b * 2], &half, 2);
            }
        }
        return blocks;
    }
    for (std::byte& byte : blocks) {
        byte = static_cast<std::byte>(draw.size(0, 255));
    }
    for (std::size_t b = 0; b < n_blocks; ++b) {
        std::byte* const block = &blocks[b * type.block_bytes];
        for (const std::size_t at : halves_of(type.name)) {
            const auto half = moe::to_float16(draw.value() * (type.block_values == 256 ? 0x1p-12F : 0x1p-7F));
            std::memcpy(block + at, &half, sizeof half);
        }
        if (type.name == "MXFP4") {
            block[0] = static_cast<std::byte>(draw.size(115, 126));
        }
    }
    return blocks;
}

inline std::vector<float> decoded_blocks(const moe::BlockType& type, const std::vector<std::byte>& blocks) {
    std::vector<float> values(blocks.size() / type.block_bytes * type.block_values);
    moe::decode_blocks(type, blocks, values);
    return values;
}

/// Experts in block formats, and the same as floats.
struct BlockBank {
    BlockBank(Draw& draw, const std::string& gate, const std::string& up, const std::string& down, std::size_t n,
              std::size_t ff, std::size_t model)
        : n_experts(n), d_ff(ff), d_model(model) {
        const auto matrix = [&](const std::string& name, std::size_t outputs, std::size_t inputs,
                                std::vector<std::byte>& memory, std::vector<float>& numbers) {
            const moe::BlockType& type = block_type(name);
            memory = random_blocks(draw, type, n * outputs * inputs / type.block_values);
            numbers = decoded_blocks(type, memory);
            return moe::BlockStack(type, n, outputs, inputs, memory);
        };
        if (!gate.empty()) {
            blocks.gate = matrix(gate, d_ff, d_model, bytes[0], values[0]);
            floats.gate = moe::stacked(values[0].data(), n, d_ff, d_model);
        }
        blocks.up = matrix(up, d_ff, d_model, bytes[1], values[1]);
        floats.up = moe::stacked(values[1].data(), n, d_ff, d_model);
        blocks.down = matrix(down, d_model, d_ff, bytes[2], values[2]);
        floats.down = moe::stacked(values[2].data(), n, d_model, d_ff);
    }
    BlockBank(const BlockBank&) = delete;
    BlockBank& operator=(const BlockBank&) = delete;

    std::size_t n_experts;
    std::size_t d_ff;
    std::size_t d_model;
    std::vector<std::byte> bytes[3];
    std::vector<float> values[3];
    moe::BlockWeights blocks;
    moe::ExpertWeights<float> floats;
};

}  // namespace moe_test
