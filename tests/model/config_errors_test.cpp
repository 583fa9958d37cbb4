#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "moe/model/make_layer.hpp"
#include "moe/model/presets.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::config_errors_test {

using moe::ErrorCode;
using moe::MoEConfig;
using moe_test::contains;
using moe_test::error_of;

namespace {

template <class Change>
void check_refused(MoEConfig config, ErrorCode code, const std::string& text, Change&& change) {
    change(config);
    const auto error = error_of([&] { config.validate(); });
    CHECK(error.code == code);
    CHECK_THAT(error.text, contains(text));
}

MoEConfig with_gate(moe::GateKind gate) {
    MoEConfig config = moe::presets::olmoe();
    config.gate = gate;
    config.routing = {};
    return config;
}

/// Mixtral with 3 experts, d_model 4 and d_ff 5.
MoEConfig tiny(moe::JoinedAs gate_up) {
    MoEConfig config = moe::presets::mixtral();
    config.n_experts = 3;
    config.d_model = 4;
    config.d_ff = 5;
    config.storage.gate_up = gate_up;
    return config;
}

const std::vector<float> memory(3 * 10 * 10);

moe::WeightStack<float> stack(std::size_t n_experts, std::size_t rows, std::size_t columns) {
    return moe::stacked(memory.data(), n_experts, rows, columns);
}

moe::StackedExperts<float> joined_tensors() { return {.gate_up = stack(3, 10, 4), .down = stack(3, 4, 5)}; }

/// Weights that fit tiny(JoinedAs::concatenated).
moe::LayerWeights<float> weights_of(const MoEConfig& config) {
    moe::LayerWeights<float> weights;
    weights.router = moe::view(memory.data(), 3, 4);
    weights.experts = moe::expert_weights(config, joined_tensors());
    return weights;
}

template <class Change>
void check_tensors(const MoEConfig& config, moe::StackedExperts<float> tensors, ErrorCode code, const char* text,
                   Change&& change) {
    CHECK_NOTHROW(moe::expert_weights(config, tensors));
    change(tensors);
    const auto error = error_of([&] { (void)moe::expert_weights(config, tensors); });
    CHECK(error.code == code);
    CHECK_THAT(error.text, contains("expert_weights: ") && contains("mixtral") && contains(text));
}

void check_layer_refused(const MoEConfig& config, const moe::LayerWeights<float>& weights, ErrorCode code,
                         const char* text) {
    const auto error = error_of([&] { (void)moe::make_layer(config, weights); });
    CHECK(error.code == code);
    CHECK_THAT(error.text, contains(text));
}

}  // namespace

TEST_CASE("a configuration refuses enumerators that are none, and names the number", "[config][errors]") {
    const auto refused = [](const char* text, auto change) {
        check_refused(moe::presets::mixtral(), ErrorCode::range, text, change);
    };
    refused("gate has no value 4", [](MoEConfig& c) { c.gate = static_cast<moe::GateKind>(4); });
    refused("weight_at has no value 2", [](MoEConfig& c) { c.weight_at = static_cast<moe::WeightAt>(2); });
    refused("shared_mode has no value 3", [](MoEConfig& c) { c.shared_mode = static_cast<moe::SharedMode>(3); });
    refused("gate_up has no value 9", [](MoEConfig& c) { c.storage.gate_up = static_cast<moe::JoinedAs>(9); });
    refused("kind 99 is none", [](MoEConfig& c) { c.form.kind = static_cast<moe::FormKind>(99); });
    refused("number 6", [](MoEConfig& c) { c.routing.score.kind = static_cast<moe::ScoreKind>(6); });
    refused("limit is 0", [](MoEConfig& c) { c.form.kind = moe::FormKind::clamped_before; });
}

TEST_CASE("a sum of experts that wraps is an overflow", "[config][errors]") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    check_refused(moe::presets::mixtral(), ErrorCode::overflow, "the sum 8 + 18446744073709551615",
                  [](MoEConfig& c) { c.n_zero_experts = most; });
    check_refused(moe::presets::mixtral(), ErrorCode::overflow, "the sum 9 + 18446744073709551610", [](MoEConfig& c) {
        c.n_zero_experts = 1;
        c.n_identity_experts = most - 5;
    });
}

