// The strategies of the comparison, and what tiny-mixtral makes of them.
#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/compare/balance.hpp"
#include "../../benchmarks/compare/quality.hpp"
#include "../../benchmarks/compare/strategies.hpp"

namespace moe_test::compare_measure_test {

using namespace compare;

namespace {

const Strategy* find(std::string_view name) {
    const auto found = std::ranges::find(strategies(), name, &Strategy::name);
    REQUIRE(found != strategies().end());
    return &*found;
}

}  // namespace

TEST_CASE("Strategies have names of their own and gates that are valid where there are any") {
    std::set<std::string_view> names;
    for (const Strategy& strategy : strategies()) {
        REQUIRE(names.insert(strategy.name).second);
        REQUIRE(!strategy.description.empty());
        for (const Setting& setting : {Setting{8, 2, 1}, Setting{64, 8, 1}, Setting{256, 8, 1}}) {
            const auto gate = strategy.make(setting);
            REQUIRE(gate.has_value());
            REQUIRE(gate->is_batch_gate() != strategy.causal);
            REQUIRE_NOTHROW(gate->validate(setting.n_experts));
        }
        for (const Setting& setting : {Setting{1, 1, 1}, Setting{3, 2, 1}, Setting{60, 4, 1}}) {
            if (const auto gate = strategy.make(setting)) {
                REQUIRE_NOTHROW(gate->validate(setting.n_experts));
            }
        }
    }
    REQUIRE_FALSE(find("top-8")->make({4, 2, 1}).has_value());
    REQUIRE_FALSE(find("groups")->make({60, 4, 1}).has_value());
}

TEST_CASE("A bias that balances does, and so do thresholds, on the inputs of tiny-mixtral and on skewed ones") {
    const generate::Model model(MOE_MODEL_DIR);
    std::vector<RoutedInput> inputs = model_inputs(model, MOE_MODEL_DIR);
    REQUIRE(inputs.size() == 4);
    for (RoutedInput& input : skewed_inputs(256, 9)) {
        inputs.push_back(std::move(input));
    }
    std::vector<Calibration> calibrations;
    for (const RoutedInput& input : inputs) {
        calibrations.push_back(calibrate(input));
    }
    const std::vector<const Strategy*> some{find("top-2"), find("sigmoid-bias"), find("expert-threshold")};
    Progress progress(1);
    const std::vector<BalanceRow> rows = measure_balance(inputs, calibrations, some, 1, progress);
    REQUIRE(rows.size() == 3 * inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        REQUIRE(rows[i].strategy == "top-2");
        REQUIRE(rows[i].input == inputs[i].name);
        REQUIRE(rows[i].layer == (i < 4 ? static_cast<int>(i) : -1));
        REQUIRE(rows[i].experts_per_token == 2.0);
        REQUIRE(rows[i].dropped == 0.0);
        const BalanceRow& balanced = rows[inputs.size() + i];
        REQUIRE(balanced.experts_per_token == static_cast<double>(inputs[i].top_k));
        REQUIRE(balanced.variation < 0.3 * rows[i].variation);
        const BalanceRow& cut = rows[2 * inputs.size() + i];  // its thresholds are from these very tokens
        REQUIRE(std::abs(cut.experts_per_token / static_cast<double>(inputs[i].top_k) - 1) < 0.02);
        REQUIRE(cut.max_violation < 0.05);
    }
}

TEST_CASE("tiny-mixtral read by top-2 is the model itself; every expert for every token is the dense mixture") {
    const generate::Model model(MOE_MODEL_DIR);
    std::vector<std::int32_t> text = read_text(MOE_MODEL_DIR "/held_out.txt");
    REQUIRE(text.size() == 16384);
    text.resize(2 * window_bytes + 7);  // what is left over is not read
    const std::vector<Calibration> calibrations(model.layers().size());
    const QualityPlan plan{text, calibrations, 1};
    const bench::Threads threads(bench::most_threads() > 1 ? 2 : 1);
    Progress progress(1);
    const std::vector<const Strategy*> some{find("top-2"), find("top-8"), find("dense"), find("hash")};
    const std::vector<QualityRow> rows = measure_quality(model, plan, some, threads, progress);
    REQUIRE(rows.size() == 4);

    double nll = 0;
    for (std::size_t window = 0; window < 2; ++window) {
        const auto bytes = std::span<const std::int32_t>(text).subspan(window * window_bytes, window_bytes);
        generate::Decoder decoder(model, {});
        const generate::Matrix logits = decoder.append(bytes);
        for (std::size_t t = 0; t + 1 < window_bytes; ++t) {
            nll += generate::negative_log_likelihood(logits, static_cast<Eigen::Index>(t), bytes[t + 1]);
        }
    }
    REQUIRE(std::abs(rows[0].nll - nll / (2 * (window_bytes - 1))) < 1e-6);
    REQUIRE(rows[0].compute == 0.25);
    REQUIRE(rows[1].compute == 1.0);
    REQUIRE(std::abs(rows[1].nll - rows[2].nll) < 1e-4);  // the order of summation differs
    REQUIRE(rows[3].nll > rows[0].nll + 1);               // experts of a table know nothing of the text
    REQUIRE(std::ranges::all_of(rows, [](const QualityRow& row) { return row.causal && row.dropped == 0; }));
}

}  // namespace moe_test::compare_measure_test
