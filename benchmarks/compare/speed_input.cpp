#include "speed_input.hpp"

#include <algorithm>

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <moe/core/random.hpp>

#include "../input.hpp"

namespace compare {

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Index signed_size(std::size_t size) { return static_cast<Eigen::Index>(size); }

/// Two batches of the largest, and 32 single tokens at least.
std::size_t rows_for(std::span<const std::size_t> tokens) {
    return std::max<std::size_t>(32, 2 * *std::ranges::max_element(tokens));
}

}  // namespace

SpeedInput::SpeedInput(moe::MatrixView<const float> router, Distribution distribution,
                       std::span<const std::size_t> tokens, std::uint64_t seed)
    : d_model_(router.cols()), x_(bench::random_normal(seed, 0, rows_for(tokens) * d_model_)), ids_(rows_for(tokens)) {
    const Eigen::Index rows = signed_size(ids_.size());
    const Eigen::Index experts = signed_size(router.rows());
    const Eigen::Map<const Matrix> w(router.data(), experts, signed_size(d_model_));
    const std::vector<float> wanted_values =
        random_logits(distribution, ids_.size(), router.rows(), moe::random_bits(seed, 1));
    const Eigen::Map<const Matrix> wanted(wanted_values.data(), rows, experts);
    Eigen::Map<Matrix> x(x_.data(), rows, signed_size(d_model_));
    // the shortest change with W x = wanted: W^T (W W^T)^-1 (wanted - W x)
    const Matrix missing = wanted - x * w.transpose();
    const Eigen::LLT<Eigen::MatrixXf> gram((w * w.transpose()).eval());
    x += gram.solve(missing.transpose()).transpose() * w;
    for (std::size_t t = 0; t < ids_.size(); ++t) {
        ids_[t] = static_cast<std::int32_t>(moe::random_bits(seed + 1, t) % 256);
    }
}

moe::MatrixView<const float> SpeedInput::x(std::size_t tokens, std::size_t batch) const {
    return moe::view(x_.data() + batch * tokens * d_model_, tokens, d_model_);
}

std::span<const std::int32_t> SpeedInput::ids(std::size_t tokens, std::size_t batch) const {
    return std::span<const std::int32_t>(ids_).subspan(batch * tokens, tokens);
}

}  // namespace compare
