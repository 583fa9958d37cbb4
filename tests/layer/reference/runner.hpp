#pragma once

#include "layer/reference/cases.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"

/// The layer against the definition in reference/, link by link, so that each comparison claims what it can: the
/// logits, then the choice the definition makes of the same logits, then the output the definition makes of the same
/// choice. Where rounding can decide nothing, also the whole at once.
namespace moe_test {

/// What is done once with a layer: tokens, what the router reads of them, and how y is written.
template <class T>
struct Call {
    Batch<T> batch;
    std::vector<T> router_input;  ///< empty: x
    std::size_t router_inputs;
    bool accumulate;
    std::size_t workers;

    Call(Draw& draw, std::size_t n_tokens, std::size_t d_model, std::size_t the_router_inputs)
        : batch(draw, n_tokens, d_model),
          router_inputs(the_router_inputs),
          accumulate(draw.coin()),
          workers(draw.size(1, 3)) {
        if (router_inputs != d_model || draw.size(0, 3) == 0) {
            router_input = random_elements<T>(draw, n_tokens * router_inputs, 1);
        }
    }

    [[nodiscard]] std::size_t n_tokens() const { return batch.n_tokens(); }
    [[nodiscard]] moe::MatrixView<const T> x() const { return moe::view(batch.x.data(), n_tokens(), batch.d_model); }
    [[nodiscard]] reference::Vector x(std::size_t t) const { return to_vector(x().row_span(t)); }
    [[nodiscard]] reference::Vector router_input_of(std::size_t t) const {
        return router_input.empty() ? x(t)
                                    : to_vector(std::span(router_input).subspan(t * router_inputs, router_inputs));
    }
    [[nodiscard]] moe::ForwardOptions<T> options() const {
        moe::ForwardOptions<T> options;
        options.accumulate = accumulate;
        options.token_ids = batch.ids;
        if (!router_input.empty() || router_inputs != batch.d_model) {
            options.router_input = moe::view(router_input.data(), n_tokens(), router_inputs);
        }
        return options;
    }
};

/// What a layer made of a call.
template <class T>
struct Outcome {
    std::vector<T> logits;
    moe::RoutingPlan<T> plan;
    std::vector<T> y;
    std::string disagreement;  ///< of the ways to call the layer, if there is one
};

template <class T>
struct Recorder final : moe::Observer<T> {
    explicit Recorder(Outcome<T>& the_outcome) : outcome(the_outcome) {}
    void on_plan(const moe::RoutingRecord<T>& record) override {
        const moe::MatrixView<const T>& logits = record.logits;
        outcome.plan.assign(record.plan);
        outcome.logits.assign(logits.data(), logits.data() + logits.rows() * logits.cols());
    }
    Outcome<T>& outcome;
};

template <class Layer, class T = typename Layer::value_type>
Outcome<T> forward_with(const Layer& layer, const Call<T>& call, const moe::PlanView<T>& plan) {
    Outcome<T> outcome;
    outcome.y = call.batch.y;
    moe::Workspace workspace;
    layer.forward(call.x(), plan, moe::view(outcome.y.data(), call.n_tokens(), call.batch.d_model), workspace,
                  ReversedExecutor(call.workers), call.options());
    outcome.plan.assign(plan);
    return outcome;
}

template <class Layer, class T = typename Layer::value_type>
Outcome<T> forward(const Layer& layer, const Call<T>& call) {
    Outcome<T> outcome;
    outcome.y = call.batch.y;
    moe::Workspace workspace;
    Recorder<T> recorder(outcome);
    moe::ForwardOptions<T> options = call.options();
    options.observer = &recorder;
    layer.forward(call.x(), moe::view(outcome.y.data(), call.n_tokens(), call.batch.d_model), workspace,
                  ReversedExecutor(call.workers), options);
    moe::RoutingPlan<T> plan;
    layer.route(call.x(), plan, workspace, moe::SerialExecutor{}, call.options());
    if (!std::ranges::equal(plan.view().experts, outcome.plan.view().experts) ||
        !std::ranges::equal(plan.view().token_offsets, outcome.plan.view().token_offsets) ||
        !same_bits(plan.view().weights, outcome.plan.view().weights)) {
        outcome.disagreement = "route makes another plan than forward";
    } else if (!same_bits(forward_with(layer, call, plan.view()).y, outcome.y)) {
        outcome.disagreement = "forward with the plan of route gives other bits than forward";
    }
    return outcome;
}

/// What many cases have shown.
struct Tally {
    std::size_t cases = 0;
    std::size_t tokens = 0;
    std::size_t undecided = 0;  ///< tokens whose choice rounding may change
    std::size_t whole = 0;      ///< cases compared from x to y at once
    double error = 0;           ///< sum of the squares of y - reference, the plan being given
    double power = 0;
    double whole_error = 0;
    double whole_power = 0;
    std::size_t failures = 0;
    std::string first_failure;

