// Layers made of a MoEConfig with the parts no published preset has: hash gates and constant experts.

#include <cmath>
#include <cstdint>
#include <vector>

#include "moe/model/make_layer.hpp"
#include "moe/reference/layer/layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::config_gates_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

/// Three experts, one that adds nothing and two constant ones; a table of five token ids.
struct Setup {
    static constexpr std::size_t n_tokens = 11;
    static constexpr std::size_t d_model = 9;
    static constexpr std::size_t d_ff = 14;
    moe_test::Draw draw{3};
    std::vector<float> router = moe_test::random_elements<float>(draw, 6 * d_model, 1);
    std::vector<float> up = moe_test::random_elements<float>(draw, 3 * d_ff * d_model, 1);
    std::vector<float> gate = moe_test::random_elements<float>(draw, 3 * d_ff * d_model, 1);
    std::vector<float> down = moe_test::random_elements<float>(draw, 3 * d_model * d_ff, 1);
    std::vector<float> constants = moe_test::random_elements<float>(draw, 2 * d_model, 1);
    std::vector<float> x = moe_test::random_elements<float>(draw, n_tokens* d_model, 1);
    std::vector<float> mixes = moe_test::random_elements<float>(draw, 4 * d_model, 1);
    std::vector<std::int32_t> table{0, 4, 1, 2, 5, 3, 2, 0, 4, 5};
    std::vector<std::int32_t> ids{0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 2};
    moe::MoEConfig config{.name = "hashed",
                          .n_experts = 3,
                          .d_model = d_model,
                          .d_ff = d_ff,
                          .gate = moe::GateKind::hash,
                          .n_zero_experts = 1,
                          .n_constant_experts = 2};
    moe::LayerWeights<float> weights{};

    Setup() {
        weights.router = moe::view(router.data(), 6, d_model);
        weights.experts = moe::expert_weights<float>(config, {.gate = moe::stacked(gate.data(), 3, d_ff, d_model),
                                                              .up = moe::stacked(up.data(), 3, d_ff, d_model),
                                                              .down = moe::stacked(down.data(), 3, d_model, d_ff)});
        weights.constants = moe::view(constants.data(), 2, d_model);
        weights.hash_table = moe::view(table.data(), 5, 2);
    }

    [[nodiscard]] std::vector<float> result() const {
        const auto layer = moe::make_layer(config, weights);
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        moe::ForwardOptions<float> options;
        options.token_ids = ids;
        layer.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace,
                      moe::SerialExecutor{}, options);
        return y;
    }

    /// By the definition, with the weight of a chosen expert as a function of its logit.
    template <class Weigh>
    [[nodiscard]] std::vector<double> expected(const Weigh& weigh) const {
        const auto part = [](const std::vector<float>& values, std::size_t i, std::size_t size) {
            const auto first = values.begin() + static_cast<std::ptrdiff_t>(i * size);
            return moe::reference::Vector(first, first + static_cast<std::ptrdiff_t>(size));
        };
        moe::reference::Layer layer{.d_model = d_model, .router = {router.begin(), router.end()}, .n_zero = 1};
        for (std::size_t e = 0; e < 3; ++e) {
            layer.experts.push_back({d_model, d_ff, moe::reference::Form::swiglu, part(gate, e, d_ff * d_model),
                                     part(up, e, d_ff * d_model), part(down, e, d_model * d_ff)});
        }
        layer.constants = {part(constants, 0, d_model), part(constants, 1, d_model)};
        if (!weights.mixes.empty()) {
            layer.mixes = {part(mixes, 0, 2 * d_model), part(mixes, 1, 2 * d_model)};
        }
        std::vector<double> y;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const moe::reference::Vector token = part(x, t, d_model);
            const moe::reference::Vector logits = moe::reference::linear(layer.router, {}, token, 6);
            moe::reference::Choice choice;
            for (std::size_t slot = 0; slot < 2; ++slot) {
                const std::int32_t e = table[2 * static_cast<std::size_t>(ids[t]) + slot];
                choice.experts.push_back(e);
                choice.weights.push_back(weigh(logits[static_cast<std::size_t>(e)]));
            }
            const moe::reference::Vector row = moe::reference::combine(layer, choice, token);
            y.insert(y.end(), row.begin(), row.end());
        }
        return y;
    }
};

}  // namespace

TEST_CASE("a configured hash gate, weighted by a score, with constant experts", "[config]") {
    Setup s;
    s.config.routing.score.kind = moe::ScoreKind::sigmoid;
    s.config.routing.scale = 1.5;
    const auto expected = s.expected([](double logit) { return 1.5 / (1 + std::exp(-logit)); });
    CHECK(moe_test::nmse(s.result(), expected) <= 1e-12);
}

TEST_CASE("configured constant experts may mix the token with their constant", "[config]") {
    Setup s;
    s.config.routing.score.kind = moe::ScoreKind::uniform;
    s.weights.router = {};
    const std::vector<float> unmixed = s.result();
    s.weights.mixes = moe::view(s.mixes.data(), 4, Setup::d_model);
    CHECK(moe_test::nmse(s.result(), s.expected([](double) { return 1.0; })) <= 1e-12);
    CHECK_FALSE(moe_test::same_bits(s.result(), unmixed));
    s.weights.mixes = moe::view(s.mixes.data(), 3, Setup::d_model);
    CHECK_THAT(error_of([&] { (void)s.result(); }).text, contains("mixes of constant experts are 3 x 9"));
}

TEST_CASE("a configured hash gate with equal weights takes no router", "[config]") {
    Setup s;
    s.config.routing.score.kind = moe::ScoreKind::uniform;
    s.config.routing.normalize = true;
    CHECK_THAT(error_of([&] { (void)s.result(); }).text, contains("hashed has no router"));
    s.weights.router = {};
    CHECK(moe_test::nmse(s.result(), s.expected([](double) { return 0.5; })) <= 1e-12);
    s.config.router_bias = true;
    CHECK_THAT(error_of([&] { s.config.validate(); }).text, contains("reads no logits"));
}

TEST_CASE("tables and constants must be those of the configuration", "[config]") {
    const auto refused = [](auto&& change) {
        Setup s;
        change(s);
        return error_of([&] { (void)moe::make_layer(s.config, s.weights); });
    };
    CHECK_THAT(refused([](Setup& s) { s.weights.hash_table = {}; }).text, contains("hashed needs hash table"));
    CHECK_THAT(refused([](Setup& s) { s.config.gate = moe::GateKind::token_choice; }).text,
               contains("has no hash table"));
    CHECK_THAT(refused([](Setup& s) { s.weights.constants = {}; }).text, contains("needs constant expert"));
    CHECK_THAT(refused([](Setup& s) { s.weights.router = {}; }).text, contains("needs router"));
    CHECK(refused([](Setup& s) { s.weights.constants = moe::view(s.constants.data(), 1, 9); }).code ==
          ErrorCode::shape);
    CHECK(refused([](Setup& s) { s.weights.constants = moe::view(s.constants.data(), 2, 8); }).code ==
          ErrorCode::shape);
    CHECK_THAT(refused([](Setup& s) { s.table[3] = 6; }).text, contains("token id 1") && contains("expert 6"));
}

}  // namespace moe_test::config_gates_test
