#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "../routing/router.hpp"
#include "pass/tasks.hpp"

namespace moe::inline MOE_ABI {

/// The logits of a NeuronLayer: each of its heads compares a token with two sets of n keys (He 2024, 2407.04153,
/// algorithm 1). Weights are views, in any storage type; everything is ordered by head, then half, then key.
template <WeightElement W>
class ProductKeyRouter {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using T = value_type;

    /// `rows` (n_heads * 2 * n_keys, d_router): logit = row . x, as in Doge. Throws Error(shape): no heads, or rows
    /// that are not 2 halves a head.
    ProductKeyRouter(MatrixView<const W> rows, std::size_t n_heads) : n_heads_(n_heads), first_(as_linear(rows)) {
        n_keys_ = confirm(rows.rows(), "rows");
    }

    /// `queries` (n_heads * 2 * d_key, d_router) and `keys` (n_heads * 2 * n_keys, d_key): logit = key . (query rows *
    /// x), as in PEER. Far less to read than one row a logit: PEER's 8 heads of 2048 keys and d_model 1024 are 64 MB of
    /// rows, and 8 MB of queries and keys of d_key 64. Throws Error(shape) naming both shapes where they disagree.
    ProductKeyRouter(MatrixView<const W> queries, MatrixView<const W> keys, std::size_t n_heads)
        : n_heads_(n_heads), first_(as_linear(queries)) {
        n_keys_ = confirm(keys.rows(), "keys");
        ensure(queries.rows() == checked_multiply(2 * n_heads, keys.cols()), ErrorCode::shape,
               "ProductKeyRouter: the queries are ", queries.rows(), " x ", queries.cols(), " and the keys ",
               keys.rows(), " x ", keys.cols(), ", but ", n_heads, " heads of two halves need ",
               2 * n_heads * keys.cols(), " rows of queries");
        for (std::size_t half = 0; half < 2 * n_heads; ++half) {
            keys_.push_back(as_linear(view(keys.row(half * n_keys_), n_keys_, keys.cols(), keys.stride())));
        }
    }

    /// Only where it was moved from.
    [[nodiscard]] bool empty() const noexcept { return first_.empty(); }
    [[nodiscard]] std::size_t n_heads() const noexcept { return n_heads_; }
    [[nodiscard]] std::size_t n_keys() const noexcept { return n_keys_; }  ///< of a half
    [[nodiscard]] std::size_t inputs() const noexcept { return first_.inputs(); }
    [[nodiscard]] std::size_t n_logits() const noexcept { return n_heads_ * 2 * n_keys_; }  ///< a token
    /// Values of a token between the two products; 0 where there is one.
    [[nodiscard]] std::size_t n_queries() const noexcept { return keys_.empty() ? 0 : first_.outputs(); }

    /// The product of a token: rows or queries.
    [[nodiscard]] const Linear<W>& first() const& noexcept { return first_; }
    /// The keys of a half of a head, in order of head, then half, that its queries are compared with; none where there
    /// is one product.
    [[nodiscard]] const std::vector<Linear<W>>& keys() const& noexcept { return keys_; }

    /// Whether `memory` has bytes in common with the weights.
    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return first_.overlaps(memory) ||
               std::any_of(keys_.begin(), keys_.end(), [&](const Linear<W>& keys) { return keys.overlaps(memory); });
    }

    /// The same with its weights copied into panels: equal bits, faster.
    template <Executor E = SerialExecutor>
    [[nodiscard]] ProductKeyRouter packed(const E& executor = {}) const {
        ProductKeyRouter result = *this;
        result.first_ = first_.packed(executor);
        for (Linear<W>& keys : result.keys_) {
            keys = keys.packed(executor);
        }
        return result;
    }

    /// logits (n_tokens, n_logits) of the rows of x, through `queries` (n_tokens, n_queries).
    void compute(MatrixView<const T> x, T* queries, T* logits, const detail::WorkerScratch<T>& scratch,
                 const ExecutorRef& threads) const {
        T* const first = keys_.empty() ? logits : queries;
        multiply(first_, x, first, first_.outputs(), scratch, threads);
        if (keys_.empty() || x.rows() == 0) {
            return;
        }
        const detail::ProductCut cut(x.rows(), keys_.front().panels(), threads.concurrency(), Panel<T>::tile_rows);
        const std::size_t d_key = keys_.front().inputs();
        detail::run_tasks("NeuronLayer", threads, keys_.size() * cut.n_tasks(), x.rows() * n_logits() * d_key,
                          [&](std::size_t task, std::size_t ith) {
                              const std::size_t half = task % keys_.size();
                              multiply_part(
                                  keys_[half], cut.part(task / keys_.size()),
                                  [&](std::size_t t) { return queries + t * n_queries() + half * d_key; },
                                  logits + half * n_keys_, n_logits(), scratch.of(ith));
                          });
    }

private:
    static Linear<W> as_linear(MatrixView<const W> matrix) {
        return Linear<W>(WeightStack<W>(matrix.data(), 1, matrix.rows(), matrix.cols(), matrix.stride(),
                                        checked_multiply(matrix.rows(), matrix.stride())));
    }

    /// Keys of a half.
    [[nodiscard]] std::size_t confirm(std::size_t rows, const char* name) const {
        ensure(n_heads_ > 0 && rows > 0 && rows % checked_multiply(2, n_heads_) == 0, ErrorCode::shape,
               "ProductKeyRouter: ", rows, " ", name, " are not two halves for each of ", n_heads_, " heads");
        return rows / (2 * n_heads_);
    }

    static void multiply(const Linear<W>& linear, MatrixView<const T> x, T* y, std::size_t stride,
                         const detail::WorkerScratch<T>& scratch, const ExecutorRef& threads) {
        if (x.rows() == 0) {
            return;
        }
        const detail::ProductCut cut(x.rows(), linear.panels(), threads.concurrency(), Panel<T>::tile_rows);
        detail::run_tasks("NeuronLayer", threads, cut.n_tasks(), x.rows() * x.cols() * stride,
                          [&](std::size_t task, std::size_t ith) {
                              multiply_part(
                                  linear, cut.part(task), [&](std::size_t t) { return x.row(t); }, y, stride,
                                  scratch.of(ith));
                          });
    }

    template <class Row>
    static void multiply_part(const Linear<W>& linear, const detail::ProductCut::Part& part, Row&& row, T* y,
                              std::size_t stride, const PanelScratch<T>& scratch) {
        for (std::size_t r = 0; r < part.n_rows; ++r) {
            scratch.rows[r] = reinterpret_cast<const std::byte*>(row(part.first_row + r));
        }
        linear.compute_panels(part.panels, scratch.rows.first(part.n_rows), y + part.first_row * stride, stride,
                              scratch);
    }

    std::size_t n_heads_;
    std::size_t n_keys_ = 0;
    Linear<W> first_;              // rows or queries
    std::vector<Linear<W>> keys_;  // one a half of a head; none where `first_` gives the logits
};

template <class W>
ProductKeyRouter(MatrixView<W>, std::size_t) -> ProductKeyRouter<std::remove_const_t<W>>;
template <class W>
ProductKeyRouter(MatrixView<W>, MatrixView<W>, std::size_t) -> ProductKeyRouter<std::remove_const_t<W>>;

}  // namespace moe::inline MOE_ABI