    void add(const std::string& failure, const std::string& where) {
        ++cases;
        if (!failure.empty() && failures++ == 0) {
            first_failure = where + ": " + failure;
        }
    }
};

/// Whether every element of y must be as near as rounding allows, or their error is only counted: activations of 8 bits
/// are further away, by an error nobody can bound element by element.
enum class OutputIs { bounded, counted };

template <class T>
class ReferenceCheck {
public:
    static constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

    ReferenceCheck(const reference::Layer& layer, const Call<T>& call, const Outcome<T>& outcome, Tally& tally,
                   OutputIs output = OutputIs::bounded)
        : layer_(layer), call_(call), outcome_(outcome), tally_(tally), output_(output) {}

    /// Logits, choice, weights and output; empty, or what is wrong.
    [[nodiscard]] std::string run(const GateCase& gate) {
        std::string failure = outcome_.disagreement;
        for (std::size_t t = 0; t < call_.n_tokens(); ++t) {
            const reference::Vector logits = logits_of(t, failure);
            const auto expected = gate.expected(logits, call_.batch.ids[t], epsilon);
            ++tally_.tokens;
            tally_.undecided += expected ? 0U : 1U;
            if (expected) {
                check_choice(t, *expected, logits, failure);
            }
        }
        check_output(failure);
        if (gate.rule) {
            check_whole(*gate.rule, failure);
        }
        return failure;
    }

    /// The output alone: the plan came from outside.
    [[nodiscard]] std::string run(const std::vector<reference::Choice>& choices) {
        std::string failure;
        for (std::size_t t = 0; t < call_.n_tokens(); ++t) {
            check_output(t, choices[t], failure);
        }
        return failure;
    }

private:
    template <class... Parts>
    static void note(std::string& failure, const Parts&... parts) {
        if (failure.empty()) {
            std::ostringstream text;
            text.precision(9);
            (text << ... << parts);
            failure = text.str();
        }
    }

    /// The logits the layer found for token t, each within rounding of those of the definition.
    reference::Vector logits_of(std::size_t t, std::string& failure) const {
        if (outcome_.logits.empty()) {
            return {};
        }
        const std::size_t n = layer_.n_experts();
        const reference::Vector logits = to_vector(std::span(outcome_.logits).subspan(t * n, n));
        const reference::Vector input = call_.router_input_of(t);
        for (std::size_t e = 0; e < n; ++e) {
            const Projection expected(layer_.router, layer_.router_bias, e, 1, input);
            const double bound = 2 * rounding_bound<T>(input.size() + 1, expected.size);
            if (!(std::abs(logits[e] - expected.value) <= bound)) {
                note(failure, "logit ", e, " of token ", t, " is ", logits[e], " instead of ", expected.value,
                     ", allowed is ", bound);
            }
        }
        return logits;
    }

    void check_choice(std::size_t t, const reference::Choice& expected, const reference::Vector& logits,
                      std::string& failure) const {
        const auto experts = outcome_.plan.view().experts_of(t);
        const auto weights = outcome_.plan.view().weights_of(t);
        if (!std::ranges::equal(experts, expected.experts)) {
            return note(failure, "token ", t, " has other experts than the reference gives it");
        }
        double top = 0;
        for (const double logit : logits) {
            top = std::max(top, std::abs(logit));
        }
        const double relative = epsilon * (64 + 2 * static_cast<double>(logits.size()) + 8 * top);
        for (std::size_t slot = 0; slot < experts.size(); ++slot) {
            const double bound =
                relative * std::abs(expected.weights[slot]) + 4 * static_cast<double>(std::numeric_limits<T>::min());
            const auto weight = static_cast<double>(weights[slot]);
            if (!(std::abs(weight - expected.weights[slot]) <= bound)) {
                note(failure, "weight ", slot, " of token ", t, " is ", weight, " instead of ", expected.weights[slot],
                     ", allowed is ", bound);
            }
        }
    }

    void check_output(std::string& failure) const {
        for (std::size_t t = 0; t < call_.n_tokens(); ++t) {
            const auto experts = outcome_.plan.view().experts_of(t);
            check_output(t, {{experts.begin(), experts.end()}, to_vector(outcome_.plan.view().weights_of(t))}, failure);
        }
    }

