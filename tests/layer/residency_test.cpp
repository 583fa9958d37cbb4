#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "layer/residency_cases.hpp"
#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"

namespace moe_test::residency_test {

namespace {

using moe::ExpertId;
using moe_test::RecordedResidency;

/// What a layer gives with and without a Residency, and whether that was told what it should be.
struct Outcome {
    bool same = false;
    bool finite = false;
    bool heard = false;
    std::size_t n_missing = 0;
};

template <class Layer, class T>
Outcome run_case(const Layer& layer, std::size_t n_real, const moe_test::Batch<T>& batch, std::uint64_t seed,
                 moe::Workspace& workspace) {
    moe_test::Draw draw(seed);
    const std::size_t n = batch.n_tokens();
    const auto x = moe::view(batch.x.data(), n, batch.d_model);
    moe::ForwardOptions<T> options;
    options.accumulate = draw.coin();
    options.token_ids = batch.ids;
    std::vector<T> expected = batch.y;
    layer.forward(x, moe::view(expected.data(), n, batch.d_model), workspace, moe::SerialExecutor{}, options);
    moe::RoutingPlan<T> plan;
    layer.route(x, plan, workspace, moe::SerialExecutor{}, options);
    RecordedResidency residency(n_real, seed, {draw.size(0, 4), draw.size(0, 4)});
    options.residency = &residency;
    std::vector<T> y = batch.y;
    if (draw.size(0, 4) == 0) {
        const std::size_t nth = draw.size(1, 3);
        auto pass = layer.prepare(x, moe::view(y.data(), n, batch.d_model), workspace, nth, options);
        moe_test::drive(pass, nth);
    } else {
        moe_test::with_executor(draw.size(0, 11), [&](const moe::ExecutorRef& threads) {
            auto pass =
                layer.prepare(x, moe::view(y.data(), n, batch.d_model), workspace, threads.concurrency(), options);
            pass.run(threads, moe::Phase::logits, moe::Phase::output);
        });
    }
    return {moe_test::same_bits(y, expected), moe_test::all_finite(expected), residency.heard_once(plan.view()),
            residency.n_missing};
}

/// A bank that writes down whose products are computed.
class RecordingSource : public moe_test::LayerCase<float>::Bank {
public:
    using Bank = moe_test::LayerCase<float>::Bank;
    using Events = std::vector<std::pair<char, std::size_t>>;

    explicit RecordingSource(Bank bank) : Bank(std::move(bank)) {}

    void multiply_hidden(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        note('h', e);
        Bank::multiply_hidden(e, panels, rows, scratch);
    }
    void multiply_output(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        note('o', e);
        Bank::multiply_output(e, panels, rows, scratch);
    }
    void note(char what, std::size_t e) const {
        const std::scoped_lock lock(*mutex_);
        if (events_->empty() || events_->back() != std::pair{what, e}) {
            events_->emplace_back(what, e);
        }
    }
    [[nodiscard]] Events& events() const { return *events_; }

private:
    std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
    std::shared_ptr<Events> events_ = std::make_shared<Events>();
};

/// A Residency that says what it is given, and writes into the events of a source.
struct Scripted : moe::Residency {
    explicit Scripted(const RecordingSource& the_source) : source(the_source) {}
    void want(std::span<moe::WantedExpert> experts) override {
        for (moe::WantedExpert& expert : experts) {
            expert.there = std::count(missing.begin(), missing.end(), expert.expert) == 0;
            expert.begins_wave = std::count(waves.begin(), waves.end(), expert.expert) > 0;
        }
        if (throw_at == 'w') {
            throw std::runtime_error("want");
        }
    }
    void ask(ExpertId expert) override { event('a', expert); }
    void bring(ExpertId expert) override { event('b', expert); }
    void event(char what, ExpertId expert) const {
        source.note(what, static_cast<std::size_t>(expert));
        if (throw_at == what) {
            throw std::runtime_error("no weights today");
        }
    }

    const RecordingSource& source;
    std::vector<ExpertId> missing;
    std::vector<ExpertId> waves;
    char throw_at = ' ';
};

/// Six experts that all have tokens, of one panel each: an event is a task.
struct Setup {
    static constexpr std::size_t n_tokens = 12;  // enough for a parallel region

    [[nodiscard]] static moe_test::LayerShape shape() {
        moe_test::LayerShape shape;
        shape.n_experts = 6;
        shape.d_model = moe::Panel<float>::width;
        shape.d_ff = moe::Panel<float>::width / 2;
        return shape;
    }

    moe_test::LayerCase<float> layer_case{shape(), 3};
    moe::MoELayer<moe::Router<float, moe::Dense<moe::Softmax>>, RecordingSource> layer{
        layer_case.router(moe::Dense<moe::Softmax>{}), RecordingSource(layer_case.bank())};
    moe_test::Draw draw{4};
    moe_test::Batch<float> batch{draw, n_tokens, shape().d_model};
    moe::Workspace workspace;
    Scripted residency{layer.experts()};
    std::vector<float> y = std::vector<float>(batch.x.size());

