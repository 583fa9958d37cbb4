#pragma once

#include <array>
#include <cstddef>
#include <span>

#include <Eigen/Core>
#include <moe/parallel/executor.hpp>

/// What the parts of the model share. All of it gives the same bits for any number of threads and whatever the number
/// of sequences in a call: work is cut into sequences and into strips of weights, each of which belongs to one task,
/// and no order of a sum depends on where memory lies.
namespace trainer {

/// Row-major: a row is a token.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows of a matrix, or some of their columns.
template <class T>
using Rows = Eigen::Ref<Matrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using ConstRows = Eigen::Ref<const Matrix<T>, 0, Eigen::OuterStride<>>;

/// A parameter where Parameters keep it.
template <class T>
using Weight = Eigen::Map<const Matrix<T>>;
template <class T>
using Gradient = Eigen::Map<Matrix<T>>;

constexpr Eigen::Index signed_size(std::size_t size) { return static_cast<Eigen::Index>(size); }
constexpr std::size_t unsigned_size(std::ptrdiff_t size) { return static_cast<std::size_t>(size); }

/// Calls task(i) for each i below `n`, on all threads; which one takes which is left to chance.
template <class Task>
void for_each_task(const moe::ExecutorRef& threads, std::size_t n, const Task& task) {
    moe::TaskQueue queue;
    const auto work = [&](std::size_t, std::size_t) {
        for (std::size_t i = queue.take(); i < n; i = queue.take()) {
            task(i);
        }
    };
    threads.run(work);
}

/// The sum of term(0), ..., term(n - 1) in an order that depends on n alone. Eigen's own begin at the first aligned
/// element, so that their bits depend on where memory lies.
template <class T, class Term>
[[nodiscard]] T ordered_sum(Eigen::Index n, const Term& term) {
    constexpr Eigen::Index width = 16;
    std::array<T, unsigned_size(width)> sums{};
    Eigen::Index i = 0;
    for (; i + width <= n; i += width) {
        for (Eigen::Index l = 0; l < width; ++l) {
            sums[unsigned_size(l)] += term(i + l);
        }
    }
    for (; i < n; ++i) {
        sums[unsigned_size(i % width)] += term(i);
    }
    T sum = 0;
    for (const T part : sums) {
        sum += part;
    }
    return sum;
}

}  // namespace trainer
