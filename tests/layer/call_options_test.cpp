// What may change from call to call: another gate, padding, and what an observer hears of dropped choices.

#include <algorithm>
#include <cstddef>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/gating/strategies/dense.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::call_options_test {

namespace {

using moe_test::contains;

constexpr std::size_t n_tokens = 13;
constexpr std::size_t n_experts = 5;

/// Every token chooses experts 0 and 1; each expert has one place, which the first token that is valid gets.
struct OnePlace {
    [[nodiscard]] static int max_per_token(int, int) { return 2; }
    void select(moe::MatrixView<const float>, moe::BatchSelection<float> out) const {
        bool taken = false;
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            for (moe::ExpertId e = 0; e < 2; ++e) {
                out.experts(t, static_cast<std::size_t>(e)) = taken ? moe::dropped(e) : e;
                out.weights(t, static_cast<std::size_t>(e)) = 0.5F;
            }
            taken = taken || out.is_valid(t);
        }
    }
};

/// Chooses expert (position mod n_experts).
struct ByPosition {
    static constexpr bool needs_logits = false;
    [[nodiscard]] static int max_per_token() { return 1; }
    int select(std::span<const float>, moe::TokenContext context, moe::Selection out) const {
        out.experts[0] = static_cast<moe::ExpertId>(context.position % n_experts);
        out.weights[0] = 1;
        return 1;
    }
};

/// The same for a batch.
struct PositionsOfBatch {
    static constexpr bool needs_logits = false;
    [[nodiscard]] static int max_per_token(int, int) { return 1; }
    void select(moe::MatrixView<const float>, moe::BatchSelection<float> out) const {
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            out.experts(t, 0) = static_cast<moe::ExpertId>(out.context(t).position % n_experts);
            out.weights(t, 0) = 1;
        }
    }
};

/// Two logits an expert, of which it reads the second.
struct SecondHalf {
    [[nodiscard]] static int n_experts(int n_logits) { return n_logits / 2; }
    [[nodiscard]] static int max_per_token() { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const {
        const auto second = logits.subspan(logits.size() / 2);
        const auto best = std::max_element(second.begin(), second.end());
        out.experts[0] = static_cast<moe::ExpertId>(best - second.begin());
        out.weights[0] = *best;
        return 1;
    }
};

struct Choices : moe::Observer<float> {
    std::vector<moe::ExpertId> seen;
    void on_plan(const moe::RoutingRecord<float>& record) override {
        for (std::size_t t = 0; t < record.choices.rows(); ++t) {
            const auto row = record.choices.row_span(t);
            seen.insert(seen.end(), row.begin(), row.end());
        }
    }
};

struct Setup {
    explicit Setup(bool pass_unrouted = false) : layer_case(shape(pass_unrouted), 3) {}

    static moe_test::LayerShape shape(bool pass_unrouted) {
        moe_test::LayerShape shape;
        shape.n_experts = n_experts;
        shape.d_model = 12;
        shape.d_ff = 9;
        shape.pass_unrouted = pass_unrouted;
        return shape;
    }

    template <class Layer>
    std::vector<float> forward(const Layer& layer, const moe::ForwardOptions<float>& options = {}) {
        std::vector<float> y(batch.x.size(), 7.0F);
        layer.forward(x(), moe::view(y.data(), n_tokens, batch.d_model), workspace, moe_test::ThreadExecutor(3),
                      options);
        return y;
    }
    [[nodiscard]] moe::MatrixView<const float> x() const { return moe::view(batch.x.data(), n_tokens, batch.d_model); }
    [[nodiscard]] std::vector<float> row(const std::vector<float>& y, std::size_t t) const {
        const auto first = y.begin() + static_cast<std::ptrdiff_t>(t * batch.d_model);
        return {first, first + static_cast<std::ptrdiff_t>(batch.d_model)};
    }

    moe_test::LayerCase<float> layer_case;
    moe_test::Draw draw{8};
    const moe_test::Batch<float> batch{draw, n_tokens, 12};
    moe::Workspace workspace;
};

}  // namespace

TEST_CASE("a layer under another gate is the layer made with that gate", "[with_gate]") {
    Setup s;
    const auto layer = s.layer_case.layer(moe::TokenChoice<>{.top_k = 1});
    for (const int k : {1, 2, static_cast<int>(n_experts)}) {
        const moe::TokenChoice<> gate{.top_k = k, .normalize = true};
        CHECK(moe_test::same_bits(s.forward(layer.with_gate(gate)), s.forward(s.layer_case.layer(gate))));
    }
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(moe::AnyGate(OnePlace{}))),
                              s.forward(s.layer_case.layer(OnePlace{}))));
    moe::RoutingPlan<float> plan;
    layer.with_gate(moe::Dense<>{}).route(s.x(), plan, s.workspace);
    CHECK(plan.view().n_assignments() == n_tokens * n_experts);
    CHECK(layer.with_gate(moe::Dense<>{}).describe().hidden.kernel == layer.describe().hidden.kernel);
}

