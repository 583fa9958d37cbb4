#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <vector>

#include "../arms/expert_list.hpp"
#include "../probes/clock.hpp"
#include "arm.hpp"
#include "parameters.hpp"

namespace bench::backward {

/// Values that a rival keeps from the forward to the backward pass, the rows of all experts in the order of ExpertRows.
/// Rivals have the same memory, since they take turns.
class Activations {
public:
    /// For as many tokens.
    Activations(const Shape& shape, std::size_t tokens)
        : d_model_(shape.d_model),
          d_ff_(shape.d_ff),
          rows_(tokens * (shape.top_k + (shape.shared_d_ff > 0 ? 1 : 0))),
          values_(tokens * (shape.top_k * shape.d_ff + shape.shared_d_ff)),
          memory_(bytes(shape, tokens)) {
        std::ranges::fill(memory_.as<float>(), 0.0F);  // so that no rival is the one to fetch its pages
    }

    [[nodiscard]] static std::size_t bytes(const Shape& shape, std::size_t tokens) noexcept {
        const std::size_t rows = shape.top_k + (shape.shared_d_ff > 0 ? 1 : 0);
        const std::size_t values = shape.top_k * shape.d_ff + shape.shared_d_ff;
        return sizeof(float) * tokens * (2 * rows * shape.d_model + 4 * values);
    }

    /// Row `first` and those behind it: of x or dy gathered, of what goes to y or dx.
    [[nodiscard]] float* gathered(std::size_t first) const noexcept { return data() + first * d_model_; }
    [[nodiscard]] float* output(std::size_t first) const noexcept { return data() + (rows_ + first) * d_model_; }
    /// gate x, up x, the hidden values, and the gradients of these. The rows of the shared expert are wider, and the
    /// last.
    [[nodiscard]] float* gate(std::size_t first) const noexcept { return wide(0, first); }
    [[nodiscard]] float* up(std::size_t first) const noexcept { return wide(1, first); }
    [[nodiscard]] float* hidden(std::size_t first) const noexcept { return wide(2, first); }
    [[nodiscard]] float* d_hidden(std::size_t first) const noexcept { return wide(3, first); }

private:
    [[nodiscard]] float* data() const noexcept { return memory_.as<float>().data(); }
    [[nodiscard]] float* wide(std::size_t which, std::size_t first) const noexcept {
        return data() + 2 * rows_ * d_model_ + which * values_ + first * d_ff_;
    }

    std::size_t d_model_;
    std::size_t d_ff_;
    std::size_t rows_;
    std::size_t values_;
    HugeBuffer memory_;
};

/// The loop over the experts that rivals have in common: one expert after the other with all threads in its products,
/// or the experts spread over the threads, whichever prepare() finds faster for the batch. They get the plan of the
/// library, and hand back the gradients of its weights; the router is not theirs.
class RivalArm : public Arm {
public:
    RivalArm(const Shape& shape, const Parameters& weights, const Parameters& gradients, const Activations& kept,
             const Threads& threads)
        : shape_(shape), weights_(weights), gradients_(gradients), kept_(kept), threads_(threads) {}

    void prepare(const Batch& batch) override {
        plans_.clear();
        for (const auto& plan : batch.plans) {
            plans_.push_back(expert_rows(plan.view(), shape_));
        }
        d_weights_.resize(batch.tokens() * shape_.top_k);
        prepare_products(plans_);
        choose_threads(batch);
    }

    void forward(const Batch& batch, std::size_t variant, moe::MatrixView<float> y) override {
        over_experts(plans_[variant], [&](const ExpertRows& rows, std::size_t ith) {
            gather(batch.x, rows);
            forward_expert(rows, ith);
        });
        combine(plans_[variant], true, y);
    }

    void backward(const Batch&, std::size_t variant, moe::MatrixView<const float> dy,
                  moe::MatrixView<float> dx) override {
        over_experts(plans_[variant], [&](const ExpertRows& rows, std::size_t ith) { backward_expert(rows, dy, ith); });
        combine(plans_[variant], false, dx);
    }

