#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "support/catch.hpp"

namespace moe_test::observer_test {

namespace {

/// Writes down what it is told, and throws where a test wants it to.
struct Recorder : moe::Observer<float> {
    std::vector<std::string> events;
    std::size_t n_assignments = 0;
    std::size_t n_choices = 0;
    std::vector<moe::ExpertId> experts;
    std::vector<float> logits;
    std::size_t logit_rows = 0;
    std::size_t logit_cols = 0;
    std::string throw_at;

    void on_phase_begin(moe::Phase phase) override { note(std::string("begin ") + moe::phase_name(phase)); }
    void on_phase_end(moe::Phase phase) override { note(std::string("end ") + moe::phase_name(phase)); }
    void on_plan(const moe::RoutingRecord<float>& record) override {
        const auto& [plan, the_logits, choices, valid] = record;
        moe::check_plan(plan);
        n_choices = choices.rows() * choices.cols();
        n_assignments = plan.n_assignments();
        experts.assign(plan.experts.begin(), plan.experts.end());
        logit_rows = the_logits.rows();
        logit_cols = the_logits.cols();
        for (std::size_t t = 0; t < logit_rows; ++t) {
            logits.insert(logits.end(), the_logits.row(t), the_logits.row(t) + logit_cols);
        }
        note("plan");
    }

private:
    void note(const std::string& event) {
        events.push_back(event);
        if (event == throw_at) {
            throw std::runtime_error("observer: " + event);
        }
    }
};

const std::vector<std::string> all_events{"begin logits", "end logits",   "begin gating", "end gating",
                                          "begin plan",   "end plan",     "plan",         "begin hidden",
                                          "end hidden",   "begin output", "end output"};

struct Setup {
    static constexpr std::size_t n_tokens = 30;
    moe_test::LayerCase<float> layer_case{moe_test::shared_layer_shape(), 7};
    moe_test::Draw draw{8};
    moe_test::Batch<float> batch{draw, n_tokens, layer_case.shape().d_model};
    moe::Workspace workspace;
    Recorder recorder;

    [[nodiscard]] auto layer() const { return layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2}); }
    [[nodiscard]] moe::MatrixView<const float> x() const { return moe::view(batch.x.data(), n_tokens, batch.d_model); }
    [[nodiscard]] moe::MatrixView<float> y() { return moe::view(batch.y.data(), n_tokens, batch.d_model); }
    [[nodiscard]] moe::ForwardOptions<float> options() {
        moe::ForwardOptions<float> options;
        options.observer = &recorder;
        return options;
    }
};

}  // namespace

TEST_CASE("an observer is called in order, by the thread that called forward", "[observer]") {
    Setup s;
    s.layer().forward(s.x(), s.y(), s.workspace, moe_test::ThreadExecutor(4), s.options());
    CHECK(s.recorder.events == all_events);
}

TEST_CASE("an observer sees the plan and the logits it was made of", "[observer]") {
    Setup s;
    const auto layer = s.layer();
    layer.forward(s.x(), s.y(), s.workspace, moe::SerialExecutor{}, s.options());
    moe::RoutingPlan<float> plan;
    layer.route(s.x(), plan, s.workspace);
    const moe::PlanView<float> view = plan;
    CHECK(s.recorder.experts == std::vector<moe::ExpertId>(view.experts.begin(), view.experts.end()));
    CHECK(s.recorder.logit_rows == Setup::n_tokens);
    CHECK(s.recorder.logit_cols == layer.n_experts());
    for (std::size_t t = 0; t < Setup::n_tokens; ++t) {
        const auto row = std::span(s.recorder.logits).subspan(t * layer.n_experts(), layer.n_experts());
        const auto best = static_cast<moe::ExpertId>(std::max_element(row.begin(), row.end()) - row.begin());
        CHECK(view.experts_of(t).front() == best);
    }
}

TEST_CASE("an observer changes no bit, and sees a plan that was given, without logits", "[observer]") {
    Setup s;
    const auto layer = s.layer();
    layer.forward(s.x(), s.y(), s.workspace);
    const std::vector<float> expected = s.batch.y;
    layer.forward(s.x(), s.y(), s.workspace, moe_test::ThreadExecutor(3), s.options());
    CHECK(moe_test::same_bits(s.batch.y, expected));
    moe::RoutingPlan<float> plan;
    layer.route(s.x(), plan, s.workspace);
    s.recorder.events.clear();
    s.recorder.logits.clear();
    layer.forward(s.x(), plan, s.y(), s.workspace, moe::SerialExecutor{}, s.options());
    CHECK(moe_test::same_bits(s.batch.y, expected));
    CHECK(s.recorder.events == all_events);
    CHECK(s.recorder.n_assignments == 2 * Setup::n_tokens);
    CHECK(s.recorder.logit_rows == 0);
    CHECK(s.recorder.logits.empty());
}

TEST_CASE("route stops after the plan", "[observer]") {
    Setup s;
    moe::RoutingPlan<float> plan;
    s.layer().route(s.x(), plan, s.workspace, moe::SerialExecutor{}, s.options());
    CHECK(s.recorder.events == std::vector<std::string>(all_events.begin(), all_events.begin() + 7));
}

TEST_CASE("an observer that throws ends the pass; before the output phase nothing is written", "[observer]") {
    Setup s;
    const auto layer = s.layer();
    const std::vector<float> before = s.batch.y;
    for (const std::string& event : all_events) {
        INFO(event);
        s.recorder.events.clear();
        s.recorder.throw_at = event;
        std::string caught;
        try {
            layer.forward(s.x(), s.y(), s.workspace, moe_test::ThreadExecutor(3), s.options());
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
        CHECK(caught == "observer: " + event);
        CHECK(s.recorder.events.back() == event);
        CHECK((event == "end output" || s.batch.y == before));
    }
    s.recorder.throw_at.clear();
    const moe_test::Expected<float> expected(layer, s.batch, false, s.workspace);
    CHECK(expected.holds_for(layer, moe_test::first_tokens(Setup::n_tokens), s.workspace, moe::SerialExecutor{}));
}

TEST_CASE("worker 0 of a host that drives the phases tells the observer", "[observer]") {
    Setup s;
    const auto layer = s.layer();
    auto pass = layer.prepare(s.x(), s.y(), s.workspace, 3, s.options());
    moe_test::drive(pass, 3);
    CHECK(s.recorder.events == all_events);
}

}  // namespace moe_test::observer_test
