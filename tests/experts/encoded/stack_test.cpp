#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "experts/encoded/encoded_case.hpp"
#include "moe/formats/encodings/archetype.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/unaligned.hpp"

namespace moe_test::encoded_stack_test {

namespace {

using moe::EncodedStack;
using moe::ErrorCode;
using moe::encodings::Archetype;
using moe::encodings::BlockMatrix;

/// Every output of every expert of a stack, whole.
std::vector<float> all_of(const EncodedStack& stack) {
    std::vector<float> values(stack.n_experts() * stack.outputs() * stack.inputs());
    for (std::size_t e = 0; e < stack.n_experts(); ++e) {
        stack.decode(e, 0, stack.outputs(), 0, stack.inputs(), &values[e * stack.outputs() * stack.inputs()],
                     stack.inputs());
    }
    return values;
}

void check_mistake(ErrorCode code, const std::string& text, const auto& mistake) {
    const CaughtError error = error_of(mistake);
    CHECK(static_cast<int>(error.code) == static_cast<int>(code));
    CHECK_THAT(error.text, contains(text));
}

}  // namespace

TEST_CASE("any part of a row of blocks is decoded, and nothing beside it written", "[encoded]") {
    for (const char* const name : {"F32", "BF16", "Q8_0", "NVFP4", "Q4_K"}) {
        const moe::BlockType& type = *moe::find_block_type(name);
        Draw draw(7);
        const std::size_t inputs = 4 * type.block_values;
        const BlockStack blocks(draw, type, 2, 3, inputs);
        CHECK(same_bits(all_of(blocks.stack), blocks.values));
        for (std::size_t i = 0; i < 200; ++i) {
            const std::size_t first = draw.size(0, inputs - 1);
            const std::size_t n = draw.size(0, inputs - first);
            std::vector<float> part(n + 2, 5.0F);
            const std::size_t row = draw.size(0, 5);
            blocks.stack.decode(row / 3, row % 3, first, n, part.data() + 1);
            INFO(name << ", " << n << " from " << first);
            REQUIRE(
                same_bits(std::span(part).subspan(1, n), std::span(blocks.values).subspan(row * inputs + first, n)));
            REQUIRE((part.front() == 5.0F && part.back() == 5.0F));
        }
    }
}

TEST_CASE("numbers in any storage order and at any address are an encoded stack", "[encoded]") {
    Draw draw(8);
    const std::vector<moe::bfloat16> values = random_elements<moe::bfloat16>(draw, std::size_t{3} * 5 * 7, 1);
    const Unaligned<moe::bfloat16> unaligned(values);
    const auto by_rows = moe::stacked(unaligned.data(), 3, 5, 7);
    std::vector<float> floats;
    for (const moe::bfloat16 value : values) {
        floats.push_back(moe::to_float(value));
    }
    const EncodedStack stack = by_rows;
    CHECK(stack.encoding() == "bfloat16");
    CHECK(same_bits(all_of(stack), floats));
    const EncodedStack turned = moe::transpose(by_rows);
    REQUIRE((turned.outputs() == 7 && turned.inputs() == 5));
    for (std::size_t o = 0; o < 7; ++o) {
        std::array<float, 3> part{};
        turned.decode(2, o, 1, 3, part.data());
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(part[i] == floats[(2 * 5 + i + 1) * 7 + o]);
        }
    }
    CHECK(EncodedStack(moe::WeightStack<float>()).empty());
    CHECK(EncodedStack().encoding().empty());
}

