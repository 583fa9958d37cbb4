// The presets against descriptions of the architectures in the words of the definition: their sizes as published, and
// at a small size what a layer made of them computes, from weights stored in each order they say.

#include "moe/model/presets.hpp"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "model/preset_rows.hpp"
#include "model/stored_experts.hpp"
#include "moe/model/make_layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::presets_test {

namespace {

namespace reference = moe::reference;
using moe_test::PresetRow;
using moe_test::StoredExperts;
using moe_test::StoredTensors;

moe::Normalize::Kind kind_of(reference::Norm norm) {
    switch (norm) {
        case reference::Norm::none: return moe::Normalize::Kind::none;
        case reference::Norm::sum: return moe::Normalize::Kind::sum;
        case reference::Norm::clamped_sum: return moe::Normalize::Kind::clamped_sum;
        case reference::Norm::lp: return moe::Normalize::Kind::lp;
    }
    return moe::Normalize::Kind::none;
}

/// The architecture of a row with 12 experts, 3 a token, in 4 groups where it knows any.
struct SmallLayer {
    static constexpr std::size_t n_tokens = 41;
    static constexpr std::size_t n_experts = 12;
    static constexpr std::size_t top_k = 3;
    static constexpr std::size_t d_model = 10;
    static constexpr std::size_t d_ff = 7;
    static constexpr std::size_t shared_d_ff = 9;
    static constexpr std::size_t vocabulary = 5;

    explicit SmallLayer(PresetRow the_row) : row(std::move(the_row)) {
        row.rule.top_k = top_k;
        if (row.group_limited) {
            row.rule.n_groups = 4;
            row.rule.groups_kept = 2;
        }
        for (float& b : bias) {
            b -= 0.8F;  // where masked groups are filled with 0, they then win
        }
        for (float& s : scale) {
            s += 1.5F;
        }
        for (std::size_t i = 0; i < table.size(); ++i) {
            table[i] = static_cast<std::int32_t>((5 * i + 1) % n_experts);
        }
        for (std::size_t t = 0; t < n_tokens; ++t) {
            ids[t] = static_cast<std::int32_t>(t * t % vocabulary);
        }
    }

    [[nodiscard]] bool has_shared() const { return row.sizes.shared_d_ff > 0; }

    [[nodiscard]] moe::MoEConfig shrunk(moe::MoEConfig config) const {
        config.n_experts = n_experts;
        config.d_model = d_model;
        config.d_ff = d_ff;
        config.shared_d_ff = has_shared() ? shared_d_ff : 0;
        config.routing.top_k = row.by_table ? 1 : static_cast<int>(top_k);
        if (row.group_limited) {
            config.routing.groups.n_groups = 4;
            config.routing.groups.kept = 2;
        }
        return config;
    }

    /// What the layer that `config` describes makes of x, from weights stored as it says.
    [[nodiscard]] std::vector<float> result(const moe::MoEConfig& config) const {
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router.data(), n_experts, d_model);
        weights.router_bias = row.router_bias ? std::span<const float>(router_bias) : std::span<const float>();
        weights.selection_bias = row.selection_bias ? std::span<const float>(bias) : std::span<const float>();
        weights.per_expert_scale = row.per_expert_scale ? std::span<const float>(scale) : std::span<const float>();
        const StoredTensors stored(experts, config.storage);
        const StoredTensors stored_shared(shared, config.shared_storage);
        weights.experts = moe::expert_weights(config, stored.tensors());
        if (has_shared()) {
            weights.shared = moe::shared_weights(config, stored_shared.tensors());
        }
        if (row.shared_mode == reference::Shared::gated) {
            weights.shared_gate = moe::stacked(shared_gate.data(), 1, 1, d_model);
        }
        if (row.by_table) {
            weights.hash_table = moe::view(table.data(), vocabulary, top_k);
        }
        const auto layer = moe::make_layer(config, weights);
        std::vector<float> y(x.size());
        moe::Workspace workspace;
        moe::ForwardOptions<float> options;
        options.token_ids = ids;
        layer.forward(moe::view(x.data(), n_tokens, d_model), moe::view(y.data(), n_tokens, d_model), workspace,
                      moe::SerialExecutor{}, options);
        return y;
    }

