// What compare --cost computes: figures by hand, parameters as they were published, and that no named model is missing.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <moe/model/presets.hpp>

#include "support/catch.hpp"

#include "../../benchmarks/compare/cost.hpp"
#include "../../benchmarks/compare/cost_checkpoints.hpp"
#include "../../benchmarks/layer_sizes.hpp"
#include "../../benchmarks/shapes.hpp"

namespace moe_test::compare_cost_test {

using namespace compare;

namespace {

bool near(double a, double b, double part = 1e-12) { return std::abs(a - b) <= part * std::abs(b); }

const CostedModel& model(const std::vector<CostedModel>& models, std::string_view name) {
    const auto found = std::ranges::find(models, name, &CostedModel::name);
    INFO(name);
    REQUIRE(found != models.end());
    return *found;
}

/// 1 GB/s, 100 GFLOP/s, 32 GB
constexpr CostMachine round_machine{.threads = 1,
                                    .bytes_per_second = 1e9,
                                    .flops_per_second = 1e11,
                                    .int8_flops_per_second = 4e11,
                                    .memory_bytes = 32e9};

CostRow row(std::string_view name, std::string_view format, std::size_t tokens, const CostMachine& machine) {
    const std::vector<CostedModel> models = costed_models();
    const std::array counts{tokens};
    for (const CostRow& each : cost_rows(models, counts, machine)) {
        if (each.model == name && each.format == format) {
            return each;
        }
    }
    FAIL("no row of " << name << " in " << format);
    return {};
}

}  // namespace

TEST_CASE("Parameters of checkpoints are those that were published") {
    struct Published {
        const char* name;
        double total;      ///< billions
        double active;     ///< billions
        double tolerance;  ///< of the active ones, which publishers round and count in ways of their own
    };
    constexpr std::array<Published, 14> published{{{"Switch-base-8", 0.62, 0.223, 0.01},
                                                   {"OLMoE-1B-7B", 6.92, 1.28, 0.01},
                                                   {"Qwen1.5-MoE-A2.7B", 14.3, 2.7, 0.01},
                                                   {"DeepSeek-V2-Lite", 15.7, 2.4, 0.03},
                                                   {"gpt-oss-20b", 20.9, 3.6, 0.01},
                                                   {"Phi-3.5-MoE", 41.9, 6.6, 0.01},
                                                   {"gpt-oss-120b", 116.8, 5.1, 0.01},
                                                   {"DBRX", 132, 36, 0.02},
                                                   {"Mixtral-8x22B", 141, 39, 0.01},
                                                   {"Qwen3-235B-A22B", 235, 22, 0.01},
                                                   {"DeepSeek-V3", 671, 37, 0.02},
                                                   {"Qwen3-Next-80B-A3B", 79.7, 3.56, 0.01},
                                                   {"Qwen3.5-397B-A17B", 397, 17, 0.05},
                                                   {"Kimi-K2", 1026, 32, 0.02}}};
    const std::vector<CostedModel> models = costed_models();
    for (const Published& each : published) {
        const moe::CostModel& cost = model(models, each.name).cost;
        CAPTURE(each.name, cost.total_parameters(), cost.active_parameters());
        CHECK(near(cost.total_parameters(), 1e9 * each.total, 0.004));
        CHECK(near(cost.active_parameters(), 1e9 * each.active, each.tolerance));
    }
    // the elements of all published tensors
    for (const auto& [name, total] : {std::pair{"Mixtral-8x7B", 46702792704.0},
                                      {"Qwen3-30B-A3B", 30532122624.0},
                                      {"Qwen1.5-MoE-A2.7B", 14315784192.0},
                                      {"OLMoE-1B-7B", 6919161856.0},
                                      {"DeepSeek-V2-Lite", 15706484224.0},
                                      {"DeepSeek-V2", 235741434880.0},
                                      {"gpt-oss-20b", 20914757184.0},
                                      {"Phi-3.5-MoE", 41873153344.0},
                                      {"DBRX", 131596523520.0},
                                      {"Jamba-v0.1", 51570323328.0},
                                      {"Llama-4-Scout", 107769861120.0}}) {
        CAPTURE(name);
        CHECK(model(models, name).cost.total_parameters() == total);
    }
}

TEST_CASE("Mixtral's cost by hand") {
    // 12.88 B of 46.70 B active: published as 12.9 and 46.7
    const double expert = 3.0 * 4096 * 14336;
    const double total = 46702792704.0;
    const double active = total - 32 * 6 * expert;
    CHECK(std::round(total / 1e8) == 467);
    CHECK(std::round(active / 1e8) == 129);
    const CostRow one = row("Mixtral-8x7B", "bf16", 1, round_machine);
    CHECK((one.kind == "published" && one.experts == 8));
    CHECK(near(one.distinct_experts, 2));
    CHECK(near(one.mixture.bytes, 2 * active));
    CHECK(near(one.mixture.flops, 2 * active));
    CHECK(near(one.mixture.tokens_per_second, 1e9 / (2 * active)));  // memory is the limit
    CHECK(near(one.active.bytes, one.mixture.bytes));
    CHECK(near(one.speedup_active, 1));
    CHECK(near(one.total.bytes, 2 * total));
    CHECK(near(one.total.flops, 2 * total));
    CHECK(near(one.speedup_total, total / active));  // 3.63
    CHECK_FALSE(one.fits);
    // 4 tokens: 8 (1 - 0.75^4) = 5.47 experts of every layer
    const CostRow four = row("Mixtral-8x7B", "int4", 4, round_machine);
    const double distinct = 8 * (1 - 0.31640625);
    CHECK(near(four.distinct_experts, distinct));
    const double read = 18.0 / 32 * (active + 32 * (distinct - 2) * expert);
    CHECK(near(four.mixture.bytes, read / 4));
    CHECK(near(four.active.bytes, 18.0 / 32 * active / 4));
    CHECK(near(four.total.bytes, 18.0 / 32 * total / 4));
    CHECK(near(four.mixture.tokens_per_second, 4e9 / read));
    CHECK(four.fits);  // 26.3 GB
    CHECK((four.speedup_active < 1 && four.speedup_total > 1));
    // 4096 tokens: arithmetic is the limit, of the active size, and in integers at the fourfold peak
    const CostRow many = row("Mixtral-8x7B", "f32", 4096, round_machine);
    CHECK(near(many.mixture.tokens_per_second, 1e11 / (2 * active)));
    CHECK(near(many.speedup_active, 1));
    CHECK(near(many.total.tokens_per_second, 1e11 / (2 * total)));
    CHECK(near(row("Mixtral-8x7B", "int8", 4096, round_machine).mixture.tokens_per_second, 4e11 / (2 * active)));
}

TEST_CASE("Switch-base-8's and Qwen3-30B-A3B's cost by hand") {
    // 12 layers of 8 experts of 2 x 768 x 3072, one a token; 12 routers
    const double expert = 2.0 * 768 * 3072;
    const CostRow switched = row("Switch-base-8", "f32", 2, round_machine);
    CHECK(near(switched.distinct_experts, 8 * (1 - 0.875 * 0.875)));
    CHECK(near(switched.mixture.flops, 2 * (619339008.0 - 12 * 7 * expert)));
    CHECK(near(switched.mixture.bytes, 4 * (619339008.0 - 12 * (8 - switched.distinct_experts) * expert) / 2));
    CHECK(switched.fits);  // 2.5 GB
    // 48 layers of 128 experts of 3 x 2048 x 768, eight a token: 3.35 B active
    const double small = 3.0 * 2048 * 768;
    const double active = 30532122624.0 - 48 * 120 * small;
    CHECK(std::floor(active / 1e8) == 33);
    const CostRow one = row("Qwen3-30B-A3B", "bf16", 1, round_machine);
    CHECK(near(one.mixture.bytes, 2 * active));
    CHECK(near(one.speedup_total, 30532122624.0 / active));
    const CostRow many = row("Qwen3-30B-A3B", "bf16", 64, round_machine);
    CHECK(near(many.distinct_experts, 128 * (1 - std::pow(0.9375, 64))));  // 125.9
    CHECK(near(many.mixture.bytes, 2 * (active + 48 * (many.distinct_experts - 8) * small) / 64));
}

TEST_CASE("Memory is all weights in each format, and a mixture's is that of a dense model of its total size") {
    const std::vector<CostedModel> models = costed_models();
    for (const CostModelRow& each : cost_model_rows(models)) {
        CAPTURE(each.model);
        CHECK(near(each.bytes_f32, 4 * each.total_parameters));
        CHECK(near(each.bytes_bf16, 2 * each.total_parameters));
        CHECK(each.bytes_f16 == each.bytes_bf16);
        CHECK(near(each.bytes_int8, 34 * each.total_parameters / 32));
        CHECK(near(each.bytes_int4, 18 * each.total_parameters / 32));
        CHECK(each.active_parameters < each.total_parameters);
        CHECK((each.expert_share > 0.5 && each.expert_share <= 1));
    }
    const auto rows = cost_model_rows(models);
    const auto mixtral = std::ranges::find(rows, "Mixtral-8x7B", &CostModelRow::model);
    CHECK(near(mixtral->expert_share, 32 * 8 * 3.0 * 4096 * 14336 / 46702792704.0));
    CHECK((mixtral->layers == 32 && mixtral->experts == 8 && mixtral->experts_per_token == 2));
    CHECK((mixtral->d_model == 4096 && mixtral->d_ff == 14336));
}

TEST_CASE("Every preset, checkpoint of the library and shape of the benchmark is one model") {
    const std::vector<CostedModel> models = costed_models();
    const auto words_of = [](const std::string& list) { return " " + list + " "; };
    const auto named = [&](std::string CostedModel::*list, std::string_view name) {
        return std::ranges::count_if(models, [&](const CostedModel& each) {
            return words_of(each.*list).find(" " + std::string(name) + " ") != std::string::npos;
        });
    };
    std::size_t presets = 0;
    for (const auto preset : moe::presets::all) {
        const moe::MoEConfig config = preset();
        CAPTURE(config.name);
        CHECK(named(&CostedModel::presets, config.name) == (config.gate == moe::GateKind::hash ? 0 : 1));
        presets += config.gate == moe::GateKind::hash ? 0U : 1U;
    }
    for (const moe::presets::Checkpoint& checkpoint : moe::presets::checkpoints) {
        CAPTURE(checkpoint.name);
        CHECK(named(&CostedModel::presets, checkpoint.name) == 1);
        ++presets;
    }
    CHECK(named_presets().size() == presets);
    for (const bench::Shape& shape : bench::shapes()) {
        CAPTURE(shape.name);
        CHECK(named(&CostedModel::shapes, shape.name) == (shape.tiny ? 0 : 1));
    }
    CHECK(words_of(model(models, "DeepSeek-V3").shapes) == " deepseek-v3-slice ");
    CHECK(words_of(model(models, "Phi-3.5-MoE").presets) == " phimoe Phi-3.5-MoE ");
    CHECK(words_of(model(models, "Ling-mini-2.0").presets) == " bailing_moe_v2 Ling-mini-2.0 Ring-mini-2.0 ");
    // of 12 experts a token 4 are identities in the mean
    CHECK(words_of(model(models, "LongCat-Flash").presets) == " longcat_flash ");
    CHECK(model(models, "LongCat-Flash").cost.sizes().experts_per_token == 8);
    std::vector<std::string> names;
    for (const CostedModel& each : models) {
        names.push_back(each.name);
    }
    std::ranges::sort(names);
    CHECK(std::ranges::adjacent_find(names) == names.end());
}

TEST_CASE("A checkpoint has its names and its sizes; other models with the same experts are not it") {
    const moe::ExpertSizes qwen = bench::layer_sizes(moe::presets::find("qwen2_moe"));
    REQUIRE(find_checkpoint("qwen2_moe", qwen) != nullptr);
    CHECK(find_checkpoint("qwen2_moe", qwen)->name == "Qwen1.5-MoE-A2.7B");
    CHECK(find_checkpoint("Qwen1.5-MoE-A2.7B", qwen) == find_checkpoint("qwen2_moe", qwen));
    CHECK(find_checkpoint("qwen2", qwen) == nullptr);
    CHECK(find_checkpoint("mixtral", qwen) == nullptr);
    // 256 experts of 2048 x 512, eight a token, one shared: of 16, of 35 and of 33 billion parameters
    const moe::ExpertSizes layer{
        .n_layers = 1, .n_experts = 256, .experts_per_token = 8, .d_model = 2048, .d_ff = 512, .shared_d_ff = 512};
    REQUIRE(find_checkpoint("bailing_moe_v2", layer) != nullptr);
    REQUIRE(find_checkpoint("qwen3_5_moe", layer) != nullptr);
    CHECK(find_checkpoint("bailing_moe_v2", layer)->name == "Ling-mini-2.0");
    CHECK(find_checkpoint("qwen3_5_moe", layer)->name == "Qwen3.5-35B-A3B");
    CHECK(find_checkpoint("laguna", layer) == nullptr);
    const std::vector<CostedModel> models = costed_models();
    CHECK(near(model(models, "Ling-mini-2.0").cost.total_parameters(), 16.26e9, 0.001));
    CHECK(near(model(models, "Qwen3.5-35B-A3B").cost.total_parameters(), 34.66e9, 0.001));
}

TEST_CASE("A preset without a checkpoint here is one layer of its sizes") {
    moe::MoEConfig config = moe::presets::find("qwen2_moe");
    config.d_ff = 1000;
    config.expert_bias = true;
    const moe::ExpertSizes layer = bench::layer_sizes(config);
    CHECK(find_checkpoint(config.name, layer) == nullptr);
    const moe::CostModel cost(layer);
    const double expert = 3 * 2048 * 1000.0 + 2 * 1000 + 2048;
    const double shared = 3 * 2048 * 5632.0 + 2 * 5632 + 2048 + 2048;  // and its gate
    CHECK(cost.total_parameters() == 60 * expert + shared + 60 * 2048);
    CHECK(cost.active_parameters() == 4 * expert + shared + 60 * 2048);
    const std::vector<CostedModel> models{{.name = "one", .cost = cost, .whole = false}};
    const CostModelRow shown = cost_model_rows(models).at(0);
    CHECK((shown.kind == "layer" && shown.layers == 1));
}

TEST_CASE("Reported models say that they are, and what is known of them") {
    const std::vector<CostedModel> models = costed_models();
    const auto rows = cost_model_rows(models);
    std::vector<std::string> reported;
    for (const CostModelRow& each : rows) {
        if (each.kind == "reported") {
            reported.push_back(each.model);
            CHECK(each.note.starts_with("reported, not confirmed; "));
            CHECK(each.d_model == 0);
        } else {
            CHECK(each.d_model > 0);
        }
    }
    CHECK(reported == std::vector<std::string>{"8 experts, 220 B in all", "8 experts, 220 B each", "128 experts, 1.8 T",
                                               "16 experts, 1.8 T"});
    CHECK(near(model(models, reported[0]).cost.total_parameters(), 220e9));
    CHECK(near(model(models, reported[0]).cost.active_parameters(), 55e9));
    CHECK(near(model(models, reported[1]).cost.total_parameters(), 1760e9));
    CHECK(near(model(models, reported[2]).cost.total_parameters(), 1800e9));
    CHECK(near(model(models, reported[2]).cost.active_parameters(), 28.125e9));
    CHECK(near(model(models, reported[3]).cost.total_parameters(), 1831e9));
    CHECK(near(model(models, reported[3]).cost.active_parameters(), 277e9));
    // by rising total, the reported ones last
    for (std::size_t i = 1; i < rows.size(); ++i) {
        CHECK((rows[i - 1].kind != rows[i].kind || rows[i - 1].total_parameters <= rows[i].total_parameters));
        CHECK((rows[i - 1].kind != "reported" || rows[i].kind == "reported"));
    }
}

TEST_CASE("No mixture is faster than a dense model of its active size or slower than one of its total size") {
    const std::vector<CostedModel> models = costed_models();
    constexpr std::array<std::size_t, 5> tokens{1, 3, 32, 512, 8192};
    const std::vector<CostRow> rows = cost_rows(models, tokens, round_machine);
    CHECK(rows.size() == models.size() * 5 * tokens.size());
    for (const CostRow& each : rows) {
        CAPTURE(each.model, each.format, each.tokens);
        CHECK((each.speedup_active <= 1 + 1e-12 && each.speedup_total >= 1 - 1e-12));
        CHECK(each.mixture.flops == each.active.flops);
        CHECK(each.mixture.bytes >= each.active.bytes * (1 - 1e-12));
        CHECK(each.mixture.bytes <= each.total.bytes * (1 + 1e-12));
    }
}

TEST_CASE("Where the memory of a machine is not known everything fits it") {
    CostMachine machine = round_machine;
    machine.memory_bytes = 0;
    CHECK(row("Kimi-K2", "f32", 1, machine).fits);
}

TEST_CASE("The limits of this machine are measured") {
    const CostMachine machine = measure_machine(1, true);
    CHECK(machine.threads == 1);
    CHECK(machine.bytes_per_second > 1e7);
    CHECK(machine.flops_per_second > 1e7);
    CHECK(machine.int8_flops_per_second == 4 * machine.flops_per_second);
    CHECK(machine.memory_bytes > 1e8);
}

}  // namespace moe_test::compare_cost_test
