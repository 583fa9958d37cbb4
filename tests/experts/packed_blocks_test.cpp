#include "moe/experts/packed_blocks.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "experts/bank_runner.hpp"
#include "experts/block_cases.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/io/safetensors.hpp"
#include "moe/layer/any_layer.hpp"
#include "moe/routing/router.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"

namespace moe_test::packed_blocks_test {

namespace {

using Form = moe::Gated<moe::Silu>;
using PlainForm = moe::Plain<moe::Relu>;
using moe::ErrorCode;
using moe_test::contains;

/// Weight (k, c) of a panel of `Block`.
template <class Block>
std::vector<float> floats_of(const std::vector<std::byte>& panel, std::size_t k) {
    constexpr moe::PanelKind kind = moe::BlockPanel<Block>::kind;
    std::vector<float> values(k * moe::PanelKind::width);
    for (std::size_t g = 0; g < k / 32; ++g) {
        moe::decode_panel_group<kind>(&panel[kind.factors_at(g)], &panel[kind.group_at(g)],
                                      &values[g * 32 * moe::PanelKind::width]);
    }
    return values;
}

bool equal_numbers(float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Blocks in rows of `row_blocks`, as many as there are, each row an output: their floats have the bits of decode().
void check_decoding(const moe::BlockType& type, const std::vector<std::byte>& blocks,
                    const std::vector<float>& expected, std::size_t row_blocks) {
    const std::size_t k = row_blocks * type.block_values;
    const std::size_t rows = blocks.size() / (row_blocks * type.block_bytes);
    REQUIRE(rows > 0);
    const moe::BlockPanels form(type);
    const bool coded = moe::with_coded_block(type.number, [&]<class Block>() {
        for (std::size_t first = 0; first < rows; first += moe::PanelKind::width) {
            const std::size_t columns = std::min(moe::PanelKind::width, rows - first);
            std::vector<std::byte> panel(form.bytes(k));
            for (std::size_t c = 0; c < columns; ++c) {
                const std::size_t at = (first + c) * row_blocks * type.block_bytes;
                form.put_row(type, &blocks[at], k, moe::PanelKind::width - 1 - c, panel.data());
            }
            const std::vector<float> values = floats_of<Block>(panel, k);
            std::size_t wrong = 0;
            for (std::size_t c = 0; c < columns; ++c) {
                for (std::size_t i = 0; i < k; ++i) {
                    const float value = values[i * moe::PanelKind::width + moe::PanelKind::width - 1 - c];
                    wrong += equal_numbers(value, expected[(first + c) * k + i]) ? 0U : 1U;
                }
            }
            CHECK(wrong == 0);
        }
    });
    CHECK(coded == (type.block_values > 1));
}

template <class F>
std::vector<float> run(const moe::PackedBlocks<F>& bank, const std::vector<float>& x) {
    return moe_test::run_experts(bank, x);
}

}  // namespace

TEST_CASE("panels of blocks hold the floats that ggml decodes, bit for bit", "[quantized]") {
    for (const std::string& name : moe_test::block_names()) {
        const moe::BlockType& type = moe_test::block_type(name);
        if (type.block_values == 1) {
            continue;
        }
        INFO(name);
        std::string lower = name;
        std::transform(lower.begin(), lower.end(), lower.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const auto file = moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/formats/" +
                                                     lower + ".safetensors");
        for (const std::string set : {"normal", "heavy", "bytes", "edge"}) {
            INFO(set);
            const std::span<const std::byte> bytes = file.at(set + ".blocks").bytes;
            check_decoding(type, {bytes.begin(), bytes.end()}, file.at(set + ".values").to_vector<float>(), 1);
        }
        moe_test::Draw draw(7);
        std::vector<std::byte> any(3 * 67 * type.block_bytes);
        for (std::byte& byte : any) {
            byte = static_cast<std::byte>(draw.size(0, 255));
        }
        check_decoding(type, any, moe_test::decoded_blocks(type, any), 3);
    }
}

TEST_CASE("experts packed from blocks have the bits of float32 experts of the decoded weights", "[quantized]") {
    std::uint64_t seed = 1;
    for (const std::string& name : moe_test::block_names()) {
        INFO(name);
        moe_test::Draw draw(seed++);
        const moe::BlockType& type = moe_test::block_type(name);
        const std::size_t unit = std::max<std::size_t>(type.block_values, 32);
        const moe_test::BlockBank bank(draw, name, name, name, 2, unit == 256 ? 256 : 3 * unit,
                                       unit * (unit < 64 ? 5 : 2));
        const moe::PackedBlocks<Form> packed(Form{}, bank.blocks, moe::SerialExecutor{}, moe::Compute::exact);
        CHECK(packed.bytes() == moe::PackedBlocks<Form>::bytes_for(Form{}, bank.blocks));
        const moe::ExpertBank<float, Form> floats(Form{}, bank.floats);
        const std::vector<float> x = moe_test::random_elements<float>(draw, 70 * bank.d_model, 1);
        const std::vector<float> all = run(packed, x);
        REQUIRE(moe_test::all_finite(all));
        CHECK(moe_test::same_bits(all, moe_test::run_experts(floats, x)));
        for (std::size_t n = 1; n < 70; n += n < 9 ? 1 : 12) {
            const std::vector<float> some(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n * bank.d_model));
            const std::vector<float> y = run(packed, some);
            for (std::size_t e = 0; e < 2; ++e) {
                REQUIRE(moe_test::same_bits(std::span(y).subspan(e * n * bank.d_model, n * bank.d_model),
                                            std::span(all).subspan(e * 70 * bank.d_model, n * bank.d_model)));
            }
        }
    }
}

TEST_CASE("gate, up and down may have three formats, biases and any executor", "[quantized]") {
    const std::array<std::array<std::string, 3>, 5> mixes{{{"Q4_K", "Q4_K", "Q6_K"},
                                                           {"Q4_K", "Q6_K", "Q5_0"},
                                                           {"MXFP4", "MXFP4", "BF16"},
                                                           {"F32", "Q8_0", "IQ4_XS"},
                                                           {"BF16", "F16", "Q4_1"}}};
    for (const auto& [gate, up, down] : mixes) {
        INFO(gate << ", " << up << ", " << down);
        moe_test::Draw draw(31);
        moe_test::BlockBank bank(draw, gate, up, down, 3, 256, 512);
        const auto bias = [&](std::size_t rows) { return moe_test::random_elements<float>(draw, 3 * rows, 1); };
        const std::vector<float> gate_bias = bias(256);
        const std::vector<float> up_bias = bias(256);
        const std::vector<float> down_bias = bias(512);
        bank.floats.gate_bias = bank.blocks.gate_bias = moe::stacked(gate_bias.data(), 3, 256, 1);
        bank.floats.up_bias = bank.blocks.up_bias = moe::stacked(up_bias.data(), 3, 256, 1);
        bank.floats.down_bias = bank.blocks.down_bias = moe::stacked(down_bias.data(), 3, 512, 1);
        const moe::PackedBlocks<Form> packed(Form{}, bank.blocks, moe::SerialExecutor{}, moe::Compute::exact);
        const std::vector<float> x = moe_test::random_elements<float>(draw, 5 * 512, 1);
        CHECK(moe_test::same_bits(run(packed, x),
                                  moe_test::run_experts(moe::ExpertBank<float, Form>(Form{}, bank.floats), x)));

        // whole panels flush with a page that may not be touched
        const moe_test::Guarded<std::byte> memory(std::vector<std::byte>(packed.bytes(), std::byte{0xEE}),
                                                  moe_test::Side::end);
        const moe::PackedBlocks<Form> given(Form{}, bank.blocks, std::span(memory.data(), memory.size()),
                                            moe_test::ThreadExecutor(3), moe::Compute::exact);
        CHECK(std::equal(given.data().begin(), given.data().end(), packed.data().begin()));
        CHECK(moe_test::same_bits(run(given, x), run(packed, x)));
    }
}

TEST_CASE("outputs that fill no panel, plain experts, a tensor of gate and up, experts apart", "[quantized]") {
    moe_test::Draw draw(5);
    const moe_test::BlockBank bank(draw, "", "Q5_K", "Q4_0", 2, 32 * 3, 256);
    const moe::PackedBlocks<PlainForm> packed(PlainForm{}, bank.blocks, moe::SerialExecutor{}, moe::Compute::exact);
    const std::vector<float> x = moe_test::random_elements<float>(draw, 3 * 256, 1);
    CHECK(moe_test::same_bits(run(packed, x),
                              moe_test::run_experts(moe::ExpertBank<float, PlainForm>(PlainForm{}, bank.floats), x)));

    // 37 outputs of each half of 74 rows, whose experts lie anywhere at odd addresses, flush with pages
    const moe::BlockType& type = moe_test::block_type("Q6_K");
    const std::vector<std::byte> one = moe_test::random_blocks(draw, type, 74);
    const std::vector<std::byte> two = moe_test::random_blocks(draw, type, 74);
    const moe_test::Guarded<std::byte> first(one, moe_test::Side::end);
    const moe_test::Guarded<std::byte> second(two, moe_test::Side::begin);
    const std::array<const std::byte*, 2> experts{first.data(), second.data()};
    const moe::BlockStack both(type, experts, 74, 256);
    const moe::BlockStack gate = both.rows(0, 37);
    CHECK(both.rows(37, 37).row(1, 2) == second.data() + 39 * type.block_bytes);
    CHECK(gate.row(0, 36) == first.data() + 36 * type.block_bytes);
    CHECK(both.rows(20, 30).rows(17, 5).row(0, 0) == first.data() + 37 * type.block_bytes);

    const moe::BlockType& floats = moe_test::block_type("F32");
    const std::vector<std::byte> down = moe_test::random_blocks(draw, floats, 2 * 256 * 37);
    const std::vector<float> down_values = moe_test::decoded_blocks(floats, down);
    std::vector<float> values = moe_test::decoded_blocks(type, one);
    const std::vector<float> more = moe_test::decoded_blocks(type, two);
    values.insert(values.end(), more.begin(), more.end());
    const moe::WeightStack<float> all = moe::stacked(values.data(), 2, 74, 256);
    const moe::ExpertWeights<float> expected{.gate = all.outputs_slice(0, 1, 37),
                                             .up = all.outputs_slice(37, 1, 37),
                                             .down = moe::stacked(down_values.data(), 2, 256, 37)};
    const moe::PackedBlocks<Form> halves(
        Form{}, {.gate = gate, .up = both.rows(37, 37), .down = moe::BlockStack(floats, 2, 256, 37, down)},
        moe::SerialExecutor{}, moe::Compute::exact);
    CHECK(
        moe_test::same_bits(run(halves, x), moe_test::run_experts(moe::ExpertBank<float, Form>(Form{}, expected), x)));
}

TEST_CASE("a scale that is no number is refused where it stands, and nothing is written", "[quantized]") {
    for (const std::string& name : moe_test::block_names()) {
        const moe::BlockType& type = moe_test::block_type(name);
        std::vector<std::pair<std::size_t, std::uint16_t>> mistakes;
        for (const std::size_t at : moe_test::halves_of(name)) {
            mistakes.emplace_back(at, std::uint16_t{0x7C00});
            mistakes.emplace_back(at, std::uint16_t{0xFE01});
        }
        if (name == "MXFP4") {
            mistakes.emplace_back(0, std::uint16_t{0x12FF});
        }
        for (const auto& [at, bits] : mistakes) {
            INFO(name << " at " << at);
            moe_test::Draw draw(3);
            moe_test::BlockBank bank(draw, name, name, name, 2, 256, 512);
            const std::size_t blocks = 512 / type.block_values;
            std::memcpy(&bank.bytes[1][((256 + 77) * blocks + 1) * type.block_bytes + at], &bits, 2);
            const moe::AlignedBuffer memory(moe::PackedBlocks<Form>::bytes_for(Form{}, bank.blocks));
            std::fill_n(memory.data(), memory.size(), std::byte{0xEE});
            const auto error = moe_test::error_of([&] {
                moe::PackedBlocks<Form>(Form{}, bank.blocks, std::span(memory.data(), memory.size()),
                                        moe_test::ThreadExecutor(2));
            });
            CHECK(error.code == ErrorCode::range);
            CHECK_THAT(error.text, contains("expert 1, up projection, row 77, block 1 of " + name));
            CHECK(std::all_of(memory.data(), memory.data() + memory.size(),
                              [](std::byte b) { return b == std::byte{0xEE}; }));
        }
    }
}

TEST_CASE("what does not fit is refused", "[quantized]") {
    moe_test::Draw draw(3);
    moe_test::BlockBank bank(draw, "Q4_0", "Q4_0", "Q8_0", 2, 64, 96);
    const auto refusal = [&](const moe::BlockWeights& weights) {
        return moe_test::error_of([&] { moe::PackedBlocks<Form>(Form{}, weights); });
    };
    moe::BlockWeights weights = bank.blocks;
    weights.up = {};
    CHECK(refusal(weights).code == ErrorCode::missing);
    weights = bank.blocks;
    weights.down = {};
    CHECK(refusal(weights).code == ErrorCode::missing);
    weights = bank.blocks;
    weights.gate = {};
    CHECK(refusal(weights).code == ErrorCode::missing);
    weights = bank.blocks;
    weights.gate = weights.gate.rows(0, 63);
    const auto error = refusal(weights);
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("gate is 2 x 63 x 96 but must be 2 x 64 x 96"));
    CHECK(moe_test::error_of([&] { moe::PackedBlocks<PlainForm>(PlainForm{}, bank.blocks); }).code ==
          ErrorCode::missing);
    CHECK(moe_test::error_of([&] {
              moe::PackedBlocks<Form>(Form{}, bank.blocks, moe::SerialExecutor{}, moe::Compute::bf16x3);
          }).code == ErrorCode::range);
    const moe::AlignedBuffer memory(moe::PackedBlocks<Form>::bytes_for(Form{}, bank.blocks) + 64);
    CHECK(moe_test::error_of([&] {
              moe::PackedBlocks<Form>(Form{}, bank.blocks, std::span(memory.data(), memory.size() - 65));
          }).code == ErrorCode::capacity);
    CHECK(moe_test::error_of([&] {
              moe::PackedBlocks<Form>(Form{}, bank.blocks, std::span(memory.data() + 8, memory.size() - 8));
          }).code == ErrorCode::alignment);