    template <class E>
    void run(const E& executor) {
        layer.experts().events().clear();
        layer.forward(moe::view(std::as_const(batch.x).data(), n_tokens, batch.d_model),
                      moe::view(y.data(), n_tokens, batch.d_model), workspace, executor, {.residency = &residency});
    }
};

RecordingSource::Events events_of(const char* text) {
    RecordingSource::Events events;
    for (const char* c = text; *c != 0; c += c[2] == ' ' ? 3 : 2) {
        events.emplace_back(c[0], static_cast<std::size_t>(c[1] - '0'));
    }
    return events;
}

}  // namespace

TEST_CASE("the output has the same bits whatever is in memory, and each expert is asked for once a batch",
          "[residency]") {
    std::size_t with_missing = 0;
    for (std::uint64_t seed = 0; seed < 700; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 9);
        const moe_test::LayerCase<float> layer_case(shape, seed);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const moe::AnyGate& gate = gates.gates()[seed % gates.gates().size()];
        const moe_test::Batch<float> batch(draw, draw.size(0, 40), shape.d_model);
        moe::Workspace workspace;
        const Outcome outcome = seed % 2 == 0
                                    ? run_case(layer_case.layer(gate), shape.n_experts, batch, seed, workspace)
                                    : run_case(layer_case.packed_layer(gate), shape.n_experts, batch, seed, workspace);
        INFO("seed " << seed);
        REQUIRE(outcome.same);
        REQUIRE(outcome.finite);
        REQUIRE(outcome.heard);
        with_missing += outcome.n_missing > 0 ? 1U : 0U;
    }
    CHECK(with_missing > 300);
}

TEST_CASE("the same in double and in integers, and of blocks of many tokens", "[residency]") {
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        INFO("seed " << seed);
        moe_test::Draw draw(seed + 10'000);
        moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 150, 12);
        const std::size_t n_tokens = draw.size(1, seed % 10 == 0 ? 3 * moe::max_task_rows : 30);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const moe::AnyGate& gate = gates.gates()[seed % gates.gates().size()];
        moe::Workspace workspace;
        Outcome outcome;
        if (seed % 2 == 0) {
            const moe_test::LayerCase<double> layer_case(shape, seed);
            const moe_test::Batch<double> batch(draw, n_tokens, shape.d_model);
            outcome = run_case(layer_case.packed_layer(gate), shape.n_experts, batch, seed, workspace);
        } else {
            const moe_test::LayerCase<float> layer_case(shape, seed);
            const moe_test::Batch<float> batch(draw, n_tokens, shape.d_model);
            outcome = run_case(moe::pack<moe::Int8>(layer_case.layer(gate)), shape.n_experts, batch, seed, workspace);
        }
        REQUIRE(outcome.same);
        REQUIRE(outcome.heard);
    }
}

TEST_CASE("experts that are there are computed first, sums are added as ever", "[residency]") {
    Setup s;
    s.run(moe::SerialExecutor{});
    const std::vector<float> expected = s.y;
    CHECK(s.layer.experts().events() == events_of("h0 h1 h2 h3 h4 h5 o0 o1 o2 o3 o4 o5"));
    s.residency.missing = {0, 3};
    s.run(moe::SerialExecutor{});
    CHECK(s.layer.experts().events() == events_of("a0 a3 h1 h2 h4 h5 b0 h0 b3 h3 o0 o1 o2 o3 o4 o5"));
    CHECK(moe_test::same_bits(s.y, expected));
    s.residency.missing = {0, 1, 2, 3, 4, 5};
    // three workers, played by the first who comes: two are brought while one is computed
    s.run(moe_test::ReversedExecutor(3));
    CHECK(s.layer.experts().events() ==
          events_of("a0 a1 a2 a3 a4 a5 b0 b1 b2 h0 b3 h1 b4 h2 b5 h3 h4 h5 o0 o1 o2 o3 o4 o5"));
    CHECK(moe_test::same_bits(s.y, expected));
}

TEST_CASE("a wave is computed to the end before the next, which is asked for meanwhile", "[residency]") {
    Setup s;
    s.run(moe::SerialExecutor{});
    const std::vector<float> expected = s.y;
    s.residency.missing = {1, 2, 5};
    s.residency.waves = {2, 4};
    s.run(moe::SerialExecutor{});
    CHECK(s.layer.experts().events() == events_of("a1 h0 b1 h1 a2 o0 o1 h3 b2 h2 a5 o2 o3 h4 b5 h5 o4 o5"));
    CHECK(moe_test::same_bits(s.y, expected));
    s.residency.waves = {0, 1, 2, 3, 4, 5};  // that the first begins one goes without saying
    s.run(moe::SerialExecutor{});
    CHECK(s.layer.experts().events() == events_of("h0 a1 o0 b1 h1 a2 o1 b2 h2 o2 h3 o3 h4 a5 o4 b5 h5 o5"));
    CHECK(moe_test::same_bits(s.y, expected));
}

