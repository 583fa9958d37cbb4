#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "experts/bank_runner.hpp"
#include "formats/encodings/encoding_cases.hpp"
#include "layer/batch_runner.hpp"
#include "moe/experts/encoded_bank.hpp"
#include "moe/layer/any_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"

namespace moe_test::checkpoint_bank_test {

namespace {

/// An encoded matrix an expert, and the values of all.
template <class M>
struct Projection {
    std::vector<EncodedMatrix<M>> experts;
    std::vector<float> values;

    [[nodiscard]] moe::EncodedStack stack() const {
        std::vector<M> matrices;
        for (const EncodedMatrix<M>& expert : experts) {
            matrices.push_back(expert.matrix);
        }
        return moe::EncodedStack(std::move(matrices));
    }
};

template <class Make>
auto projection(std::size_t n_experts, Make&& make) {
    Projection<decltype(make().matrix)> result;
    for (std::size_t e = 0; e < n_experts; ++e) {
        result.experts.push_back(make());
        const std::vector<float>& values = result.experts.back().values;
        result.values.insert(result.values.end(), values.begin(), values.end());
    }
    return result;
}

/// Experts whose projections `make(outputs, inputs)` draws: by themselves and in a layer, in place and packed, as those
/// over the values.
template <class Make>
void check_encoding(Draw& draw, std::string_view name, std::size_t d_model, std::size_t d_ff, Make&& make) {
    INFO(name);
    constexpr std::size_t n_experts = 3;
    const auto gate = projection(n_experts, [&] { return make(d_ff, d_model); });
    const auto up = projection(n_experts, [&] { return make(d_ff, d_model); });
    const auto down = projection(n_experts, [&] { return make(d_model, d_ff); });
    const std::vector<float> bias = random_elements<float>(draw, n_experts * d_model, 0.5);
    const auto down_bias = moe::stacked(bias.data(), n_experts, d_model, 1);
    using Form = moe::Gated<moe::Silu>;
    const moe::EncodedBank<Form> encoded({}, {gate.stack(), up.stack(), down.stack(), {}, {}, down_bias});
    const moe::ExpertBank<float, Form> floats({}, {moe::stacked(gate.values.data(), n_experts, d_ff, d_model),
                                                   moe::stacked(up.values.data(), n_experts, d_ff, d_model),
                                                   moe::stacked(down.values.data(), n_experts, d_model, d_ff),
                                                   {},
                                                   {},
                                                   down_bias});
    CHECK(encoded.weights().up.encoding() == name);
    for (const std::size_t n_rows : {1U, 9U}) {
        const std::vector<float> x = random_elements<float>(draw, n_rows * d_model, 1);
        REQUIRE(same_bits(run_experts(encoded, x), run_experts(floats, x)));
    }
    const std::vector<float> router = random_elements<float>(draw, n_experts * d_model, 1);
    const auto layer_of = [&](auto bank) {
        using Gate = moe::TokenChoice<moe::Softmax>;
        return moe::AnyLayer<float>(
            moe::MoELayer(moe::Router<float, Gate>(moe::view(router.data(), n_experts, d_model), {}, Gate{.top_k = 2}),
                          std::move(bank)));
    };
    const auto of_encoded = layer_of(encoded);
    const auto of_floats = layer_of(floats);
    const Batch<float> batch(draw, 11, d_model);
    const auto run = [&](const moe::AnyLayer<float>& layer) {
        moe::Workspace workspace;
        return run_tokens(layer, batch, first_tokens(11), false, workspace, ReversedExecutor(2));
    };
    const std::vector<float> expected = run(of_floats);
    REQUIRE(all_finite(expected));
    CHECK(same_bits(run(of_encoded), expected));
    CHECK(same_bits(run(moe::pack(of_encoded)), expected));
    for (const moe::Format format : {moe::Format::bfloat16, moe::Format::int8, moe::Format::int4}) {
        CHECK(same_bits(run(moe::pack(of_encoded, format)), run(moe::pack(of_floats, format))));
    }
}

}  // namespace

TEST_CASE("banks and layers over the encodings of checkpoints have the bits of their values", "[encoded]") {
    Draw draw(1);
    check_encoding(draw, "F8_E4M3", 131, 67,
                   [&](auto o, auto i) { return random_fp8(draw, enc::Float8::e4m3, o, i, 128, 128); });
    check_encoding(draw, "F8_E5M2", 53, 129,
                   [&](auto o, auto i) { return random_fp8(draw, enc::Float8::e5m2, o, i, 1, i); });
    check_encoding(draw, "MXFP4", 96, 160, [&](auto o, auto i) { return random_mxfp4(draw, o, i); });
    check_encoding(draw, "NVFP4", 80, 48,
                   [&](auto o, auto i) { return random_nvfp4(draw, enc::GlobalScale::divides, o, i); });
    check_encoding(draw, "GPTQ int4", 136, 72,
                   [&](auto o, auto i) { return random_gptq(draw, enc::GptqZeros::less_one, true, o, i, 32); });
    check_encoding(draw, "AWQ int4", 136, 72, [&](auto o, auto i) { return random_awq(draw, o, i, 64); });
    check_encoding(draw, "compressed-tensors int4", 131, 67,
                   [&](auto o, auto i) { return random_compressed(draw, true, false, o, i, 32); });
}

TEST_CASE("the interleaved rows of GPT-OSS are two projections", "[encoded]") {
    Draw draw(2);
    const auto joined = projection(2, [&] { return random_mxfp4(draw, 74, 64); });
    const auto down = projection(2, [&] { return random_mxfp4(draw, 64, 64); });
    const moe::EncodedGateUp encoded = moe::interleaved(joined.stack());
    const moe::GateUp<float> floats = moe::interleaved(moe::stacked(joined.values.data(), 2, 74, 64));
    const moe::EncodedStack wide = moe::stacked(down.values.data(), 2, 64, 37, 64, 64 * 64);
    using Form = moe::Gated<moe::Silu>;
    const moe::EncodedBank<Form> bank({}, {encoded.gate, encoded.up, wide, {}, {}, {}});
    const moe::ExpertBank<float, Form> of_floats(
        {}, {floats.gate, floats.up, moe::stacked(down.values.data(), 2, 64, 37, 64, 64 * 64), {}, {}, {}});
    const std::vector<float> x = random_elements<float>(draw, std::size_t{5} * 64, 1);
    CHECK(same_bits(run_experts(bank, x), run_experts(of_floats, x)));
}

}  // namespace moe_test::checkpoint_bank_test
