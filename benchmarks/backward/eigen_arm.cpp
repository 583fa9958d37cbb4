#include <Eigen/Core>

#include "rivals.hpp"

namespace bench::backward {

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowsView = Eigen::Map<Rows>;

RowsView view_of(float* data, std::size_t rows, std::size_t cols) {
    return {data, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols)};
}

class EigenArm final : public RivalArm {
public:
    using RivalArm::RivalArm;

    [[nodiscard]] std::string_view name() const override { return "eigen"; }

protected:
    void prepare_products(const std::vector<std::vector<ExpertRows>>&) override {
        Eigen::setNbThreads(static_cast<int>(threads().concurrency()));
    }

    void forward_expert(const ExpertRows& rows, std::size_t) override {
        const Expert e(*this, rows);
        RowsView g = e.gate;
        RowsView u = e.up;
        RowsView h = e.hidden;
        RowsView out = e.output;
        g.noalias() = e.x * e.w_gate.transpose();
        u.noalias() = e.x * e.w_up.transpose();
        h = (g.array() / (1.0F + (-g.array()).exp()) * u.array()).matrix();
        out.noalias() = h * e.w_down.transpose();
    }

    void backward_expert(const ExpertRows& rows, moe::MatrixView<const float> dy, std::size_t) override {
        const Expert e(*this, rows);
        const std::size_t n = rows.tokens.size();
        RowsView d_out = e.output;  // what the forward pass left there is of no use any more
        for (std::size_t r = 0; r < n; ++r) {
            d_out.row(index(r)) = Eigen::Map<const Eigen::RowVectorXf>(dy.row(rows.tokens[r]), d_out.cols());
        }
        RowsView dh = e.d_hidden;
        dh.noalias() = d_out * e.w_down;
        for (std::size_t r = 0; r < n; ++r) {
            set_d_weight(rows, r, e.hidden.row(index(r)).dot(dh.row(index(r))));
            d_out.row(index(r)) *= rows.weights[r];
            dh.row(index(r)) *= rows.weights[r];
        }
        RowsView d_down = view_of(gradients(Matrix::down, rows.expert), shape().d_model, e.width);
        d_down.noalias() += d_out.transpose() * e.hidden;
        RowsView g = e.gate;
        RowsView u = e.up;
        const auto s = (1.0F / (1.0F + (-g.array()).exp())).eval();
        const auto du = (dh.array() * g.array() * s).eval();
        g = (dh.array() * u.array() * s * (1.0F + g.array() * (1.0F - s))).matrix();
        u = du.matrix();
        RowsView d_gate = view_of(gradients(Matrix::gate, rows.expert), e.width, shape().d_model);
        RowsView d_up = view_of(gradients(Matrix::up, rows.expert), e.width, shape().d_model);
        d_gate.noalias() += g.transpose() * e.x;
        d_up.noalias() += u.transpose() * e.x;
        RowsView dx = e.output;
        dx.noalias() = g * e.w_gate;
        dx.noalias() += u * e.w_up;
    }

private:
    /// The matrices of an expert.
    struct Expert {
        std::size_t width;
        RowsView x, output, gate, up, hidden, d_hidden, w_gate, w_up, w_down;

        Expert(const EigenArm& arm, const ExpertRows& rows)
            : width(expert_width(arm.shape(), rows.expert)),
              x(arm.narrow(rows, arm.kept().gathered(rows.first))),
              output(arm.narrow(rows, arm.kept().output(rows.first))),
              gate(view_of(arm.kept().gate(rows.first), rows.tokens.size(), width)),
              up(view_of(arm.kept().up(rows.first), rows.tokens.size(), width)),
              hidden(view_of(arm.kept().hidden(rows.first), rows.tokens.size(), width)),
              d_hidden(view_of(arm.kept().d_hidden(rows.first), rows.tokens.size(), width)),
              w_gate(view_of(arm.weights(Matrix::gate, rows.expert), width, arm.shape().d_model)),
              w_up(view_of(arm.weights(Matrix::up, rows.expert), width, arm.shape().d_model)),
              w_down(view_of(arm.weights(Matrix::down, rows.expert), arm.shape().d_model, width)) {}
    };

    [[nodiscard]] RowsView narrow(const ExpertRows& rows, float* data) const {
        return view_of(data, rows.tokens.size(), shape().d_model);
    }
    [[nodiscard]] static Eigen::Index index(std::size_t value) { return static_cast<Eigen::Index>(value); }
};

}  // namespace

std::unique_ptr<Arm> make_eigen_arm(const Shape& shape, const Parameters& weights, const Parameters& gradients,
                                    const Activations& kept, const Threads& threads) {
    return std::make_unique<EigenArm>(shape, weights, gradients, kept, threads);
}

}  // namespace bench::backward
