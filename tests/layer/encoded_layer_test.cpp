#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "experts/encoded/encoded_case.hpp"
#include "layer/batch_runner.hpp"
#include "layer/invariance/invariance.hpp"
#include "moe/layer/any_layer.hpp"
#include "moe/layer/describe.hpp"
#include "moe/model/make_layer.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/guarded.hpp"

namespace moe_test::encoded_layer_test {

/// Layers whose experts are encoded, beside the same over floats.
namespace {

using Gate = moe::TokenChoice<moe::Softmax>;

/// A router, experts and a gated shared expert.
struct Case {
    EncodedCase experts;
    EncodedCase shared;
    std::vector<float> router;
    std::vector<float> shared_gate;

    Case(Draw& draw, const BlockTypes& types, std::size_t d_model = 256, std::size_t d_ff = 256)
        : experts(draw, types, moe::AnyForm{}, 5, d_model, d_ff, true),
          shared(draw, types, moe::AnyForm{}, 1, d_model, d_ff, false),
          router(random_elements<float>(draw, 5 * d_model, 1)),
          shared_gate(random_elements<float>(draw, d_model, 1)) {}

    template <class Bank>
    [[nodiscard]] auto layer(Bank bank, Bank shared_bank) const {
        return moe::MoELayer(
            moe::Router<float, Gate>(moe::view(router.data(), 5, experts.d_model), {}, Gate{.top_k = 2}),
            std::move(bank),
            moe::SharedExperts(std::move(shared_bank), moe::stacked(shared_gate.data(), 1, 1, experts.d_model)));
    }
    [[nodiscard]] auto encoded() const { return layer(experts.bank(), shared.bank()); }
    [[nodiscard]] auto floats() const { return layer(experts.floats(), shared.floats()); }
};

template <class Layer>
std::vector<float> run(const Layer& layer, const Batch<float>& batch) {
    moe::Workspace workspace;
    return run_tokens(layer, batch, first_tokens(batch.n_tokens()), false, workspace, ReversedExecutor(3));
}

}  // namespace

TEST_CASE("a layer of encoded experts has the bits of one over their values, in place and packed", "[encoded]") {
    Draw draw(1);
    for (const BlockTypes& types : {BlockTypes{"Q4_K", "Q4_K", "Q6_K"}, {"MXFP4", "Q8_0", "IQ4_XS"}}) {
        const Case c(draw, types);
        const Batch<float> batch(draw, 70, 256);
        const auto encoded = c.encoded();
        const auto floats = c.floats();
        const std::vector<float> expected = run(floats, batch);
        CHECK(same_bits(run(encoded, batch), expected));
        CHECK(same_bits(run(moe::AnyLayer<float>(encoded), batch), expected));
        CHECK(same_bits(run(moe::pack(encoded), batch), expected));
        const ThreadExecutor threads(3);
        CHECK(same_bits(run(moe::pack<moe::bfloat16>(encoded, threads), batch),
                        run(moe::pack<moe::bfloat16>(floats), batch)));
        CHECK(same_bits(run(moe::pack<moe::Int8>(encoded, threads, moe::Compute::int8), batch),
                        run(moe::pack<moe::Int8>(floats, threads, moe::Compute::int8), batch)));
        const moe::AnyLayer<float> any(encoded);
        for (const moe::Format format : {moe::Format::as_stored, moe::Format::float32, moe::Format::float16,
                                         moe::Format::int8, moe::Format::int4}) {
            INFO(moe::format_name(format));
            CHECK(same_bits(run(moe::pack(any, format), batch), run(moe::pack(floats, format), batch)));
        }
        auto repacked = moe::pack<moe::Int4>(floats);
        repacked.repack(encoded);
        CHECK(same_bits(run(repacked, batch), run(moe::pack<moe::Int4>(floats), batch)));
    }
}

TEST_CASE("a token of a layer of encoded experts does not depend on its batch", "[encoded]") {
    Draw draw(2);
    const Case c(draw, {"Q5_K", "Q4_1", "NVFP4"}, 256, 64);
    const auto layer = c.encoded();
    for (std::size_t i = 0; i < 6; ++i) {
        const Batch<float> batch(draw, draw.size(1, 90), 256);
        moe::Workspace workspace;
        const Expected<float> expected(layer, batch, draw.coin(), workspace);
        REQUIRE(expected.finite());
        REQUIRE(broken_by(draw, expected, layer, batch.n_tokens(), workspace) == "");
    }
}

TEST_CASE("a layer of encoded experts allocates nothing once its workspace has grown", "[encoded]") {
    Draw draw(3);
    const Case c(draw, {"Q3_K", "Q2_K", "Q5_1"});
    const auto layer = c.encoded();
    const Batch<float> batch(draw, 9, 256);
    std::vector<float> y(batch.x.size());
    moe::Workspace workspace;
    const auto forward = [&] {
        layer.forward(moe::view(batch.x.data(), 9, 256), moe::view(y.data(), 9, 256), workspace);
    };
    forward();
    const std::size_t before = allocations();
    forward();
    CHECK(allocations() == before);
}

TEST_CASE("encoded weights are refused as outputs and described by name", "[encoded]") {
    Draw draw(4);
    Case c(draw, {"Q4_0", "Q5_0", "Q4_0"}, 64, 32);
    const auto layer = c.encoded();
    const Batch<float> batch(draw, 1, 64);
    moe::Workspace workspace;
    auto* const inside =
        reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(c.experts.down.memory.data()) + 63) / 64 * 64);
    const CaughtError error =
        error_of([&] { layer.forward(moe::view(batch.x.data(), 1, 64), moe::view(inside, 1, 64), workspace); });
    CHECK(static_cast<int>(error.code) == static_cast<int>(moe::ErrorCode::layout));
    CHECK_THAT(error.text, contains("the down projections"));
    CHECK_THAT(layer.describe().hidden.text(), contains("Q5_0, Q4_0 views: float32 multiply-add"));
    CHECK_THAT(layer.describe().shared.text(), contains("decoded at every use"));
}

