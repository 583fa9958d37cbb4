#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <moe/core/matrix_view.hpp>
#include <moe/routing/plan.hpp>

#include "../shapes.hpp"
#include "../threads.hpp"

namespace compare {

/// Holds results against plain loops in double: the first and the last token of a batch, 16 columns of each. What an
/// expert makes of a token is computed once for all strategies.
class SpeedCheck {
public:
    SpeedCheck(const bench::Shape& shape, const bench::Threads& threads);

    /// From now on results are for these tokens; the first is always the same.
    void begin(moe::MatrixView<const float> x);

    /// Throws moe::Error(range), naming `name` and the error, unless y is what the experts and weights of `plan` make.
    void check_layer(std::string_view name, const moe::PlanView<float>& plan, moe::MatrixView<const float> y);

    /// The same for a dense network of width `d_ff` with the weights of `group`; looks at the first token.
    void check_dense(std::string_view name, std::size_t d_ff, std::size_t group, moe::MatrixView<const float> y);

private:
    using Values = std::vector<double>;
    using Outputs = std::vector<std::optional<Values>>;  ///< of each expert, as far as they were needed

    void compare(std::string_view name, std::size_t token, const Values& expected,
                 moe::MatrixView<const float> y) const;
    [[nodiscard]] const Values& expert_output(std::size_t token, std::size_t expert);

    const bench::Shape* shape_;
    bench::Threads threads_;
    std::vector<std::size_t> columns_;
    moe::MatrixView<const float> x_;
    Outputs first_;
    Outputs last_;
    std::vector<std::pair<std::size_t, Values>> dense_;  ///< by group
};

}  // namespace compare
