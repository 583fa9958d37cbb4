#include "linear.hpp"

#include <algorithm>

namespace trainer {

template <class T>
void add_linear_gradients(const std::vector<LinearGradient<T>>& gradients, std::size_t n_sequences, std::size_t length,
                          const moe::ExecutorRef& threads) {
    constexpr Eigen::Index strip = 64;
    struct Task {
        const LinearGradient<T>* gradient;
        Eigen::Index first;
    };
    std::vector<Task> tasks;
    for (const LinearGradient<T>& gradient : gradients) {
        for (Eigen::Index first = 0; first < gradient.to.rows(); first += strip) {
            tasks.push_back({&gradient, first});
        }
    }
    const Eigen::Index rows = signed_size(length);
    for_each_task(threads, tasks.size(), [&](std::size_t i) {
        const LinearGradient<T>& gradient = *tasks[i].gradient;
        const Eigen::Index first = tasks[i].first;
        const Eigen::Index count = std::min(strip, gradient.to.rows() - first);
        Gradient<T> to(gradient.to);
        for (std::size_t s = 0; s < n_sequences; ++s) {
            const Eigen::Index row = signed_size(s) * rows;
            to.middleRows(first, count).noalias() +=
                gradient.dy->block(row, first, rows, count).transpose() * gradient.x->middleRows(row, rows);
        }
    });
}

template void add_linear_gradients<float>(const std::vector<LinearGradient<float>>&, std::size_t, std::size_t,
                                          const moe::ExecutorRef&);
template void add_linear_gradients<double>(const std::vector<LinearGradient<double>>&, std::size_t, std::size_t,
                                           const moe::ExecutorRef&);

}  // namespace trainer