TEST_CASE("what a Residency throws ends the call, no worker waits for ever, and the next call is whole",
          "[residency]") {
    Setup s;
    s.run(moe::SerialExecutor{});
    const std::vector<float> expected = s.y;
    s.residency.missing = {1, 2, 5};
    for (const bool several : {false, true}) {
        s.residency.waves = several ? std::vector<ExpertId>{2, 4} : std::vector<ExpertId>{};
        for (const char at : {'w', 'a', 'b'}) {
            s.residency.throw_at = at;
            const char* const text = at == 'w' ? "want" : "no weights today";
            CHECK_THROWS_WITH(s.run(moe::SerialExecutor{}), text);
            CHECK_THROWS_WITH(s.run(moe_test::ThreadExecutor(4)), text);
        }
        s.residency.throw_at = ' ';
        s.run(moe_test::ThreadExecutor(4));
        CHECK(moe_test::same_bits(s.y, expected));
    }
}

TEST_CASE("passes that only route, and those without tokens, do not ask", "[residency]") {
    const Setup s;
    RecordedResidency residency(6, 1, {});
    moe::Workspace workspace;
    moe::RoutingPlan<float> plan;
    std::vector<float> y(s.batch.x.size());
    const auto x = moe::view(s.batch.x.data(), s.n_tokens, s.batch.d_model);
    s.layer.route(x, plan, workspace, moe::SerialExecutor{}, {.residency = &residency});
    s.layer.forward(moe::view(s.batch.x.data(), 0, s.batch.d_model), moe::view(y.data(), 0, s.batch.d_model), workspace,
                    moe::SerialExecutor{}, {.residency = &residency});
    CHECK(residency.n_wants == 0);
}

TEST_CASE("layers that hold a MoELayer pass it on", "[residency]") {
    Setup s;
    const moe::AnyLayer<float> any{s.layer_case.layer(moe::Dense<moe::Softmax>{})};
    RecordedResidency residency(6, 1, {0, 1});
    any.forward(moe::view(std::as_const(s.batch.x).data(), s.n_tokens, s.batch.d_model),
                moe::view(s.y.data(), s.n_tokens, s.batch.d_model), s.workspace, moe::SerialExecutor{},
                {.residency = &residency});
    CHECK(residency.n_wants == 1);
    CHECK(residency.n_missing == 6);
    const std::vector<float> weights = moe_test::random_elements<float>(s.draw, 8 * s.batch.d_model, 1);
    const std::size_t wide = s.batch.d_model;
    const moe::LatentLayer latent{
        moe::Linear<float>(moe::stacked(weights.data(), 1, wide, 8)),
        moe::MoELayer{moe::Router{moe::view(s.batch.x.data(), 6, 8), moe::Dense<moe::Softmax>{}}, s.layer_case.bank()},
        moe::Linear<float>(moe::stacked(weights.data(), 1, 8, wide))};
    RecordedResidency inner(6, 1, {0, 1});
    latent.forward(moe::view(std::as_const(s.batch.x).data(), s.n_tokens, 8), moe::view(s.y.data(), s.n_tokens, 8),
                   s.workspace, moe::SerialExecutor{}, {.residency = &inner});
    CHECK(inner.n_wants == 1);
    CHECK(inner.n_missing == 6);
}

TEST_CASE("a call with a Residency allocates nothing once its workspace has grown", "[residency][allocation]") {
    struct Quiet : moe::Residency {
        void want(std::span<moe::WantedExpert> experts) override {
            for (std::size_t i = 0; i < experts.size(); ++i) {
                experts[i].there = i % 2 == 0;
                experts[i].begins_wave = i % 3 == 0;
            }
            n += experts.size();
        }
        void ask(ExpertId) override { ++n; }
        void bring(ExpertId) override { ++n; }
        std::size_t n = 0;
    };
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 3);
    const auto layer = layer_case.packed_layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    moe_test::Draw draw(4);
    moe_test::Batch<float> batch(draw, 30, layer.d_model());
    const auto x = moe::view(std::as_const(batch.x).data(), 30, batch.d_model);
    const auto y = moe::view(batch.y.data(), 30, batch.d_model);
    moe::Workspace workspace;
    Quiet residency;
    layer.forward(x, y, workspace, moe_test::ReversedExecutor(4));
    const std::size_t before = moe_test::allocations();
    layer.forward(x, y, workspace, moe_test::ReversedExecutor(4), {.residency = &residency});
    layer.forward(x, y, workspace, moe::SerialExecutor{}, {.residency = &residency});
    const std::size_t allocated = moe_test::allocations() - before;
    CHECK(allocated == 0);
    CHECK(residency.n > 12);
}

}  // namespace moe_test::residency_test
