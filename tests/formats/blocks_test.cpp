#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "moe/formats/block_type.hpp"
#include "moe/formats/blocks/archetype.hpp"
#include "moe/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::blocks_test {

namespace {

using moe::ErrorCode;

/// The first value whose bits differ, a NaN being as good as any other; empty if there is none.
std::string first_difference(const std::vector<float>& values, const std::vector<float>& expected) {
    if (values.size() != expected.size() || values.empty()) {
        return std::to_string(values.size()) + " values instead of " + std::to_string(expected.size());
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        const bool both_nan = std::isnan(values[i]) && std::isnan(expected[i]);
        if (!both_nan && std::bit_cast<std::uint32_t>(values[i]) != std::bit_cast<std::uint32_t>(expected[i])) {
            return "value " + std::to_string(i) + " is " + std::to_string(values[i]) + " instead of " +
                   std::to_string(expected[i]);
        }
    }
    return {};
}

std::vector<float> decoded(const moe::BlockType& type, const std::vector<std::byte>& blocks) {
    std::vector<float> values(blocks.size() / type.block_bytes * type.block_values);
    moe::decode_blocks(type, blocks, values);
    return values;
}

struct GoldenFormat {
    std::string file;
    std::string name;
};

const std::array<GoldenFormat, 16> golden_formats{{{"q4_0", "Q4_0"},
                                                   {"q4_1", "Q4_1"},
                                                   {"q5_0", "Q5_0"},
                                                   {"q5_1", "Q5_1"},
                                                   {"q8_0", "Q8_0"},
                                                   {"q2_k", "Q2_K"},
                                                   {"q3_k", "Q3_K"},
                                                   {"q4_k", "Q4_K"},
                                                   {"q5_k", "Q5_K"},
                                                   {"q6_k", "Q6_K"},
                                                   {"iq4_nl", "IQ4_NL"},
                                                   {"iq4_xs", "IQ4_XS"},
                                                   {"mxfp4", "MXFP4"},
                                                   {"nvfp4", "NVFP4"},
                                                   {"bf16", "BF16"},
                                                   {"f16", "F16"}}};

}  // namespace

TEST_CASE("every format decodes to the bits that ggml has", "[formats]") {
    for (const GoldenFormat& golden : golden_formats) {
        INFO(golden.name);
        const auto file = moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/formats/" +
                                                     golden.file + ".safetensors");
        const moe::BlockType* const type = moe::find_block_type(golden.name);
        REQUIRE(type != nullptr);
        CHECK(std::to_string(type->number) == file.metadata().at("gguf_type"));
        CHECK(std::to_string(type->block_values) == file.metadata().at("block_weights"));
        CHECK(std::to_string(type->block_bytes) == file.metadata().at("block_bytes"));
        for (const std::string set : {"normal", "heavy", "bytes", "edge"}) {
            INFO(set);
            const std::span<const std::byte> bytes = file.at(set + ".blocks").bytes;
            // A copy of exactly this size, so that a sanitiser sees a read past its end.
            const std::vector<std::byte> blocks(bytes.begin(), bytes.end());
            CHECK(first_difference(decoded(*type, blocks), file.at(set + ".values").to_vector<float>()) == "");
        }
    }
}

TEST_CASE("float32 blocks are floats", "[formats]") {
    const std::vector<float> values{1.5F, -0.0F, 0x1p-149F, INFINITY};
    std::vector<std::byte> blocks(values.size() * sizeof(float));
    std::memcpy(blocks.data(), values.data(), blocks.size());
    CHECK(first_difference(decoded(*moe::find_block_type("F32"), blocks), values) == "");
}

TEST_CASE("the list of block types has no number and no name twice", "[formats]") {
    std::set<std::uint32_t> numbers;
    std::set<std::string_view> names;
    std::size_t decoded_types = 0;
    for (const moe::BlockType& type : moe::block_types) {
        INFO(type.name);
        CHECK(numbers.insert(type.number).second);
        CHECK(names.insert(type.name).second);
        CHECK(moe::find_block_type(type.number) == &type);
        CHECK(moe::find_block_type(type.name) == &type);
        CHECK(type.block_values > 0);
        CHECK(type.block_bytes > 0);
        decoded_types += type.decode != nullptr ? 1U : 0U;
    }
    CHECK(decoded_types == golden_formats.size() + 1);
    CHECK(moe::find_block_type(4) == nullptr);  // Q4_2, which ggml has removed
    CHECK(moe::find_block_type(137) == nullptr);
    CHECK(moe::find_block_type("q4_K") == nullptr);
}

TEST_CASE("blocks are decoded into exactly their values", "[formats]") {
    const std::vector<std::byte> blocks(36);
    std::vector<float> values(64);
    const moe::BlockType& type = *moe::find_block_type("Q4_0");
    moe::decode_blocks(type, blocks, values);
    moe::decode_blocks(type, {}, {});
    const auto mistake = [&](const moe::BlockType& of, std::size_t n_bytes, std::size_t n_values) {
        return moe_test::error_of(
            [&] { moe::decode_blocks(of, std::span(blocks).first(n_bytes), std::span(values).first(n_values)); });
    };
    for (const auto& [n_bytes, n_values] : {std::pair{36, 32}, {18, 64}, {35, 64}, {36, 63}, {0, 32}, {18, 0}}) {
        const CaughtError error = mistake(type, static_cast<std::size_t>(n_bytes), static_cast<std::size_t>(n_values));
        CHECK(static_cast<int>(error.code) == static_cast<int>(ErrorCode::shape));
        CHECK_THAT(error.text, moe_test::contains(std::to_string(n_bytes) + " bytes are not " +
                                                  std::to_string(n_values) + " values of Q4_0, which has 18"));
    }
    const CaughtError error = mistake(*moe::find_block_type("IQ2_XXS"), 0, 0);
    CHECK(static_cast<int>(error.code) == static_cast<int>(ErrorCode::unknown_type));
    CHECK_THAT(error.text, moe_test::contains("IQ2_XXS"));
}

TEST_CASE("the archetype of a block format works", "[formats]") {
    const std::array<std::byte, 3> block{std::byte{0x00}, std::byte{0x3C}, std::byte{0xF0}};  // 1.0, codes 0 and 15
    std::array<float, 2> values{};
    moe::blocks::Archetype::decode(block, values);
    CHECK(values[0] == -8.0F);
    CHECK(values[1] == 7.0F);
}

}  // namespace moe_test::blocks_test
