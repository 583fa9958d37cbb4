#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "arms/rivals.hpp"
#include "formats.hpp"
#include "shapes.hpp"

namespace bench {

/// Order statistics of a few samples; all 0 for none.
struct Statistics {
    double min = 0;
    double median = 0;
    double p95 = 0;
    std::size_t samples = 0;

    Statistics() = default;
    explicit Statistics(std::vector<double> values);
};

/// One line of the result. Figures that were not measured are 0.
struct Row {
    const Shape* shape = nullptr;
    std::size_t n_experts = 0;  ///< as many as fitted
    std::size_t layers = 0;     ///< in rotation
    Format format{};
    Compute compute{};
    std::size_t tokens = 0;
    std::size_t threads = 0;
    Statistics seconds;
    double operations = 0;
    double weight_bytes = 0;      ///< of the distinct experts a batch touches, mean over the batches
    double distinct_experts = 0;  ///< mean
    double fma_peak = 0;          ///< operations a second, medians of the run
    double int8_peak = 0;
    double bfloat16_peak = 0;
    double unit_int8_peak = 0;                  ///< of the matrix unit
    double read_bandwidth = 0;                  ///< bytes a second
    std::map<Rival, Statistics> rival_seconds;  ///< those that were measured
    Statistics one_thread;                      ///< seconds
    Statistics one_expert;
    std::size_t workspace_bytes = 0;
    double nmse = 0;  ///< of the result against the rounded weights' in double
    double route_share = 0;
    double combine_share = 0;
    std::string kernel;
    std::string setup_note;  ///< the same for all rows of these weights
    std::string note;        ///< what makes the row mean less than it seems
    bool wrong = false;

    /// Operations a second that the instructions of the compute could do: as measured, or a multiple of the FMA peak.
    [[nodiscard]] double peak() const;
    [[nodiscard]] double roofline_seconds() const;
    [[nodiscard]] double fraction_of_roofline() const;
    /// Of the arithmetic peak of the compute.
    [[nodiscard]] double fraction_of_peak() const;
    /// Weights read a second over what memory gives.
    [[nodiscard]] double fraction_of_read() const;
    /// Seconds on one thread over those on all; 0 if it was not measured.
    [[nodiscard]] double speedup_threads() const;
    /// Seconds with every assignment to one expert over those of the row; 0 if it was not measured.
    [[nodiscard]] double one_expert_slowdown() const;
    /// Seconds of the rival over those of the library; 0 if it was not measured.
    [[nodiscard]] double speedup(Rival rival) const;
};

/// Name of a row, e.g. qwen3-30b-a3b/bf16/exact/tokens:64.
[[nodiscard]] std::string row_name(const Shape& shape, Format format, Compute compute, std::size_t tokens);

}  // namespace bench