TEST_CASE("a gate that does not fit the layer is refused", "[with_gate][errors]") {
    Setup s;
    const auto layer = s.layer_case.layer(moe::TokenChoice<>{.top_k = 1});
    CHECK_THAT(moe_test::error_of([&] { (void)layer.with_gate(moe::TokenChoice<>{.top_k = 6}); }).text,
               contains("top_k 6 exceeds the 5 experts"));
    CHECK(moe_test::error_of([&] { (void)layer.with_gate(SecondHalf{}); }).text ==
          "with_gate: this gate chooses among 2 experts, the layer's among 5");
    const moe::MoELayer no_weights{moe::Router(n_experts, ByPosition{}), s.layer_case.bank()};
    CHECK(moe_test::error_of([&] { (void)no_weights.with_gate(moe::TokenChoice<>{}); }).text ==
          "with_gate: this gate reads logits, but the router of the layer has no weights");
    CHECK(no_weights.with_gate(ByPosition{}).n_experts() == n_experts);
}

TEST_CASE("padding is not routed and takes nobody's place", "[layer][padding]") {
    Setup s;
    std::vector<std::uint8_t> valid(n_tokens, 1);
    valid[0] = valid[5] = 0;
    moe::ForwardOptions<float> options;
    options.valid = valid;
    const std::vector<float> zero(12, 0.0F);
    const auto layer = s.layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    const std::vector<float> all = s.forward(layer);
    const std::vector<float> masked = s.forward(layer, options);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        CHECK(moe_test::same_bits(s.row(masked, t), valid[t] != 0 ? s.row(all, t) : zero));
    }
    const std::vector<float> batch = s.forward(s.layer_case.layer(OnePlace{}), options);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        CHECK((s.row(batch, t) == zero) == (t != 1));
    }
    options.valid = std::span<const std::uint8_t>(valid).first(3);
    CHECK_THAT(moe_test::error_of([&] { (void)s.forward(layer, options); }).text,
               contains("3 flags of valid tokens for 13 tokens"));
}

TEST_CASE("a token without experts passes through where the layer says so, padding does not", "[layer][padding]") {
    Setup s(true);
    std::vector<std::uint8_t> valid(n_tokens, 1);
    valid[0] = valid[5] = 0;
    moe::ForwardOptions<float> options;
    options.valid = valid;
    const std::vector<float> y = s.forward(s.layer_case.layer(OnePlace{}), options);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const bool passes = t != 1 && valid[t] != 0;
        CHECK((s.row(y, t) == s.row(s.batch.x, t)) == passes);
    }
    CHECK(s.row(y, 5) == std::vector<float>(12, 0.0F));
}

TEST_CASE("an observer sees dropped choices, the plan has none", "[layer][observer]") {
    Setup s;
    Choices choices;
    moe::ForwardOptions<float> options;
    options.observer = &choices;
    (void)s.forward(s.layer_case.layer(OnePlace{}), options);
    std::vector<moe::ExpertId> expected{0, 1};
    while (expected.size() < 2 * n_tokens) {
        expected.push_back(moe::dropped(0));
        expected.push_back(moe::dropped(1));
    }
    CHECK(choices.seen == expected);
}

TEST_CASE("a gate is told the position of each token", "[layer]") {
    Setup s;
    const auto layer = s.layer_case.layer(ByPosition{});
    moe::ForwardOptions<float> options;
    options.first_position = 3;
    moe::RoutingPlan<float> plan;
    layer.route(s.x(), plan, s.workspace, moe::SerialExecutor{}, options);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        CHECK(plan.view().experts_of(t).front() == static_cast<moe::ExpertId>((t + 3) % n_experts));
    }
    std::vector<std::uint64_t> positions(n_tokens);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        positions[t] = 7 * t * t + 1;
    }
    options.positions = positions;
    const moe::MoELayer batch{moe::Router(n_experts, PositionsOfBatch{}), s.layer_case.bank()};
    moe::RoutingPlan<float> batch_plan;
    layer.route(s.x(), plan, s.workspace, moe::SerialExecutor{}, options);
    batch.route(s.x(), batch_plan, s.workspace, moe::SerialExecutor{}, options);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        CHECK(plan.view().experts_of(t).front() == static_cast<moe::ExpertId>(positions[t] % n_experts));
        CHECK(batch_plan.view().experts_of(t).front() == static_cast<moe::ExpertId>(positions[t] % n_experts));
    }
    options.positions = std::span<const std::uint64_t>(positions).first(4);
    CHECK_THAT(moe_test::error_of([&] { (void)s.forward(layer, options); }).text,
               contains("4 positions for 13 tokens"));
}

TEST_CASE("a router may have another number of rows than there are experts", "[layer]") {
    Setup s;
    const std::vector<float> router = moe_test::random_elements<float>(s.draw, 2 * n_experts * 12, 1);
    const moe::MoELayer layer{moe::Router(moe::view(router.data(), 2 * n_experts, 12), SecondHalf{}),
                              s.layer_case.bank()};
    const moe::MoELayer half{moe::Router(moe::view(router.data() + n_experts * 12, n_experts, 12),
                                         moe::TokenChoice<moe::Identity>{.top_k = 1}),
                             s.layer_case.bank()};
    CHECK(layer.n_experts() == n_experts);
    CHECK(moe_test::same_bits(s.forward(layer), s.forward(half)));
    CHECK(moe_test::same_bits(s.forward(moe::pack(layer)), s.forward(half)));
    // which is of no account to a gate that reads none of them
    CHECK(moe_test::same_bits(s.forward(layer.with_gate(ByPosition{})), s.forward(half.with_gate(ByPosition{}))));
}

}  // namespace moe_test::call_options_test
