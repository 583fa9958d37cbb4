#include "reference.hpp"

#include <cmath>
#include <vector>

#include "weights.hpp"

namespace bench {

namespace {

using Values = std::vector<double>;

/// y += weight * down * (silu(gate x) . (up x)) with expert `e` of a group.
template <class W>
void add_expert(const Shape& shape, std::size_t d_ff, std::size_t group, std::size_t e, double weight,
                std::span<const float> x, Values& y) {
    const std::size_t d = shape.d_model;
    const auto value = [](const WeightStream& stream, std::size_t index) {
        return static_cast<double>(loaded(stored<W>(stream(index))));
    };
    const WeightStream gate(0, group, Matrix::gate, d);
    const WeightStream up(0, group, Matrix::up, d);
    const WeightStream down(0, group, Matrix::down, d_ff);
    const std::size_t offset = e * d_ff * d;
    Values hidden(d_ff);
    for (std::size_t i = 0; i < d_ff; ++i) {
        double g = 0;
        double u = 0;
        for (std::size_t k = 0; k < d; ++k) {
            g += value(gate, offset + i * d + k) * static_cast<double>(x[k]);
            u += value(up, offset + i * d + k) * static_cast<double>(x[k]);
        }
        hidden[i] = g / (1.0 + std::exp(-g)) * u;
    }
    for (std::size_t i = 0; i < d; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < d_ff; ++k) {
            sum += value(down, offset + i * d_ff + k) * hidden[k];
        }
        y[i] += weight * sum;
    }
}

double error_of(std::span<const float> y, const Values& expected) {
    double error = 0;
    double power = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double difference = static_cast<double>(y[i]) - expected[i];
        error += difference * difference;
        power += expected[i] * expected[i];
    }
    return error / power;
}

}  // namespace

double reference_error(const Shape& shape, Format format, const Batch& batch, std::size_t variant,
                       moe::MatrixView<const float> y) {
    const std::size_t t = batch.tokens() - 1;
    const auto plan = batch.plans[variant].view();
    Values expected(shape.d_model, 0.0);
    visit_rounding(format, [&]<class W>(W) {
        for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
            add_expert<W>(shape, shape.d_ff, 0, static_cast<std::size_t>(plan.experts[a]),
                          static_cast<double>(plan.weights[a]), batch.x.row_span(t), expected);
        }
        if (shape.shared_d_ff > 0) {
            add_expert<W>(shape, shape.shared_d_ff, 1, 0, 1.0, batch.x.row_span(t), expected);
        }
    });
    return error_of(y.row_span(t), expected);
}

double dense_error(const Shape& shape, Format format, const Batch& batch, moe::MatrixView<const float> y) {
    const std::size_t t = batch.tokens() - 1;
    Values expected(shape.d_model, 0.0);
    visit_rounding(
        format, [&]<class W>(W) { add_expert<W>(shape, dense_d_ff(shape), 2, 0, 1.0, batch.x.row_span(t), expected); });
    return error_of(y.row_span(t), expected);
}

double relative_error(moe::MatrixView<const float> y, std::span<const float> expected) {
    double error = 0;
    double power = 0;
    for (std::size_t t = 0; t < y.rows(); ++t) {
        for (std::size_t i = 0; i < y.cols(); ++i) {
            const double value = static_cast<double>(expected[t * y.cols() + i]);
            const double difference = static_cast<double>(y(t, i)) - value;
            error += difference * difference;
            power += value * value;
        }
    }
    return error / power;
}

}  // namespace bench