    [[nodiscard]] std::span<const float> d_weights() const override { return d_weights_; }

protected:
    virtual void prepare_products(const std::vector<std::vector<ExpertRows>>& plans) = 0;
    /// The rows of an expert from gathered() to output(), on worker `ith`, on one thread if spread().
    virtual void forward_expert(const ExpertRows& rows, std::size_t ith) = 0;
    /// The gradients of an expert's weights, and its part of dx to output(). gathered() still has its rows of x.
    virtual void backward_expert(const ExpertRows& rows, moe::MatrixView<const float> dy, std::size_t ith) = 0;

    [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
    [[nodiscard]] const Activations& kept() const noexcept { return kept_; }
    [[nodiscard]] const Threads& threads() const noexcept { return threads_; }
    [[nodiscard]] bool spread() const noexcept { return spread_; }
    [[nodiscard]] float* weights(Matrix which, std::size_t e) const noexcept { return weights_.matrix(which, e); }
    [[nodiscard]] float* gradients(Matrix which, std::size_t e) const noexcept { return gradients_.matrix(which, e); }

    /// body(begin, end) over parts of `count` rows, on all threads if this is not already one of several.
    template <class Body>
    void over_rows(std::size_t count, Body&& body) const {
        if (spread_) {
            body(std::size_t{0}, count);
        } else {
            threads_.split(count, 4, body);
        }
    }

    void set_d_weight(const ExpertRows& rows, std::size_t r, float value) noexcept {
        if (!rows.assignments.empty()) {
            d_weights_[rows.assignments[r]] = value;
        }
    }

private:
    void gather(moe::MatrixView<const float> x, const ExpertRows& rows) const {
        over_rows(rows.tokens.size(), [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                std::copy_n(x.row(rows.tokens[r]), shape_.d_model, kept_.gathered(rows.first + r));
            }
        });
    }

    template <class Body>
    void over_experts(const std::vector<ExpertRows>& plan, Body&& body) {
        if (!spread_) {
            for (const ExpertRows& rows : plan) {
                body(rows, std::size_t{0});
            }
            return;
        }
        moe::TaskQueue queue;
        auto work = [&](std::size_t ith, std::size_t) {
            for (std::size_t i = queue.take(); i < plan.size(); i = queue.take()) {
                body(plan[i], ith);
            }
        };
        threads_.run(work);
    }

    /// The rows of output() added to their tokens, so that no two threads add to the same.
    void combine(const std::vector<ExpertRows>& plan, bool weighed, moe::MatrixView<float> y) const {
        threads_.split(y.cols(), 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = 0; t < y.rows(); ++t) {
                std::fill(y.row(t) + begin, y.row(t) + end, 0.0F);
            }
            for (const ExpertRows& rows : plan) {
                for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
                    float* const sum = y.row(rows.tokens[r]);
                    const float* const out = kept_.output(rows.first + r);
                    const float weight = weighed ? rows.weights[r] : 1.0F;
                    for (std::size_t c = begin; c < end; ++c) {
                        sum[c] += weight * out[c];
                    }
                }
            }
        });
    }

    /// The first turn of each way also warms up, unless it is so long that this does not matter.
    void choose_threads(const Batch& batch) {
        constexpr double long_turn = 0.5;  // seconds
        std::vector<float> memory(2 * batch.x.rows() * batch.x.cols());
        const auto y = moe::view(memory.data(), batch.x.rows(), batch.x.cols());
        const auto dx = moe::view(memory.data() + memory.size() / 2, batch.x.rows(), batch.x.cols());
        std::array<double, 2> best{std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
        for (std::size_t turn = 0; turn < 3 && (turn == 0 || best[0] < long_turn); ++turn) {
            for (const bool spread : {false, true}) {
                spread_ = spread;
                double& time = best[spread ? 1 : 0];
                time = std::min(time, seconds_of([&] {
                                    const std::size_t variant = turn % plans_.size();
                                    forward(batch, variant, y);
                                    backward(batch, variant, batch.x, dx);
                                }));
            }
        }
        spread_ = best[1] < best[0];
    }

    Shape shape_;
    const Parameters& weights_;
    const Parameters& gradients_;
    const Activations& kept_;
    Threads threads_;
    std::vector<std::vector<ExpertRows>> plans_;
    std::vector<float> d_weights_;
    bool spread_ = false;
};

}  // namespace bench::backward
