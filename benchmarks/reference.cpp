#include "reference.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "weights.hpp"

namespace bench {

namespace {

using Values = std::vector<double>;

/// result[i] = row first_row + i of a matrix times x.
template <class W>
Values multiply(const Threads& threads, const WeightStream& matrix, std::size_t first_row, std::size_t rows,
                const Values& x) {
    Values result(rows);
    threads.split(rows, 16, [&](std::size_t begin, std::size_t end) {
        std::vector<float> row(x.size());
        for (std::size_t i = begin; i < end; ++i) {
            rounded_values<W>(matrix, (first_row + i) * x.size(), row);
            result[i] = std::inner_product(row.begin(), row.end(), x.begin(), 0.0);
        }
    });
    return result;
}

/// y += weight * down * (silu(gate x) . (up x)) with expert `e` of a group.
template <class W>
void add_expert(const Threads& threads, const Shape& shape, std::size_t d_ff, std::size_t group, std::size_t e,
                double weight, const Values& x, Values& y) {
    const std::size_t d = shape.d_model;
    Values hidden = multiply<W>(threads, WeightStream(0, group, Matrix::gate, d), e * d_ff, d_ff, x);
    const Values up = multiply<W>(threads, WeightStream(0, group, Matrix::up, d), e * d_ff, d_ff, x);
    for (std::size_t i = 0; i < d_ff; ++i) {
        hidden[i] = hidden[i] / (1.0 + std::exp(-hidden[i])) * up[i];
    }
    const Values output = multiply<W>(threads, WeightStream(0, group, Matrix::down, d_ff), e * d, d, hidden);
    for (std::size_t i = 0; i < d; ++i) {
        y[i] += weight * output[i];
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

double reference_error(const Threads& threads, const Shape& shape, Format format, const Batch& batch,
                       std::size_t variant, moe::MatrixView<const float> y) {
    const std::size_t t = batch.tokens() - 1;
    const auto plan = batch.plans[variant].view();
    const Values x(batch.x.row(t), batch.x.row(t) + shape.d_model);
    Values expected(shape.d_model, 0.0);
    visit_format(format, [&]<class W>(W) {
        for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
            add_expert<W>(threads, shape, shape.d_ff, 0, static_cast<std::size_t>(plan.experts[a]),
                          static_cast<double>(plan.weights[a]), x, expected);
        }
        if (shape.shared_d_ff > 0) {
            add_expert<W>(threads, shape, shape.shared_d_ff, 1, 0, 1.0, x, expected);
        }
    });
    return error_of(y.row_span(t), expected);
}

double dense_error(const Threads& threads, const Shape& shape, Format format, const Batch& batch,
                   moe::MatrixView<const float> y) {
    const std::size_t t = batch.tokens() - 1;
    const Values x(batch.x.row(t), batch.x.row(t) + shape.d_model);
    Values expected(shape.d_model, 0.0);
    visit_format(format, [&]<class W>(W) { add_expert<W>(threads, shape, dense_d_ff(shape), 2, 0, 1.0, x, expected); });
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
