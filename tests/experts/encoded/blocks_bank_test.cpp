#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "experts/bank_runner.hpp"
#include "experts/encoded/encoded_case.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::blocks_bank_test {

namespace {

using moe::AnyForm;
using moe::FormKind;

std::vector<moe::BlockType> decodable_types() {
    std::vector<moe::BlockType> types;
    std::copy_if(moe::block_types.begin(), moe::block_types.end(), std::back_inserter(types),
                 [](const moe::BlockType& type) { return type.decode != nullptr; });
    return types;
}

/// Whether the experts of both banks have the same bits, of one row and of several.
bool agree(const EncodedCase& c, Draw& draw) {
    for (const std::size_t n_rows : {1U, 2U, 7U, 13U}) {
        const std::vector<float> x = random_elements<float>(draw, n_rows * c.d_model, 1);
        if (!same_bits(run_experts(c.bank(), x), run_experts(c.floats(), x))) {
            return false;
        }
    }
    return true;
}

template <class F>
bool packs_alike(const EncodedCase& c) {
    const moe::PackedExperts<F, AnyForm> encoded(c.bank(), ReversedExecutor(3));
    const moe::PackedExperts<F, AnyForm> floats(c.floats());
    const auto a = encoded.data();
    const auto b = floats.data();
    return encoded.bytes() == moe::PackedExperts<F, AnyForm>::bytes_for(c.bank()) && a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin());
}

}  // namespace

TEST_CASE("a bank over blocks has the bits of one over their values, for every type", "[encoded]") {
    const std::vector<moe::BlockType> types = decodable_types();
    REQUIRE(types.size() == 17);
    for (const moe::BlockType& type : types) {
        INFO(type.name);
        Draw draw(type.number);
        const std::size_t block = type.block_values;
        // rows of one block and of several, as many outputs as no panel has; the other projection is of numbers
        for (const std::size_t rows : {1U, 3U}) {
            const std::size_t inputs = rows * block + (block == 1 ? 130 : 0);
            const EncodedCase hidden(draw, {type.name, type.name, "F32"}, AnyForm{}, 2, inputs, 67, draw.coin());
            REQUIRE(agree(hidden, draw));
            const EncodedCase output(draw, {"BF16", "F16", type.name}, AnyForm{}, 1, 71, inputs, draw.coin());
            REQUIRE(agree(output, draw));
            const EncodedCase plain(draw, {"", type.name, "F16"}, AnyForm{.kind = FormKind::relu}, 1, inputs, 129,
                                    draw.coin());
            REQUIRE(agree(plain, draw));
        }
    }
}

TEST_CASE("every projection of a bank may have a type of its own", "[encoded]") {
    const std::vector<moe::BlockType> types = decodable_types();
    Draw draw(3);
    for (std::size_t i = 0; i < 12; ++i) {
        const auto some = [&] { return types[draw.size(0, types.size() - 1)].name; };
        const BlockTypes chosen{some(), some(), some()};
        INFO(chosen.gate << " " << chosen.up << " " << chosen.down);
        const EncodedCase c(draw, chosen, AnyForm{}, draw.size(1, 3), 256 * draw.size(1, 2), 256, draw.coin());
        REQUIRE(agree(c, draw));
        CHECK(c.bank().weights().gate.encoding() == chosen.gate);
        CHECK(c.bank().weights().down.encoding() == chosen.down);
    }
}

TEST_CASE("blocks are packed as their values are, in every format", "[encoded]") {
    for (const moe::BlockType& type : decodable_types()) {
        INFO(type.name);
        Draw draw(100 + type.number);
        const std::size_t inputs = type.block_values + (type.block_values == 1 ? 100 : type.block_values * 2);
        const EncodedCase c(draw, {type.name, type.name, "F32"}, AnyForm{}, 2, inputs, 37, true);
        CHECK(packs_alike<float>(c));
        CHECK(packs_alike<moe::bfloat16>(c));
        CHECK(packs_alike<moe::float16>(c));
        CHECK(packs_alike<moe::Int8>(c));
        CHECK(packs_alike<moe::Int4>(c));
        const moe::PackedExperts as_stored(c.bank());
        static_assert(std::is_same_v<decltype(as_stored)::format_type, float>);
    }
}

TEST_CASE("one expert of a bank over blocks is that expert", "[encoded]") {
    Draw draw(5);
    const EncodedCase c(draw, {"Q4_K", "Q6_K", "Q8_0"}, AnyForm{}, 3, 256, 96, true);
    const std::vector<float> x = random_elements<float>(draw, 5 * c.d_model, 1);
    const std::vector<float> all = run_experts(c.bank(), x);
    for (std::size_t e = 0; e < 3; ++e) {
        CHECK(same_bits(run_experts(c.bank().expert(e), x), std::span(all).subspan(e * x.size(), x.size())));
    }
}

}  // namespace moe_test::blocks_bank_test
