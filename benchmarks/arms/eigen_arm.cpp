#include "eigen_arm.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include <Eigen/Core>

#include "../memory.hpp"
#include "../probes/clock.hpp"
#include "expert_list.hpp"

namespace bench {

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowsView = Eigen::Map<Rows>;
using Weights = Eigen::Map<const Rows>;

Eigen::Index index(std::size_t value) { return static_cast<Eigen::Index>(value); }

/// The layer's weights: expert after expert, as fill_expert orders them.
class EigenLayer {
public:
    EigenLayer(const Shape& shape, Format format, std::size_t layer, const Threads& threads)
        : shape_(shape), memory_(sizeof(float) * shape.weights()) {
        for (std::size_t e = 0; e < expert_count(shape); ++e) {
            fill_expert(threads, shape, format, layer, e, expert(e));
        }
    }

    /// out (rows, d_model) = expert `e` of the rows of x that it has.
    template <class Out>
    void compute(const ExpertRows& rows, moe::MatrixView<const float> x, Out&& out) const {
        const std::size_t d_ff = expert_width(shape_, rows.expert);
        const float* const weights = expert(rows.expert);
        const std::size_t size = d_ff * shape_.d_model;
        const Weights gate(weights, index(d_ff), index(shape_.d_model));
        const Weights up(weights + size, index(d_ff), index(shape_.d_model));
        const Weights down(weights + 2 * size, index(shape_.d_model), index(d_ff));
        Rows gathered(index(rows.tokens.size()), index(shape_.d_model));
        for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
            gathered.row(index(r)) = Eigen::Map<const Eigen::RowVectorXf>(x.row(rows.tokens[r]), index(shape_.d_model));
        }
        Rows g(gathered.rows(), index(d_ff));
        Rows u(gathered.rows(), index(d_ff));
        g.noalias() = gathered * gate.transpose();
        u.noalias() = gathered * up.transpose();
        g = (g.array() / (1.0F + (-g.array()).exp()) * u.array()).matrix();
        out.noalias() = g * down.transpose();
    }

private:
    [[nodiscard]] float* expert(std::size_t e) const noexcept {
        return memory_.as<float>().data() + e * shape_.expert_weights();
    }

    Shape shape_;
    HugeBuffer memory_;
};

class EigenArm final : public Arm {
public:
    EigenArm(const Shape& shape, Format format, std::size_t layers, const Threads& threads)
        : shape_(shape), threads_(threads) {
        Eigen::setNbThreads(static_cast<int>(threads.concurrency()));
        for (std::size_t layer = 0; layer < layers; ++layer) {
            layers_.emplace_back(shape, format, layer, threads);
        }
    }

    [[nodiscard]] std::string_view name() const override { return "eigen"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }

    void prepare(const Batch& batch) override {
        plans_.clear();
        std::size_t most = 0;
        for (const auto& plan : batch.plans) {
            plans_.push_back(expert_rows(plan.view(), shape_));
            most = std::max(most, plans_.back().back().first + plans_.back().back().tokens.size());
        }
        outputs_.resize(index(most), index(shape_.d_model));
        Rows y(index(batch.tokens()), index(shape_.d_model));
        const auto view = moe::view(y.data(), batch.tokens(), shape_.d_model);
        double best[2] = {std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
        for (const std::size_t variant : {0U, 1U}) {
            for (const bool spread : {false, true}) {
                spread_ = spread;
                best[spread ? 1 : 0] = std::min(best[spread ? 1 : 0], seconds_of([&] {
                                                    run(batch, {0, variant}, view);
                                                }));
            }
        }
        spread_ = best[1] < best[0];
    }

    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override {
        if (spread_) {
            run_spread(batch, turn, y);
        } else {
            run_in_order(batch, turn, y);
        }
    }

private:
    void run_in_order(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
        RowsView sum(y.data(), index(y.rows()), index(y.cols()));
        sum.setZero();
        for (const ExpertRows& rows : plans_[turn.variant]) {
            Rows out(index(rows.tokens.size()), index(shape_.d_model));
            layers_[turn.layer].compute(rows, batch.x, out);
            for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
                sum.row(index(rows.tokens[r])) += rows.weights[r] * out.row(index(r));
            }
        }
    }

    /// One thread an expert; the results wait in a buffer until all are there, so that no two threads add to a token.
    void run_spread(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
        const std::vector<ExpertRows>& plan = plans_[turn.variant];
        threads_.take_turns(plan.size(), [&](std::size_t i) {
            layers_[turn.layer].compute(plan[i], batch.x,
                                        outputs_.middleRows(index(plan[i].first), index(plan[i].tokens.size())));
        });
        threads_.split(y.cols(), 16, [&](std::size_t begin, std::size_t end) {
            const auto columns = index(end - begin);
            RowsView sum(y.data(), index(y.rows()), index(y.cols()));
            sum.middleCols(index(begin), columns).setZero();
            for (const ExpertRows& rows : plan) {
                for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
                    sum.row(index(rows.tokens[r])).segment(index(begin), columns) +=
                        rows.weights[r] * outputs_.row(index(rows.first + r)).segment(index(begin), columns);
                }
            }
        });
    }

    Shape shape_;
    Threads threads_;
    std::vector<EigenLayer> layers_;
    std::vector<std::vector<ExpertRows>> plans_;
    Rows outputs_;
    bool spread_ = false;
};

}  // namespace

std::unique_ptr<Arm> make_eigen_arm(const Shape& shape, Format format, std::size_t layers, const Threads& threads) {
    return std::make_unique<EigenArm>(shape, format, layers, threads);
}

std::string eigen_version() {
    return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
           std::to_string(EIGEN_MINOR_VERSION);
}

}  // namespace bench
