// Times MoE layers of the shapes of real models, beside probes of the machine's limits and beside rivals, all of them
// in turn within one process. benchmarks/README.md explains what it prints.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <moe/experts/packed_format.hpp>

#include "backward/runner.hpp"
#include "bars.hpp"
#include "checkpoint/runner.hpp"
#include "google.hpp"
#include "json.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "options.hpp"
#include "report.hpp"
#include "session.hpp"

namespace {

struct RowKey {
    const bench::Shape* shape;
    bench::Format format;
    bench::Compute compute;
    std::size_t tokens;
};

std::vector<RowKey> rows_of(const bench::Options& options) {
    const bool matrix_unit = moe::arch::MatrixUnit::request();
    const bench::Instructions has{matrix_unit,
                                  matrix_unit || (MOE_BFLOAT16_PRODUCTS && !moe::arch::MatrixUnit::present)};
    std::vector<RowKey> rows;
    for (const bench::Shape* shape : options.shapes) {
        for (const bench::Format format : options.formats) {
            for (const bench::ComputeInfo& info : bench::all_computes) {
                for (const std::size_t tokens : options.tokens) {
                    const bool wanted = options.computes.empty()
                                            ? info.compute == bench::fastest_compute(format, tokens, has)
                                            : std::ranges::count(options.computes, info.compute) > 0;
                    if (wanted && bench::supported(format, info.compute, has)) {
                        rows.push_back({shape, format, info.compute, tokens});
                    }
                }
            }
        }
    }
    return rows;
}

std::vector<std::string> names_of(const bench::Options& options) {
    std::vector<std::string> names;
    for (const RowKey& key : rows_of(options)) {
        names.push_back(bench::row_name(*key.shape, key.format, key.compute, key.tokens));
    }
    return names;
}

/// Measures rows, one after the other, keeping the weights from one to the next of the same shape and format.
class Runner {
public:
    explicit Runner(const bench::Options& options)
        : options_(options),
          threads_(options.threads),
          facts_(bench::machine_facts()),
          budget_(static_cast<double>(bench::available_memory()) * static_cast<double>(options.memory) / 100),
          read_(threads_, bench::read_probe_bytes(budget_)) {
        budget_ -= static_cast<double>(read_.bytes());
        std::fputs(bench::table_header(facts_, options_).c_str(), stdout);
    }

    const bench::Row& measure(const RowKey& key) {
        if (!session_ || key.shape != shape_ || key.format != format_ || key.compute != compute_) {
            session_.reset();  // first, there is no room for both
            session_.emplace(
                *key.shape, key.format, key.compute,
                bench::Plan{options_.routing, options_.min_time, options_.quick ? 3U : 7U, budget_, options_.rivals},
                read_, threads_);
            shape_ = key.shape;
            format_ = key.format;
            compute_ = key.compute;
            if (!session_->note().empty()) {
                std::printf("    note on the rows of %s/%s: %s\n", key.shape->name.data(),
                            bench::info(key.format).name.data(), session_->note().c_str());
            }
        }
        rows_.push_back(
            session_->measure(key.tokens, options_.scaling || (options_.bars && key.tokens == bench::scaling_tokens)));
        std::fputs(bench::table_line(rows_.back()).c_str(), stdout);
        std::fflush(stdout);
        if (!options_.json.empty()) {  // every time, so that what is interrupted is not lost
            bench::write_json(options_.json, facts_, options_, rows_);
        }
        return rows_.back();
    }

    [[nodiscard]] const std::vector<bench::Row>& rows() const noexcept { return rows_; }

private:
    bench::Options options_;
    bench::Threads threads_;
    std::vector<std::pair<std::string, std::string>> facts_;
    double budget_;  ///< bytes
    bench::ReadProbe read_;
    std::optional<bench::Session> session_;
    const bench::Shape* shape_ = nullptr;
    bench::Format format_{};
    bench::Compute compute_{};
    std::vector<bench::Row> rows_;
};

/// Google Benchmark carries a row as one iteration whose time is the median, so that its filter, its output files and
/// its compare.py work; the rounds inside are ours, because all arms must take turns.
void register_row(Runner& runner, const RowKey& key) {
    const std::string name = bench::row_name(*key.shape, key.format, key.compute, key.tokens);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&runner, key](benchmark::State& state) {
                                     for (auto _ : state) {
                                         const bench::Row& row = runner.measure(key);
                                         state.SetIterationTime(row.seconds.median);
                                         state.counters["of_roofline"] = row.fraction_of_roofline();
                                     }
                                 })
        ->Iterations(1)
        ->UseManualTime();
}

/// Everything that can be wrong with the command line, before anything takes time. False where there is nothing to run.
bool set_up(std::span<const char* const> arguments, bench::Options& options) {
    options = bench::parse_options(arguments);
    if (options.help) {
        std::fputs(bench::usage().c_str(), stdout);
        return false;
    }
    if (!options.model.empty()) {
        return true;
    }
    const std::vector<std::string> names = options.backward ? bench::backward::row_names(options) : names_of(options);
    moe::ensure(!names.empty(), moe::ErrorCode::range,
                "none of the formats asked for has one of the computes asked for");
    if (options.list) {
        for (const std::string& name : names) {
            std::puts(name.c_str());
        }
        return false;
    }
    bench::initialize_google("moe_bench", options.google);
    if (options.backward) {
        bench::backward::try_json(options);
    } else if (!options.json.empty()) {
        bench::write_json(options.json, bench::machine_facts(), options, {});
    }
    return true;
}

/// Whether all results were right.
bool run(const bench::Options& options) {
    if (!options.model.empty()) {
        return bench::checkpoint::run(options);
    }
    if (options.backward) {
        return bench::backward::run(options);
    }
    Runner runner(options);
    for (const RowKey& key : rows_of(options)) {
        register_row(runner, key);
    }
    bench::run_google();
    if (options.bars || options.scaling) {
        std::fputs(bench::bars_text(runner.rows(), bench::built_table()).c_str(), stdout);
    }
    return std::ranges::none_of(runner.rows(), &bench::Row::wrong);
}

}  // namespace

int main(int argc, char** argv) {
    bench::Options options;
    try {
        if (!set_up({argv + 1, static_cast<std::size_t>(argc - 1)}, options)) {
            return 0;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_bench: %s\n", error.what());
        return 2;
    }
    try {
        return run(options) ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "moe_bench: %s\n", error.what());
        return 1;
    }
}
