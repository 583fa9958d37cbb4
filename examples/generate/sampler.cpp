#include "sampler.hpp"

namespace generate {

std::int32_t most_likely(const RowVector& logits) {
    Eigen::Index best = 0;
    for (Eigen::Index i = 1; i < logits.size(); ++i) {  // maxCoeff does not promise which of equal ones it finds
        best = logits[i] > logits[best] ? i : best;
    }
    return static_cast<std::int32_t>(best);
}

std::int32_t sample(const RowVector& logits, double temperature, double uniform) {
    if (temperature == 0) {
        return most_likely(logits);
    }
    const Eigen::ArrayXd values = logits.cast<double>().transpose().array();
    const Eigen::ArrayXd weights = ((values - values.maxCoeff()) / temperature).exp();
    double left = uniform * weights.sum();
    for (Eigen::Index i = 0; i < weights.size(); ++i) {
        left -= weights[i];
        if (left < 0) {
            return static_cast<std::int32_t>(i);
        }
    }
    return most_likely(logits);  // rounding left a little over
}

}  // namespace generate