TEST_CASE("gate and up in one tensor are two stacks over it", "[encoded]") {
    Draw draw(9);
    const BlockStack blocks(draw, *moe::find_block_type("Q5_0"), 2, 10, 64);
    const auto row = [&](std::size_t e, std::size_t o) {
        return std::span(blocks.values).subspan((e * 10 + o) * 64, 64);
    };
    const moe::EncodedGateUp halves = moe::concatenated(blocks.stack);
    const moe::EncodedGateUp pairs = moe::interleaved(blocks.stack);
    std::vector<float> values(64);
    for (std::size_t e = 0; e < 2; ++e) {
        for (std::size_t o = 0; o < 5; ++o) {
            halves.gate.decode(e, o, 0, 64, values.data());
            CHECK(same_bits(values, row(e, o)));
            halves.up.decode(e, o, 0, 64, values.data());
            CHECK(same_bits(values, row(e, 5 + o)));
            pairs.gate.expert(e).decode(0, o, 0, 64, values.data());
            CHECK(same_bits(values, row(e, 2 * o)));
            pairs.up.expert(e).decode(0, o, 0, 64, values.data());
            CHECK(same_bits(values, row(e, 2 * o + 1)));
        }
    }
    pairs.up.outputs_slice(1, 2, 2).decode(1, 1, 0, 64, values.data());  // of outputs 3 and 7
    CHECK(same_bits(values, row(1, 7)));
    CHECK(halves.up.overlaps(moe::bytes_of(std::span(blocks.memory).last(1))));
    CHECK(!halves.up.overlaps(moe::bytes_of(std::span(blocks.memory).first(1))));
}

TEST_CASE("a stack of blocks says where its outputs lie, others that they are no blocks", "[encoded]") {
    Draw draw(12);
    const moe::BlockType& q4_k = *moe::find_block_type("Q4_K");
    const BlockStack blocks(draw, q4_k, 3, 10, 512);
    const std::byte* const origin = blocks.memory.data() + 1;
    const moe::BlockRows all = blocks.stack.blocks(2);
    CHECK(all.type->number == q4_k.number);
    CHECK(all.first == origin + 20 * 2 * q4_k.block_bytes);
    CHECK(all.stride == 2 * q4_k.block_bytes);
    const moe::BlockRows some = blocks.stack.outputs_slice(1, 3, 3).outputs_slice(1, 1, 2).expert(1).blocks(0);
    CHECK(some.type->number == q4_k.number);
    CHECK(some.first == origin + (10 + 4) * all.stride);
    CHECK(some.stride == 3 * all.stride);
    const std::vector<float> values(6);
    CHECK(EncodedStack(moe::stacked(values.data(), 1, 2, 3)).blocks(0).type == nullptr);
    const std::vector<std::byte> bytes(4);
    CHECK(EncodedStack(std::vector{Archetype(bytes, 1.0F, 2, 2)}).blocks(0).type == nullptr);
}

TEST_CASE("a table of experts of an encoding of one's own is a stack", "[encoded]") {
    const std::vector<std::byte> bytes{std::byte{1}, std::byte{0xFF}, std::byte{0x80}, std::byte{127}};
    const std::span<const std::byte> all(bytes);
    const EncodedStack stack(std::vector{Archetype(all, 0.5F, 2, 2), Archetype(all, -2.0F, 2, 2)});
    CHECK(stack.encoding() == "archetype");
    CHECK(same_bits(all_of(stack), std::vector<float>{0.5F, -0.5F, -64.0F, 63.5F, -2.0F, 2.0F, 256.0F, -254.0F}));
    const EncodedStack copy = stack;
    CHECK(same_bits(all_of(copy.expert(1)), std::vector<float>{-2.0F, 2.0F, 256.0F, -254.0F}));
    EncodedStack source = copy;
    const EncodedStack moved = std::move(source);
    CHECK(source.empty());  // NOLINT: what a moved-from stack is, is what is asked
    CHECK(moved.n_experts() == 2);
}