TEST_CASE("settings a form or a gate would ignore are refused by name", "[config][errors]") {
    const auto refused = [](const MoEConfig& config, const char* text, auto change) {
        check_refused(config, ErrorCode::missing, text, change);
    };
    const MoEConfig mixtral = moe::presets::mixtral();
    refused(mixtral, "form.limit is set", [](MoEConfig& c) { c.form.limit = 7; });
    refused(mixtral, "form.alpha is set", [](MoEConfig& c) { c.form.alpha = 2; });
    refused(mixtral, "sparse_mixer_jitter is set", [](MoEConfig& c) { c.sparse_mixer_jitter = 0.1; });
    const std::vector<float> scale(64);
    for (const auto gate : {moe::GateKind::sparse_mixer, moe::GateKind::dense}) {
        const MoEConfig config = with_gate(gate);
        CHECK_NOTHROW(config.validate());
        const std::string by = gate == moe::GateKind::dense ? "the dense gate has none" : "the sparse mixer has none";
        const auto by_name = [&](const char* name, auto change) {
            refused(config, (std::string(name) + " is set, but " + by).c_str(), change);
        };
        by_name("routing.per_expert_scale", [&](MoEConfig& c) { c.routing.per_expert_scale = scale; });
        by_name("routing.logit_softcap", [](MoEConfig& c) { c.routing.logit_softcap = 30; });
        by_name("routing.groups", [](MoEConfig& c) { c.routing.groups.n_groups = 2; });
        by_name("routing.select_on", [](MoEConfig& c) { c.routing.select_on = moe::SelectOn::logits; });
        by_name("routing.weight_from",
                [](MoEConfig& c) { c.routing.weight_from = moe::WeightFrom::softmax_of_selected; });
    }
    const MoEConfig mixer = with_gate(moe::GateKind::sparse_mixer);
    refused(mixer, "routing.score is set", [](MoEConfig& c) { c.routing.score.kind = moe::ScoreKind::sigmoid; });
    refused(mixer, "routing.normalize is set", [](MoEConfig& c) { c.routing.normalize = true; });
    refused(mixer, "routing.scale is set", [](MoEConfig& c) { c.routing.scale = 2; });
    check_refused(mixer, ErrorCode::range, "routing.top_k is 4, but the sparse mixer takes 2 experts",
                  [](MoEConfig& c) { c.routing.top_k = 4; });
    check_refused(with_gate(moe::GateKind::dense), ErrorCode::range, "top_k is 2, but the dense gate takes 64 experts",
                  [](MoEConfig& c) { c.routing.top_k = 2; });
}

TEST_CASE("tensors of experts are exactly those the storage names", "[config][errors]") {
    using Tensors = moe::StackedExperts<float>;
    const MoEConfig joined = tiny(moe::JoinedAs::concatenated);
    const auto joined_refused = [&](const char* text, auto change) {
        check_tensors(joined, joined_tensors(), ErrorCode::missing, text, change);
    };
    joined_refused("has no gate as", [](Tensors& t) { t.gate = stack(3, 5, 4); });
    joined_refused("has no up as", [](Tensors& t) { t.up = stack(3, 5, 4); });
    joined_refused("needs gate_up,", [](Tensors& t) { t.gate_up = {}; });
    joined_refused("needs down,", [](Tensors& t) { t.down = {}; });
    joined_refused("has no gate_up_bias as", [](Tensors& t) { t.gate_up_bias = stack(3, 10, 1); });
    joined_refused("has no down_bias as", [](Tensors& t) { t.down_bias = stack(3, 4, 1); });

    MoEConfig apart = tiny(moe::JoinedAs::separate);
    apart.expert_bias = true;
    const Tensors six{.gate = stack(3, 5, 4),
                      .up = stack(3, 5, 4),
                      .down = stack(3, 4, 5),
                      .gate_bias = stack(3, 5, 1),
                      .up_bias = stack(3, 5, 1),
                      .down_bias = stack(3, 4, 1)};
    const auto apart_refused = [&](const char* text, auto change) {
        check_tensors(apart, six, ErrorCode::missing, text, change);
    };
    apart_refused("has no gate_up as", [](Tensors& t) { t.gate_up = stack(3, 10, 4); });
    apart_refused("has no gate_up_bias as", [](Tensors& t) { t.gate_up_bias = stack(3, 10, 1); });
    apart_refused("needs gate,", [](Tensors& t) { t.gate = {}; });
    apart_refused("needs up,", [](Tensors& t) { t.up = {}; });
    apart_refused("needs gate_bias,", [](Tensors& t) { t.gate_bias = {}; });
    apart_refused("needs up_bias,", [](Tensors& t) { t.up_bias = {}; });

    MoEConfig plain = tiny(moe::JoinedAs::separate);
    plain.form.kind = moe::FormKind::relu;
    check_tensors(plain, {.up = stack(3, 5, 4), .down = stack(3, 4, 5)}, ErrorCode::missing, "has no gate as",
                  [](Tensors& t) { t.gate = stack(3, 5, 4); });
}