    /// The same by the definition.
    [[nodiscard]] std::vector<double> expected() const {
        reference::Layer layer{.d_model = d_model, .router = wide(router)};
        layer.rule = row.rule;
        layer.rule.selection_bias = row.selection_bias ? wide(bias) : reference::Vector{};
        layer.rule.per_expert_scale = row.per_expert_scale ? wide(scale) : reference::Vector{};
        layer.router_bias = row.router_bias ? wide(router_bias) : reference::Vector{};
        for (std::size_t e = 0; e < n_experts; ++e) {
            layer.experts.push_back(expert(experts, e, row.form));
        }
        layer.shared_mode = row.shared_mode;
        if (has_shared()) {
            layer.shared.push_back(expert(shared, 0, row.shared_form));
        }
        layer.shared_gate = wide(shared_gate);
        layer.routed_scale = row.routed_scale;
        std::vector<double> y;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const reference::Vector token = part(x, t, d_model);
            const reference::Vector logits = reference::linear(layer.router, layer.router_bias, token, n_experts);
            reference::Choice choice = reference::route(layer.rule, logits);
            if (row.by_table) {
                const auto first = table.begin() + static_cast<std::ptrdiff_t>(top_k) * ids[t];
                choice = reference::weighed(layer.rule, logits, {first, first + static_cast<std::ptrdiff_t>(top_k)});
            }
            const reference::Vector out = reference::combine(layer, choice, token);
            y.insert(y.end(), out.begin(), out.end());
        }
        return y;
    }

    static reference::Vector wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }
    /// The i-th of the parts of `size` values; none of none.
    static reference::Vector part(const std::vector<float>& values, std::size_t i, std::size_t size) {
        const auto first = values.begin() + static_cast<std::ptrdiff_t>(values.empty() ? 0 : i * size);
        return {first, first + static_cast<std::ptrdiff_t>(values.empty() ? 0 : size)};
    }
    static reference::Expert expert(const StoredExperts& from, std::size_t e, const moe_test::FormRow& form) {
        const std::size_t size = from.d_ff * d_model;
        return {.d_model = d_model,
                .d_ff = from.d_ff,
                .form = form.form,
                .gate = part(from.gate, e, size),
                .up = part(from.up, e, size),
                .down = part(from.down, e, size),
                .gate_bias = part(from.gate_bias, e, from.d_ff),
                .up_bias = part(from.up_bias, e, from.d_ff),
                .down_bias = part(from.down_bias, e, d_model),
                .limit = form.limit};
    }

    PresetRow row;
    moe_test::Draw draw{17};
    std::vector<float> router = moe_test::random_elements<float>(draw, n_experts* d_model, 0.1);
    std::vector<float> router_bias = moe_test::random_elements<float>(draw, n_experts, 1);
    std::vector<float> bias = moe_test::random_elements<float>(draw, n_experts, 0.1);
    std::vector<float> scale = moe_test::random_elements<float>(draw, n_experts, 1);
    std::vector<float> shared_gate = moe_test::random_elements<float>(draw, d_model, 0.1);
    std::vector<float> x = moe_test::random_elements<float>(draw, n_tokens* d_model, 8);
    StoredExperts experts =
        StoredExperts::random(draw, n_experts, d_model, d_ff, reference::is_gated(row.form.form), row.expert_bias);
    StoredExperts shared =
        StoredExperts::random(draw, 1, d_model, shared_d_ff, reference::is_gated(row.shared_form.form), false);
    std::vector<std::int32_t> table = std::vector<std::int32_t>(vocabulary * top_k);
    std::vector<std::int32_t> ids = std::vector<std::int32_t>(n_tokens);
};

