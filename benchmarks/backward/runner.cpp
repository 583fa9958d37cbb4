#include "runner.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>

#include <benchmark/benchmark.h>

#include "../google.hpp"
#include "../machine.hpp"
#include "bars.hpp"
#include "report.hpp"
#include "session.hpp"

namespace bench::backward {

namespace {

/// Measures rows, one after the other, keeping the weights from one to the next of the same shape.
class Runner {
public:
    explicit Runner(const Options& options)
        : options_(options),
          threads_(options.threads),
          facts_(machine_facts()),
          budget_(static_cast<double>(available_memory()) * static_cast<double>(options.memory) / 100),
          read_(threads_, read_probe_bytes(budget_)) {
        budget_ -= static_cast<double>(read_.bytes());
        std::fputs(table_header(facts_, options_).c_str(), stdout);
    }

    const Row& measure(const Shape& shape, std::size_t tokens) {
        if (!session_ || &shape != shape_) {
            session_.reset();  // first, there is no room for both
            session_.emplace(
                shape,
                Plan{options_.routing, options_.min_time, budget_, std::ranges::max(options_.tokens), options_.rivals},
                read_, threads_);
            shape_ = &shape;
            if (!session_->note().empty()) {
                std::printf("    note on the rows of %s: %s\n", shape.name.data(), session_->note().c_str());
            }
        }
        rows_.push_back(session_->measure(tokens));
        std::fputs(table_line(rows_.back()).c_str(), stdout);
        std::fflush(stdout);
        if (!options_.json.empty()) {  // every time, so that what is interrupted is not lost
            write_json(options_.json, facts_, options_, rows_);
        }
        return rows_.back();
    }

    [[nodiscard]] const std::vector<Row>& rows() const noexcept { return rows_; }

private:
    Options options_;
    Threads threads_;
    std::vector<std::pair<std::string, std::string>> facts_;
    double budget_;  ///< bytes
    ReadProbe read_;
    std::optional<Session> session_;
    const Shape* shape_ = nullptr;
    std::vector<Row> rows_;
};

}  // namespace

std::vector<std::string> row_names(const Options& options) {
    std::vector<std::string> names;
    for (const Shape* shape : options.shapes) {
        for (const std::size_t tokens : options.tokens) {
            names.push_back(row_name(*shape, tokens));
        }
    }
    return names;
}

void try_json(const Options& options) {
    if (!options.json.empty()) {
        write_json(options.json, machine_facts(), options, {});
    }
}

bool run(const Options& options) {
    Runner runner(options);
    for (const Shape* shape : options.shapes) {
        for (const std::size_t tokens : options.tokens) {
            benchmark::RegisterBenchmark(row_name(*shape, tokens).c_str(),
                                         [&runner, shape, tokens](benchmark::State& state) {
                                             for (auto _ : state) {
                                                 const Row& row = runner.measure(*shape, tokens);
                                                 state.SetIterationTime(row.library.both.median);
                                                 state.counters["of_roofline"] = row.fraction_of_roofline();
                                             }
                                         })
                ->Iterations(1)
                ->UseManualTime();
        }
    }
    run_google();
    std::fputs(bars_text(runner.rows()).c_str(), stdout);
    return std::ranges::none_of(runner.rows(), &Row::wrong);
}

}  // namespace bench::backward
