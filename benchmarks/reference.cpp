#include "reference.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "weights.hpp"

namespace bench {

namespace {

using Values = std::vector<double>;

/// result[i] = row row_of(i) of a matrix times x, i below `count`.
template <class W, class RowOf>
Values multiply(const Threads& threads, const WeightStream& matrix, std::size_t count, RowOf&& row_of,
                const Values& x) {
    Values result(count);
    threads.split(count, 16, [&](std::size_t begin, std::size_t end) {
        std::vector<float> row(x.size());
        for (std::size_t i = begin; i < end; ++i) {
            rounded_values<W>(matrix, row_of(i) * x.size(), row);
            result[i] = std::inner_product(row.begin(), row.end(), x.begin(), 0.0);
        }
    });
    return result;
}

/// Columns of down * (silu(gate x) . (up x)).
template <class W>
Values output_of(const Threads& threads, const Network& network, const Values& x,
                 std::span<const std::size_t> columns) {
    const auto hidden_row = [&](std::size_t i) { return network.expert * network.d_ff + i; };
    const auto stream = [&](Matrix matrix, std::size_t inputs) {
        return WeightStream(0, network.group, matrix, inputs);
    };
    Values hidden = multiply<W>(threads, stream(Matrix::gate, x.size()), network.d_ff, hidden_row, x);
    const Values up = multiply<W>(threads, stream(Matrix::up, x.size()), network.d_ff, hidden_row, x);
    for (std::size_t i = 0; i < network.d_ff; ++i) {
        hidden[i] = hidden[i] / (1.0 + std::exp(-hidden[i])) * up[i];
    }
    const auto output_row = [&](std::size_t i) { return network.expert * x.size() + columns[i]; };
    return multiply<W>(threads, stream(Matrix::down, network.d_ff), columns.size(), output_row, hidden);
}

/// y += weight * the network applied to x.
template <class W>
void add_expert(const Threads& threads, const Network& network, double weight, const Values& x, Values& y) {
    std::vector<std::size_t> columns(y.size());
    std::iota(columns.begin(), columns.end(), std::size_t{0});
    const Values output = output_of<W>(threads, network, x, columns);
    for (std::size_t i = 0; i < y.size(); ++i) {
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
            add_expert<W>(threads, {shape.d_ff, 0, static_cast<std::size_t>(plan.experts[a])},
                          static_cast<double>(plan.weights[a]), x, expected);
        }
        if (shape.shared_d_ff > 0) {
            add_expert<W>(threads, {shape.shared_d_ff, 1}, 1.0, x, expected);
        }
    });
    return error_of(y.row_span(t), expected);
}

double dense_error(const Threads& threads, const Shape& shape, Format format, const Batch& batch,
                   moe::MatrixView<const float> y) {
    const std::size_t t = batch.tokens() - 1;
    const Values x(batch.x.row(t), batch.x.row(t) + shape.d_model);
    Values expected(shape.d_model, 0.0);
    visit_format(format, [&]<class W>(W) { add_expert<W>(threads, {dense_d_ff(shape), 2}, 1.0, x, expected); });
    return error_of(y.row_span(t), expected);
}

std::vector<double> reference_output(const Threads& threads, Format format, const Network& network,
                                     std::span<const float> x, std::span<const std::size_t> columns) {
    Values output;
    visit_format(format,
                 [&]<class W>(W) { output = output_of<W>(threads, network, Values(x.begin(), x.end()), columns); });
    return output;
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
