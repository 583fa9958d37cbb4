#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../probes/read.hpp"
#include "library_arm.hpp"
#include "rivals.hpp"
#include "row.hpp"

namespace bench::backward {

/// How the measuring goes.
struct Plan {
    Routing routing = Routing::random;
    double min_time = 1;          ///< seconds of the library a row
    double budget = 0;            ///< bytes for weights, gradients and activations
    std::size_t most_tokens = 0;  ///< of all rows
    std::vector<Rival> rivals;
};

/// The weights and gradients of one shape, made once for all token counts, and the arms that share them.
class Session {
public:
    Session(const Shape& shape, Plan plan, ReadProbe& read, const Threads& threads);

    [[nodiscard]] Row measure(std::size_t tokens);

    /// What is not as it should be about all rows; empty: nothing.
    [[nodiscard]] const std::string& note() const noexcept { return note_; }

private:
    struct Samples;
    struct Buffers;
    struct StepSamples;
    struct Expected;

    void fit_memory();
    void check(const Batch& batch, Buffers& buffers, Row& row);
    void check_rival(Arm& arm, const Batch& batch, Buffers& buffers, const Expected& expected, Row& row);
    void rounds(const Batch& batch, Buffers& buffers, Samples& samples);
    void one_round(const Batch& batch, Buffers& buffers, Samples& samples);
    void step(Arm& arm, const Batch& batch, Buffers& buffers, StepSamples& samples);
    [[nodiscard]] std::size_t next_variant(const Batch& batch) { return turn_++ % batch.plans.size(); }

    const Shape* full_;
    Shape shape_;
    Plan plan_;
    ReadProbe* read_;
    Threads threads_;
    std::string note_;
    std::unique_ptr<Parameters> weights_;
    std::unique_ptr<Parameters> gradients_;
    std::unique_ptr<Activations> kept_;
    std::unique_ptr<LibraryArm> library_;
    std::map<Rival, std::unique_ptr<Arm>> rivals_;
    std::size_t turn_ = 0;
    std::size_t round_ = 0;
};

}  // namespace bench::backward