    void check_output(std::size_t t, const reference::Choice& choice, std::string& failure) const {
        const std::size_t d = layer_.d_model;
        const reference::Vector x = call_.x(t);
        reference::Vector before(d, 0.0);
        if (call_.accumulate) {
            before = to_vector(std::span(call_.batch.y).subspan(t * d, d));
        }
        const reference::Vector result = combine(layer_, choice, x);
        const OutputBound<T> bound = output_bound<T>(layer_, choice, x, before);
        for (std::size_t o = 0; o < d; ++o) {
            const auto value = static_cast<double>(outcome_.y[t * d + o]);
            const double expected = before[o] + result[o];
            if (output_ == OutputIs::bounded ? !(std::abs(value - expected) <= bound(o)) : !std::isfinite(value)) {
                note(failure, "y(", t, ", ", o, ") is ", value, " instead of ", expected, ", allowed is ", bound(o));
            }
            tally_.error += (value - expected) * (value - expected);
            tally_.power += expected * expected;
        }
    }

    /// reference::forward itself, on the tokens no error of a logit can send elsewhere.
    void check_whole(const reference::TokenChoiceRule& rule, std::string& failure) const {
        reference::Vector inputs;
        for (std::size_t t = 0; t < call_.n_tokens(); ++t) {
            const reference::Vector input = call_.router_input_of(t);
            const reference::Vector logits =
                reference::linear(layer_.router, layer_.router_bias, input, layer_.n_experts());
            if (!is_decided(rule, logits, 16 * epsilon)) {
                return;
            }
            inputs.insert(inputs.end(), input.begin(), input.end());
        }
        reference::Layer layer = layer_;
        layer.rule = rule;
        reference::Vector y = to_vector(call_.batch.y);
        reference::forward(layer, to_vector(call_.batch.x), inputs, y, call_.accumulate);
        if (y.size() != outcome_.y.size()) {
            return note(failure, "y has ", outcome_.y.size(), " values, the reference ", y.size());
        }
        ++tally_.whole;
        for (std::size_t i = 0; i < y.size(); ++i) {
            const double difference = static_cast<double>(outcome_.y[i]) - y[i];
            tally_.whole_error += difference * difference;
            tally_.whole_power += y[i] * y[i];
        }
    }

    const reference::Layer& layer_;
    const Call<T>& call_;
    const Outcome<T>& outcome_;
    Tally& tally_;
    OutputIs output_;
};

// ---- random cases
// ----------------------------------------------------------------------------------------------------

struct Sizes {
    LayerShape shape;
    std::vector<std::size_t> token_counts;
};

/// Mostly small ones of every kind; some at the edges of panels and of blocks of k, some with many tokens or experts.
template <class T>
Sizes random_sizes(Draw& draw) {
    constexpr std::size_t width = moe::Panel<T>::width;
    constexpr std::size_t depth = moe::Panel<T>::depth;
    constexpr std::array<std::size_t, 12> edges{width / 2 - 1, width / 2,     width / 2 + 1, width - 1,
                                                width,         width + 1,     depth - 1,     depth,
                                                depth + 1,     2 * depth - 1, 2 * depth,     2 * depth + 1};
    const auto edge = [&] { return std::max<std::size_t>(1, edges[draw.size(0, edges.size() - 1)]); };
    Sizes sizes{random_layer_shape(draw, 70, 20), {0, 1, 2, 3, 5, 7, 13, 29}};
    LayerShape& shape = sizes.shape;
    shape.form.limit = std::array{0.3, 1.0, 7.0}.at(draw.size(0, 2));
    shape.form.alpha = draw.coin() ? 1.702 : 0.7;
    for (std::size_t& size : shape.shared_widths) {
        size = draw.size(1, 30);
    }
    const std::size_t kind = draw.size(0, 19);
    if (kind == 0) {
        shape.n_experts = draw.size(1, 6);
        shape.d_model = draw.size(1, 4);
        shape.d_ff = draw.size(1, 4);
        constexpr std::size_t rows = moe::max_task_rows;
        sizes.token_counts = {rows - 1, rows, rows + 1, 2 * rows + 1, 3 * rows};
    } else if (kind == 1) {
        shape.n_experts = draw.coin() ? 65 : 130;
        shape.d_model = draw.size(1, 8);
        shape.d_ff = draw.size(1, 8);
    } else if (kind <= 4) {
        shape.n_experts = draw.size(1, 3);
        shape.d_model = kind == 2 ? draw.size(1, 40) : edge();
        shape.d_ff = kind == 3 ? draw.size(1, 40) : edge();
        sizes.token_counts = {0, 1, 2, 3};
    } else if (kind > 7) {  // smaller sizes more often
        shape.d_model = draw.size(1, shape.d_model);
        shape.d_ff = draw.size(1, shape.d_ff);
    }
    if (!shape.shared_widths.empty() && draw.size(0, 2) == 0) {
        shape.shared_widths.push_back(draw.size(1, 20));
    }
    return sizes;
}

/// A plan nobody's gate would make: slots left unset, experts named twice, weights of both signs.
template <class T>
std::vector<reference::Choice> foreign_plan(Draw& draw, std::size_t n_tokens, std::size_t n_experts,
                                            moe::RoutingPlan<T>& plan) {
    const std::size_t slots = draw.size(1, 6);
    std::vector<moe::ExpertId> experts;
    std::vector<reference::Choice> choices(n_tokens);
    const std::vector<T> weights = random_elements<T>(draw, n_tokens * slots, 1);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        for (std::size_t slot = 0; slot < slots; ++slot) {
            const std::size_t id = draw.size(0, n_experts);
            const bool again = slot > 0 && draw.size(0, 3) == 0;
            experts.push_back(again ? experts.back() : static_cast<moe::ExpertId>(id) - 1);
            choices[t].experts.push_back(experts.back());
            choices[t].weights.push_back(static_cast<double>(weights[t * slots + slot]));
        }
    }
    plan.assign(moe::view(static_cast<const moe::ExpertId*>(experts.data()), n_tokens, slots),
                moe::view(weights.data(), n_tokens, slots), n_experts);
    return choices;
}

