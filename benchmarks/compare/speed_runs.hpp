#pragma once

#include <exception>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "options.hpp"
#include "speed.hpp"

namespace compare {

/// Measures the speed of every strategy at all shapes and numbers of tokens of the options. Google Benchmark carries
/// each figure as one iteration whose time is the median, so that its filter and its output files work; the rounds are
/// ours, because all arms must take turns: the first of a shape and number of tokens that is asked for measures all.
class SpeedRuns {
public:
    /// Leaves out shapes whose weights don't fit into the memory that is free.
    explicit SpeedRuns(const Options& options);
    SpeedRuns(const SpeedRuns&) = delete;
    SpeedRuns& operator=(const SpeedRuns&) = delete;

    /// Shapes that were left out, with the reason; empty: none.
    [[nodiscard]] const std::string& left_out() const noexcept { return left_out_; }

    /// Guessed seconds.
    [[nodiscard]] double work() const;

    [[nodiscard]] std::vector<SpeedRow> run(Progress& progress);

private:
    using Key = std::pair<const bench::Shape*, std::size_t>;  ///< and the number of tokens

    void add_benchmarks(const Key& key, Progress& progress);
    const std::vector<SpeedRow>& rows_of(const Key& key, Progress& progress);

    const Options* options_;
    bench::Threads threads_;
    SpeedPlan plan_;
    std::vector<const bench::Shape*> shapes_;
    std::string left_out_;
    const bench::Shape* shape_ = nullptr;  ///< of the session
    std::optional<SpeedSession> session_;
    std::map<Key, std::vector<SpeedRow>> rows_;
    std::exception_ptr error_;
};

}  // namespace compare
