#pragma once

#include <map>
#include <string>

#include "../row.hpp"

namespace bench::backward {

/// Seconds of a forward pass that keeps what the backward pass needs, of that backward pass, and of both.
struct StepSeconds {
    Statistics forward;
    Statistics backward;
    Statistics both;
};

/// One line of the result. Figures that were not measured are 0.
struct Row {
    const Shape* shape = nullptr;
    std::size_t n_experts = 0;  ///< as many as fitted
    std::size_t tokens = 0;
    std::size_t threads = 0;
    Statistics inference;  ///< a forward pass that keeps nothing
    StepSeconds library;
    StepSeconds one_thread;
    std::map<Rival, StepSeconds> rivals;  ///< those that were measured
    double operations = 0;                ///< of forward and backward
    double bytes = 0;                     ///< of weights and gradients that these must move
    double distinct_experts = 0;          ///< mean
    double fma_peak = 0;                  ///< operations a second, medians of the run
    double read_bandwidth = 0;            ///< bytes a second
    double nmse = 0;                      ///< the largest of what was checked against plain loops in double
    std::size_t workspace_bytes = 0;
    std::string kernel;
    std::string setup_note;  ///< the same for all rows of these weights
    std::string note;        ///< what makes the row mean less than it seems
    bool wrong = false;

    [[nodiscard]] double roofline_seconds() const;
    [[nodiscard]] double fraction_of_roofline() const;
    [[nodiscard]] double fraction_of_peak() const;
    /// Backward pass over a forward pass that keeps nothing.
    [[nodiscard]] double backward_over_forward() const;
    /// Of forward and backward: one thread's seconds over those of all; 0 if it was not measured.
    [[nodiscard]] double speedup_threads() const;
    /// Of forward and backward: the rival's seconds over those of the library; 0 if it was not measured.
    [[nodiscard]] double speedup(Rival rival) const;
};

/// Operations of the experts, forward and backward: three times those of a forward pass (18 d_model d_ff an expert and
/// token).
[[nodiscard]] double step_operations(const Shape& shape, std::size_t tokens);

/// Bytes that `distinct_experts` and the shared one move at least: weights read in either pass, gradients read and
/// written.
[[nodiscard]] double step_bytes(const Shape& shape, double distinct_experts);

/// Name of a row, e.g. qwen3-30b-a3b/f32/backward/tokens:512.
[[nodiscard]] std::string row_name(const Shape& shape, std::size_t tokens);

}  // namespace bench::backward