TEST_CASE("make_layer takes encoded experts", "[encoded]") {
    Draw draw(5);
    const Case c(draw, {"IQ4_NL", "Q4_1", "Q8_0"}, 96, 64);
    moe::MoEConfig config;
    config.n_experts = 5;
    config.routing.top_k = 2;
    config.d_model = 96;
    config.d_ff = 64;
    config.shared_d_ff = 64;
    config.shared_mode = moe::SharedMode::gated;
    config.expert_bias = true;
    const auto fill = [&](auto& weights) {
        weights.router = moe::view(c.router.data(), 5, 96);
        weights.shared_gate = moe::stacked(c.shared_gate.data(), 1, 1, 96);
    };
    moe::LayerWeights<float, float, moe::EncodedWeights> encoded;
    fill(encoded);
    encoded.experts = c.experts.encoded();
    encoded.shared = c.shared.encoded();
    moe::LayerWeights<float> floats;
    fill(floats);
    floats.experts = c.experts.decoded();
    floats.shared = c.shared.decoded();
    const Batch<float> batch(draw, 20, 96);
    CHECK(same_bits(run(moe::make_layer(config, encoded), batch), run(moe::make_layer(config, floats), batch)));
    config.d_ff = 65;
    const CaughtError error = error_of([&] { (void)moe::make_layer(config, encoded); });
    CHECK(static_cast<int>(error.code) == static_cast<int>(moe::ErrorCode::shape));
    CHECK_THAT(error.text, contains("d_ff 64"));
}

TEST_CASE("nothing is read beyond encoded weights, packed or not", "[encoded]") {
    for (const moe::BlockType& type : moe::block_types) {
        if (type.decode == nullptr) {
            continue;
        }
        INFO(type.name);
        for (const Side side : {Side::begin, Side::end}) {
            Draw draw(6);
            const std::size_t d_model = type.block_values == 1 ? 67 : type.block_values;
            const std::size_t d_ff = d_model;
            const std::size_t n_blocks = 2 * d_ff * d_model / type.block_values;
            std::vector<Guarded<std::byte>> memory;
            const auto stack = [&] {
                memory.emplace_back(random_encoded_blocks(draw, type, n_blocks), side);
                const std::span<const std::byte> blocks(memory.back().data(), memory.back().size());
                return moe::EncodedStack(moe::encodings::block_matrices(type, blocks, 2, d_ff, d_model));
            };
            const moe::EncodedBank<moe::AnyForm> bank({}, {stack(), stack(), stack(), {}, {}, {}});
            const std::vector<float> router = random_elements<float>(draw, 2 * d_model, 1);
            const auto layer_of = [&](auto experts) {
                return moe::MoELayer(
                    moe::Router<float, Gate>(moe::view(router.data(), 2, d_model), {}, Gate{.top_k = 2}),
                    std::move(experts));
            };
            const Batch<float> batch(draw, 3, d_model);
            const std::vector<float> y = run(layer_of(bank), batch);
            CHECK(all_finite(y));
            CHECK(same_bits(run(layer_of(moe::PackedExperts<float, moe::AnyForm>(bank)), batch), y));
        }
    }
}

}  // namespace moe_test::encoded_layer_test