TEST_CASE("tensors of experts have the shapes the configuration says, or both are named", "[config][errors]") {
    using Tensors = moe::StackedExperts<float>;
    const auto refused = [](const MoEConfig& config, const Tensors& tensors, const char* text, auto change) {
        check_tensors(config, tensors, ErrorCode::shape, text, change);
    };
    const MoEConfig joined = tiny(moe::JoinedAs::concatenated);
    refused(joined, joined_tensors(), "gate_up is 2 x 10 x 4, but mixtral has it stored as 3 x 10 x 4",
            [](Tensors& t) { t.gate_up = stack(2, 10, 4); });
    refused(joined, joined_tensors(),
            "gate_up is 3 x 4 x 10, but mixtral has it stored as 3 x 10 x 4; rows and columns",
            [](Tensors& t) { t.gate_up = stack(3, 4, 10); });
    refused(joined, joined_tensors(), "down is 3 x 4 x 6, but", [](Tensors& t) { t.down = stack(3, 4, 6); });

    MoEConfig input_major = joined;
    input_major.expert_bias = true;
    input_major.storage = {moe::JoinedAs::interleaved, true, true};
    const Tensors four{.gate_up = stack(3, 4, 10),
                       .down = stack(3, 5, 4),
                       .gate_up_bias = stack(3, 10, 1),
                       .down_bias = stack(3, 4, 1)};
    refused(input_major, four, "gate_up is 3 x 10 x 4, but mixtral has it stored as 3 x 4 x 10; rows and columns",
            [](Tensors& t) { t.gate_up = stack(3, 10, 4); });
    refused(input_major, four, "down is 3 x 4 x 5, but mixtral has it stored as 3 x 5 x 4; rows and columns",
            [](Tensors& t) { t.down = stack(3, 4, 5); });
    refused(input_major, four, "gate_up_bias is 3 x 5 x 1, but mixtral has it stored as 3 x 10 x 1",
            [](Tensors& t) { t.gate_up_bias = stack(3, 5, 1); });

    MoEConfig huge = joined;
    huge.d_ff = std::numeric_limits<std::size_t>::max() / 2 + 1;
    CHECK(error_of([&] { (void)moe::expert_weights(huge, joined_tensors()); }).code == ErrorCode::overflow);
}

TEST_CASE("tensors of a shared expert are held against a storage order of its own", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    const moe::StackedExperts<float> apart{.gate = stack(1, 7, 4), .up = stack(1, 7, 4), .down = stack(1, 4, 7)};
    const auto refused = [&](ErrorCode code, const char* text) {
        const auto error = error_of([&] { (void)moe::shared_weights(config, apart); });
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains("shared_weights: ") && contains(text));
    };
    refused(ErrorCode::missing, "mixtral has no shared expert");
    config.shared_d_ff = 7;
    CHECK_NOTHROW(moe::shared_weights(config, apart));
    config.shared_d_ff = 6;
    refused(ErrorCode::shape, "gate is 1 x 7 x 4, but mixtral has it stored as 1 x 6 x 4");
    config.shared_d_ff = 7;
    config.shared_storage.gate_up = moe::JoinedAs::concatenated;
    refused(ErrorCode::missing, "has no gate as");
    config.shared_storage = {};
    config.shared_bias = true;
    refused(ErrorCode::missing, "needs gate_bias");
}

TEST_CASE("a router of another shape than the configuration's is refused with both", "[config][errors]") {
    const MoEConfig config = tiny(moe::JoinedAs::concatenated);
    moe::LayerWeights<float> weights = weights_of(config);
    CHECK_NOTHROW(moe::make_layer(config, weights));
    weights.router = moe::view(memory.data(), 3, 6);
    check_layer_refused(config, weights, ErrorCode::shape,
                        "the router is 3 x 6, but the configuration mixtral says 3 x 4; a router that reads something");
    weights.router = moe::view(memory.data(), 4, 4);
    check_layer_refused(config, weights, ErrorCode::shape, "the router is 4 x 4, but the configuration mixtral says 3");
    weights.router = {};
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral needs router");
}

