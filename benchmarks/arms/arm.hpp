#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <moe/core/matrix_view.hpp>
#include <moe/routing/plan.hpp>

#include "../routing.hpp"
#include "../shapes.hpp"

namespace bench {

/// The input of a row: what every arm gets.
struct Batch {
    moe::MatrixView<const float> x;  ///< (tokens, d_model)
    const RoutingTable* table = nullptr;
    std::vector<moe::RoutingPlan<float>> plans;  ///< one a variant of the table

    [[nodiscard]] std::size_t tokens() const noexcept { return x.rows(); }
};

/// Which weights and which experts a call uses: they change from call to call.
struct Turn {
    std::size_t layer = 0;
    std::size_t variant = 0;
};

/// Something that is timed: the library, or a rival of it. Holds weights of its own, of as many layers as it rotates
/// through.
class Arm {
public:
    Arm() = default;
    Arm(const Arm&) = delete;
    Arm& operator=(const Arm&) = delete;
    virtual ~Arm() = default;

    [[nodiscard]] virtual std::string_view name() const = 0;
    [[nodiscard]] virtual std::size_t layers() const = 0;

    /// Everything that depends on the batch and need not be timed.
    virtual void prepare(const Batch& batch) = 0;

    /// y (tokens, d_model) = layer(x). This is what is timed.
    virtual void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) = 0;
};

}  // namespace bench
