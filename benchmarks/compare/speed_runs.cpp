#include "speed_runs.hpp"

#include <algorithm>

#include <benchmark/benchmark.h>

#include "../formatted.hpp"
#include "../google.hpp"
#include "../memory.hpp"

namespace compare {

SpeedRuns::SpeedRuns(const Options& options)
    : options_(&options),
      threads_(options.threads),
      plan_{options.strategies, options.tokens, options.distribution, options.seed, options.quick} {
    const auto free = static_cast<double>(bench::available_memory());
    for (const bench::Shape* shape : options.shapes) {
        const double needed = SpeedSession::bytes(*shape);
        if (free > 0 && needed > 0.8 * free) {
            left_out_ += bench::formatted("%s%s needs %.1f GB of %.1f that are free", left_out_.empty() ? "" : "; ",
                                          shape->name.data(), needed / 1e9, free / 1e9);
        } else {
            shapes_.push_back(shape);
        }
    }
}

double SpeedRuns::work() const {
    double work = 0;
    for (const bench::Shape* shape : shapes_) {
        for (const std::size_t tokens : options_->tokens) {
            work += SpeedSession::work(*shape, tokens, plan_, threads_);
        }
    }
    return work;
}

const std::vector<SpeedRow>& SpeedRuns::rows_of(const Key& key, Progress& progress) {
    const auto [shape, tokens] = key;
    if (const auto found = rows_.find(key); found != rows_.end()) {
        return found->second;
    }
    if (shape_ != shape) {
        session_.reset();  // first, there may be no room for both
        progress.begin("weights of " + std::string(shape->name));
        session_.emplace(*shape, plan_, threads_);
        shape_ = shape;
    }
    return rows_[key] = session_->measure(tokens, progress);
}

void SpeedRuns::add_benchmarks(const Key& key, Progress& progress) {
    std::vector<std::string> names{std::string(dense_total), std::string(dense_active)};
    for (const Strategy* strategy : plan_.strategies) {
        if (strategy->make({key.first->n_experts, key.first->top_k, plan_.seed})) {
            names.emplace_back(strategy->name);
        }
    }
    for (const std::string& name : names) {
        const std::string full = std::string(key.first->name) + "/tokens:" + std::to_string(key.second) + "/" + name;
        const auto body = [this, key, name, &progress](benchmark::State& state) {
            for (auto _ : state) {
                double seconds = 0;
                try {
                    if (!error_) {
                        const auto& rows = rows_of(key, progress);
                        seconds = std::ranges::find(rows, name, &SpeedRow::strategy)->seconds.median;
                    }
                } catch (...) {  // Google Benchmark lets none through
                    error_ = std::current_exception();
                }
                state.SetIterationTime(seconds);
            }
        };
        benchmark::RegisterBenchmark(full.c_str(), body)->Iterations(1)->UseManualTime();
    }
}

std::vector<SpeedRow> SpeedRuns::run(Progress& progress) {
    for (const bench::Shape* shape : shapes_) {
        for (const std::size_t tokens : options_->tokens) {
            add_benchmarks({shape, tokens}, progress);
        }
    }
    bench::run_google();
    session_.reset();
    if (error_) {
        std::rethrow_exception(error_);
    }
    std::vector<SpeedRow> all;
    for (const bench::Shape* shape : shapes_) {
        for (const std::size_t tokens : options_->tokens) {
            const auto& rows = rows_[{shape, tokens}];
            all.insert(all.end(), rows.begin(), rows.end());
        }
    }
    return all;
}

}  // namespace compare