TEST_CASE("a router that reads something else is refused where a call does not give it", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    config.d_router = 6;
    moe::LayerWeights<float> weights = weights_of(tiny(moe::JoinedAs::concatenated));
    check_layer_refused(config, weights, ErrorCode::shape,
                        "the router is 3 x 4, but the configuration mixtral says 3 x 6");
    weights.router = moe::view(memory.data(), 3, 6);
    const auto layer = moe::make_layer(config, weights);
    std::vector<float> y(2 * 4);
    moe::Workspace workspace;
    const auto x = moe::view(memory.data(), 2, 4);
    const auto error = error_of([&] { layer.forward(x, moe::view(y.data(), 2, 4), workspace); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("x has 4 columns but the router weights have 6") && contains("router_input"));
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(memory.data(), 2, 6);
    CHECK_NOTHROW(layer.forward(x, moe::view(y.data(), 2, 4), workspace, moe::SerialExecutor{}, options));
}

TEST_CASE("a shared expert has what the configuration says of it", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    const auto refused = [&](ErrorCode code, const char* text, auto change) {
        check_refused(config, code, text, change);
    };
    refused(ErrorCode::missing, "a shared form is set but shared_d_ff is 0",
            [](MoEConfig& c) { c.shared_form = moe::AnyForm{}; });
    refused(ErrorCode::missing, "a shared bias is set but", [](MoEConfig& c) { c.shared_bias = true; });
    config.shared_d_ff = 7;
    refused(ErrorCode::missing, "shared_form.limit is set",
            [](MoEConfig& c) { c.shared_form = moe::AnyForm{.kind = moe::FormKind::swiglu, .limit = 7}; });
    refused(ErrorCode::missing, "shared_form.alpha is set",
            [](MoEConfig& c) { c.shared_form = moe::AnyForm{.kind = moe::FormKind::swiglu, .alpha = 1}; });
    refused(ErrorCode::range, "limit is 0",
            [](MoEConfig& c) { c.shared_form = moe::AnyForm{.kind = moe::FormKind::clamped_after}; });
    refused(ErrorCode::layout, "shared_form is plain", [](MoEConfig& c) {
        c.shared_form = moe::AnyForm{.kind = moe::FormKind::relu};
        c.shared_storage.gate_up = moe::JoinedAs::concatenated;
    });
    refused(ErrorCode::range, "shared_storage.gate_up has no value 9",
            [](MoEConfig& c) { c.shared_storage.gate_up = static_cast<moe::JoinedAs>(9); });

    moe::LayerWeights<float> weights = weights_of(config);
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral needs shared expert");
    weights.shared = {stack(1, 7, 4), stack(1, 7, 4), stack(1, 4, 7), {}, {}, {}};
    CHECK_NOTHROW(moe::make_layer(config, weights));
    weights.shared = {stack(1, 7, 5), stack(1, 7, 5), stack(1, 5, 7), {}, {}, {}};
    check_layer_refused(config, weights, ErrorCode::shape, "the shared experts are 1 of d_model 5 and d_ff 7");
    config.shared_form = moe::AnyForm{.kind = moe::FormKind::relu};
    weights.shared = {stack(1, 7, 4), stack(1, 7, 4), stack(1, 4, 7), {}, {}, {}};
    check_layer_refused(config, weights, ErrorCode::missing, "a plain form has no gate projection");
    weights.shared = {{}, stack(1, 7, 4), stack(1, 4, 7), {}, {}, stack(1, 4, 1)};
    check_layer_refused(config, weights, ErrorCode::missing, "has no bias of the shared down projection");
}

TEST_CASE("weights of a shared expert that the configuration has not are refused, whichever they are", "[config]") {
    const MoEConfig config = tiny(moe::JoinedAs::concatenated);
    moe::LayerWeights<float> weights = weights_of(config);
    weights.shared.down = stack(1, 4, 5);
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral has no shared expert, but one was given");
}

TEST_CASE("a scale for each expert comes with the weights", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    moe::LayerWeights<float> weights = weights_of(config);
    const std::vector<float> scale(3, 1.0F);
    weights.per_expert_scale = scale;
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral has no per_expert_scale");
    config.per_expert_scale = true;
    CHECK_NOTHROW(moe::make_layer(config, weights));
    weights.per_expert_scale = std::span<const float>(scale).first(2);
    const auto error = error_of([&] { (void)moe::make_layer(config, weights); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("per_expert_scale has 2 values for 3 experts"));
    weights.per_expert_scale = {};
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral needs per_expert_scale");
    check_refused(config, ErrorCode::missing, "routing.per_expert_scale must stay empty",
                  [&](MoEConfig& c) { c.routing.per_expert_scale = scale; });
    check_refused(with_gate(moe::GateKind::dense), ErrorCode::missing,
                  "a per_expert_scale is set, but only token choice", [](MoEConfig& c) { c.per_expert_scale = true; });
}

TEST_CASE("a gated layer with biases needs those of the gate projections", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    config.expert_bias = true;
    moe::LayerWeights<float> weights;
    weights.router = moe::view(memory.data(), 3, 4);
    moe::StackedExperts<float> tensors = joined_tensors();
    tensors.gate_up_bias = stack(3, 10, 1);
    tensors.down_bias = stack(3, 4, 1);
    weights.experts = moe::expert_weights(config, tensors);
    CHECK_NOTHROW(moe::make_layer(config, weights));
    weights.experts.gate_bias = {};
    check_layer_refused(config, weights, ErrorCode::missing, "mixtral needs bias of the gate projections");
}

TEST_CASE("how an unknown file stores experts is an error that says what to set", "[config][errors]") {
    const auto error = error_of([] { (void)moe::presets::grok_1().in_published_file(); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("grok_1") && contains("set storage and shared_storage by hand"));
    CHECK(error_of([] { (void)MoEConfig{}.in_published_file(); }).code == ErrorCode::missing);
}

}  // namespace moe_test::config_errors_test