TEST_CASE("encoded stacks say what does not fit", "[encoded]") {
    const std::vector<std::byte> bytes(72);
    const std::span<const std::byte> blocks(bytes);
    const moe::BlockType& q4_0 = *moe::find_block_type("Q4_0");
    check_mistake(ErrorCode::unknown_type, "IQ2_XXS",
                  [&] { (void)BlockMatrix(*moe::find_block_type("IQ2_XXS"), blocks.first(66), 1, 256); });
    check_mistake(ErrorCode::shape, "2 x 33 of Q4_0", [&] { (void)BlockMatrix(q4_0, blocks.first(36), 2, 33); });
    check_mistake(ErrorCode::shape, "0 x 32", [&] { (void)BlockMatrix(q4_0, blocks.first(0), 0, 32); });
    check_mistake(ErrorCode::shape, "2 x 0", [&] { (void)BlockMatrix(q4_0, blocks.first(0), 2, 0); });
    check_mistake(ErrorCode::shape, "72 bytes are not 2 x 32", [&] { (void)BlockMatrix(q4_0, blocks, 2, 32); });
    check_mistake(ErrorCode::overflow, "", [&] { (void)BlockMatrix(q4_0, blocks, SIZE_MAX / 4, 32); });
    check_mistake(ErrorCode::shape, "5 experts", [&] { (void)moe::encodings::block_matrices(q4_0, blocks, 5, 1, 32); });
    check_mistake(ErrorCode::shape, "0 experts", [&] { (void)moe::encodings::block_matrices(q4_0, blocks, 0, 1, 32); });
    check_mistake(ErrorCode::range, "the scale is nan", [&] { (void)Archetype(blocks, NAN, 8, 9); });
    check_mistake(ErrorCode::shape, "no experts", [&] { (void)EncodedStack(std::vector<BlockMatrix>()); });
    check_mistake(ErrorCode::shape, "expert 1 is 2 x 32, the first is 1 x 32", [&] {
        (void)EncodedStack(
            std::vector{BlockMatrix(q4_0, blocks.first(18), 1, 32), BlockMatrix(q4_0, blocks.first(36), 2, 32)});
    });
    const EncodedStack stack(moe::encodings::block_matrices(q4_0, blocks.first(54), 1, 3, 32));
    check_mistake(ErrorCode::range, "expert 1 of 1", [&] { (void)stack.expert(1); });
    check_mistake(ErrorCode::shape, "3 outputs", [&] { (void)moe::concatenated(stack); });
    check_mistake(ErrorCode::shape, "3 outputs", [&] { (void)moe::interleaved(stack); });
    check_mistake(ErrorCode::range, "2 outputs from 1 in steps of 2", [&] { (void)stack.outputs_slice(1, 2, 2); });
    check_mistake(ErrorCode::range, "0 outputs", [&] { (void)stack.outputs_slice(0, 1, 0); });
    check_mistake(ErrorCode::range, "steps of 0", [&] { (void)stack.outputs_slice(0, 0, 1); });
}

TEST_CASE("a bank of encoded experts says what is missing or has another shape", "[encoded]") {
    Draw draw(10);
    const EncodedCase c(draw, {"Q8_0", "Q8_0", "Q8_0"}, moe::AnyForm{}, 2, 64, 32, true);
    const auto refused = [&](ErrorCode code, const std::string& text, const auto& change) {
        moe::EncodedWeights weights = c.encoded();
        change(weights);
        check_mistake(code, text, [&] { (void)moe::EncodedBank<moe::AnyForm>(c.form, weights); });
    };
    refused(ErrorCode::missing, "EncodedBank: the up projection", [](auto& w) { w.up = {}; });
    refused(ErrorCode::missing, "EncodedBank: the down projection", [](auto& w) { w.down = {}; });
    refused(ErrorCode::missing, "gate projection, which is missing", [](auto& w) { w.gate = {}; });
    refused(ErrorCode::shape, "down is 2 x 32 x 64 but up is 2 x 32 x 64", [](auto& w) { w.down = w.up; });
    refused(ErrorCode::shape, "gate is 1 x 32 x 64", [](auto& w) { w.gate = w.gate.expert(0); });
    refused(ErrorCode::shape, "up bias is 2 x 64 x 1", [](auto& w) { w.up_bias = w.down_bias; });
    check_mistake(ErrorCode::missing, "a plain form has no gate", [&] {
        (void)moe::EncodedBank<moe::AnyForm>(moe::AnyForm{.kind = moe::FormKind::relu}, c.encoded());
    });
}

}  // namespace moe_test::encoded_stack_test
