#include "cross_entropy.hpp"

#include <cmath>

namespace trainer {

template <class T>
double cross_entropy(Rows<T> logits, std::span<const std::int32_t> targets, double scale) {
    double sum = 0;
    Eigen::Array<T, 1, Eigen::Dynamic> shares(logits.cols());
    for (Eigen::Index t = 0; t < logits.rows(); ++t) {
        const std::int32_t target = targets[unsigned_size(t)];
        auto row = logits.row(t);
        if (target == no_target) {
            row.setZero();
            continue;
        }
        const T largest = row.maxCoeff();
        const T at_target = row[target];
        shares = row.array() - largest;
        shares = shares.exp();
        const T total = ordered_sum<T>(shares.size(), [&](Eigen::Index i) { return shares[i]; });
        sum += std::log(static_cast<double>(total)) + static_cast<double>(largest) - static_cast<double>(at_target);
        const T factor = static_cast<T>(scale) / total;
        for (Eigen::Index i = 0; i < shares.size(); ++i) {
            row[i] = shares[i] * factor;
        }
        row[target] -= static_cast<T>(scale);
    }
    return sum;
}

template double cross_entropy<float>(Rows<float>, std::span<const std::int32_t>, double);
template double cross_entropy<double>(Rows<double>, std::span<const std::int32_t>, double);

}  // namespace trainer
