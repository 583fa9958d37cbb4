#include "collapse_task.hpp"

#include <cmath>

#include <moe/core/random.hpp>

#include "../input.hpp"

namespace compare {

ClusterTask::ClusterTask(std::uint64_t seed)
    : seed_(seed),
      centres_(bench::random_normal(moe::random_stream(seed, 0), 0, (n_clusters + n_styles) * d_model)),
      maps_(bench::random_normal(moe::random_stream(seed, 1), 0, n_clusters * d_model * d_model)) {
    for (float& value : maps_) {
        value /= std::sqrt(static_cast<float>(d_model));
    }
}

ClusterTask::Batch ClusterTask::batch(std::size_t step) const {
    constexpr std::size_t size = n_tokens * d_model;
    Batch result{bench::random_normal(moe::random_stream(seed_, 2), step * size, size), std::vector<float>(size)};
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const std::size_t cluster = t % n_clusters;
        const std::size_t style = t / n_clusters % n_styles;
        float* x = result.x.data() + t * d_model;  // z, until the target is known
        float* target = result.target.data() + t * d_model;
        for (std::size_t i = 0; i < d_model; ++i) {
            const float* row = maps_.data() + (cluster * d_model + i) * d_model;
            for (std::size_t j = 0; j < d_model; ++j) {
                target[i] += row[j] * x[j];
            }
        }
        const float* c = centres_.data() + cluster * d_model;
        const float* s = centres_.data() + (n_clusters + style) * d_model;
        for (std::size_t j = 0; j < d_model; ++j) {
            x[j] = (2 * c[j] + 2 * s[j] + x[j]) / 3;
        }
    }
    return result;
}

double relative_error(std::span<const float> y, std::span<const float> target, std::span<float> d_y) {
    double error = 0;
    double of_zero = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        const double wanted = static_cast<double>(target[i]);
        const double difference = static_cast<double>(y[i]) - wanted;
        error += difference * difference;
        of_zero += wanted * wanted;
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
        d_y[i] = static_cast<float>(2 * (static_cast<double>(y[i]) - static_cast<double>(target[i])) / of_zero);
    }
    return error / of_zero;
}

}  // namespace compare