    const moe::BlockType& type = moe_test::block_type("Q4_0");
    const std::vector<std::byte> bytes(2 * 3 * type.block_bytes);
    CHECK(moe_test::error_of([&] { moe::BlockStack(type, 2, 3, 33, bytes); }).code == ErrorCode::shape);
    CHECK(moe_test::error_of([&] { moe::BlockStack(type, 2, 4, 32, bytes); }).code == ErrorCode::shape);
    CHECK(moe_test::error_of([&] { moe::BlockStack(type, 0, 3, 32, bytes); }).code == ErrorCode::range);
    CHECK(moe_test::error_of([&] { (void)moe::BlockStack(type, 2, 3, 32, bytes).rows(2, 2); }).code ==
          ErrorCode::range);
    CHECK(moe_test::error_of([&] { moe::BlockStack(moe_test::block_type("IQ1_S"), 2, 3, 256, bytes); }).code ==
          ErrorCode::unknown_type);
    const std::array<const std::byte*, 2> missing{bytes.data(), nullptr};
    CHECK(moe_test::error_of([&] { moe::BlockStack(type, missing, 3, 32); }).code == ErrorCode::null_pointer);
}

TEST_CASE("a layer of block panels is a layer like any other", "[quantized]") {
    moe_test::Draw draw(9);
    const moe_test::BlockBank bank(draw, "Q4_K", "Q4_K", "Q6_K", 4, 256, 256);
    const std::vector<float> router = moe_test::random_elements<float>(draw, 4 * 256, 0.1);
    const std::vector<float> x = moe_test::random_elements<float>(draw, 9 * 256, 1);
    const auto forward = [&](const moe::AnyLayer<float>& layer) {
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        layer.forward(moe::view(x.data(), 9, 256), moe::view(y.data(), 9, 256), workspace);
        return y;
    };
    const auto routing = [&] {
        return moe::Router(moe::view(router.data(), 4, 256), moe::TokenChoice<moe::Softmax>{.top_k = 2});
    };
    moe::MoELayer layer(routing(),
                        moe::PackedBlocks<Form>(Form{}, bank.blocks, moe::SerialExecutor{}, moe::Compute::exact));
    const std::string told = layer.describe().text();
    CHECK_THAT(told, contains("packed blocks of Q4_K and Q6_K"));
    const std::vector<float> y = forward(std::move(layer));
    REQUIRE(moe_test::all_finite(y));
    CHECK(moe_test::same_bits(y, forward(moe::MoELayer(routing(), moe::ExpertBank<float, Form>(Form{}, bank.floats)))));
}

}  // namespace moe_test::packed_blocks_test
