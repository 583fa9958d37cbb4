// Gates that read no logits, over routers that make another number of logits than there are experts.

#include <cstddef>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/adaptors/masked.hpp"
#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/noisy_top_k.hpp"
#include "moe/gating/strategies/round_robin.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::with_gate_test {

namespace {

constexpr std::size_t n_tokens = 9;
constexpr std::size_t n_experts = 4;
constexpr std::size_t d_model = 10;

struct Setup {
    static moe_test::LayerShape shape() {
        moe_test::LayerShape shape;
        shape.n_experts = n_experts;
        shape.d_model = d_model;
        shape.d_ff = 7;
        return shape;
    }

    template <class Layer>
    [[nodiscard]] std::vector<float> forward(const Layer& layer) const {
        std::vector<float> y(n_tokens * d_model);
        moe::Workspace workspace;
        layer.forward(moe::view(batch.x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace);
        return y;
    }

    moe_test::LayerCase<float> layer_case{shape(), 11};
    moe_test::Draw draw{12};
    const moe_test::Batch<float> batch{draw, n_tokens, d_model};
    const std::vector<float> router = moe_test::random_elements<float>(draw, 2 * n_experts * d_model, 1);
    const moe::NoisyTopK noisy{.top_k = 2, .training = false};
};

}  // namespace

TEST_CASE("a gate without logits may stand in for one that reads two an expert", "[with_gate]") {
    const Setup s;
    const moe::MoELayer layer{moe::Router(moe::view(s.router.data(), 2 * n_experts, d_model), s.noisy),
                              s.layer_case.bank()};
    const moe::RoundRobin gate{2};
    const moe::MoELayer plain{moe::Router(n_experts, gate), s.layer_case.bank()};
    const std::vector<float> expected = s.forward(plain);
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(gate)), expected));
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(moe::AnyGate(gate))), expected));
    const std::vector<std::uint8_t> all(n_experts, 1);
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(moe::Masked<moe::RoundRobin>{gate, all})), expected));
    const moe::Capacity<moe::RoundRobin> capacity{.gate = gate, .limit = moe::CapacityLimit::fixed(n_tokens)};
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(capacity)), expected));
    CHECK(moe_test::error_of([&] { (void)layer.with_gate(moe::RoundRobin{5}); }).text ==
          "RoundRobin: top_k is 5, it must lie in 1..4, the number of experts");
    CHECK(moe_test::error_of([&] { (void)layer.with_gate(moe::TokenChoice<>{}); }).text ==
          "with_gate: this gate chooses among 8 experts, the layer's among 4");
}

}  // namespace moe_test::with_gate_test
