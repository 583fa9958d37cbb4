#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "arms/library_arm.hpp"
#include "arms/rivals.hpp"
#include "probes/read.hpp"
#include "row.hpp"

namespace bench {

/// How the measuring goes.
struct Plan {
    Routing routing = Routing::random;
    double min_time = 1;  ///< seconds of the library a row
    std::size_t min_rounds = 5;
    double budget = 0;  ///< bytes for weights
    std::vector<Rival> rivals;
};

/// The weights of one shape in one format, made once for all token counts, and the rivals that fit beside them.
class Session {
public:
    Session(const Shape& shape, Format format, Compute compute, Plan plan, ReadProbe& read, const Threads& threads);

    /// `scaling`: also on one thread, and with every assignment to one expert.
    [[nodiscard]] Row measure(std::size_t tokens, bool scaling);

    /// What is not as it should be about all rows; empty: nothing.
    [[nodiscard]] const std::string& note() const noexcept { return note_; }

private:
    struct Samples;
    using Stage = std::vector<Rival>;  ///< rivals that are in memory together

    void fit_memory();
    void make_stages();
    void load(std::size_t stage);
    void check(const Batch& batch, moe::MatrixView<float> y, Row& row);
    void check_scaling(const Batch& batch, const Batch& one_expert, moe::MatrixView<float> y, Row& row);
    void rounds(const Batch& batch, moe::MatrixView<float> y, double min_time, Samples& samples);
    void one_round(const Batch& batch, moe::MatrixView<float> y, Samples& samples);
    void scaling_round(const Batch& batch, moe::MatrixView<float> y, Samples& samples);
    [[nodiscard]] Turn next_turn(const Arm& arm, const Batch& batch);

    const Shape* full_;
    Shape shape_;
    Format format_;
    Compute compute_;
    Plan plan_;
    ReadProbe* read_;
    Threads threads_;
    std::size_t layers_ = 1;
    std::string note_;
    std::unique_ptr<LibraryArm> library_;
    std::vector<Stage> stages_;
    std::size_t loaded_;
    std::map<Rival, std::unique_ptr<Arm>> rivals_;
    std::size_t turn_ = 0;
    std::size_t round_ = 0;
};

}  // namespace bench
