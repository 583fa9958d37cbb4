#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "model.hpp"

namespace generate {

/// The MoE block anyone writes first: for each expert gather its tokens, three matrix products of Eigen, SiLU, and add
/// the results to their tokens. It has the weights as float, which Eigen multiplies fastest.
class NaiveMoE {
public:
    /// The weights of block `layer`. Throws moe::Error when one is missing or has another shape.
    NaiveMoE(const Checkpoint& weights, std::size_t layer, const Config& config);

    /// y (n, d_model) = the block applied to x (n, d_model), each token through the experts that `plan` gives it.
    void forward(const Matrix& x, const moe::PlanView<float>& plan, Matrix& y) const;

private:
    struct Expert {
        Matrix gate;  // (d_ff, d_model), as up
        Matrix up;
        Matrix down;  // (d_model, d_ff)
    };
    std::vector<Expert> experts_;
};

/// Speed of all MoE blocks of a model, experts only: both ways get the same inputs and the same plans.
struct MoESpeed {
    std::size_t tokens = 0;  ///< in a batch
    double library = 0;      ///< tokens a second through all blocks
    double naive = 0;        ///< the same by NaiveMoE
};

/// Largest difference of the two ways that passes, as a fraction of the largest output: float rounding makes 1e-6.
inline constexpr double naive_tolerance = 1e-4;

/// Reads the first tokens of the text in reference.safetensors of `directory`, and runs what they bring to each block
/// by batches of one token and all at once: both ways in turns, medians. Eigen's products run on one thread and on as
/// many as `threads` has, and the faster counts. Returns a result for one token and one for many; throws moe::Error
/// when the two ways differ, before anything is timed.
[[nodiscard]] std::vector<MoESpeed> compare_with_naive(const Model& model, const std::string& directory,
                                                       const Threads& threads);

}  // namespace generate
