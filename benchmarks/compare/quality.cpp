#include "quality.hpp"

#include <algorithm>
#include <exception>
#include <fstream>
#include <iterator>
#include <optional>

#include <moe/core/random.hpp>
#include <moe/stats.hpp>

namespace compare {

namespace {

constexpr double seconds_per_token = 150e-6;  // of tiny-mixtral on one thread

struct WindowResult {
    explicit WindowResult(std::size_t n_experts) : stats(n_experts) {}

    double nll = 0;  ///< sum over the bytes that are predicted
    moe::RouterStats<float> stats;
    std::exception_ptr error;
};

/// Gates of all layers; nothing where the strategy can't choose among the model's experts.
std::optional<std::vector<moe::AnyGate>> make_gates(const generate::Model& model, const QualityPlan& plan,
                                                    const Strategy& strategy) {
    std::vector<moe::AnyGate> gates;
    for (std::size_t layer = 0; layer < model.layers().size(); ++layer) {
        const Setting setting{
            model.layers()[layer].moe.n_experts(),     static_cast<std::size_t>(model.config().top_k),
            moe::random_bits(plan.seed, 1000 + layer), plan.calibrations[layer].bias,
            plan.calibrations[layer].thresholds,       static_cast<std::size_t>(model.config().vocab_size)};
        auto gate = strategy.make(setting);
        if (!gate) {
            return std::nullopt;
        }
        gates.push_back(std::move(*gate));
    }
    return gates;
}

generate::Threads one_thread() {
#if defined(_OPENMP)
    return generate::Threads(1);
#else
    return {};
#endif
}

void read_window(const generate::Model& model, std::span<const moe::AnyGate> gates,
                 std::span<const std::int32_t> window, std::size_t first, WindowResult& result) {
    generate::Decoder decoder(model, one_thread());
    const std::vector<moe::Observer<float>*> observers(model.layers().size(), &result.stats);
    decoder.observe(observers);
    decoder.route_with(gates);
    decoder.restart(first);
    const generate::Matrix logits = decoder.append(window);
    for (std::size_t t = 0; t + 1 < window.size(); ++t) {
        result.nll += generate::negative_log_likelihood(logits, static_cast<Eigen::Index>(t), window[t + 1]);
    }
}

QualityRow row_of(const generate::Model& model, const QualityPlan& plan, const Strategy& strategy,
                  std::span<const moe::AnyGate> gates, const bench::Threads& threads) {
    const std::size_t n_windows = plan.text.size() / window_bytes;
    const std::size_t n_experts = model.layers().front().moe.n_experts();  // of every layer of a Mixtral
    std::vector<WindowResult> results(n_windows, WindowResult(n_experts));
    threads.take_turns(n_windows, [&](std::size_t i) {
        try {
            read_window(model, gates, plan.text.subspan(i * window_bytes, window_bytes), i * window_bytes, results[i]);
        } catch (...) {  // must not leave the parallel region
            results[i].error = std::current_exception();
        }
    });
    double nll = 0;
    moe::RouterStats<float> stats(n_experts);
    for (const WindowResult& result : results) {
        if (result.error) {
            std::rethrow_exception(result.error);
        }
        nll += result.nll;
        stats.merge(result.stats);
    }
    QualityRow row;
    row.strategy = strategy.name;
    row.nll = nll / static_cast<double>(n_windows * (window_bytes - 1));
    row.compute = stats.mean_experts_per_token() / static_cast<double>(n_experts);
    row.dropped = stats.drop_rate();
    row.causal = strategy.causal;
    return row;
}

}  // namespace

std::vector<std::int32_t> read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    moe::ensure(file.good(), moe::ErrorCode::file, "cannot read ", path);
    std::vector<std::int32_t> text;
    std::transform(std::istreambuf_iterator<char>(file), {}, std::back_inserter(text),
                   [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
    moe::ensure(text.size() >= window_bytes, moe::ErrorCode::file, path, " has ", text.size(), " bytes, at least ",
                window_bytes, " are needed");
    return text;
}

std::vector<QualityRow> measure_quality(const generate::Model& model, const QualityPlan& plan,
                                        std::span<const Strategy* const> strategies, const bench::Threads& threads,
                                        Progress& progress) {
    std::vector<QualityRow> rows;
    for (const Strategy* strategy : strategies) {
        progress.begin("quality", std::string(strategy->name));
        if (const auto gates = make_gates(model, plan, *strategy)) {
            rows.push_back(row_of(model, plan, *strategy, *gates, threads));
        }
        progress.advance(quality_work(plan, 1, threads));
    }
    return rows;
}

double quality_work(const QualityPlan& plan, std::size_t n_strategies, const bench::Threads& threads) {
    return seconds_per_token * static_cast<double>(plan.text.size() * n_strategies) /
           static_cast<double>(threads.concurrency());
}

}  // namespace compare