void check_published(const PresetRow& row, const moe::MoEConfig& config) {
    CHECK_NOTHROW(config.validate());
    CHECK(config.n_experts == row.sizes.n_experts);
    CHECK(static_cast<std::size_t>(config.routing.top_k) == row.sizes.top_k);
    CHECK(config.d_model == row.sizes.d_model);
    CHECK(config.d_ff == row.sizes.d_ff);
    CHECK(config.shared_d_ff == row.sizes.shared_d_ff);
    CHECK(config.storage == row.memory);
    CHECK(config.shared_storage == row.shared_memory);
    CHECK(config.published.known == row.file_known);
    // What a small layer cannot tell apart: an eps of 1e-20 from none, a fill of 0 from one of less below positive
    // scores.
    CHECK(config.routing.normalize.kind == kind_of(row.rule.norm));
    CHECK(config.routing.normalize.value == row.rule.norm_value);
    if (row.group_limited) {
        CHECK(static_cast<std::size_t>(config.routing.groups.n_groups) == row.rule.n_groups);
        CHECK(static_cast<std::size_t>(config.routing.groups.kept) == row.rule.groups_kept);
        CHECK(static_cast<std::size_t>(config.routing.groups.score_members) == row.rule.group_members);
        CHECK(config.routing.groups.fill == row.rule.group_fill);
    } else {
        CHECK(config.routing.groups.n_groups <= 1);
    }
}

}  // namespace

TEST_CASE("presets are the published architectures", "[config][presets]") {
    const std::vector<PresetRow> rows = moe_test::preset_rows();
    REQUIRE(rows.size() == 41);
    for (const PresetRow& row : rows) {
        INFO(row.name);
        const moe::MoEConfig preset = moe::presets::find(row.name);
        CHECK(preset.name == row.name);
        check_published(row, preset);
        const SmallLayer small(row);
        const std::vector<float> y = small.result(small.shrunk(preset));
        CHECK(moe_test::nmse(y, small.expected()) <= 1e-12);
        CHECK(moe_test::same_bits(small.result(small.shrunk(preset.in_gguf())), y));
        if (row.file_known) {
            const moe::MoEConfig in_file = preset.in_published_file();
            CHECK(in_file.storage == row.file);
            CHECK(in_file.shared_storage == row.shared_file);
            CHECK(moe_test::same_bits(small.result(small.shrunk(in_file)), y));
        }
    }
}

TEST_CASE("every preset is held against something", "[config][presets]") {
    std::set<std::string> held{
        "mixtral",      "qwen2_moe",   "qwen3_moe",  "olmoe",         "deepseek_v2_lite",  "deepseek_v2",
        "ernie4_5_moe", "deepseek_v3", "minimax_m2", "longcat_flash", "gpt_oss",           "llama4",
        "phimoe",       "granitemoe",  "jetmoe",     "dbrx",          "switch_transformer"};  // by golden_blocks_test
    for (const PresetRow& row : moe_test::preset_rows()) {
        CHECK(held.insert(row.name).second);
    }
    CHECK(held.size() == moe::presets::all.size());
    for (moe::MoEConfig (*preset)() : moe::presets::all) {
        CHECK(held.count(preset().name) == 1);
    }
}

TEST_CASE("a preset whose parameters are another's would be noticed", "[config][presets]") {
    const auto rows = moe_test::preset_rows();
    const auto differs = [&](const char* name, auto change) {
        INFO(name);
        const auto row = std::find_if(rows.begin(), rows.end(), [&](const PresetRow& r) { return r.name == name; });
        REQUIRE(row != rows.end());
        const SmallLayer small(*row);
        moe::MoEConfig config = small.shrunk(moe::presets::find(name));
        change(config);
        CHECK(moe_test::nmse(small.result(config), small.expected()) > 1e-10);
    };
    using Config = moe::MoEConfig;
    differs("hy_v4", [](Config& c) { c.shared_form = {}; });
    differs("step3p7_clamped", [](Config& c) { c.shared_form = {}; });
    differs("glm5_next", [](Config& c) { c.shared_form = moe::AnyForm{}; });
    differs("minimax_m3", [](Config& c) { c.form.kind = moe::FormKind::clamped_before; });
    differs("axk2", [](Config& c) { c.routing.groups.fill = -1e30; });
    differs("glm4_moe", [](Config& c) { c.routing.groups.score_members = 1; });
    differs("grok_1", [](Config& c) { c.form.kind = moe::FormKind::geglu; });
    differs("laguna", [](Config& c) { c.routing.normalize = false; });
    differs("lfm2_moe", [](Config& c) { c.routing.score.kind = moe::ScoreKind::sqrt_softplus; });
    differs("openai_privacy_filter", [](Config& c) { c.routed_scale = 1; });
}

}  // namespace moe_test::presets_test
