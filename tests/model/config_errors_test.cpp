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

const std::vector<float> memory(3 * 10 * 4);
const float* const data = memory.data();

template <class Change>
void check_tensors(const MoEConfig& config, moe::StackedExperts<float> tensors, ErrorCode code, const char* text,
                   Change&& change) {
    CHECK_NOTHROW(moe::expert_weights(config, tensors, 3, 5));
    change(tensors);
    const auto error = error_of([&] { (void)moe::expert_weights(config, tensors, 3, 5); });
    CHECK(error.code == code);
    CHECK_THAT(error.text, contains("expert_weights: mixtral") && contains(text));
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
    const Tensors two{.gate_up = data, .down = data};
    check_tensors(joined, two, ErrorCode::missing, "has no gate as", [](Tensors& t) { t.gate = data; });
    check_tensors(joined, two, ErrorCode::missing, "has no up as", [](Tensors& t) { t.up = data; });
    check_tensors(joined, two, ErrorCode::null_pointer, "needs gate_up", [](Tensors& t) { t.gate_up = nullptr; });
    check_tensors(joined, two, ErrorCode::null_pointer, "needs down", [](Tensors& t) { t.down = nullptr; });

    MoEConfig apart = tiny(moe::JoinedAs::separate);
    const Tensors three{.gate = data, .up = data, .down = data};
    check_tensors(apart, three, ErrorCode::missing, "has no gate_up as", [](Tensors& t) { t.gate_up = data; });
    check_tensors(apart, three, ErrorCode::missing, "gate_up_bias was given",
                  [](Tensors& t) { t.gate_up_bias = data; });
    check_tensors(apart, three, ErrorCode::null_pointer, "needs gate,", [](Tensors& t) { t.gate = nullptr; });
    check_tensors(apart, three, ErrorCode::null_pointer, "needs up,", [](Tensors& t) { t.up = nullptr; });

    apart.form.kind = moe::FormKind::relu;
    check_tensors(apart, {.up = data, .down = data}, ErrorCode::missing, "has no gate as",
                  [](Tensors& t) { t.gate = data; });
    CHECK(error_of([&] { (void)moe::expert_weights(joined, two, 3, std::numeric_limits<std::size_t>::max()); }).code ==
          ErrorCode::overflow);
}

TEST_CASE("weights of a shared expert that the configuration has not are refused, whichever they are", "[config]") {
    const MoEConfig config = tiny(moe::JoinedAs::concatenated);
    moe::LayerWeights<float> weights;
    weights.router = data;
    weights.experts = moe::expert_weights<float>(config, {.gate_up = data, .down = data}, 3, 5);
    weights.shared.down = moe::stacked(data, 1, 4, 5);
    const auto error = error_of([&] { (void)moe::make_layer(config, weights); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("mixtral has no shared expert, but one was given"));
}

TEST_CASE("a gated layer with biases needs those of the gate projections", "[config][errors]") {
    MoEConfig config = tiny(moe::JoinedAs::concatenated);
    config.expert_bias = true;
    moe::LayerWeights<float> weights;
    weights.router = data;
    weights.experts = moe::expert_weights<float>(
        config, {.gate_up = data, .down = data, .gate_up_bias = data, .down_bias = data}, 3, 5);
    CHECK_NOTHROW(moe::make_layer(config, weights));
    weights.experts.gate_bias = {};
    const auto error = error_of([&] { (void)moe::make_layer(config, weights); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("mixtral needs bias of the gate projections"));
}

}  // namespace moe_test::config_errors_test
