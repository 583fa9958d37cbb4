#include "speed_check.hpp"

#include <algorithm>
#include <utility>

#include <moe/core/error.hpp>

#include "../reference.hpp"
#include "speed_arms.hpp"

namespace compare {

SpeedCheck::SpeedCheck(const bench::Shape& shape, const bench::Threads& threads)
    : shape_(&shape), threads_(threads), first_(shape.n_experts), last_(shape.n_experts) {
    constexpr std::size_t n_columns = 16;
    for (std::size_t i = 0; i < n_columns; ++i) {
        columns_.push_back(i * (shape.d_model - 1) / (n_columns - 1));
    }
}

void SpeedCheck::begin(moe::MatrixView<const float> x) {
    x_ = x;
    last_.assign(last_.size(), std::nullopt);
}

const SpeedCheck::Values& SpeedCheck::expert_output(std::size_t token, std::size_t expert) {
    std::optional<Values>& output = (token == 0 ? first_ : last_)[expert];
    if (!output) {
        output = bench::reference_output(threads_, bench::Format::bf16, {shape_->d_ff, expert_group, expert},
                                         x_.row_span(token), columns_);
    }
    return *output;
}

void SpeedCheck::compare(std::string_view name, std::size_t token, const Values& expected,
                         moe::MatrixView<const float> y) const {
    double error = 0;
    double power = 0;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        const double difference = static_cast<double>(y(token, columns_[i])) - expected[i];
        error += difference * difference;
        power += expected[i] * expected[i];
    }
    moe::ensure(error <= bench::tolerance(bench::Compute::exact, 1) * power, moe::ErrorCode::range, "wrong result of ",
                name, " at ", shape_->name, ", ", y.rows(), " tokens: token ", token, " has the squared error ", error,
                ", its square is ", power);
}

void SpeedCheck::check_layer(std::string_view name, const moe::PlanView<float>& plan, moe::MatrixView<const float> y) {
    moe::check_plan(plan);
    std::vector<std::size_t> tokens{0};
    if (y.rows() > 1) {
        tokens.push_back(y.rows() - 1);
    }
    for (const std::size_t token : tokens) {
        Values expected(columns_.size());
        for (std::size_t slot = 0; slot < plan.experts_of(token).size(); ++slot) {
            const Values& output = expert_output(token, static_cast<std::size_t>(plan.experts_of(token)[slot]));
            for (std::size_t i = 0; i < expected.size(); ++i) {
                expected[i] += static_cast<double>(plan.weights_of(token)[slot]) * output[i];
            }
        }
        compare(name, token, expected, y);
    }
}

void SpeedCheck::check_dense(std::string_view name, std::size_t d_ff, std::size_t group,
                             moe::MatrixView<const float> y) {
    auto found = std::ranges::find(dense_, group, &std::pair<std::size_t, Values>::first);
    if (found == dense_.end()) {
        dense_.emplace_back(
            group, bench::reference_output(threads_, bench::Format::bf16, {d_ff, group, 0}, x_.row_span(0), columns_));
        found = dense_.end() - 1;
    }
    compare(name, 0, found->second, y);
}

}  // namespace compare