/// One layer, several calls with several gates and one foreign plan.
template <class W>
void check_random_layer(std::uint64_t seed, Tally& tally) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    const Sizes sizes = random_sizes<T>(draw);
    const std::size_t d = sizes.shape.d_model;
    const ReferenceCase<W> layer_case(draw, sizes.shape, draw.size(0, 2) == 0 ? draw.size(1, 70) : d);
    const reference::Layer definition = layer_case.definition();
    const std::size_t n_choices = sizes.shape.n_choices();
    const bool packed = draw.coin();
    constexpr std::size_t n_calls = 5;
    for (std::size_t i = 0; i < n_calls; ++i) {
        GateMemory memory;
        const GateCase gate = random_gate(draw, n_choices, memory);
        const std::size_t n_tokens = sizes.token_counts[draw.size(0, sizes.token_counts.size() - 1)];
        const Call<T> call(draw, n_tokens, d, layer_case.router_inputs());
        moe::RoutingPlan<T> plan;
        std::vector<reference::Choice> choices;
        const bool foreign = i == n_calls - 1;
        if (foreign) {
            choices = foreign_plan(draw, n_tokens, n_choices, plan);
        }
        const auto run = [&](const auto& layer) {
            return foreign ? forward_with(layer, call, plan.view()) : forward(layer, call);
        };
        const Outcome<T> outcome =
            packed ? run(moe::MoELayer{layer_case.router(gate.gate), moe::PackedExperts(layer_case.bank()),
                                       layer_case.shared(), layer_case.options()})
                   : run(moe::MoELayer{layer_case.router(gate.gate), layer_case.bank(), layer_case.shared(),
                                       layer_case.options()});
        ReferenceCheck<T> check(definition, call, outcome, tally);
        tally.add(foreign ? check.run(choices) : check.run(gate),
                  "seed " + std::to_string(seed) + ", call " + std::to_string(i));
    }
}

/// `n_layers` layers of 5 calls each, for storage type W.
template <class W>
void check_random_layers(std::uint64_t first_seed, std::size_t n_layers) {
    Tally tally;
    for (std::size_t i = 0; i < n_layers; ++i) {
        check_random_layer<W>(first_seed + i, tally);
    }
    INFO(tally.first_failure);
    CHECK(tally.failures == 0);
    CHECK(tally.cases == 5 * n_layers);
    CHECK(tally.undecided * 50 < tally.tokens);
    CHECK(tally.whole * 3 > tally.cases);
    const double promised = std::is_same_v<W, double> ? 1e-24 : 1e-12;
    CHECK(tally.error <= promised * tally.power);
    CHECK(tally.whole_error <= promised * tally.whole_power);
}

}  // namespace moe_test
