// What a HierarchicalLayer refuses in the part of it that routes: errors name the class that the caller sees.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/layer/hierarchical_layer.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::hierarchical_errors_test {

namespace {

using moe_test::error_of;

/// Announces one assignment and makes one a token.
struct TooMany {
    [[nodiscard]] static int max_per_token(int, int) { return 1; }
    [[nodiscard]] static int max_assignments(int, int) { return 1; }
    void select(moe::MatrixView<const float>, moe::BatchSelection<float> out) const {
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            out.experts(t, 0) = 0;
            out.weights(t, 0) = 1;
        }
    }
};

struct Setup {
    static moe_test::LayerShape shape() {
        moe_test::LayerShape shape;
        shape.n_experts = 3;
        shape.d_model = 6;
        shape.d_ff = 5;
        return shape;
    }

    template <class Gate>
    [[nodiscard]] std::string refusal(const Gate& gate, const moe::ForwardOptions<float>& options = {}) const {
        const auto group = group_case.layer(moe::TokenChoice<>{});
        const moe::HierarchicalLayer layer{moe::Router(moe::view(router.data(), 2, 6), gate),
                                           std::vector{group, group}};
        std::vector<float> y(12, 3.0F);
        moe::Workspace workspace;
        const std::string text = error_of([&] {
                                     layer.forward(moe::view(x.data(), 2, 6), moe::view(y.data(), 2, 6), workspace,
                                                   moe::SerialExecutor{}, options);
                                 }).text;
        CHECK(y == std::vector<float>(12, 3.0F));
        return text;
    }

    moe_test::LayerCase<float> group_case{shape(), 5};
    std::vector<float> router = std::vector<float>(12, 0.5F);
    std::vector<float> x = std::vector<float>(21, 1.0F);
};

}  // namespace

TEST_CASE("a HierarchicalLayer refuses in its own name what its router cannot read", "[hierarchical][errors]") {
    const Setup s;
    const moe::TokenChoice<> gate{};
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(s.x.data(), 3, 6);
    CHECK(s.refusal(gate, options) == "HierarchicalLayer: the router input has 3 rows for 2 tokens");
    options.router_input = moe::view(s.x.data(), 2, 7);
    CHECK(s.refusal(gate, options) ==
          "HierarchicalLayer: the router input has 7 columns but the router weights have 6");
    options = {};
    const std::vector<std::int32_t> ids(3);
    options.token_ids = ids;
    CHECK(s.refusal(gate, options) == "HierarchicalLayer: 3 token ids for 2 tokens");
    options = {};
    const std::vector<std::uint8_t> valid(1, 1);
    options.valid = valid;
    CHECK(s.refusal(gate, options) == "HierarchicalLayer: 1 flags of valid tokens for 2 tokens");
    options = {};
    const std::vector<std::uint64_t> positions(3);
    options.positions = positions;
    CHECK(s.refusal(gate, options) == "HierarchicalLayer: 3 positions for 2 tokens");
    CHECK(s.refusal(TooMany{}) == "HierarchicalLayer: the gate chose 2 assignments, more than the 1 it announced");
}

}  // namespace moe_test::hierarchical_errors_test
